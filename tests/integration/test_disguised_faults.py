"""Errors inside a 200, ends that are none, and what stands behind an end: in a stream and as a whole body."""

from __future__ import annotations

import json
from typing import Any

import pytest

from router import dispatch
from tests.conftest import Running, Start
from tests.fakes.openai import Answer, FakeOpenAI, Raw, Stream
from tests.integration.conftest import pair_env
from tests.integration.test_faults import chunk, events, said

BROKEN = {"code": 502, "message": "Provider disconnected"}


@pytest.fixture(autouse=True)
def _short_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "BACKOFF_BASE", 0.01)


def document(body: Any) -> Raw:
    """A whole 200."""
    text = json.dumps(body).encode()
    head = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return Raw(head % len(text) + text)


def failed_chunk(text: str = "") -> dict[str, Any]:
    """How OpenRouter ends a stream that its provider broke off."""
    return {**chunk({"content": text}, "error"), "error": BROKEN}


FAULTS = {
    "an error beside choices": failed_chunk(),
    "nothing but the finish reason": chunk({"content": ""}, "error"),
    "not wrapped": {"object": "error", "message": "boom", "type": "InternalServerError", "code": 500},
    "named by its event": b'event: error\ndata: {"message": "boom"}\n\n',
    "in plain words": b"event: error\ndata: Internal Server Error\n\n",
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
async def test_an_error_in_the_middle_is_never_passed_off_as_an_end(
    pair: Running, fake: FakeOpenAI, fault: Any
) -> None:
    fake.script(Stream([chunk({"content": "half"}), fault]))
    status, text = await pair.stream()
    got = events(text)
    assert (status, said(text)) == (200, "half")
    assert [("error" in event) for event in got] == [False, True], "one error event, and no [DONE] behind it"
    assert await pair.metric(
        'virtusoul_requests_total{mechanism="direct",provider="custom",status="502",tier="simple"}'
    )


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
async def test_an_error_in_the_middle_of_a_held_stream_goes_to_the_fallback(
    start_router: Start, fake: FakeOpenAI, other: FakeOpenAI, fault: Any
) -> None:
    router = await start_router(pair_env(fake, other, STREAM_RECOVERY="buffer", RETRIES="0"))
    fake.script(Stream([chunk({"content": "half"}), fault]))
    _, text = await router.stream()
    assert (said(text), events(text)[-1]) == ("Hello world", "[DONE]")


async def test_a_whole_answer_that_its_provider_broke_off_is_none(pair: Running, fake: FakeOpenAI) -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": "half"}, "finish_reason": "error"}
    fake.script(document({"choices": [{**choice, "error": BROKEN}]}), Answer())
    status, body = await pair.chat()
    assert (status, body["choices"][0]["message"]["content"]) == (200, "Hello world")
    assert body["_virtusoul"]["attempts"] == 2


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize(
    ("error", "served_by", "status"),
    [
        ({"message": "This model's maximum context length is 8192 tokens."}, "complex", 200),
        ({"message": "Rejected by our safety system.", "code": "content_policy_violation"}, "simple", 400),
        ({"message": "No such key", "type": "authentication_error"}, "simple", 502),
        ({"message": "bad n", "type": "BadRequestError"}, "simple", 400),
    ],
    ids=["length", "content filter", "key", "request"],
)
async def test_an_error_inside_a_200_is_judged_by_what_it_says(
    pair: Running, fake: FakeOpenAI, streamed: bool, error: dict[str, Any], served_by: str, status: int
) -> None:
    """What may not be asked again, or of another, may not be where its status is missing either."""
    fault = {"error": error}
    fake.script(Stream([fault]) if streamed else document(fault))
    response = await pair.post({"model": "simple", "messages": [{"role": "user", "content": "x"}], "stream": streamed})
    assert response.status == status
    assert response.headers["x-virtusoul-tier"] == served_by
    assert len(fake.requests) == 1


async def test_a_server_fault_is_one_whatever_its_message_mentions(pair: Running, fake: FakeOpenAI) -> None:
    fake.script(document({"error": {"message": "moderation service unavailable", "type": "server_error"}}), Answer())
    status, body = await pair.chat()
    assert (status, body["_virtusoul"]["attempts"], body["_virtusoul"]["tier"]) == (200, 2, "simple")


@pytest.mark.parametrize("before", [(), (chunk({"role": "assistant", "content": ""}),)], ids=["alone", "after a role"])
async def test_an_end_marker_without_an_answer_is_a_fault(
    pair: Running, fake: FakeOpenAI, before: tuple[dict[str, Any], ...]
) -> None:
    fake.script(Stream([*before, b"data: [DONE]\n\n"], done=False), Stream(["second"]))
    _, text = await pair.stream()
    assert (said(text), len(fake.requests)) == ("second", 2)


async def test_an_empty_answer_with_a_finish_reason_is_an_answer(pair: Running, fake: FakeOpenAI) -> None:
    fake.script(Stream([chunk({"role": "assistant", "content": ""}), chunk({}, "stop")]))
    _, text = await pair.stream()
    assert (said(text), events(text)[-1], len(fake.requests)) == ("", "[DONE]", 1)


@pytest.mark.parametrize("recovery", ["error", "buffer"])
@pytest.mark.parametrize(
    "late", [chunk({"content": "straggler"}), {"error": {"message": "straggler"}}], ids=["text", "error"]
)
async def test_what_comes_behind_the_end_in_the_same_read_is_nobodys(
    start_router: Start, fake: FakeOpenAI, other: FakeOpenAI, late: dict[str, Any], recovery: str
) -> None:
    router = await start_router(pair_env(fake, other, STREAM_RECOVERY=recovery))
    last = b"data: [DONE]\n\ndata: %b\n\n" % json.dumps(late).encode()
    fake.script(Stream([chunk({"content": "all"}), chunk({}, "stop"), last], done=False))
    _, text = await router.stream()
    assert (said(text), events(text)[-1], len(fake.requests)) == ("all", "[DONE]", 1)
    assert "straggler" not in text


async def test_an_end_marker_with_a_space_behind_it_is_one(pair: Running, fake: FakeOpenAI) -> None:
    """Without a finish reason nothing else says that the answer is whole."""
    fake.script(Stream([chunk({"content": "all"}), b"data: [DONE] \n\n"], done=False, keep_open=True))
    _, text = await pair.stream()
    assert (said(text), events(text)[-1]) == ("all", "[DONE]")


async def test_half_a_surrogate_pair_does_not_break_a_held_stream(
    start_router: Start, fake: FakeOpenAI, other: FakeOpenAI
) -> None:
    router = await start_router(pair_env(fake, other, STREAM_RECOVERY="buffer"))
    half = b'data: {"id": "c", "choices": [{"index": 0, "delta": {"content": "\\ud83d"}, "finish_reason": null}]}\n\n'
    fake.script(Stream([half, chunk({"content": "and more"}), chunk({}, "stop")]))
    status, text = await router.stream()
    assert (status, events(text)[-1]) == (200, "[DONE]")
    assert said(text).endswith("and more")
