"""What a provider's refusal means, in the words that providers really use."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest

from router.errors import Failure
from router.providers.failures import classify_status, parse_retry_after


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens",
        "input length and `max_tokens` exceed context limit: 188240 + 21333 > 200000",
        "the request exceeds the available context size. try increasing the context size or enable context shift",
        "This model's maximum prompt length is 131072 but the request contains 537812 tokens.",
        "The input token count (1048580) exceeds the maximum number of tokens allowed (1048576).",
        "prompt token count of 130000 exceeds the limit of 128000",
        "Input tokens exceed the configured limit of 272000 tokens.",
        "Invalid request: Your request exceeded model token limit: 8192",
        "Range of input length should be [1, 30720]",
        "Prompt exceeds max length",
        "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4097. Given: 5000 and 512",
        "Input validation error: `inputs` must have less than 1000 tokens. Given: 1500",
    ],
)
def test_a_prompt_that_does_not_fit(message: str) -> None:
    assert classify_status(400, "", message) is Failure.CONTEXT_LENGTH


@pytest.mark.parametrize(
    "message",
    [
        "max_tokens is too large: 100000. This model supports at most 4096 completion tokens",
        "Invalid 'messages[0].content': string too long.",
        "Unsupported parameter: 'max_tokens' is not supported with this model.",
        "Invalid value: 'inputs'.",
    ],
)
def test_a_request_that_is_wrong_everywhere(message: str) -> None:
    assert classify_status(400, "", message) is Failure.CLIENT


@pytest.mark.parametrize(
    "message",
    [
        "This model does not support assistant message prefill. The conversation must end with a user message.",
        "Expected last role User or Tool (or Assistant with prefix True) for serving but got assistant",
        "Please ensure that the multiturn requests ends with a user role or a function response.",
        "Please ensure that multiturn requests end with a user role.",
        "Cannot set `add_generation_prompt` to True when the last message is from the assistant.",
        "Last message must have role `user`.",
    ],
)
def test_an_assistant_message_at_the_end(message: str) -> None:
    assert classify_status(400, "", message) is Failure.PREFILL


@pytest.mark.parametrize("zone", ["UTC0", "EST5"])
def test_a_date_without_a_zone_is_utc(monkeypatch: pytest.MonkeyPatch, zone: str) -> None:
    """The three forms of RFC 9110, 5.6.7."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        when = time.gmtime(time.time() + 300)
        dates = [
            formatdate(time.time() + 300, usegmt=True),
            time.strftime("%A, %d-%b-%y %H:%M:%S GMT", when),
            time.strftime("%a %b %d %H:%M:%S %Y", when),
        ]
        assert [298 < (parse_retry_after({"retry-after": date}) or 0) < 301 for date in dates] == [True] * 3
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after-ms": "", "retry-after": " 1.5 "}, 1.5),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "9" * 400}, 86_400.0),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "1, 2"}, None),
        ({"retry-after": "Thu, 99 Foo 2020"}, None),
        ({}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert parse_retry_after(headers) == seconds
