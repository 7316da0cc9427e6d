"""Hub streams → Anthropic events, assembled by the official SDK's own accumulator."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import Message, RawMessageStreamEvent
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from router.doors.messages import DOOR
from router.doors.messages.thinking import UNSIGNED
from router.providers.dialect import Usage
from tests.doors.test_messages_answer import THINKING, USAGE, answered, chat
from tests.doors.wire import META, call_chunk, chunk, events, piece, streamed, usage_chunk

Json = dict[str, Any]
EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)


def stream(chunks: Sequence[Json], request: Any = None) -> tuple[Message, list[Json]]:
    """The message that the SDK assembles, and the events."""
    found = streamed(DOOR.writer(request or chat(stream=True)), chunks)
    return assembled(found), [document for _, document in found]


def assembled(found: list[tuple[str, Any]]) -> Message:
    snapshot: Any = None
    buffers: dict[int, bytes] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, document in found:
            assert name == document["type"]
            event = EVENT.validate_python(document)
            snapshot = accumulate_event(event=event, current_snapshot=snapshot, json_bufs=buffers)
    check_order([document for _, document in found])
    message: Message = snapshot
    return message


def check_order(found: list[Json]) -> None:
    """One block after the other, indices without gaps, nothing outside."""
    kinds = [document["type"] for document in found]
    assert kinds[0] == "message_start"
    assert kinds[-2:] == ["message_delta", "message_stop"]
    open_block, next_block = None, 0
    for document in found[1:-2]:
        if document["type"] == "content_block_start":
            assert open_block is None
            assert document["index"] == next_block
            open_block, next_block = next_block, next_block + 1
        else:
            assert document["index"] == open_block
            if document["type"] == "content_block_stop":
                open_block = None
    assert open_block is None


def test_a_text_stream() -> None:
    words = [chunk({"content": "Hel"}), chunk({"content": "lo"})]
    message, found = stream([chunk({"role": "assistant", "content": ""}), *words, chunk({}, "stop"), usage_chunk()])
    assert [document["type"] for document in found] == [
        "message_start", "content_block_start", "content_block_delta", "content_block_delta", "content_block_stop",
        "message_delta", "message_stop",
    ]  # fmt: skip
    assert found[0]["_virtusoul"] == found[0]["message"]["_virtusoul"] == META
    assert found[-2]["usage"] == USAGE
    assert message.content[0].text == "Hello"  # type: ignore[union-attr]
    assert message.stop_reason == "end_turn"
    assert (message.usage.input_tokens, message.usage.output_tokens) == (12, 7)
    assert message.model == "gpt-x"


def test_thinking_then_text_then_calls() -> None:
    message, _ = stream(
        [
            chunk({"reasoning_content": "h"}),
            chunk({"reasoning_content": "m"}),
            chunk({"content": "Let me see."}),
            call_chunk(0, "call_1", "f"),
            call_chunk(0, arguments='{"a"'),
            call_chunk(0, arguments=": 1}"),
            call_chunk(1, "call_2", "g", "{}"),
            chunk({}, "tool_calls"),
        ],
        chat(stream=True, **THINKING),
    )
    assert [block.to_dict() for block in message.content] == [
        {"type": "thinking", "thinking": "hm", "signature": UNSIGNED},
        {"type": "text", "text": "Let me see."},
        {"type": "tool_use", "id": "call_1", "name": "f", "input": {"a": 1}},
        {"type": "tool_use", "id": "call_2", "name": "g", "input": {}},
    ]
    assert message.stop_reason == "tool_use"


def test_signed_thinking_in_a_stream() -> None:
    signed = {"index": 0, "type": "thinking", "thinking": "hm", "signature": "sig"}
    redacted = {"index": 1, "type": "redacted_thinking", "data": "d"}
    hidden = {"index": 2, "type": "thinking", "thinking": "", "signature": "sig2"}
    message, _ = stream(
        [
            chunk({"reasoning_content": "hm"}),
            chunk({"thinking_blocks": [signed]}),
            chunk({"thinking_blocks": [redacted]}),
            chunk({"thinking_blocks": [hidden]}),
            chunk({"content": "x"}, "stop"),
        ],
        chat(stream=True, **THINKING),
    )
    assert [block.to_dict() for block in message.content] == [
        {"type": "thinking", "thinking": "hm", "signature": "sig"},
        {"type": "redacted_thinking", "data": "d"},
        {"type": "thinking", "thinking": "", "signature": "sig2"},
        {"type": "text", "text": "x"},
    ]


@pytest.mark.parametrize(
    "chunks",
    [
        # taking turns
        [call_chunk(0, "a", "f"), call_chunk(1, "b", "g"), call_chunk(0, arguments='{"x":'),
         call_chunk(1, arguments='{"y":'), call_chunk(0, arguments="1}"), call_chunk(1, arguments="2}")],
        # every call is number 0
        [call_chunk(0, "a", "f", '{"x":1}'), call_chunk(0, "b", "g", '{"y":2}')],
        # no numbers, the id each time
        [call_chunk(None, "a", "f", '{"x":'), call_chunk(None, "a", "", "1}"), call_chunk(None, "b", "g", '{"y":2}')],
        # all in one chunk
        [chunk({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x":1}'}},
                               {"index": 1, "id": "b", "function": {"name": "g", "arguments": {"y": 2}}}]})],
        # the id first, the name later
        [call_chunk(0, "a"), call_chunk(0, "", "f", '{"x":1}'), call_chunk(1, "b", "g", '{"y":2}')],
    ],
)  # fmt: skip
def test_however_a_provider_numbers_its_calls(chunks: list[Json]) -> None:
    message, _ = stream([*chunks, chunk({}, "tool_calls")])
    assert [(b.id, b.name, b.input) for b in message.content] == [("a", "f", {"x": 1}), ("b", "g", {"y": 2})]  # type: ignore[union-attr]


def test_two_calls_without_ids_or_numbers() -> None:
    message, _ = stream([call_chunk(None, "", "f", '{"x":1}'), call_chunk(None, "", "g", '{"y":2}'), chunk({}, "stop")])
    assert [(b.name, b.input) for b in message.content] == [("f", {"x": 1}), ("g", {"y": 2})]  # type: ignore[union-attr]
    assert message.stop_reason == "tool_use"


@pytest.mark.parametrize("words", [{"content": "Wait."}, {"reasoning_content": "hm"}, {"refusal": "Wait."}])
def test_words_between_two_pieces_of_a_call_wait_for_its_end(words: Json) -> None:
    begun = [call_chunk(0, "a", "f", '{"x":'), chunk(words), call_chunk(0, arguments="1}")]
    message, _ = stream([*begun, call_chunk(1, "b", "g", "{}"), chunk({}, "tool_calls")], chat(stream=True, **THINKING))
    call, said, after = message.content
    assert (call.type, call.input) == ("tool_use", {"x": 1})  # type: ignore[union-attr]
    assert said.type == ("thinking" if "reasoning_content" in words else "text")
    assert (after.name, after.input) == ("g", {})  # type: ignore[union-attr]


def test_words_behind_a_whole_call_do_not_wait() -> None:
    writer = DOOR.writer(chat(stream=True))
    chunks = [call_chunk(0, "a", "f", '{"x":'), chunk({"content": "one "}), call_chunk(0, arguments="1}")]
    assert b"one" not in b"".join(writer.write([piece(document)], META) for document in chunks)
    wire = writer.write([piece(chunk({"content": "two"}))], META)
    texts = [document["delta"].get("text") for name, document in events(wire) if name == "content_block_delta"]
    assert texts == ["one ", "two"]


def test_an_empty_stream_is_an_empty_message() -> None:
    message, _ = stream([])
    assert message.content == []


def test_an_empty_finish_reason_is_none() -> None:
    call = {"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}
    said, called = [chunk({"content": "x"}, "")], [chunk({"tool_calls": [call]}, "")]
    assert stream([*said, chunk({}, "length"), chunk({}, "")])[0].stop_reason == "max_tokens"
    assert stream([*called, chunk({}, "")])[0].stop_reason == "tool_use"
    message = answered({"content": None, "tool_calls": [call]}, "")
    assert message["stop_reason"] == "tool_use"


def test_a_refusal_in_a_stream() -> None:
    message, _ = stream([chunk({"refusal": "I "}), chunk({"refusal": "can't."}), chunk({}, "stop")])
    assert (message.content[0].text, message.stop_reason) == ("I can't.", "refusal")  # type: ignore[union-attr]


def test_native_events_pass_as_they_are() -> None:
    writer = DOOR.writer(chat(stream=True))
    start = {"type": "message_start", "message": {"id": "msg_1", "usage": {"input_tokens": 5}}}
    delta = b'{"type": "content_block_delta", "index":0, "delta":{"type":"text_delta","text":"caf\\u00e9"}}'
    wire = writer.write([piece({"type": "ping"}, "ping"), piece(start, "message_start")], META)
    wire += writer.write([piece({}, "content_block_delta")._replace(data=delta)], META) + writer.end(Usage())
    found = events(wire)
    assert [name for name, _ in found] == ["ping", "message_start", "content_block_delta"]
    assert found[1][1] == {**start, "message": {**start["message"], "_virtusoul": META}, "_virtusoul": META}  # type: ignore[dict-item]
    assert wire.endswith(b"event: content_block_delta\ndata: " + delta + b"\n\n")


_DELTAS = st.one_of(
    st.builds(lambda t: {"content": t}, st.text(min_size=1, max_size=5)),
    st.builds(lambda t: {"reasoning_content": t}, st.text(min_size=1, max_size=5)),
    st.builds(lambda t: {"refusal": t}, st.text(min_size=1, max_size=5)),
    st.builds(
        lambda s: {"thinking_blocks": [{"type": "thinking", "thinking": "t", "signature": s}]}, st.text(min_size=1)
    ),
)


@given(st.lists(_DELTAS, max_size=12))
@settings(deadline=None)
def test_any_order_of_deltas_is_a_well_formed_message_that_lost_nothing(deltas: list[Json]) -> None:
    message, _ = stream([*map(chunk, deltas), chunk({}, "stop")], chat(stream=True, **THINKING))
    said = "".join(str(delta.get("content") or delta.get("refusal") or "") for delta in deltas)
    assert "".join(b.text for b in message.content if b.type == "text") == said
    signatures = [delta["thinking_blocks"][0]["signature"] for delta in deltas if "thinking_blocks" in delta]
    kept = [b.signature for b in message.content if b.type == "thinking" and b.signature != UNSIGNED]
    assert kept == signatures


@given(
    st.lists(st.dictionaries(st.sampled_from("abc"), st.integers(-9, 9) | st.text(max_size=9), max_size=3), max_size=4),
    st.lists(st.text(min_size=1, max_size=3), max_size=3),
    st.data(),
)
@settings(deadline=None)
def test_calls_and_words_survive_any_cut_and_any_interleaving(
    inputs: list[Json], words: list[str], data: st.DataObject
) -> None:
    pieces = [[chunk({"content": word}) for word in words]]
    for number, given_input in enumerate(inputs):
        arguments = orjson.dumps(given_input).decode()
        cut = data.draw(st.integers(0, len(arguments)))
        pieces.append([call_chunk(number, f"id{number}", f"f{number}"), call_chunk(number, arguments=arguments[:cut]),
                       call_chunk(number, arguments=arguments[cut:])])  # fmt: skip
    chunks = []
    while remaining := [queue for queue in pieces if queue]:
        chunks.append(data.draw(st.sampled_from(remaining)).pop(0))
    message, _ = stream([*chunks, chunk({}, "tool_calls")])
    found = {b.id: (b.name, b.input) for b in message.content if b.type == "tool_use"}
    assert found == {f"id{number}": (f"f{number}", given_input) for number, given_input in enumerate(inputs)}
    assert "".join(b.text for b in message.content if b.type == "text") == "".join(words)


def test_what_a_provider_wants_back_with_its_call_comes_back() -> None:
    extra = {"google": {"thought_signature": "sig"}}
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}, "extra_content": extra}
    request = chat(tools=[{"name": "f"}], stream=True)
    whole = answered({"content": None, "tool_calls": [call]}, "tool_calls", request=request)["content"]
    message, _ = stream([chunk({"tool_calls": [{"index": 0, **call}]}), chunk({}, "tool_calls")], request)
    streamed_blocks = [block.to_dict() for block in message.content]
    assert whole == streamed_blocks
    assert [block["type"] for block in whole] == ["thinking", "tool_use"]
    result = {"type": "tool_result", "tool_use_id": "call_1", "content": "ok"}
    turns = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": whole},
        {"role": "user", "content": [result]},
    ]
    again = chat(messages=turns)
    assert again.messages[1] == {"role": "assistant", "content": None, "tool_calls": [call]}
    native = orjson.loads(again.native[1])["messages"]
    assert [block["type"] for block in native[1]["content"]] == ["tool_use"]
