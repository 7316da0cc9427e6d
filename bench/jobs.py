"""What the load generator is asked, and what it answers: plain data that travels as one JSON line each way."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal
from urllib.parse import urlsplit

import numpy as np

from bench.figures import Floats

Kind = Literal["closed", "open"]


@dataclass(frozen=True)
class Endpoint:
    """An OpenAI-compatible endpoint: `url` up to and with `/v1`, the model to ask for, extra headers."""

    url: str
    model: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def asking_for(self, model: str) -> Endpoint:
        return Endpoint(self.url, model, self.headers)


@dataclass(frozen=True)
class Job:
    """One stretch of load.

    `kind` closed: `concurrency` clients, each sending its next request when the last is answered; open: arrivals as a
    Poisson process of `rate` per second, whatever the answers do. `seconds` are measured after `discard` seconds of
    warm-up. `prompt` is a kind of `bench.prompts.make`, numbered from `first`. `drip` = (ms, chunks) asks for streams.
    """

    url: str
    model: str
    headers: Mapping[str, str] = field(default_factory=dict)
    kind: Kind = "closed"
    concurrency: int = 1
    rate: float = 0.0
    seconds: float = 1.0
    discard: float = 0.1
    prompt: str = "fixed"
    first: int = 0
    drip: tuple[int, int] | None = None

    @property
    def stream_seconds(self) -> float:
        """How long one stream takes by its drip; 0 for whole answers."""
        return self.drip[0] * self.drip[1] / 1e3 if self.drip else 0.0

    def where(self) -> tuple[str, int, str, bool]:
        """Host, port, path of the chat endpoint, and whether it is TLS."""
        parts = urlsplit(self.url)
        secure = parts.scheme == "https"
        port = parts.port or (443 if secure else 80)
        return parts.hostname or "127.0.0.1", port, f"{parts.path}/chat/completions", secure

    def as_dict(self) -> dict[str, Any]:
        return {item.name: getattr(self, item.name) for item in fields(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Job:
        drip = data["drip"]
        return cls(**{**data, "drip": tuple(drip) if drip else None})


@dataclass(frozen=True)
class Result:
    """What a job measured. Times in ms.

    `latencies`: of whole answers, from the intended send time (open) or the actual one (closed); of streams, until the
    last byte. `firsts`: until a stream's first content. `delays`: of each chunk, from the upstream's write, of all
    streams, ended or not. `late`: how much after its intended time a request was sent. `used`: prompts consumed.
    `cpu`: seconds of CPU the generator spent. `unserved`: open loop only, requests that were due but had no answer
    when the job ended.
    """

    latencies: Floats
    firsts: Floats
    delays: Floats
    late: Floats
    seconds: float
    used: int
    cpu: float
    unserved: int
    errors: Mapping[str, int]

    @property
    def rate(self) -> float:
        """Answers per second."""
        return len(self.latencies) / self.seconds if self.seconds else 0.0

    def as_dict(self) -> dict[str, Any]:
        return {
            item.name: _packed(value) if isinstance(value := getattr(self, item.name), np.ndarray) else value
            for item in fields(self)
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Result:
        arrays = ("latencies", "firsts", "delays", "late")
        unpacked: dict[str, Any] = {name: _unpacked(value) if name in arrays else value for name, value in data.items()}
        return cls(**unpacked)


def _packed(values: Floats) -> str:
    return base64.b64encode(np.ascontiguousarray(values, dtype="<f4").tobytes()).decode()


def _unpacked(text: str) -> Floats:
    return np.frombuffer(base64.b64decode(text), dtype="<f4").astype(np.float64)
