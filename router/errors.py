"""Every failure a client can be told about, its HTTP status and its OpenAI-shaped body.

    RouterError                 500  api_error
    ├── BadRequest              400  invalid_request_error
    │   ├── NotFound            404
    │   ├── MethodNotAllowed    405
    │   ├── PayloadTooLarge     413
    │   ├── UnsupportedMedia    415
    │   └── ExpectationFailed   417
    ├── Unauthorized            401  authentication_error
    ├── Conflict                409  conflict_error
    ├── Overloaded              503  overloaded_error    (+ Retry-After)
    ├── NotConfigured           503  configuration_error
    └── UpstreamError           502  upstream_error      what a provider or the way to it did; see `Failure`

Shape: https://platform.openai.com/docs/guides/error-codes. Foreign exceptions become one of these in exactly two
places: `router.upstream` (network) and the provider files (a provider's own error dialect).
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from typing import Any


class RouterError(Exception):
    """A failure with an HTTP status. `headers` go out with the response; `details` join the error object."""

    status = 500
    type = "api_error"

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code
        self.headers: dict[str, str] = dict(headers or {})
        self.details: dict[str, Any] = dict(details or {})

    def body(self) -> dict[str, Any]:
        """The OpenAI error object."""
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return {"error": {**self.details, **error}}


class BadRequest(RouterError):
    status = 400
    type = "invalid_request_error"


class NotFound(BadRequest):
    status = 404


class MethodNotAllowed(BadRequest):
    status = 405


class PayloadTooLarge(BadRequest):
    status = 413


class UnsupportedMedia(BadRequest):
    status = 415


class ExpectationFailed(BadRequest):
    status = 417


class Unauthorized(RouterError):
    status = 401
    type = "authentication_error"


class Conflict(RouterError):
    status = 409
    type = "conflict_error"


class Overloaded(RouterError):
    status = 503
    type = "overloaded_error"

    def __init__(self, message: str, *, retry_after: float = 1.0) -> None:
        super().__init__(message, code="overloaded", headers={"retry-after": retry_after_header(retry_after)})


class NotConfigured(RouterError):
    status = 503
    type = "configuration_error"


class Failure(enum.Enum):
    """What went wrong with one attempt: the only thing the retry table in `dispatch` looks at."""

    CONNECT = "connect"  # never reached the upstream: nothing was spent there
    RESET = "reset"  # reached, then the connection broke before an answer
    SILENT = "timeout"  # no response before ATTEMPT_TIMEOUT, or no content before FIRST_TOKEN_TIMEOUT
    RATE_LIMITED = "rate_limited"  # 429
    SERVER = "server_error"  # 408, 5xx, and answers that are not the dialect (HTML from a proxy in front)
    AUTH = "auth"  # 401, 403: our key, not the client's
    CLIENT = "client_error"  # 400, 404, 413, 422: the request itself
    CONTEXT_LENGTH = "context_length"  # the prompt does not fit this model
    CONTENT_FILTER = "content_filter"  # refused on content: never shopped around
    PREFILL = "prefill"  # this model takes no assistant message at the end; another may
    BROKEN_STREAM = "broken_stream"  # cut, stalled or failed after the first content


class UpstreamError(RouterError):
    """One attempt failed. `status` is what the client gets if nothing else can serve the request."""

    status = 502
    type = "upstream_error"
    ours = False  # our own deadline cut it off: it says nothing about the target's health

    def __init__(
        self,
        message: str,
        failure: Failure,
        *,
        status: int = 502,
        upstream_status: int | None = None,
        type: str | None = None,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        """`retry_after`: seconds the upstream asked for; passed on to the client as it is."""
        super().__init__(message, param=param, code=code)
        self.failure = failure
        self.status = status
        self.upstream_status = upstream_status
        self.retry_after = retry_after
        if type is not None:
            self.type = type
        if retry_after is not None:
            self.headers["retry-after"] = retry_after_header(retry_after)
        if upstream_status is not None:
            self.details["upstream_status"] = upstream_status


def retry_after_header(seconds: float) -> str:
    """`Retry-After` in whole seconds, never zero: a client that obeys must not come back at once (RFC 9110, 10.2.3)."""
    return str(max(1, math.ceil(seconds)))
