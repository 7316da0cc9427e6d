"""The glosses, and what they are for: prompts of every language can be spelled."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from export.steps import ExportError
from export.vocabulary import GLOSSES, NO_GLOSS, read_glosses
from router.artifacts import default_models_dir, read_manifest
from router.examples import BUILT_IN, read_examples

# Of a language's tokens; rare characters and pictures remain.
MOST_UNKNOWN = 0.02


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    found = Tokenizer.from_file(str(read_manifest(default_models_dir()).path("tokenizer")))
    found.no_padding()
    found.no_truncation()
    return found


def test_glosses_are_plain_english_words() -> None:
    glosses = read_glosses()
    odd = {token: gloss for token, gloss in glosses.items() if not re.fullmatch(r"[a-z]+( [a-z]+){0,2}|-", gloss)}
    assert not odd
    assert sum(gloss == NO_GLOSS for gloss in glosses.values()) < len(glosses) / 40


@pytest.mark.parametrize("line", ["写", "写\t", "\twrite", "写\twrite\n写\twrite"])
def test_a_line_that_is_no_gloss_is_named(tmp_path: Path, line: str) -> None:
    file = tmp_path / "glosses.tsv"
    file.write_text(f"一\tone\n{line}\n", encoding="utf-8")
    with pytest.raises(ExportError, match=r"glosses.tsv, line [23]"):
        read_glosses(file)


def test_every_gloss_is_a_token_of_its_own(tokenizer: Tokenizer) -> None:
    known = tokenizer.get_vocab()
    spelled = {token: tokenizer.normalizer.normalize_str(token).strip() for token in read_glosses(GLOSSES)}
    assert not [token for token, form in spelled.items() if form not in known and token not in known]
    assert tokenizer.encode("写一首诗", add_special_tokens=False).tokens == ["写", "一", "首", "诗"]
    assert tokenizer.encode("Напиши", add_special_tokens=False).tokens == ["напиши"]


def test_prompts_of_every_language_can_be_spelled(tokenizer: Tokenizer) -> None:
    examples, _ = read_examples(BUILT_IN)
    tokens, unknown = Counter[str](), Counter[str]()
    for example in examples:
        ids = tokenizer.encode(example.text, add_special_tokens=False).ids
        tokens[example.lang] += len(ids)
        unknown[example.lang] += ids.count(tokenizer.token_to_id("[UNK]"))
    shares = {lang: unknown[lang] / tokens[lang] for lang in tokens if tokens[lang] > 2000}
    assert len(shares) > 12
    assert {lang: share for lang, share in shares.items() if share > MOST_UNKNOWN} == {}
