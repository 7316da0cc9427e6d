"""Legacy completions, there and back."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types import Completion

from router.doors.completions import DOOR
from router.errors import BadRequest, Failure, UpstreamError
from tests.doors.wire import ANY_JSON, META, USAGE, chunk, events, piece, reply, streamed, usage_chunk

Json = dict[str, Any]


def parse(prompt: Any = "Once upon", **fields: Any) -> Any:
    return DOOR.parse(orjson.dumps({"model": "simple", "prompt": prompt, **fields}))


def test_the_prompt_is_a_user_message_and_the_rest_stays() -> None:
    chat = parse(
        ["Once upon"], max_tokens=5, stop=["\n"], n=2, logprobs=3, seed=1, vendor_field={"a": 1}, best_of=1, echo=False
    )
    assert chat.body == {
        "model": "simple", "messages": [{"role": "user", "content": "Once upon"}], "max_tokens": 5, "stop": ["\n"],
        "n": 2, "logprobs": True, "top_logprobs": 3, "seed": 1, "vendor_field": {"a": 1},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"prompt": [[1, 2]]}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": {"a": 1}}, "prompt"),
        ({"suffix": "end"}, "suffix"),
        ({"echo": True}, "echo"),
        ({"best_of": 3}, "best_of"),
        ({"logprobs": True}, "logprobs"),
        ({"logprobs": 99}, "logprobs"),
        ({"model": None}, "model"),
    ],
)
def test_what_a_chat_cannot_do_is_refused(fields: Json, param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse(**fields)
    assert caught.value.param == param


def test_an_answer() -> None:
    body = orjson.loads(DOOR.reply(reply({"content": "a time"}, "length", system_fingerprint="fp"), parse(), META))
    completion = Completion.model_validate(body)
    assert (completion.choices[0].text, completion.choices[0].finish_reason) == ("a time", "length")
    assert (completion.id, completion.object, completion.system_fingerprint) == ("cmpl-1", "text_completion", "fp")
    assert body["usage"] == USAGE
    assert body["_virtusoul"] == META


def test_mistrals_word_for_a_full_window_is_the_length() -> None:
    body = orjson.loads(DOOR.reply(reply({"content": "a time"}, "model_length"), parse(), META))
    assert body["choices"][0]["finish_reason"] == "length"


def test_logprobs_in_parallel_lists() -> None:
    given_reply = reply({"content": "ab c"})
    given_reply.document["choices"][0]["logprobs"] = {
        "content": [
            {
                "token": "ab",
                "logprob": -0.5,
                "top_logprobs": [{"token": "ab", "logprob": -0.5}, {"token": "x", "logprob": -2}],
            },
            {"token": " c", "logprob": -0.25, "top_logprobs": []},
        ]
    }
    body = orjson.loads(DOOR.reply(given_reply, parse(), META))
    assert body["choices"][0]["logprobs"] == {
        "tokens": ["ab", " c"],
        "token_logprobs": [-0.5, -0.25],
        "top_logprobs": [{"ab": -0.5, "x": -2}, {}],
        "text_offset": [0, 2],
    }
    Completion.model_validate(body)


def test_a_tool_call_nobody_asked_for_ends_like_text() -> None:
    body = orjson.loads(DOOR.reply(reply({"content": None}, "tool_calls"), parse(), META))
    assert (body["choices"][0]["text"], body["choices"][0]["finish_reason"]) == ("", "stop")


def test_a_stream() -> None:
    chunks = [chunk({"role": "assistant", "content": ""}), chunk({"reasoning_content": "hm"}), chunk({"content": "a "}),
              chunk({"content": "time"}), chunk({}, "stop"), usage_chunk()]  # fmt: skip
    found = [document for _, document in streamed(DOOR.writer(parse(stream=True)), chunks)]
    assert found.pop() == b"[DONE]"
    assert found[0]["_virtusoul"] == META
    assert "".join(choice["text"] for document in found for choice in document["choices"]) == "a time"
    assert found[-1]["usage"] == USAGE
    assert len(found) == 5  # the reasoning has no form here
    for document in found:
        for choice in document["choices"]:
            choice["finish_reason"] = choice["finish_reason"] or "stop"  # the SDK's type is that of a whole answer
        Completion.model_validate(document)


def test_an_empty_finish_reason_is_none() -> None:
    chunks = [chunk({"content": "a "}, ""), chunk({"content": "time"}, ""), chunk({}, "stop")]
    found = [document for _, document in streamed(DOOR.writer(parse(stream=True)), chunks)][:-1]
    assert [document["choices"][0]["finish_reason"] for document in found] == [None, None, "stop"]


def test_errors() -> None:
    error = UpstreamError("It broke.", Failure.BROKEN_STREAM)
    assert orjson.loads(DOOR.error(error)) == error.body()
    writer = DOOR.writer(parse(stream=True))
    writer.write([piece(chunk({"content": "x"}))], META)
    assert events(writer.error(error)) == [("", error.body())]


@given(st.dictionaries(st.sampled_from(["prompt", "suffix", "echo", "best_of", "logprobs", "n", "stream"]), ANY_JSON))
@settings(deadline=None)
def test_any_json_is_a_chat_or_a_bad_request(fields: Json) -> None:
    try:
        DOOR.parse(orjson.dumps({"model": "simple", **fields}))
    except BadRequest as error:
        assert error.message
