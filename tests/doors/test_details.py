"""OpenRouter's `reasoning_details` go through the other APIs and come back with the tool's result, whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from router.doors import messages, responses
from router.doors.details import Details
from tests.doors.wire import META, call_chunk, chunk, reply, streamed
from tests.providers.kit import send

Json = dict[str, Any]
TEXT = {"type": "reasoning.text", "text": "I think", "format": "google-gemini-v1", "index": 0}
SECRET = {"type": "reasoning.encrypted", "data": "c2VjcmV0", "id": "c1", "format": "google-gemini-v1", "index": 0}
PIECES = ({**TEXT, "text": "I "}, {**TEXT, "text": "think"})
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
WHOLE = {"content": None, "reasoning": "I think", "reasoning_details": [TEXT, SECRET], "tool_calls": [CALL]}

BEGIN = [chunk({"reasoning": piece["text"], "reasoning_details": [piece]}) for piece in PIECES]
LATE = chunk({"reasoning_details": [SECRET]})
STREAMS = {
    "before the call": [*BEGIN, LATE, call_chunk(0, "c1", "f", "{}"), chunk({}, "tool_calls")],
    "behind the call": [*BEGIN, call_chunk(0, "c1", "f", "{}"), LATE, chunk({}, "tool_calls")],
}


def back_through_messages(chunks: Sequence[Json] | None, message: Json = WHOLE) -> Json:
    """The assistant message that the provider gets back."""
    body: Json = {"model": "simple", "max_tokens": 9, "tools": [{"name": "f"}], "stream": chunks is not None}
    asked = [{"role": "user", "content": "Hi"}]
    chat = messages.DOOR.parse(orjson.dumps({**body, "messages": asked}))
    if chunks is None:
        content = orjson.loads(messages.DOOR.reply(reply(message, "tool_calls"), chat, META))["content"]
    else:
        content = assembled(streamed(messages.DOOR.writer(chat), chunks))
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "r"}]}
    turns = [*asked, {"role": "assistant", "content": content}, result]
    return messages.DOOR.parse(orjson.dumps({**body, "messages": turns})).messages[1]


def assembled(found: list[tuple[str, Any]]) -> list[Json]:
    blocks: list[Json] = []
    for name, document in found:
        if name == "content_block_start":
            blocks.append(document["content_block"])
        elif name == "content_block_delta":
            delta = document["delta"]
            for key in delta.keys() & {"thinking", "signature", "text"}:
                blocks[-1][key] += delta[key]
    return blocks


def back_through_responses(chunks: Sequence[Json] | None, message: Json = WHOLE) -> Json:
    body: Json = {"model": "simple", "tools": [{"type": "function", "name": "f"}], "stream": chunks is not None}
    asked = {"role": "user", "content": "Hi"}
    chat = responses.DOOR.parse(orjson.dumps({**body, "input": [asked]}))
    if chunks is None:
        output = orjson.loads(responses.DOOR.reply(reply(message, "tool_calls"), chat, META))["output"]
    else:
        output = streamed(responses.DOOR.writer(chat), chunks)[-1][1]["response"]["output"]
    items = [asked, *output, {"type": "function_call_output", "call_id": "c1", "output": "r"}]
    return responses.DOOR.parse(orjson.dumps({**body, "input": items})).messages[1]


@pytest.mark.parametrize("chunks", [None, *STREAMS.values()], ids=["whole", *STREAMS])
@pytest.mark.parametrize("back", [back_through_messages, back_through_responses])
def test_details_come_back_on_the_message_of_the_call(back: Any, chunks: Sequence[Json] | None) -> None:
    message = back(chunks)
    assert message["reasoning_details"] == [TEXT, SECRET]
    assert "reasoning_content" not in message and message["tool_calls"] == [CALL]


@pytest.mark.parametrize("back", [back_through_messages, back_through_responses])
@pytest.mark.parametrize("format", ["google-gemini-v1", "anthropic-claude-v1"])
def test_plain_text_and_claudes_own_go_back_as_text(back: Any, format: str) -> None:
    signature = "s" if format.startswith("anthropic") else None
    details = [{**TEXT, "format": format, "signature": signature}]
    message = back(None, {**WHOLE, "reasoning_details": details})
    assert "reasoning_details" not in message and message["reasoning_content"] == "I think"


def test_pieces_grow_together_up_to_their_signature() -> None:
    details = Details([*PIECES, {**TEXT, "text": "", "signature": "s"}, {**TEXT, "text": "More"}, SECRET, SECRET])
    assert details.take() == [{**TEXT, "signature": "s"}, {**TEXT, "text": "More"}, SECRET, SECRET]
    assert details.take() == []


@pytest.mark.parametrize("vendor", ["mistral", "groq", "google"])
def test_a_vendor_that_checks_members_does_not_get_them(vendor: str) -> None:
    wire, dropped = send("m", vendor, messages=[{"role": "user", "content": "Hi"}, {"role": "assistant", **WHOLE}])
    assert "reasoning_details" not in wire["messages"][1] and "messages.reasoning_details" in dropped
