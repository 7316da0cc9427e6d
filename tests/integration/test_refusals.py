"""What is refused before any endpoint sees it has the shape and the id of every other refusal."""

from __future__ import annotations

import asyncio
import json
import zlib
from typing import Any

import pytest
from aiohttp.compression_utils import HAS_BROTLI, HAS_ZSTD

from tests.conftest import Running

BODY = json.dumps({"model": "simple", "messages": [{"role": "user", "content": "Hi"}]}).encode()
HEAD = "POST {} HTTP/1.{}\r\nhost: x\r\ncontent-type: application/json\r\nx-request-id: mine\r\n{}content-length: {}\r\n\r\n"


async def ask(router: Running, data: bytes) -> tuple[int, dict[str, str], Any]:
    """Status, headers and JSON of the answer to these bytes."""
    host, _, port = router.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(data)
        async with asyncio.timeout(5):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.strip().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in lines)
            body = await reader.readexactly(int(headers.get("content-length", 0)))
    finally:
        writer.close()
    return int(first.split()[1]), headers, json.loads(body) if body else None


def post(path: str = "/v1/chat/completions", fields: str = "", body: bytes = BODY, version: int = 1) -> bytes:
    return HEAD.format(path, version, fields, len(body)).encode() + body


def assert_openai_error(body: Any, code: str) -> None:
    assert set(body) == {"error"}
    assert body["error"]["code"] == code and body["error"]["message"]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/classify", "/nowhere"])
async def test_an_expectation_that_nobody_knows_is_417(router: Running, path: str) -> None:
    status, headers, body = await ask(router, post(path, "expect: a miracle\r\n"))
    assert (status, headers["x-request-id"]) == (417, "mine")
    assert_openai_error(body, "expectation_failed")


async def test_expectations_that_are_met(router: Running) -> None:
    """The one that HTTP knows; HTTP/1.0 knows none, so that there the header means nothing."""
    assert (await ask(router, post(fields="expect: 100-Continue\r\n")))[0] == 100
    assert (await ask(router, post(fields="expect: a miracle\r\n", version=0)))[0] == 200


# With a later Python, or with packages that we do not ask for, aiohttp undoes two more.
MORE = ([] if HAS_BROTLI else ["br", "BR"]) + ([] if HAS_ZSTD else ["zstd"])


@pytest.mark.parametrize("name", ["compress", "x-gzip", "gzip, gzip", "nonsense", *MORE])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/classify"])
async def test_a_packing_that_is_not_undone_is_415(router: Running, path: str, name: str) -> None:
    status, headers, body = await ask(router, post(path, f"content-encoding: {name}\r\n"))
    assert status == 415 and headers["x-request-id"]
    assert headers["accept-encoding"] == "gzip, deflate"
    assert_openai_error(body, "unsupported_content_encoding")


async def test_packings_that_are_undone(router: Running) -> None:
    assert (await ask(router, post(fields="content-encoding: Identity\r\n")))[0] == 200
    assert (await ask(router, post(fields="content-encoding: Deflate\r\n", body=zlib.compress(BODY))))[0] == 200
    status, _, body = await ask(router, post(fields="content-encoding: gzip\r\n", body=b"no gzip"))
    assert status == 400
    assert_openai_error(body, "invalid_body")


async def test_what_is_no_http_gets_an_id_too(router: Running) -> None:
    status, headers, body = await ask(router, b"GET / HTTP/1.1\r\nhost: x\r\nbad header\r\n\r\n")
    assert status == 400 and headers["x-request-id"]
    assert_openai_error(body, "invalid_http")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/chat/completions", {"POST"}),
        ("PUT", "/v1/embeddings", {"POST"}),
        ("DELETE", "/classify", {"POST"}),
        ("POST", "/v1/models/simple", {"GET", "HEAD"}),
        ("OPTIONS", "/", {"GET", "HEAD"}),
    ],
)
async def test_a_405_says_what_is_allowed(router: Running, method: str, path: str, allowed: set[str]) -> None:
    async with router.client.request(method, router.url + path) as response:
        assert response.status == 405
        assert set(response.headers["allow"].split(", ")) == allowed
