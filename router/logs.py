"""Logging: text or JSON lines on stderr, one line a request. Prompt text only where LOG_PROMPTS asks for it."""

from __future__ import annotations

import asyncio
import atexit
import json
import logging
import os
import re
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import orjson

from router.metrics import Record

log = logging.getLogger("router")

# What stands in a text line as it is: letters of any script, and of ASCII everything visible but the quotation mark.
_PLAIN = re.compile(r"[!#-~\w]*").fullmatch


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        fields = getattr(record, "fields", None)
        return f"{line} {' '.join(f'{key}={_shown(value)}' for key, value in fields.items())}" if fields else line


def set_up(level: str, style: str) -> None:
    """Configures the `router` loggers; others (asyncio, gunicorn) keep to warnings through the same handler."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        _JsonFormatter() if style == "json" else _TextFormatter("%(asctime)s %(levelname)-7s %(message)s")
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    log.setLevel(level)


class RequestLog:
    """One line for every ended request, formatted by hand and written in batches.

    The logging module takes some thirty microseconds for a line, a tenth of a direct route's cost; this takes three.
    Lines are held for at most FLUSH_SECONDS, and written at the latest when the process ends.
    """

    FLUSH_SECONDS = 0.05

    def __init__(self, level: str, style: str, write: Callable[[bytes], object] | None = None) -> None:
        """`write` takes whole lines; by default they go to stderr, where the other log lines go."""
        self._enabled = level in ("DEBUG", "INFO")
        self._warnings = level not in ("ERROR", "CRITICAL")
        self._json = style == "json"
        self._write = write or _to_stderr
        self._held: list[bytes] = []
        self._second = 0
        self._stamp = ""
        atexit.register(self.flush)

    def add(self, record: Record, prompt: str | None) -> None:
        """`prompt`: its text where the operator asked for it. Call inside the running loop."""
        failed = record.status >= 500
        if not (self._enabled or (failed and self._warnings)):
            return
        level = "WARNING" if failed else "INFO"
        now = time.time()
        fields = _fields(record)
        if self._json:
            moment = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds")
            line = orjson.dumps(
                {
                    "time": moment,
                    "level": level,
                    "logger": "router.access",
                    "message": "request",
                    "request_id": record.request_id,
                    **fields,
                    **({"prompt": prompt} if prompt else {}),
                }
            )
        else:
            pairs = " ".join(
                [f"{key}={_named(value) if type(value) is str else value}" for key, value in fields.items()]
            )
            said = f" prompt={_shown(prompt)}" if prompt else ""
            line = (
                f"{self._moment(now)} {level:7} request request_id={_shown(record.request_id)} {pairs}{said}"
            ).encode("utf-8", "replace")
        if not self._held:
            asyncio.get_running_loop().call_later(self.FLUSH_SECONDS, self.flush)
        self._held.append(line + b"\n")

    def flush(self) -> None:
        """Writes what is held."""
        held, self._held = self._held, []
        if held:
            self._write(b"".join(held))

    def _moment(self, now: float) -> str:
        """Local time as the logging module writes it; the part down to the second is made once a second."""
        second = int(now)
        if second != self._second:
            self._second = second
            self._stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))
        return f"{self._stamp},{int((now - second) * 1000):03d}"


def _to_stderr(lines: bytes) -> None:
    """A log that cannot be written (closed, full, nobody reads it) must not stop the serving: the lines are lost."""
    with suppress(OSError):
        while lines:
            lines = lines[os.write(2, lines) :]


def _fields(record: Record) -> dict[str, Any]:
    """What a line tells beside the request's id; what is empty is left out."""
    now = time.perf_counter()
    fields: dict[str, Any] = {
        "endpoint": record.endpoint,
        "status": record.status,
        "total_ms": round((now - record.started) * 1e3, 1),
    }
    if record.tier:
        fields["tier"] = record.tier
    if record.provider:
        fields["routed_to"] = f"{record.provider}/{record.model}"
        fields["mechanism"] = record.mechanism
    if record.requested_tier:
        fields["requested_tier"] = record.requested_tier
    if record.confidence is not None:
        fields["confidence"] = record.confidence
    overhead = record.overhead_seconds()
    if overhead is not None:
        fields["overhead_ms"] = round(overhead * 1e3, 2)
    if record.classify_seconds is not None:
        fields["classify_ms"] = round(record.classify_seconds * 1e3, 2)
    if record.first_token is not None:
        fields["first_token_ms"] = round((record.first_token - record.started) * 1e3, 1)
    if record.attempts > 1:
        fields["attempts"] = record.attempts
    if record.prompt_tokens or record.completion_tokens:
        fields["prompt_tokens"] = record.prompt_tokens
        fields["completion_tokens"] = record.completion_tokens
    if record.dropped:
        fields["dropped"] = ",".join(record.dropped)
    if record.error:
        fields["error"] = record.error
    if record.cause:
        fields["cause"] = record.cause
    return fields


def _quoted(text: str) -> str:
    """One value in a text line with blanks in it, so that no client can forge a field or a line."""
    return json.dumps(text).replace("\x7f", "\\u007f")  # ASCII, unlike orjson: no control character gets through


def _shown(value: Any) -> str:
    text = str(value)
    return text if type(value) is not str or _PLAIN(text) else _quoted(text)


# Tiers, providers, endpoints, reasons: the same few names in every line.
_named = lru_cache(maxsize=1024)(_shown)
