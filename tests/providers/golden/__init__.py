"""Golden cases: one module per provider file, named like it. `test_contract` demands all of `REQUIRED` of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

REQUIRED = frozenset({"text", "tools", "image", "usage", "error", "truncated"})


@dataclass(frozen=True)
class Golden:
    """One exchange. `request`: the hub body beside model and messages' defaults. `wire`: members that the outgoing
    document must have. `reply` and `stream`: the provider's answer, whole and streamed, that must both give `answer`
    (`content`, `tool_calls`, `finish_reason`, `usage`). `status` and `body`: an error, that must give `error`.
    """

    model: str = "model"
    vendor: str = "openai"
    request: Mapping[str, Any] = field(default_factory=dict)
    wire: Mapping[str, Any] = field(default_factory=dict)
    reply: bytes = b""
    stream: bytes = b""
    answer: Mapping[str, Any] = field(default_factory=dict)
    status: int = 0
    body: bytes = b""
    error: Mapping[str, Any] = field(default_factory=dict)
