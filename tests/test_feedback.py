"""Training data that several processes append to: nothing lost, nothing torn, nothing twice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from router.examples import Example, read_examples
from router.feedback import append


def test_append_and_read(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "data.jsonl"
    assert append(path, [Example("zwei\nZeilen ✓", "simple"), Example("b", "complex")]) == 2
    assert [(e.text, e.tier) for e in read_examples(path)[0]] == [("zwei\nZeilen ✓", "simple"), ("b", "complex")]


def test_a_duplicate_is_not_stored_but_a_correction_is(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    assert append(path, [Example("a", "simple")]) == 1
    assert append(path, [Example("a ", "simple")]) == 0
    assert append(path, [Example("a", "complex")]) == 1
    assert append(path, [Example("a", "simple")]) == 1


def test_a_corrupt_or_torn_line_costs_itself_only(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(b'{"text": "a", "tier": "simple"}\n{"text": "torn')
    append(path, [Example("b", "medium")])
    examples, problems = read_examples(path)
    assert [e.text for e in examples] == ["a", "b"]
    assert len(problems) == 1 and "line 2" in problems[0]
    assert b"torn" in path.read_bytes()


def test_many_writers(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: append(path, [Example(f"text {n} " * 50, "simple")]), range(200)))
    examples, problems = read_examples(path)
    assert len({e.text for e in examples}) == len(examples) == 200 and problems == []
