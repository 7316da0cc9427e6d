"""The processes of a run: the router under test, the mock upstream, load generators; their cores, memory and CPU."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self
from urllib.error import URLError
from urllib.request import urlopen

import orjson

from bench.jobs import Job, Result

ROOT = Path(__file__).resolve().parent.parent
TIERS = ("simple", "medium", "complex", "reasoning")
_ENDPOINT = re.compile(r"endpoint\s+http://\S+?:(\d+)/")
_START_SECONDS = 60.0
_STOP_SECONDS = 10.0
_POLL_SECONDS = 0.002
_CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


class BenchError(Exception):
    """The benchmark cannot run; the message says why, for a person."""


class Process:
    """A child process; ended with its context."""

    def __init__(
        self, command: Sequence[str], *, env: Mapping[str, str] | None = None, cores: Sequence[int] = ()
    ) -> None:
        self.log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `stop`
        self.popen = subprocess.Popen(  # noqa: S603 - our own modules
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            cwd=ROOT,
            env={**(os.environ if env is None else env), "PYTHONPATH": str(ROOT)},
        )
        if cores:
            with contextlib.suppress(OSError, AttributeError):
                os.sched_setaffinity(self.popen.pid, cores)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> int:
        """Ends the process, politely first; its exit status."""
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
            try:
                self.popen.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait()
        for pipe in (self.popen.stdin, self.popen.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        self.log.close()
        return self.popen.returncode

    def family(self) -> list[int]:
        """The process and its descendants."""
        found = [self.popen.pid]
        for pid in found:
            with contextlib.suppress(OSError):
                for task in Path(f"/proc/{pid}/task").iterdir():
                    found += [int(child) for child in (task / "children").read_text().split()]
        return found

    def cpu_seconds(self) -> float:
        """User and system time of the family so far; NaN where /proc is missing."""
        total = 0.0
        for pid in self.family():
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                return float("nan")
            total += (int(fields[11]) + int(fields[12])) / _CLOCK_TICKS
        return total

    def memory_mib(self) -> tuple[float, float]:
        """RSS and PSS of the family in MiB. RSS counts shared pages once per process, PSS once; NaN if unreadable."""
        rss = pss = 0.0
        for pid in self.family():
            rss += _proc_kib(pid, "status", "VmRSS:")
            pss += _proc_kib(pid, "smaps_rollup", "Pss:")
        return rss / 1024, pss / 1024

    def sockets(self) -> int:
        """Open sockets of the family."""
        count = 0
        for pid in self.family():
            with contextlib.suppress(OSError):
                count += sum(os.readlink(link).startswith("socket:") for link in Path(f"/proc/{pid}/fd").iterdir())
        return count


class Upstream(Process):
    """`bench.mock`. `url` is what a tier's base URL is set to."""

    def __init__(self, *, port: int = 0, latency_ms: float = 0.0, cores: Sequence[int] = ()) -> None:
        command = [sys.executable, "-m", "bench.mock", "--port", str(port), "--latency-ms", str(latency_ms)]
        super().__init__(command, cores=cores)
        assert self.popen.stdout is not None  # noqa: S101 - made as a pipe
        line = self.popen.stdout.readline()
        if not line:
            self.popen.wait()
            raise BenchError(f"the mock upstream did not start: {_tail(self.log)}")
        self.url = f"http://127.0.0.1:{int(line)}/v1"


class Generator(Process):
    """`bench.load`. `start` a job and `result` it later, or `run` it."""

    def __init__(self, *, cores: Sequence[int] = ()) -> None:
        super().__init__([sys.executable, "-m", "bench.load"], cores=cores)

    def start(self, job: Job) -> None:
        assert self.popen.stdin is not None  # noqa: S101 - made as a pipe
        self.popen.stdin.write(orjson.dumps(job.as_dict()) + b"\n")
        self.popen.stdin.flush()

    def result(self) -> Result:
        """Waits for the job that runs. Raises `BenchError`."""
        assert self.popen.stdout is not None  # noqa: S101 - made as a pipe
        line = self.popen.stdout.readline()
        if not line:
            self.popen.wait()
            raise BenchError(f"the load generator died: {_tail(self.log)}")
        answer = orjson.loads(line)
        if "failed" in answer:
            raise BenchError(f"no load could be sent: {answer['failed']}")
        return Result.from_dict(answer)

    def run(self, job: Job) -> Result:
        self.start(job)
        return self.result()


class Router(Process):
    """`python -m router` with an environment of its own; ready when constructed. `started` = seconds until then."""

    def __init__(
        self,
        upstream_url: str,
        *,
        workers: int = 1,
        settings: Mapping[str, str] | None = None,
        cores: Sequence[int] = (),
    ) -> None:
        """`settings`: environment variables over the benchmark's own (which are the defaults, and four tiers)."""
        env = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "VIRTUAL_ENV") if name in os.environ}
        env |= {"HOST": "127.0.0.1", "PORT": "0", "WORKERS": str(workers)}
        for tier in TIERS:
            name = tier.upper()
            env |= {f"{name}_PROVIDER": "custom", f"{name}_MODEL": f"bench-{tier}", f"{name}_BASE_URL": upstream_url}
        env |= settings or {}
        began = time.perf_counter()
        super().__init__([sys.executable, "-m", "router", "--env", os.devnull], env=env, cores=cores)
        try:
            self.root = f"http://127.0.0.1:{self._port(began + _START_SECONDS)}"
            self._wait_ready(began + _START_SECONDS)
        except BenchError:
            self.stop()
            raise
        self.started = time.perf_counter() - began
        self.url = f"{self.root}/v1"

    def metrics(self) -> str:
        """The text of `/metrics`."""
        with urlopen(f"{self.root}/metrics", timeout=10) as response:  # noqa: S310 - our own router
            return str(response.read().decode())

    def said(self) -> str:
        """The last lines of its log."""
        return _tail(self.log)

    def _port(self, end: float) -> int:
        while time.perf_counter() < end:
            status = self.popen.poll()
            if found := _ENDPOINT.search(_tail(self.log, 1_000_000)):
                return int(found[1])
            if status is not None:
                raise BenchError(f"the router ended with {status}: {self.said()}")
            time.sleep(_POLL_SECONDS)
        raise BenchError(f"the router did not say where it listens: {self.said()}")

    def _wait_ready(self, end: float) -> None:
        while time.perf_counter() < end:
            if self.popen.poll() is not None:
                raise BenchError(f"the router ended with {self.popen.returncode}: {self.said()}")
            with contextlib.suppress(URLError, OSError), urlopen(f"{self.root}/ready", timeout=5) as answer:  # noqa: S310
                if answer.status == 200:
                    return
            time.sleep(_POLL_SECONDS)
        raise BenchError(f"the router did not become ready: {self.said()}")


def _tail(log: IO[bytes], limit: int = 2000) -> str:
    """The end of a log that another process is still writing: read by position, never by moving its offset."""
    size = os.fstat(log.fileno()).st_size
    start = max(0, size - limit)
    return os.pread(log.fileno(), size - start, start).decode("utf-8", "replace").strip()


def _proc_kib(pid: int, file: str, field: str) -> float:
    try:
        for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
            if line.startswith(field):
                return float(line.split()[1])
    except OSError:
        pass
    return float("nan")
