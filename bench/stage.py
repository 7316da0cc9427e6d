"""What a run is played on: options, the mock upstream, the generators, the router, and the peer it is held against."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.jobs import Endpoint, Job, Result
from bench.processes import ROOT, BenchError, Generator, Router, Upstream

DIRECT_MODEL = "medium"
SMART_MODEL = "virtusoul-v1"
# Below this many cores nobody can have one of his own, and pinning would only make things worse.
CORES_TO_PIN = 4


@dataclass(frozen=True)
class Options:
    """`seconds`: of one stretch of load. `settings`: environment variables for the router."""

    quick: bool = False
    rounds: int = 5
    seconds: float = 2.0
    against: Endpoint | None = None
    router_url: str | None = None
    router_key: str | None = None
    mock_port: int = 0
    mock_latency_ms: float = 0.0
    settings: Mapping[str, str] = field(default_factory=dict)


class Stage:
    """Starts each process when it is first needed, and ends all of them with its context."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._stack = ExitStack()
        self._next_prompt = int.from_bytes(os.urandom(2), "big") * 7
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        pinned = len(cores) >= CORES_TO_PIN
        self.load_cores = cores[-2:] if pinned else []
        self.router_cores = cores[:-2] if pinned else []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    @cached_property
    def upstream(self) -> Upstream:
        options = self.options
        upstream = Upstream(port=options.mock_port, latency_ms=options.mock_latency_ms, cores=self.load_cores[:1])
        return self._stack.enter_context(upstream)

    @cached_property
    def generator(self) -> Generator:
        return self._stack.enter_context(Generator(cores=self.load_cores[1:]))

    @cached_property
    def second_generator(self) -> Generator:
        return self._stack.enter_context(Generator(cores=self.load_cores[1:]))

    @cached_property
    def own_router(self) -> Router:
        """The router that we started; the running one of `--router` is only known by its URL."""
        return self._stack.enter_context(self.new_router())

    def new_router(self, *, workers: int = 1) -> Router:
        return Router(self.upstream.url, workers=workers, settings=self.options.settings, cores=self.router_cores)

    def started(self, workers: int) -> Router:
        """A router of its own, ended with the stage."""
        return self._stack.enter_context(self.new_router(workers=workers))

    @cached_property
    def router(self) -> Endpoint:
        """Our endpoint, asking for the direct tier."""
        options = self.options
        if options.router_url is None:
            return Endpoint(self.own_router.url, DIRECT_MODEL)
        _ = self.upstream  # a router that runs already is configured to ask this port
        key = {"authorization": f"Bearer {options.router_key}"} if options.router_key else {}
        return Endpoint(options.router_url, DIRECT_MODEL, key)

    @property
    def mock(self) -> Endpoint:
        """The upstream itself: what everything costs without a router."""
        return Endpoint(self.upstream.url, "bench-medium")

    @cached_property
    def against(self) -> Endpoint | None:
        _ = self.upstream  # the peer is configured to ask it, too
        return self.options.against

    @cached_property
    def models_dir(self) -> Path:
        return Path(self.options.settings.get("MODELS_DIR") or ROOT / "models")

    def cpu_seconds(self) -> float:
        """CPU time of our own router so far; NaN where it is not ours to look at."""
        return self.own_router.cpu_seconds() if self.options.router_url is None else float("nan")

    def load(self, job: Job, generator: Generator | None = None) -> Result:
        """Runs a job, with prompts that no earlier job has used."""
        result = (generator or self.generator).run(self.numbered(job))
        self.used(result)
        return result

    def numbered(self, job: Job) -> Job:
        return replace(job, first=self._next_prompt)

    def used(self, result: Result) -> None:
        self._next_prompt += result.used

    def job(self, endpoint: Endpoint, **fields: object) -> Job:
        """A job of this run's length for `endpoint`."""
        base = Job(endpoint.url, endpoint.model, endpoint.headers, seconds=self.options.seconds)
        return replace(base, **fields)  # type: ignore[arg-type]

    def need_own_router(self, scenario: str) -> None:
        if self.options.router_url is not None:
            raise BenchError(f"{scenario} starts routers of its own: not possible with --router")
