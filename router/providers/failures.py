"""What a provider's HTTP error status means: one table for all dialects. A dialect finds the message and the code."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

from router.config import Target
from router.errors import Failure, UpstreamError

MESSAGE_LIMIT = 2000

_CONTEXT = re.compile(
    r"context[_ ](length|window|limit|size)|maximum context|prompt is too long|too many (input )?tokens|"
    r"input (is|was)? ?too long|exceeds? the (model'?s? )?(maximum|max)[^.]{0,40}tokens|reduce the length|"
    r"maximum prompt length|(prompt|input) token count|input tokens exceed|model token limit|"  # xAI, Copilot, Moonshot
    r"range of input length|prompt exceeds max|`inputs`",  # Alibaba, Zhipu, Hugging Face's TGI
    re.IGNORECASE,
)
_FILTER = re.compile(
    r"content[_ ](policy|filter|management)|content_policy_violation|safety (system|filter)|responsible_?ai|"
    r"flagged (by|as)|moderation",
    re.IGNORECASE,
)
_PREFILL = re.compile(
    r"(does not support|doesn'?t support|not supported|must end with|cannot end with|can'?t end with|last message)"
    r"[^.]{0,80}(prefill|assistant|user message)|prefill|"
    r"(final|last) (message|assistant)[^.]{0,60}(assistant|user|role)|"
    r"expected last role|requests? ends? with an? user",  # Mistral, Google
    re.IGNORECASE,
)


def classify_status(status: int, code: str, message: str) -> Failure:
    """The kind of failure; `code` and `message` as the provider put them."""
    if status == 429:
        return Failure.RATE_LIMITED
    if status in (401, 403):
        return Failure.AUTH
    if status in (400, 404, 413, 422):
        text = f"{code} {message}"
        if _CONTEXT.search(text):
            return Failure.CONTEXT_LENGTH
        if _FILTER.search(text):
            return Failure.CONTENT_FILTER
        if _PREFILL.search(message):
            return Failure.PREFILL
        return Failure.CLIENT
    if status == 408 or status >= 500:
        return Failure.SERVER
    return Failure.CLIENT if 400 <= status < 500 else Failure.SERVER


def upstream_error(
    status: int,
    headers: Mapping[str, str],
    target: Target,
    *,
    message: str,
    type: str | None = None,
    param: str | None = None,
    code: str | None = None,
) -> UpstreamError:
    """One error for a provider's error status, with the status that our client gets."""
    message = without_key(message.strip(), target)[:MESSAGE_LIMIT]
    type, param, code = (without_key(text, target) if text else text for text in (type, param, code))
    failure = classify_status(status, code or "", message)
    retry_after = parse_retry_after(headers)
    if failure is Failure.AUTH:
        return UpstreamError(
            f"The provider of tier '{target.tier}' ({target.route}) refused the router's API key (status {status}).",
            failure,
            upstream_status=status,
            code="upstream_auth",
        )
    if failure is Failure.RATE_LIMITED:
        return UpstreamError(
            message or "The provider's rate limit was reached.",
            failure,
            status=429,
            upstream_status=status,
            type=type or "rate_limit_error",
            param=param,
            code=code or "rate_limit_exceeded",
            retry_after=retry_after,
        )
    if status in (400, 404, 413, 422):
        return UpstreamError(
            message or f"The provider answered {status}.",
            failure,
            status=status,
            upstream_status=status,
            type=type or "invalid_request_error",
            param=param,
            code="context_length_exceeded" if failure is Failure.CONTEXT_LENGTH else code,
        )
    return UpstreamError(
        f"The provider of tier '{target.tier}' ({target.route}) answered {status}: {message or 'no message'}",
        failure,
        status={529: 503, 504: 504}.get(status, 502),
        upstream_status=status,
        code=code,
        retry_after=retry_after,
    )


def not_the_dialect(target: Target, what: str) -> UpstreamError:
    """A 200 whose body is not what the dialect promises (HTML from a proxy in front, a truncated document)."""
    return UpstreamError(
        f"The provider of tier '{target.tier}' ({target.route}) sent {what}.",
        Failure.SERVER,
        upstream_status=None,
        code="upstream_protocol",
    )


def without_key(text: str, target: Target) -> str:
    """`text` without the target's key: some providers quote it in their errors."""
    return text.replace(target.api_key, "***") if target.api_key else text


def parse_retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds from `retry-after-ms` or `Retry-After` (seconds or a date: RFC 9110, 10.2.3); None if absent."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        raw = headers.get(name, "").strip()
        try:
            if raw[:1].isdigit():
                seconds = float(raw) / unit
            elif raw and name == "retry-after":
                when = parsedate_to_datetime(raw)
                # C's `asctime`, one of the three forms that RFC 9110, 5.6.7 allows, names no zone: it is UTC.
                seconds = (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() - time.time()
            else:
                continue
        except (ValueError, TypeError, OverflowError):
            continue
        return min(max(0.0, seconds), 86_400.0)
    return None
