"""End-to-end fine-tuning of the encoder (`python -m export --finetune`)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.steps import ExportError, step
from router.encoder import CHARS_PER_TOKEN
from router.examples import BUILT_IN, Example, latest, read_examples
from router.prompt import clip

if TYPE_CHECKING:  # `--check` and `--head-only` import this module and have no torch
    from export.training import Course, Labelled

# The file, beside the weights, in which a fine-tuned folder says what it was trained on:
# {"held_out_modulus": 10, …further facts that the manifest repeats}.
RECORD = "finetuned.json"
# One prompt in so many is kept from the encoder: the head's temperature has to come from prompts that neither
# has seen, or `confidence` would promise too much.
HELD_OUT_MODULUS = 10
LABELS = ("simple", "medium", "complex", "reasoning")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json")


def is_held_out(text: str, modulus: int) -> bool:
    """Whether fine-tuning leaves `text` out; always True for modulus 0: a plain encoder saw none."""
    if modulus == 0:
        return True
    return int(hashlib.sha256(text.strip().encode("utf-8", "replace")).hexdigest(), 16) % modulus == 0


def finetune(source: Path, out: Path, *, extra: Sequence[Path], token_limit: int) -> Path:
    """Train the weights in `source` on the built-in examples and `extra`; returns `out`, their folder."""
    from export import training, vocabulary

    recipe = training.Recipe()
    with step("vocabulary") as current:
        base = out.with_name("extended")
        glossed = vocabulary.extend(source, base, vocabulary.read_glosses())
        current.outcome = f"{len(glossed)} tokens with glosses"
    real = [row for path in extra for row in _read(path)]
    tokenise = tokeniser(base, token_limit)
    nets = []
    for course in recipe.courses:
        rows = _rows(course, real, recipe.real_weight)
        with step(f"fine-tuning on {len(rows.texts)} prompts"):
            nets.append(training.finetune(rows, tokenise, base, recipe, course.seeds))
    rows = _rows(recipe.closing, real, recipe.real_weight)
    with step(f"closing on {len(rows.texts)} prompts"):
        net = training.closed(training.averaged(nets), rows, tokenise, recipe)
    rows = _rows(recipe.plain, real, recipe.plain_real_weight)
    with step(f"fine-tuning without glosses on {len(rows.texts)} prompts"):
        plain = training.finetune(rows, tokeniser(source, token_limit), base, recipe, recipe.plain.seeds)
        net = training.mixed(net, plain, recipe.plain_share, glossed)
    training.save(net, out)
    for name in TOKENIZER_FILES:
        if (base / name).is_file():
            (out / name).write_bytes((base / name).read_bytes())
    facts = {
        "held_out_modulus": HELD_OUT_MODULUS,
        "extra": len(real),
        "courses": [_facts(course) for course in recipe.courses],
        "closing": _facts(recipe.closing),
        "plain": {**_facts(recipe.plain), "share": recipe.plain_share},
    }
    (out / RECORD).write_text(json.dumps(facts))
    return out


def _read(path: Path, lines: Sequence[tuple[int, int]] | None = None) -> list[Example]:
    """The examples of a file (of these `lines`: from, up to before) without those that are kept from the encoder."""
    try:
        examples, problems = read_examples(path)
    except OSError as error:
        raise ExportError(f"{path}: {error.strerror}") from error
    if problems:
        raise ExportError("; ".join(problems[:5]))
    if lines is not None:
        examples = [row for start, end in lines for row in examples[start:end]]
    return [row for row in latest(examples) if not is_held_out(row.text, HELD_OUT_MODULUS)]


def _facts(course: Course) -> dict[str, Any]:
    return {"own": len(_read(BUILT_IN, course.lines)), "seeds": course.seeds}


def _rows(course: Course, real: Sequence[Example], real_weight: float) -> Labelled:
    from export.training import together

    own = _read(BUILT_IN, course.lines)
    return together(_labelled(own), _labelled(real), real_weight) if real else _labelled(own)


def _labelled(rows: Sequence[Example]) -> Labelled:
    import numpy as np

    from export.training import Labelled

    targets = np.eye(len(LABELS), dtype=np.float32)[[LABELS.index(row.tier) for row in rows]]
    return Labelled([row.text.strip() for row in rows], targets, np.ones(len(rows), dtype=np.float32))


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
