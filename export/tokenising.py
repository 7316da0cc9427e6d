"""Texts into token ids for training, as serving makes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from router.encoder import CHARS_PER_TOKEN
from router.prompt import clip


def tokeniser(source: Path, token_limit: int) -> Callable[[Sequence[str]], list[list[int]]]:
    """Texts → ids exactly as `Encoder.token_ids` makes them, many at a time."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    head = (token_limit + 1) // 2

    def tokenise(texts: Sequence[str]) -> list[list[int]]:
        clipped = [clip(text, token_limit * CHARS_PER_TOKEN) for text in texts]
        found = [list(encoding.ids) for encoding in tokenizer.encode_batch(clipped)]
        return [ids if len(ids) <= token_limit else ids[:head] + ids[head - token_limit :] for ids in found]

    return tokenise
