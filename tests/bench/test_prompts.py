"""Prompts for load."""

from __future__ import annotations

import orjson

from bench import prompts
from bench.jobs import Job


def test_no_prompt_comes_twice() -> None:
    assert prompts.UNIQUE > 1_000_000
    assert len({prompts.unique(number) for number in range(20_000)}) == 20_000


def test_prompts_need_no_escaping() -> None:
    for number in range(2000):
        text = prompts.unique(number)
        assert orjson.dumps(text) == b'"%b"' % text.encode()


def test_texts_of_a_token_count() -> None:
    assert len(prompts.of_tokens(64, 1).split()) == 62
    assert prompts.of_tokens(64, 1) == prompts.of_tokens(64, 1)
    assert prompts.of_tokens(64, 1) != prompts.of_tokens(64, 2)


def test_a_job_survives_the_pipe() -> None:
    job = Job("http://h:1/v1", "m", concurrency=3, drip=(20, 10), prompt="unique")
    assert Job.from_dict(orjson.loads(orjson.dumps(job.as_dict()))) == job
    assert job.stream_seconds == 0.2
    assert job.where() == ("h", 1, "/v1/chat/completions", False)
