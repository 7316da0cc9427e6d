"""What every endpoint shares: reading a JSON body, answering in JSON, and errors in OpenAI's shape."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson
from aiohttp import HttpVersion10, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.helpers import rfc822_formatted_time
from multidict import CIMultiDict

from router.access import request_id
from router.downstream import STALLED_SECONDS
from router.errors import (
    BadRequest,
    ExpectationFailed,
    MethodNotAllowed,
    NotFound,
    PayloadTooLarge,
    RouterError,
    UnsupportedMedia,
)
from router.service import SERVICE

log = logging.getLogger("router.http")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

# A client that sends its body more slowly than this (seconds for the whole of it) gives its place to another.
BODY_SECONDS = 120.0
_JSON = "application/json"
_UNREADABLE = "invalid_body"
# What aiohttp undoes on the way in, or refuses before a request comes here; anything else it passes on as it is.
_UNPACKED = frozenset({"gzip", "deflate", "br", "zstd", "identity"})


async def read_body(request: web.Request, limit: int | None = None) -> bytes:
    """The request's JSON bytes, at most `limit` of them (MAX_BODY_MB where none is given).

    Raises `UnsupportedMedia`, `PayloadTooLarge` or `BadRequest`.
    """
    refuse_other_sites(request)
    kind = _kind(request)
    if kind and not _is_json(kind):
        raise UnsupportedMedia(f"The content type must be {_JSON}, not {kind[:100]!r}.", code="unsupported_media_type")
    packing = request.headers.get("content-encoding")
    if packing and packing.lower() not in _UNPACKED:
        raise unknown_packing(packing)
    if limit is None:
        limit = request.app[SERVICE].settings.max_body_bytes
    if request.content_length is not None and request.content_length > limit:
        raise _too_large(limit)
    try:
        if request.content.is_eof():  # it came together with the headers, as small ones do: no timer, no wait
            body = request.content.read_nowait(-1)
            if len(body) > limit:
                raise _too_large(limit)
            return body
        async with asyncio.timeout(BODY_SECONDS):
            return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise _too_large(limit) from None
    except TimeoutError:
        raise BadRequest(f"The request body did not arrive within {BODY_SECONDS:g} s.", code="body_timeout") from None
    except web.RequestPayloadError:
        request.content.feed_eof()  # what is left cannot be read: aiohttp must not try to
        raise BadRequest("The request body is damaged: it cannot be unpacked.", code=_UNREADABLE) from None
    except (web.HTTPException, ValueError) as error:
        raise BadRequest(f"The request body could not be read: {error}", code=_UNREADABLE) from None


class WholeResponse(web.StreamResponse):
    """A whole JSON answer that goes out in one write, its head made here.

    aiohttp's own way to the same bytes costs a tenth of a direct route's processor time.
    """

    def __init__(self, body: bytes, headers: Mapping[str, str]) -> None:
        """`headers` must be free of line ends."""
        super().__init__()
        self._whole = body
        self._lines = headers
        self._sent_to: web.BaseRequest | None = None

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Sends head and body. Raises `ConnectionResetError` where the client has left."""
        if self._eof_sent:
            return None
        writer = request.writer
        transport = request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client has left")
        keep_alive = self._keep_alive = request.keep_alive if self._keep_alive is None else self._keep_alive
        lines = [f"{name}: {value}\r\n" for name, value in self._lines.items()]
        if not keep_alive:
            lines.append("connection: close\r\n")
        elif request.version == HttpVersion10:
            lines.append("connection: keep-alive\r\n")
        version = "0" if request.version == HttpVersion10 else "1"
        head = (
            f"HTTP/1.{version} 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(self._whole)}\r\n"
            f"date: {rfc822_formatted_time()}\r\n{''.join(lines)}\r\n"
        )
        data = head.encode("latin-1", "replace") + self._whole
        transport.write(data)
        writer.output_size += len(data)
        self._sent_to = request
        self._eof_sent = True
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """All of it was written by `prepare`; here a client that takes too little of it is waited for.

        Otherwise one that sends request upon request and reads nothing would have all its answers kept in memory.
        """
        request = self._sent_to
        if request is None or request.transport is None or not request.transport.get_write_buffer_size():
            return
        try:
            async with asyncio.timeout(STALLED_SECONDS):
                await request.writer.drain()
        except TimeoutError:
            request.transport.abort()


def json_response(body: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """`body`: JSON bytes, or a document to encode."""
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    out: CIMultiDict[str] = CIMultiDict(headers or {})
    out["content-type"] = _JSON
    return web.Response(body=data, status=status, headers=out)


def error_response(
    error: RouterError, headers: Mapping[str, str] | None = None, body: bytes | None = None
) -> web.Response:
    """An error in OpenAI's shape, or with the `body` that a door gave it."""
    response = json_response(body or error.body(), status=error.status, headers={**(headers or {}), **error.headers})
    if error.code == _UNREADABLE:
        response.force_close()
    return response


def refuse_other_sites(request: web.Request) -> None:
    """Raises `UnsupportedMedia` for what a browser sends for another site's page without asking us first.

    Without CORS headers of ours, a browser sends no cross-site JSON body; but a body without a type, or none at
    all, needs no permission (https://fetch.spec.whatwg.org/#cors-safelisted-request-header).
    """
    if request.headers.get("sec-fetch-site") in ("cross-site", "same-site") and not _is_json(_kind(request)):
        raise UnsupportedMedia(f"From another site's page, the content type must be {_JSON}.", code="cross_site")


def _kind(request: web.Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _is_json(kind: str) -> bool:
    return kind == _JSON or (kind.startswith("application/") and kind.endswith("+json"))


def endpoint(handler: Handler, *, admin: bool = False, open_to_all: bool = False) -> Handler:
    """`handler` behind the key, with its `RouterError`s answered, and faults of ours hidden behind a plain 500."""

    async def guarded(request: web.Request) -> web.StreamResponse:
        headers = {"x-request-id": request_id(request.headers)}
        try:
            if not open_to_all:
                service = request.app[SERVICE]
                (service.admin_keys if admin else service.keys).check(request.headers)
            response = await handler(request)
            response.headers.update(headers)
            return response
        except RouterError as error:
            return error_response(error, headers)
        except web.HTTPException:
            raise
        except Exception:
            log.exception(
                "%s %s failed", request.method, request.raw_path
            )  # still percent-encoded: no line can be forged
            return error_response(RouterError("The router failed; its log says why.", code="internal_error"), headers)

    return guarded


async def not_found(request: web.Request) -> web.StreamResponse:
    raise NotFound(f"There is no {request.path[:200]!r} here.", code="unknown_url")


async def wrong_method(request: web.Request) -> web.StreamResponse:
    resource = request.match_info.route.resource
    assert resource is not None  # noqa: S101 - every route here has one
    allowed = ", ".join(route.method for route in resource if route.method != "*")  # RFC 9110, 15.5.6: required
    raise MethodNotAllowed(
        f"{request.method} is not allowed for {request.path}.", code="method_not_allowed", headers={"allow": allowed}
    )


async def expectation(request: web.Request) -> web.StreamResponse | None:
    """Answers an `Expect` header (RFC 9110, 10.1.1); None where the request goes on."""
    expect = request.headers.get("expect", "")
    if request.version == HttpVersion10:
        return None
    if expect.lower() != "100-continue":
        error = ExpectationFailed(f"The expectation {expect[:100]!r} cannot be met.", code="expectation_failed")
        return error_response(error, {"x-request-id": request_id(request.headers)})
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # of the answer itself, nothing is written yet
    return None


def unknown_packing(name: str) -> UnsupportedMedia:
    """For a body that is packed in a way that is not undone here (RFC 9110, 12.5.3: the answer says what is)."""
    said = f"{name[:100]!r}" if name else "this one"
    return UnsupportedMedia(
        f"The content encoding must be gzip or deflate, not {said}.",
        code="unsupported_content_encoding",
        headers={"accept-encoding": "gzip, deflate"},
    )


def _too_large(limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(
        f"The request body is larger than {limit / 1048576:g} MB (MAX_BODY_MB).", code="request_too_large"
    )
