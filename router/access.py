"""Who may call: bearer tokens compared in constant time, and the request's id."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from random import getrandbits

from router.errors import Unauthorized

_REQUEST_ID = re.compile(r"[!-~]{1,128}")


class Keys:
    """A set of accepted tokens, kept as digests. An empty set accepts everyone."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = tuple(_digest(key) for key in keys)

    def check(self, headers: Mapping[str, str]) -> None:
        """Raises `Unauthorized` unless the request carries one of the keys.

        Every key is compared, each in constant time, over digests of equal length: the time taken tells nothing.
        The token comes as `Authorization: Bearer …`, or as `x-api-key`, which the Anthropic SDK sends.
        """
        if not self._digests:
            return
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            token = headers.get("x-api-key", "")
        if not token:
            raise Unauthorized(
                "You didn't provide an API key. Send it as 'Authorization: Bearer YOUR_KEY'.",
                code="missing_api_key",
                headers={"www-authenticate": "Bearer"},
            )
        given = _digest(token.strip())
        accepted = False
        for known in self._digests:
            accepted |= hmac.compare_digest(given, known)
        if not accepted:
            raise Unauthorized(
                "Incorrect API key provided.", code="invalid_api_key", headers={"www-authenticate": "Bearer"}
            )


def request_id(headers: Mapping[str, str]) -> str:
    """The client's `x-request-id` where it is safe to repeat in headers and logs, else a new one."""
    given = headers.get("x-request-id")
    if given and _REQUEST_ID.fullmatch(given):
        return given
    return f"{getrandbits(128):032x}"  # seeded anew in every worker; it names a request, it guards nothing


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
