"""Errors in Anthropic's shape. API: https://platform.claude.com/docs/en/api/errors"""

from __future__ import annotations

import orjson

from router.errors import RouterError

_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
# The words by which agents built on this API recognise that they must shorten the conversation.
_TOO_LONG = "prompt is too long"


def error_body(error: RouterError) -> bytes:
    kind = _TYPES.get(error.status) or ("invalid_request_error" if error.status < 500 else "api_error")
    message = error.message
    if error.code == "context_length_exceeded" and _TOO_LONG not in message.lower():
        message = f"{_TOO_LONG}: {message}"
    return orjson.dumps({"type": "error", "error": {"type": kind, "message": message}})
