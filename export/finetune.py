"""End-to-end fine-tuning of the encoder (`python -m export --finetune`)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from export.steps import ExportError, step
from router.encoder import CHARS_PER_TOKEN
from router.examples import BUILT_IN, Example, latest, read_examples
from router.prompt import clip

if TYPE_CHECKING:  # `--check` and `--head-only` import this module and have no torch
    from export.training import Labelled

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
    nets, counts = [], []
    for course in recipe.courses:
        own = _read(BUILT_IN, course.examples)
        rows = training.together(_labelled(own), _labelled(real), course.real_weight) if real else _labelled(own)
        with step(f"fine-tuning on {len(own)} + {len(real)} prompts"):
            tokenise = tokeniser(base if course.glosses else source, token_limit)
            nets.append(training.finetune(rows, tokenise, base, recipe))
        counts.append(len(own))
    net = training.merged(nets, [course.glosses for course in recipe.courses], glossed)
    every = _read(BUILT_IN, recipe.closing_examples)
    own = [row for row in every if row.lang != "en"]
    own += [row for row in every if row.lang == "en"][:: recipe.closing_english]
    with step(f"closing on {len(own)} + {len(real)} prompts"):
        rows = training.together(_labelled(own), _labelled(real), recipe.closing_real_weight)
        net = training.closed(net, rows, tokeniser(base, token_limit), recipe)
    training.save(net, out)
    for name in TOKENIZER_FILES:
        if (base / name).is_file():
            (out / name).write_bytes((base / name).read_bytes())
    facts = {
        "held_out_modulus": HELD_OUT_MODULUS,
        "own": counts,
        "extra": len(real),
        "seeds": recipe.seeds,
        "closing": {"own": len(own), "seeds": recipe.closing_seeds},
    }
    (out / RECORD).write_text(json.dumps(facts))
    return out


def _read(path: Path, first: int | None = None) -> list[Example]:
    """The (`first` so many) examples of a file without those that are kept from the encoder."""
    try:
        examples, problems = read_examples(path)
    except OSError as error:
        raise ExportError(f"{path}: {error.strerror}") from error
    if problems:
        raise ExportError("; ".join(problems[:5]))
    return [row for row in latest(examples[:first]) if not is_held_out(row.text, HELD_OUT_MODULUS)]


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
