"""From a chat to an answer, over real sockets: what passes, what is added, what is refused."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import orjson
import pytest

from tests.conftest import Running, Start, tier_env
from tests.fakes.openai import Answer, FakeOpenAI, tool


async def test_smart_routing_classifies_and_says_so(router: Running, fake: FakeOpenAI) -> None:
    status, body = await router.chat("virtusoul-v1", "this is complex work")
    assert status == 200
    assert body["choices"][0]["message"]["content"] == "Hello world"
    meta = body["_virtusoul"]
    assert meta["tier"] == "complex"
    assert meta["routed_to"] == "custom/complex-model"
    assert meta["confidence"] == 0.9
    assert meta["attempts"] == 1
    assert meta["latency_ms"] > 0
    assert "requested_tier" not in meta
    assert fake.last.json["model"] == "complex-model"
    assert fake.last.headers["authorization"] == "Bearer sk-complex-secret-key"


async def test_a_tier_name_skips_the_classifier(router: Running) -> None:
    status, body = await router.chat("reasoning", "Hello")
    assert (status, body["_virtusoul"]["tier"], body["_virtusoul"]["confidence"]) == (200, "reasoning", None)
    assert router.classifier.seen == []


async def test_headers_say_where_it_went(router: Running) -> None:
    chat = {"model": "virtusoul-v1", "messages": [{"role": "user", "content": "medium"}]}
    async with router.post(chat, headers={"x-request-id": "abc-123"}) as response:
        headers = response.headers
    assert headers["x-request-id"] == "abc-123"
    assert headers["x-virtusoul-tier"] == "medium"
    assert headers["x-virtusoul-routed-to"] == "custom/medium-model"
    assert headers["x-virtusoul-confidence"] == "0.9"
    assert headers["x-virtusoul-attempts"] == "1"
    assert float(headers["x-virtusoul-latency-ms"]) > 0


async def test_the_request_id_reaches_the_upstream(router: Running, fake: FakeOpenAI) -> None:
    chat = {"model": "simple", "messages": [{"role": "user", "content": "x"}]}
    async with router.post(chat, headers={"x-request-id": "trace-9"}):
        pass
    assert fake.last.headers["x-request-id"] == "trace-9"


async def test_the_body_arrives_as_sent_but_for_the_model(router: Running, fake: FakeOpenAI) -> None:
    raw = (
        b'{ "made_up" : {"deep":[1,2.50,1e3,12345678901234567890123]},"model"  :\t"simple", "messages":[{"role":"user",'
        b'"content":[{"type":"text","text":"caf\\u00e9 \\"model\\": \\"x\\""},{"type":"image_url","image_url":{"url":'
        b'"data:image/png;base64,AAAA"}}]}],"tools":[{"type":"function","function":{"name":"f","parameters":{}}}],'
        b'"response_format":{"type":"json_object"},"logit_bias":{"50256":-100},"n":1}'
    )
    headers = {"content-type": "application/json"}
    async with router.client.post(router.url + "/v1/chat/completions", data=raw, headers=headers) as response:
        assert response.status == 200
    assert fake.last.body == raw.replace(b'"simple"', b'"simple-model"')


async def test_unknown_response_fields_survive(router: Running, fake: FakeOpenAI) -> None:
    fake.script(Answer(extra={"x_vendor": {"a": [1]}}, message={"reasoning_content": "because"}))
    _, body = await router.chat()
    assert body["x_vendor"] == {"a": [1]}
    assert body["choices"][0]["message"]["reasoning_content"] == "because"


async def test_a_stream_is_relayed_event_by_event(router: Running, fake: FakeOpenAI) -> None:
    fake.script(Answer("one two three", tools=[tool("look", {"a": 1})], extra={"system_fingerprint": "fp"}))
    status, text = await router.stream("virtusoul-v1", "simple", stream_options={"include_usage": True})
    assert status == 200
    events = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    assert chunks[0]["_virtusoul"]["tier"] == "simple"
    assert all("_virtusoul" not in chunk for chunk in chunks[1:])
    assert all(chunk["system_fingerprint"] == "fp" for chunk in chunks if chunk["choices"])
    said = "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"])
    assert said == "one two three"
    assert chunks[-1]["usage"]["total_tokens"] == 19


async def test_unknown_models_are_refused_with_the_choices(router: Running) -> None:
    status, body = await router.chat("invalid")
    assert status == 400
    for name in ("virtusoul-v1", "simple", "medium", "complex", "reasoning"):
        assert name in body["error"]["message"]
    assert body["error"]["param"] == "model"


CHAT = {"model": "simple", "messages": [{"role": "user", "content": "x"}]}


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b"null", 400),
        (b'"text"', 400),
        (b'{"model":"simple","messages":[{"role":"user","content":"\xff\xfe"}]}', 400),
        (b'{"model":"simple","messages":' + b"[" * 10_000 + b"]" * 10_000 + b"}", 400),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, 400),
        (orjson.dumps({"model": "simple"}), 400),
        (orjson.dumps({"messages": CHAT["messages"]}), 400),
        (orjson.dumps({**CHAT, "messages": []}), 400),
        (orjson.dumps({**CHAT, "messages": "hello"}), 400),
        (orjson.dumps({**CHAT, "messages": [1]}), 400),
        (orjson.dumps({**CHAT, "messages": [{"content": "x"}]}), 400),
        (orjson.dumps({**CHAT, "messages": [{"role": 3, "content": "x"}]}), 400),
        (orjson.dumps({**CHAT, "messages": [{"role": "user", "content": 3}]}), 400),
        (orjson.dumps({**CHAT, "messages": [{"role": "user", "content": ["x"]}]}), 400),
        (orjson.dumps({**CHAT, "model": 3}), 400),
        (orjson.dumps({**CHAT, "stream": "yes"}), 400),
    ],
)
async def test_bad_bodies_get_400_in_openai_shape(router: Running, raw: bytes, status: int) -> None:
    headers = {"content-type": "application/json"}
    async with router.client.post(router.url + "/v1/chat/completions", data=raw, headers=headers) as response:
        body = await response.json()
    assert response.status == status
    _assert_openai_error(body)
    assert (await router.chat())[0] == 200


async def test_other_refusals_have_the_same_shape(start_router: Start, fake: FakeOpenAI) -> None:
    router = await start_router({**tier_env("simple", fake), "MAX_BODY_MB": "0.01"})
    cases: list[tuple[str, str, dict[str, Any], int]] = [
        ("POST", "/v1/chat/completions", {"data": b"x" * 20_000, "headers": {"content-type": "application/json"}}, 413),
        ("POST", "/v1/chat/completions", {"data": b"a=1", "headers": {"content-type": "text/plain"}}, 415),
        ("GET", "/v1/chat/completions", {}, 405),
        ("DELETE", "/classify", {}, 405),
        ("GET", "/nowhere", {}, 404),
        ("GET", "/v1/models/nothing", {}, 404),
    ]
    for method, path, kwargs, status in cases:
        async with router.client.request(method, router.url + path, **kwargs) as response:
            assert response.status == status, path
            _assert_openai_error(await response.json())
            assert response.headers["x-request-id"]


async def test_a_chunked_body_over_the_limit_is_413(start_router: Start, fake: FakeOpenAI) -> None:
    router = await start_router({**tier_env("simple", fake), "MAX_BODY_MB": "0.01"})

    async def pieces() -> Any:
        for _ in range(40):
            yield b" " * 1000

    headers = {"content-type": "application/json"}
    async with router.client.post(router.url + "/v1/chat/completions", data=pieces(), headers=headers) as response:
        assert response.status == 413
        _assert_openai_error(await response.json())


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"authorization": "Bearer wrong"}, 401),
        ({"authorization": "Basic one"}, 401),
        ({"authorization": "Bearer one"}, 200),
        ({"authorization": "bearer two"}, 200),
        ({"x-api-key": "two"}, 200),
    ],
)
async def test_keys(start_router: Start, fake: FakeOpenAI, headers: dict[str, str], status: int) -> None:
    router = await start_router({**tier_env("simple", fake), "API_KEY": "one, two"})
    async with router.post(CHAT, headers=headers) as response:
        assert response.status == status
        if status == 401:
            _assert_openai_error(await response.json())
    for path in ("/health", "/ready"):
        async with router.client.get(router.url + path) as response:
            assert response.status == 200
    for path in ("/v1/models", "/metrics"):
        async with router.client.get(router.url + path, headers=headers) as response:
            assert response.status == status


async def test_admin_endpoints_take_the_admin_key_alone(start_router: Start, fake: FakeOpenAI) -> None:
    router = await start_router({**tier_env("simple", fake), "API_KEY": "user", "ADMIN_API_KEY": "root"})
    body = {"text": "x", "tier": "simple"}
    async with router.post(body, "/feedback", headers={"authorization": "Bearer user"}) as response:
        assert response.status == 401
    async with router.post(body, "/feedback", headers={"authorization": "Bearer root"}) as response:
        assert response.status == 409  # no TRAINING_DATA


async def test_classify(router: Running) -> None:
    async with router.post({"text": "complex"}, "/classify") as response:
        one = await response.json()
    assert (one["tier"], one["confidence"], one["flagged"]) == ("complex", 0.9, False)
    assert set(one) == {"tier", "confidence", "scores", "reasoning", "latency_ms", "flagged"}
    assert sum(one["scores"].values()) == pytest.approx(1)
    async with router.post({"texts": ["simple", "medium"]}, "/classify") as response:
        assert [row["tier"] for row in (await response.json())["results"]] == ["simple", "medium"]
    async with router.post({"messages": [{"role": "user", "content": "reasoning"}]}, "/classify") as response:
        assert (await response.json())["tier"] == "reasoning"
    for wrong in ({}, {"text": 3}, {"texts": "x"}, {"texts": [1]}, {"messages": 1}, {"messages": [1]}):
        async with router.post(wrong, "/classify") as response:
            assert response.status == 400
            _assert_openai_error(await response.json())


async def test_models_health_and_index(start_router: Start, fake: FakeOpenAI) -> None:
    router = await start_router({**tier_env("medium", fake), "MODEL_NAME": "auto"})
    async with router.client.get(router.url + "/v1/models") as response:
        assert [row["id"] for row in (await response.json())["data"]][:2] == ["auto", "simple"]
    async with router.client.get(router.url + "/v1/models/auto") as response:
        assert (await response.json())["object"] == "model"
    async with router.client.get(router.url + "/health") as response:
        body = await response.json()
    assert body["status"] == "ok" and body["classifier_ready"] is True and body["configured_tiers"] == ["medium"]
    async with router.client.get(router.url + "/") as response:
        assert (await response.json())["tiers"]["simple"] == {"routed_to": "custom/medium-model", "configured": False}


async def test_an_unconfigured_tier_is_served_by_medium(start_router: Start, fake: FakeOpenAI) -> None:
    router = await start_router({**tier_env("medium", fake), **tier_env("reasoning", fake)})
    _, body = await router.chat("virtusoul-v1", "complex")
    assert body["_virtusoul"]["tier"] == "medium"
    assert body["_virtusoul"]["requested_tier"] == "complex"
    assert body["_virtusoul"]["mechanism"] == "unavailable"


async def test_low_confidence_goes_to_its_tier(start_router: Start, fake: FakeOpenAI) -> None:
    env = {**tier_env("simple", fake), **tier_env("complex", fake), "LOW_CONFIDENCE_TIER": "complex"}
    router = await start_router(env)
    router.classifier.confidence = 0.4
    _, body = await router.chat("virtusoul-v1", "simple")
    assert (body["_virtusoul"]["tier"], body["_virtusoul"]["mechanism"]) == ("complex", "low_confidence")


async def test_a_failing_classifier_means_medium_not_500(router: Running) -> None:
    router.classifier.fail = RuntimeError("broken")
    status, body = await router.chat("virtusoul-v1", "simple")
    assert (status, body["_virtusoul"]["tier"], body["_virtusoul"]["mechanism"]) == (200, "medium", "unavailable")


async def test_the_bias_header(router: Running) -> None:
    chat = {"model": "virtusoul-v1", "messages": [{"role": "user", "content": "x"}]}
    async with router.post(chat, headers={"x-virtusoul-bias": "0.5"}) as response:
        assert response.status == 200
    assert router.classifier.bias == 0.5
    for wrong in ("2", "nan", "much"):
        async with router.post(chat, headers={"x-virtusoul-bias": wrong}) as response:
            assert response.status == 400


async def test_capabilities_and_windows_move_a_request(start_router: Start, fake: FakeOpenAI) -> None:
    env = {
        **tier_env("simple", fake, CAPABILITIES="json", CONTEXT_WINDOW="50"),
        **tier_env("medium", fake, CAPABILITIES="tools", CONTEXT_WINDOW="1000"),
        **tier_env("complex", fake, CONTEXT_WINDOW="100000"),
    }
    router = await start_router(env)
    _, body = await router.chat("simple", "Hi", tools=[{"type": "function", "function": {"name": "f"}}])
    assert (body["_virtusoul"]["tier"], body["_virtusoul"]["mechanism"]) == ("medium", "capability")
    assert "tools" in body["_virtusoul"]["reason"]
    _, body = await router.chat("simple", "word " * 3000)
    assert (body["_virtusoul"]["tier"], body["_virtusoul"]["mechanism"]) == ("complex", "context")


async def test_metrics_count_each_request_once(router: Running, fake: FakeOpenAI) -> None:
    sample = 'virtusoul_requests_total{mechanism="direct",provider="custom",status="200",tier="simple"}'
    tokens = 'virtusoul_tokens_total{kind="prompt",tier="simple"}'
    before, tokens_before = await router.metric(sample), await router.metric(tokens)
    await router.chat()
    await router.stream(stream_options={"include_usage": True})
    assert await router.metric(sample) - before == 2
    assert await router.metric(tokens) - tokens_before == 24
    assert await router.metric("virtusoul_in_flight") == 0


def _assert_openai_error(body: dict[str, Any]) -> None:
    assert set(body) == {"error"}
    assert {"message", "type", "param", "code"} <= set(body["error"])
    assert body["error"]["message"]


@pytest.mark.parametrize(
    "raw",
    [
        b"\x16\x03\x01 no http at all\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nx-long: " + b"a" * 20_000 + b"\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n12345",
        b"POST /classify HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nbad header\r\n\r\n",
    ],
)
async def test_malformed_http_is_a_400_in_openai_shape(router: Running, raw: bytes) -> None:
    host, _, port = router.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(raw)
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    assert head.split()[1] == b"400"
    _assert_openai_error(json.loads(body))
    assert (await router.chat())[0] == 200
