"""The stream of an OpenAI-compatible server: what is its end, and what only looks like one."""

from __future__ import annotations

import pytest

from router.providers.openai import DIALECT
from tests.providers.golden.openai import stream
from tests.providers.kit import chat, merged, read, target


@pytest.mark.parametrize("unfinished", [None, ""])
@pytest.mark.parametrize("finish", [None, "stop"])
def test_only_a_finish_reason_that_says_something_is_an_end(unfinished: str | None, finish: str | None) -> None:
    raw = stream({"role": "assistant"}, {"content": "Hi"}, finish=finish, done=False, unfinished=unfinished)
    pieces, reader = read(DIALECT, chat(stream=True), target("m", "custom"), raw)
    assert not reader.ended
    assert reader.finished == (finish is not None)
    assert [piece.content for piece in pieces[:2]] == [False, True]
    assert merged(pieces)["content"] == "Hi"
