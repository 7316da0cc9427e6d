"""Hub answers and streams → response objects and events, held against the official SDK's types and accumulator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai import omit
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from router.doors.responses import DOOR
from router.doors.sealed import unseal
from router.errors import Failure, UpstreamError
from tests.doors.wire import META, call_chunk, chunk, events, piece, reply, streamed, usage_chunk

Json = dict[str, Any]
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
USAGE = {
    "input_tokens": 20,
    "input_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 3},
    "output_tokens": 7,
    "output_tokens_details": {"reasoning_tokens": 2},
    "total_tokens": 27,
}
CUSTOM = {"type": "custom", "name": "c"}


def chat(**fields: Any) -> Any:
    return DOOR.parse(orjson.dumps({"model": "simple", "input": "Hi", **fields}))


def answered(message: Json, finish: str | None = "stop", request: Any = None, **extra: Any) -> tuple[Json, Response]:
    body: Json = orjson.loads(DOOR.reply(reply(message, finish, **extra), request or chat(), META))
    return body, Response.model_validate(body)


def stream(chunks: Sequence[Json], request: Any = None) -> tuple[Response, list[Json]]:
    """The final response, as the SDK has assembled it, and the events."""
    found = streamed(DOOR.writer(request or chat(stream=True)), chunks)
    state: Any = ResponseStreamState(input_tools=omit, text_format=omit)
    for number, (name, document) in enumerate(found):
        assert name == document["type"]
        assert document["sequence_number"] == number
        state.handle_event(EVENT.validate_python(document))
    documents = [document for _, document in found]
    check_items(documents)
    final: Response = Response.model_validate(documents[-1]["response"])
    if final.status == "completed":
        assert state._completed_response.output_text == final.output_text
    return final, documents


def check_items(documents: list[Json]) -> None:
    """Each item is added, then done, once; what is done is what stands in the final output."""
    added = [document for document in documents if document["type"] == "response.output_item.added"]
    done = {d["output_index"]: d["item"] for d in documents if d["type"] == "response.output_item.done"}
    assert [document["output_index"] for document in added] == list(range(len(added)))
    assert [done[index] for index in range(len(added))] == documents[-1]["response"]["output"]
    for document in added:
        assert document["item"]["id"] == done[document["output_index"]]["id"]


def kinds(documents: list[Json]) -> list[str]:
    return [document["type"].removeprefix("response.") for document in documents]


# --- whole ---


def test_a_text_answer() -> None:
    body, response = answered({"content": "Hello"}, request=chat(metadata={"a": "b"}, temperature=0.5, store=True))
    assert response.output_text == "Hello"
    assert (body["status"], body["object"], body["model"]) == ("completed", "response", "gpt-x")
    assert body["usage"] == USAGE
    assert body["metadata"] == {"a": "b"}
    assert body["temperature"] == 0.5
    assert body["store"] is False
    assert body["text"] == {"format": {"type": "text"}}
    assert body["_virtusoul"] == META
    assert body["id"].startswith("resp_")
    assert body["incomplete_details"] is body["error"] is None


def test_reasoning_text_and_calls_are_items_of_their_own() -> None:
    calls = [
        {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}},
        {"id": "call_2", "type": "custom", "custom": {"name": "c", "input": "free"}},
        {"type": "function", "function": {"name": "g", "arguments": ""}},
    ]
    message = {"content": "Let me see.", "reasoning_content": "hm", "tool_calls": calls}
    body, response = answered(message, "tool_calls", chat(tools=[CUSTOM]))
    assert [item.type for item in response.output] == [
        "reasoning", "message", "function_call", "custom_tool_call", "function_call",
    ]  # fmt: skip
    assert body["output"][0]["summary"] == [{"type": "summary_text", "text": "hm"}]
    assert body["output"][2]["call_id"] == "call_1"
    assert body["output"][3]["input"] == "free"
    assert body["output"][4]["arguments"] == "{}"
    assert body["output"][4]["call_id"]
    assert len({item["id"] for item in body["output"]}) == 5


def test_signed_thinking_travels_sealed_and_comes_back() -> None:
    blocks = [
        {"type": "thinking", "thinking": "hm", "signature": "sig"},
        {"type": "redacted_thinking", "data": "d", "at": [12, 0]},
    ]
    calls = [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    message = {"content": "Let me see.", "reasoning_content": "hm", "thinking_blocks": blocks, "tool_calls": calls}
    body, _ = answered(message, "tool_calls")
    assert unseal(body["output"][0]["encrypted_content"])[0] == blocks
    result = {"type": "function_call_output", "call_id": "call_1", "output": "ok"}
    again = chat(input=[{"role": "user", "content": "Hi"}, *body["output"], result])
    assert again.messages[1] == {
        "role": "assistant", "content": "Let me see.", "tool_calls": calls, "thinking_blocks": blocks,
    }  # fmt: skip


GEMINI = {"google": {"thought_signature": "sig"}}
GEMINIS = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}, "extra_content": GEMINI}


def test_what_a_provider_wants_back_with_its_call_comes_back() -> None:
    whole, _ = answered({"content": None, "tool_calls": [GEMINIS]}, "tool_calls")
    _, documents = stream([chunk({"tool_calls": [{"index": 0, **GEMINIS}]}), chunk({}, "tool_calls")])
    for body in (whole, documents[-1]["response"]):
        assert [item["type"] for item in body["output"]] == ["reasoning", "function_call"]
        result = {"type": "function_call_output", "call_id": "call_1", "output": "ok"}
        again = chat(input=[{"role": "user", "content": "Hi"}, *body["output"], result])
        assert again.messages[1] == {"role": "assistant", "content": None, "tool_calls": [GEMINIS]}


@pytest.mark.parametrize(
    ("finish", "reason"),
    [("length", "max_output_tokens"), ("model_length", "max_output_tokens"), ("content_filter", "content_filter")],
)
def test_incomplete_answers(finish: str, reason: str) -> None:
    body, response = answered({"content": "x"}, finish)
    assert (response.status, body["incomplete_details"]) == ("incomplete", {"reason": reason})
    final, documents = stream([chunk({"content": "x"}), chunk({}, finish)])
    assert kinds(documents)[-1] == "incomplete"
    assert final.incomplete_details is not None
    assert final.incomplete_details.reason == reason


CUT_CALLS = [
    {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
    {"index": 1, "id": "call_2", "type": "function", "function": {"name": "g", "arguments": '{"path": "/'}},
]


@pytest.mark.parametrize("finish", ["length", "model_length", "content_filter", "tool_calls", "stop"])
@pytest.mark.parametrize("delta", [
    {"content": "x"},
    {"content": "x", "tool_calls": CUT_CALLS},
    {"tool_calls": [*CUT_CALLS, {"index": 2, "id": "call_3", "function": {"name": "c", "arguments": "free"}}]},
    {"refusal": "no"},
])  # fmt: skip
def test_the_item_in_which_an_answer_was_cut_is_incomplete(delta: Json, finish: str) -> None:
    whole, _ = answered(delta, finish, chat(tools=[CUSTOM]))
    _, documents = stream([chunk(delta), chunk({}, finish)], chat(stream=True, tools=[CUSTOM]))
    last = "incomplete" if finish not in ("tool_calls", "stop") else "completed"
    for body in (whole, documents[-1]["response"]):
        *others, end = [item["status"] for item in body["output"]]
        assert (set(others) <= {"completed"}, end, body["status"]) == (True, last, last)


@pytest.mark.parametrize("finish", ["length", "stop"])
def test_a_call_cut_before_its_arguments_has_none(finish: str) -> None:
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": ""}}
    whole, _ = answered({"tool_calls": [call]}, finish)
    _, documents = stream([chunk({"tool_calls": [call]}), chunk({}, finish)])
    for body in (whole, documents[-1]["response"]):
        assert body["output"][0]["arguments"] == ("" if finish == "length" else "{}")


def test_reasoning_that_was_cut_is_incomplete() -> None:
    _, documents = stream([chunk({"reasoning_content": "hm"}), chunk({}, "length")])
    assert [item["status"] for item in documents[-1]["response"]["output"]] == ["incomplete"]
    _, documents = stream([chunk({"reasoning_content": "hm"}), chunk({"content": "x"}), chunk({}, "length")])
    assert [item.get("status") for item in documents[-1]["response"]["output"]] == [None, "incomplete"]


def test_details_behind_the_cut_item_do_not_hide_it() -> None:
    details = [{"type": "reasoning.encrypted", "data": "d", "id": "r"}]
    _, documents = stream([chunk({"content": "x"}), chunk({"reasoning_details": details}), chunk({}, "length")])
    found = [(item["type"], item.get("status")) for item in documents[-1]["response"]["output"]]
    assert found == [("message", "incomplete"), ("reasoning", None)]


def test_an_empty_finish_reason_is_none() -> None:
    final, _ = stream([chunk({"content": "x"}, ""), chunk({}, "length"), chunk({}, "")])
    assert final.status == "incomplete"


def test_a_refusal() -> None:
    body, _ = answered({"content": None, "refusal": "I can't."})
    assert body["output"][0]["content"] == [{"type": "refusal", "refusal": "I can't."}]


def test_citations_and_logprobs() -> None:
    citation = {"start_index": 0, "end_index": 1, "title": "t", "url": "https://u"}
    given = reply({"content": "x", "annotations": [{"type": "url_citation", "url_citation": citation}]})
    given.document["choices"][0]["logprobs"] = {
        "content": [{"token": "x", "logprob": -0.1, "bytes": [120], "top_logprobs": []}]
    }
    body = orjson.loads(DOOR.reply(given, chat(), META))
    part = Response.model_validate(body).output[0].content[0]  # type: ignore[union-attr, index]
    assert part.annotations[0].url == "https://u"  # type: ignore[union-attr]
    assert part.logprobs[0].token == "x"  # type: ignore[union-attr, index]


def test_citations_of_a_stream_are_events_and_stand_in_the_item() -> None:
    citation = {"start_index": 0, "end_index": 1, "title": "t", "url": "https://u"}
    annotation = {"index": 0, "type": "url_citation", "url_citation": citation}
    chunks = [chunk({"content": "x"}), chunk({"annotations": [annotation]}), chunk({}, "stop")]
    final, documents = stream(chunks)
    assert final.output[0].content[0].annotations[0].url == "https://u"  # type: ignore[union-attr, index]
    [added] = [document for document in documents if document["type"] == "response.output_text.annotation.added"]
    assert (added["content_index"], added["annotation_index"]) == (0, 0)
    assert added["annotation"] == {"type": "url_citation", **citation}


def test_the_service_tier_is_the_one_that_served() -> None:
    assert answered({"content": "x"}, request=chat(service_tier="auto"))[0]["service_tier"] == "auto"
    body, _ = answered({"content": "x"}, request=chat(service_tier="auto"), service_tier="default")
    assert body["service_tier"] == "default"


def test_nothing_said_is_an_empty_message() -> None:
    _, response = answered({"content": None})
    assert response.output_text == ""
    assert [item.type for item in response.output] == ["message"]
    final, _ = stream([])
    assert [item.type for item in final.output] == ["message"]


# --- streams ---


def test_a_text_stream() -> None:
    words = [chunk({"content": "Hel"}), chunk({"content": "lo"})]
    final, documents = stream([chunk({"role": "assistant", "content": ""}), *words, chunk({}, "stop"), usage_chunk()])
    assert kinds(documents) == [
        "created", "in_progress", "output_item.added", "content_part.added", "output_text.delta", "output_text.delta",
        "output_text.done", "content_part.done", "output_item.done", "completed",
    ]  # fmt: skip
    assert final.output_text == "Hello"
    assert documents[0]["_virtusoul"] == documents[0]["response"]["_virtusoul"] == META
    assert documents[-1]["response"]["_virtusoul"] == META
    assert documents[-1]["response"]["usage"] == USAGE
    assert documents[0]["response"]["id"] == documents[-1]["response"]["id"]


def test_reasoning_text_and_interleaved_calls() -> None:
    final, documents = stream(
        [
            chunk({"reasoning_content": "h"}),
            chunk({"reasoning_content": "m"}),
            chunk({"content": "Let me see."}),
            call_chunk(0, "call_1", "f"),
            call_chunk(1, "call_2", "c"),
            call_chunk(0, arguments='{"a":'),
            call_chunk(1, arguments="free"),
            call_chunk(0, arguments="1}"),
            chunk({}, "tool_calls"),
        ],
        chat(stream=True, tools=[CUSTOM]),
    )
    reasoning, message, first, second = final.output
    assert reasoning.summary[0].text == "hm"  # type: ignore[union-attr]
    assert message.content[0].text == "Let me see."  # type: ignore[union-attr, index]
    assert (first.call_id, first.name, first.arguments) == ("call_1", "f", '{"a":1}')  # type: ignore[union-attr]
    assert (second.type, second.input) == ("custom_tool_call", "free")  # type: ignore[union-attr]
    assert {"reasoning_summary_text.delta", "reasoning_summary_part.done", "function_call_arguments.delta",
            "function_call_arguments.done", "custom_tool_call_input.done"} <= set(kinds(documents))  # fmt: skip


def test_signed_thinking_in_a_stream() -> None:
    block = {"type": "thinking", "thinking": "hm", "signature": "sig"}
    chunks = [
        chunk({"reasoning_content": "hm"}),
        chunk({"thinking_blocks": [{"index": 0, **block}]}),
        chunk({"content": "x"}, "stop"),
    ]
    _, documents = stream(chunks)
    assert unseal(documents[-1]["response"]["output"][0]["encrypted_content"])[0] == [block]


def test_text_and_refusal_are_parts_of_one_message() -> None:
    final, _ = stream(
        [chunk({"content": "a"}), chunk({"refusal": "b"}), chunk({"refusal": "c"}), chunk({"content": "d"}, "stop")]
    )
    [message] = final.output
    assert [part.to_dict() for part in message.content] == [  # type: ignore[union-attr]
        {"type": "output_text", "text": "a", "annotations": [], "logprobs": []},
        {"type": "refusal", "refusal": "bc"},
        {"type": "output_text", "text": "d", "annotations": [], "logprobs": []},
    ]


_DELTAS = st.one_of(
    st.builds(lambda t: {"content": t}, st.text(min_size=1, max_size=5)),
    st.builds(lambda t: {"reasoning_content": t}, st.text(min_size=1, max_size=5)),
    st.builds(lambda t: {"refusal": t}, st.text(min_size=1, max_size=5)),
    st.builds(
        lambda n, t: {"tool_calls": [{"index": n, "id": f"c{n}", "function": {"name": f"f{n}", "arguments": t}}]},
        st.integers(0, 3),
        st.text(max_size=5),
    ),
)


@given(st.lists(_DELTAS, max_size=12))
@settings(deadline=None)
def test_any_order_of_deltas_is_a_well_formed_response_that_lost_nothing(deltas: list[Json]) -> None:
    final, documents = stream([*map(chunk, deltas), chunk({}, "stop")])
    assert final.output_text == "".join(delta.get("content", "") for delta in deltas)
    sent: dict[str, str] = {}
    for delta in deltas:
        for call in delta.get("tool_calls", ()):
            sent[call["id"]] = sent.get(call["id"], "") + call["function"]["arguments"]
    found = {item["call_id"]: item["arguments"] for item in documents[-1]["response"]["output"] if "call_id" in item}
    assert found == {call_id: arguments or "{}" for call_id, arguments in sent.items()}


# --- errors ---

BROKEN = UpstreamError("It broke.", Failure.BROKEN_STREAM, code="stream_cut")


def test_a_response_that_breaks_has_failed() -> None:
    writer = DOOR.writer(chat(stream=True))
    wire = writer.write([piece(chunk({"content": "Hel"}))], META) + writer.error(BROKEN)
    name, document = events(wire)[-1]
    assert name == "response.failed"
    response = EVENT.validate_python(document).response
    assert (response.status, response.error.message) == ("failed", "It broke.")
    assert document["response"]["output"][0]["status"] == "incomplete"


def test_an_error_before_the_first_event() -> None:
    [(name, document)] = events(DOOR.writer(chat(stream=True)).error(BROKEN))
    assert name == document["type"] == "error"
    assert document["message"] == document["error"]["message"] == "It broke."
    EVENT.validate_python(document)


def test_errors_keep_openais_shape() -> None:
    assert orjson.loads(DOOR.error(BROKEN)) == BROKEN.body()
