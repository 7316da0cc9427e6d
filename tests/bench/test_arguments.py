"""The command line."""

from __future__ import annotations

import pytest

from bench.arguments import options, parse
from bench.catalogue import SCENARIOS

NAMES = tuple(SCENARIOS)


def test_no_command_runs_the_benchmark() -> None:
    args = parse(["--quick"], NAMES)
    assert args.command == "run"
    asked = options(args)
    assert asked.quick
    assert asked.rounds == 2
    assert asked.seconds == 0.25


def test_defaults_are_those_of_a_result_of_record() -> None:
    asked = options(parse([], NAMES))
    assert not asked.quick
    assert asked.rounds == 5
    assert asked.against is None


def test_a_peer_with_model_key_and_headers() -> None:
    words = ["--against", "http://h:1/v1/", "--against-model", "m", "--against-key", "k", "--against-header", "x-a: b"]
    peer = options(parse(words, NAMES)).against
    assert peer is not None
    assert (peer.url, peer.model) == ("http://h:1/v1", "m")
    assert peer.headers == {"authorization": "Bearer k", "x-a": "b"}


def test_settings_for_the_router() -> None:
    assert options(parse(["--set", "CASCADE=0", "--set", "ORT_THREADS=2"], NAMES)).settings == {
        "CASCADE": "0",
        "ORT_THREADS": "2",
    }


def test_scenarios_by_name() -> None:
    assert parse(["--only", "direct", "smart"], NAMES).only == ["direct", "smart"]
    with pytest.raises(SystemExit):
        parse(["--only", "nonsense"], NAMES)


@pytest.mark.parametrize(
    "words",
    [["check", "a.json"], ["check", "a.json", "b.json"], ["quality", "--data", "f"], ["soak", "--minutes", "1"]],
)
def test_the_other_commands(words: list[str]) -> None:
    assert parse(words, NAMES).command == words[0]


def test_every_scenario_of_the_documentation() -> None:
    assert set(NAMES) >= {
        "classifier", "direct", "smart", "stream", "open", "mixed", "startup", "memory", "size", "workers", "clip",
    }  # fmt: skip
