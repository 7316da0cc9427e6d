"""Text → unit vector: MiniLM as an int8 ONNX graph, its tokenizer, and the clip that keeps the cost flat.

The graph takes token ids alone. One text is one run: with no padding there is no mask to carry, and because dynamic
quantisation takes its scale from the whole input, a text batched with others would come out slightly different, so
the tier of a prompt would hang on its neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
from tokenizers import Tokenizer

from router.artifacts import ArtifactError
from router.prompt import clip

Vectors = npt.NDArray[np.float32]

INPUT = "input_ids"
OUTPUT = "embedding"
# Characters read per token of the limit. English has 4 to 5 per token, indented code up to about 8; beyond that the
# clip by characters would cut what the clip by tokens would have kept.
CHARS_PER_TOKEN = 10


class Encoder:
    """Tokenizer and session. Safe to use from several threads: neither keeps state between calls."""

    def __init__(self, session: onnxruntime.InferenceSession, tokenizer: Tokenizer, token_limit: int) -> None:
        self._session = session
        self._tokenizer = tokenizer
        self.token_limit = token_limit
        self.char_limit = token_limit * CHARS_PER_TOKEN
        self.dimension = int(session.get_outputs()[0].shape[-1])

    @classmethod
    def load(cls, onnx_path: Path, tokenizer_path: Path, token_limit: int, threads: int = 1) -> Encoder:
        """From files; ArtifactError where one cannot be read."""
        try:
            tokenizer = Tokenizer.from_file(str(tokenizer_path))
        except Exception as error:  # the library raises bare Exception
            raise ArtifactError(f"{tokenizer_path}: {error}") from error
        tokenizer.no_truncation()
        tokenizer.no_padding()
        try:
            session = onnxruntime.InferenceSession(
                str(onnx_path), session_options(threads), providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise ArtifactError(f"{onnx_path}: onnxruntime cannot load it: {error}") from error
        inputs = [node.name for node in session.get_inputs()]
        if inputs != [INPUT]:
            raise ArtifactError(f"{onnx_path}: takes {inputs}, expected [{INPUT!r}]")
        return cls(session, tokenizer, token_limit)

    def token_ids(self, text: str) -> list[int]:
        """Ids with [CLS] and [SEP], at most `token_limit`: of a long text the head and the tail."""
        ids: list[int] = self._tokenizer.encode(_encodable(clip(text, self.char_limit))).ids
        if len(ids) <= self.token_limit:
            return ids
        head = (self.token_limit + 1) // 2
        return ids[:head] + ids[head - self.token_limit :]

    def leading_ids(self, text: str, limit: int) -> list[int]:
        """Ids with [CLS] and [SEP], at most `limit`, cut at the end: how the original model reads a text."""
        ids: list[int] = self._tokenizer.encode(text[: limit * CHARS_PER_TOKEN]).ids
        return ids if len(ids) <= limit else [*ids[: limit - 1], ids[-1]]

    def run(self, ids: Sequence[int]) -> Vectors:
        """Unit vector of one sequence of ids, float32 of shape (dimension,). Releases the GIL."""
        output = self._session.run([OUTPUT], {INPUT: np.array([ids], dtype=np.int32)})
        vector: Vectors = output[0][0]
        return vector

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors of `texts`, float32 of shape (len(texts), dimension)."""
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        for row, text in enumerate(texts):
            vectors[row] = self.run(self.token_ids(text))
        return vectors


def _encodable(text: str) -> str:
    """`text` without lone surrogates, which JSON can carry and UTF-8, the tokenizer's form, cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text


def session_options(threads: int) -> onnxruntime.SessionOptions:
    """Options for a graph that was optimised when it was exported, run one text at a time on shared hosts."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    # The file holds the optimised graph already; doing it again costs start-up time and brings back a fusion that the
    # export leaves out on purpose (`export.graph.UNWANTED_FUSION`).
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.enable_mem_pattern = False  # plans memory anew for every new length, for no gain that could be measured
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # other work needs the core
    options.log_severity_level = 3  # its warnings go past Python's logging to stderr
    return options
