"""Weights → ONNX → fused → lean → int8.

*Fused*: onnxruntime's BERT fusion makes one node each of the embedding sum and its norm, attention, skip + norm,
bias + GELU. *Lean*: ids are the only input, token type 0 is folded into the position table, no mask, mean pooling and
L2 norm inside the graph. *int8*: weights per output channel; activations are quantised as they come.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.steps import ExportError
from router.encoder import INPUT, OUTPUT

OPSET = 18  # the first in which ReduceMean takes its axes as an input; optimum's own default for BERT too
FUSED_PER_LAYER = {"Attention": 1, "SkipLayerNormalization": 2, "BiasGelu": 1}
QUANTISED = ["Attention", "MatMul", "EmbedLayerNormalization"]


def export_onnx(source: Path, work: Path) -> Path:
    """optimum's export of the encoder in `source` to `work`/model.onnx."""
    from optimum.exporters.onnx import main_export

    with _quiet():
        main_export(
            str(source), work, task="feature-extraction", library_name="transformers", opset=OPSET, do_validation=False
        )
    return work / "model.onnx"


def fuse(plain: Path, config: Path, fused: Path) -> dict[str, int]:
    """onnxruntime's BERT fusion; returns how many nodes of each kind are left. ExportError where one did not fuse."""
    from onnxruntime.transformers.fusion_options import FusionOptions
    from onnxruntime.transformers.optimizer import optimize_model

    sizes = json.loads(config.read_text())
    options = FusionOptions("bert")
    options.use_raw_attention_mask(True)
    with _quiet():
        # opt_level 0: onnxruntime's own passes run at load anyway; run here first, they hide patterns from the fusion.
        model = optimize_model(
            str(plain),
            model_type="bert",
            num_heads=sizes["num_attention_heads"],
            hidden_size=sizes["hidden_size"],
            optimization_options=options,
            opt_level=0,
        )
        model.save_model_to_file(str(fused))
    counts = Counter(node.op_type for node in model.model.graph.node)
    wanted = {kind: per * sizes["num_hidden_layers"] for kind, per in FUSED_PER_LAYER.items()}
    wanted["EmbedLayerNormalization"] = 1
    missing = {kind: number for kind, number in wanted.items() if counts[kind] != number}
    if missing:
        raise ExportError(f"fusion incomplete: wanted {missing}, the graph has {dict(counts)}")
    return dict(counts)


def make_lean(fused: Path, lean: Path) -> None:
    """Ids in, unit vectors out: int32 (batch, tokens) → float32 (batch, hidden). All rows of a batch equally long."""
    model = onnx.load(str(fused))
    graph = model.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    embed = next(node for node in graph.node if node.op_type == "EmbedLayerNormalization")
    positions, kinds = tensors[embed.input[3]], tensors[embed.input[4]]
    folded = numpy_helper.to_array(positions) + numpy_helper.to_array(kinds)[0]
    positions.CopyFrom(numpy_helper.from_array(folded, positions.name))
    graph.initializer.remove(kinds)
    embed.input[0], embed.input[1], embed.input[4] = INPUT, "", ""
    for node in graph.node:
        if node.op_type == "Attention":
            del node.input[3:]  # the mask: without padding there is nothing to mask
    hidden = int(numpy_helper.to_array(positions).shape[1])
    nodes = [node for node in graph.node if node.op_type != "Cast"]
    nodes.append(helper.make_node("ReduceMean", [graph.output[0].name, "token_axis"], ["mean"], keepdims=0))
    nodes.append(helper.make_node("LpNormalization", ["mean"], [OUTPUT], axis=1, p=2))
    graph.initializer.append(numpy_helper.from_array(np.array([1], dtype=np.int64), "token_axis"))
    _replace(graph.node, nodes)
    _replace(graph.input, [helper.make_tensor_value_info(INPUT, TensorProto.INT32, ["batch", "tokens"])])
    _replace(graph.output, [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", hidden])])
    _replace(graph.value_info, [])
    onnx.checker.check_model(model)
    onnx.save(model, str(lean))


def quantise(lean: Path, int8: Path, *, reduce_range: bool) -> None:
    """Dynamic int8 quantisation, per channel.

    `reduce_range` keeps weights to 7 bits: processors without VNNI add pairs of 8-bit products in 16 bits, where full
    range would saturate.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _quiet():
        quantize_dynamic(
            str(lean),
            str(int8),
            op_types_to_quantize=QUANTISED,
            per_channel=True,
            reduce_range=reduce_range,
            weight_type=QuantType.QInt8,
            # Fused nodes are unknown to onnx's shape inference, so the quantiser has to be told their type.
            extra_options={"DefaultTensorType": TensorProto.FLOAT},
        )


def _replace(field: object, items: list[object]) -> None:
    """Set a repeated protobuf field."""
    del field[:]  # type: ignore[attr-defined]
    field.extend(items)  # type: ignore[attr-defined]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The libraries' warnings and notes are about their own next versions; a failure still raises."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
