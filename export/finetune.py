"""End-to-end fine-tuning of the encoder (`python -m export --finetune`)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.steps import ExportError, step
from router.examples import BUILT_IN, Example, latest, read_examples

if TYPE_CHECKING:  # `--check` and `--head-only` import this module and have no torch
    from export.recipe import Course, Recipe
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


def finetune(
    source: Path,
    out: Path,
    *,
    extra: Sequence[Path],
    token_limit: int,
    nets: Path,
    processes: int,
    recipe: Recipe | None = None,
) -> Path:
    """Train the weights in `source` on the built-in examples and `extra`; returns `out`, their folder.

    `processes` nets are trained at a time, and each is kept in the folder `nets` (`export.nets`).
    """
    from export import training, vocabulary
    from export.nets import Task, average, keep, open_nets
    from export.recipe import Recipe

    recipe = recipe or Recipe()
    with step("vocabulary") as current:
        base = out.with_name("extended")
        glossed = vocabulary.extend(source, base, vocabulary.read_glosses())
        current.outcome = f"{len(glossed)} tokens with glosses"
    # All is read before the hours begin: what changes in the files meanwhile is neither trained on nor recorded.
    real = [row for path in extra for row in _read(path)]
    facts = {
        "held_out_modulus": HELD_OUT_MODULUS,
        "extra": len(real),
        "courses": [_facts(course) for course in recipe.courses],
        "closing": _facts(recipe.closing),
        "plain": {**_facts(recipe.plain), "share": recipe.plain_share},
    }
    courses = [
        Task(_rows(course, real, recipe.real_weight), recipe.settings, seed, base, base, token_limit)
        for course in recipe.courses
        for seed in course.seeds
    ]
    rows = _rows(recipe.plain, real, recipe.plain_real_weight)
    plains = [Task(rows, recipe.settings, seed, base, source, token_limit) for seed in recipe.plain.seeds]
    rows = _rows(recipe.closing, real, recipe.real_weight)
    closings = [Task(rows, recipe.gently(), seed, base, base, token_limit) for seed in recipe.closing.seeds]
    with open_nets(nets, processes) as workshop:
        first, alone = [workshop.begin(task) for task in courses], [workshop.begin(task) for task in plains]
        net = average([file.result() for file in first], courses[0])
        start = keep(net, nets)
        last = [workshop.begin(task._replace(start=start)) for task in closings]
        net = training.part_way(net, average([file.result() for file in last], closings[0]), recipe.closing_share)
        plain = average([file.result() for file in alone], plains[0])
    net = training.mixed(net, plain, recipe.plain_share, glossed)
    training.save(net, out)
    for name in TOKENIZER_FILES:
        if (base / name).is_file():
            (out / name).write_bytes((base / name).read_bytes())
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
