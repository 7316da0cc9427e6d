"""Logging: text or JSON lines on stderr, one line a request. Prompt text only where LOG_PROMPTS asks for it."""

from __future__ import annotations

import logging
import sys
import time
from datetime import UTC, datetime
from typing import Any

import orjson

from router.metrics import Record

log = logging.getLogger("router")
_access = logging.getLogger("router.access")


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


def request_line(record: Record, prompt: str | None) -> None:
    """The line of one ended request. `prompt`: its text where the operator asked for it."""
    if not _access.isEnabledFor(logging.INFO):
        return
    now = time.perf_counter()
    fields: dict[str, Any] = {
        "request_id": record.request_id,
        "endpoint": record.endpoint,
        "status": record.status,
        "tier": record.tier,
        "routed_to": f"{record.provider}/{record.model}" if record.provider else "",
        "mechanism": record.mechanism,
        "confidence": record.confidence,
        "total_ms": round((now - record.started) * 1e3, 1),
    }
    overhead = record.overhead_seconds()
    optional = {
        "requested_tier": record.requested_tier,
        "overhead_ms": round(overhead * 1e3, 2) if overhead is not None else None,
        "classify_ms": round(record.classify_seconds * 1e3, 2) if record.classify_seconds is not None else None,
        "first_token_ms": round((record.first_token - record.started) * 1e3, 1) if record.first_token else None,
        "attempts": record.attempts if record.attempts > 1 else None,
        "prompt_tokens": record.prompt_tokens,
        "completion_tokens": record.completion_tokens,
        "dropped": ",".join(record.dropped),
        "error": record.error,
        "prompt": prompt,
    }
    fields.update((key, value) for key, value in optional.items() if value)
    level = logging.INFO if record.status < 500 else logging.WARNING
    _access.log(level, "request", extra={"fields": {key: value for key, value in fields.items() if value != ""}})


def _shown(value: Any) -> str:
    """One value in a text line: quoted where it holds blanks, so that no client can forge a field or a line."""
    text = str(value)
    return text if text.isprintable() and " " not in text and '"' not in text else orjson.dumps(text).decode()
