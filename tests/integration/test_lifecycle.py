"""Processes as an operator sees them: start, check, drain, reload, crash, several workers; each a real `python -m router`."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.conftest import tier_env
from tests.fakes.openai import Answer, FakeOpenAI, Stream

ROOT = Path(__file__).resolve().parents[2]
CLEAN = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "VIRTUAL_ENV")}


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def cli(*args: str, env: dict[str, str] | None = None, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "router", *args],
        env={**CLEAN, "PYTHONPATH": str(ROOT), **(env or {})},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@dataclass
class Process:
    """A running router process. `log` is a file with everything it wrote."""

    popen: subprocess.Popen[bytes]
    url: str
    client: aiohttp.ClientSession
    log: Path

    async def status(self, path: str) -> int:
        try:
            async with self.client.get(self.url + path) as response:
                return response.status
        except aiohttp.ClientError:
            return 0

    async def until(self, condition: Callable[[], Awaitable[bool]], seconds: float = 10) -> None:
        end = time.monotonic() + seconds
        while not await condition():
            assert time.monotonic() < end, self.log.read_text()
            await asyncio.sleep(0.02)

    async def is_ready(self) -> bool:
        return await self.status("/ready") == 200

    def chat(self, text: str = "Hello", model: str = "simple", **fields: Any) -> Any:
        body = {"model": model, "messages": [{"role": "user", "content": text}], **fields}
        return self.client.post(self.url + "/v1/chat/completions", json=body)

    def children(self) -> list[int]:
        listing = subprocess.run(
            ["ps", "--ppid", str(self.popen.pid), "-o", "pid="], capture_output=True, text=True, check=False
        )
        return [int(pid) for pid in listing.stdout.split()]

    async def ended(self, seconds: float = 15) -> int:
        return await asyncio.to_thread(self.popen.wait, seconds)


Spawn = Callable[..., Awaitable[Process]]


@pytest.fixture
async def spawn(tmp_path: Path) -> AsyncIterator[Spawn]:
    """`await spawn(env, *args)` → `Process`, once it is ready."""
    running: list[Process] = []

    async def start(env: dict[str, str], *args: str) -> Process:
        port = free_port()
        log = tmp_path / f"router-{port}.log"
        with log.open("wb") as out:
            popen = subprocess.Popen(
                [sys.executable, "-m", "router", "--host", "127.0.0.1", "--port", str(port), *args],
                env={**CLEAN, "PYTHONPATH": str(ROOT), **env},
                cwd=tmp_path,
                stdout=out,
                stderr=out,
            )
        process = Process(popen, f"http://127.0.0.1:{port}", aiohttp.ClientSession(), log)
        running.append(process)
        await process.until(process.is_ready)
        return process

    yield start
    for process in running:
        await process.client.close()
        if process.popen.poll() is None:
            process.popen.terminate()
            try:
                await process.ended(5)
            except subprocess.TimeoutExpired:
                process.popen.kill()


def test_nothing_configured_is_explained(tmp_path: Path) -> None:
    ran = cli(cwd=tmp_path)
    assert ran.returncode == 2
    assert "MEDIUM_PROVIDER" in ran.stderr and "--demo" in ran.stderr


def test_all_faults_are_reported_at_once(tmp_path: Path) -> None:
    env = {
        "PORT": "many",
        "SIMPLE_PROVIDER": "opanai",
        "MEDIUM_PROVIDER": "custom",
        "MEDIUM_MODEL": "m",
        "MEDIUM_FALLBACKS": "huge",
        "COMPLEX_PROVDER": "openai",
    }
    ran = cli("--check", env=env, cwd=tmp_path)
    assert ran.returncode == 2
    for name in ("PORT", "SIMPLE_PROVIDER", "MEDIUM_BASE_URL", "MEDIUM_FALLBACKS", "COMPLEX_PROVDER"):
        assert name in ran.stderr


def test_check_prints_the_table_with_masked_keys(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(
        "MEDIUM_PROVIDER=openai\nMEDIUM_MODEL=from-file\nMEDIUM_API_KEY=sk-0123456789abcdef\nPORT=1234\n"
    )
    ran = cli("--check", "--port", "4321", env={"MEDIUM_MODEL": "from-env"}, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert "openai/from-env" in ran.stdout
    assert "0123456789" not in ran.stdout + ran.stderr


def test_check_prints_the_warnings_too(tmp_path: Path) -> None:
    ran = cli("--check", env={"MEDIUM_PROVIDER": "echo", "TIMEOUTT": "5"}, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert "did you mean TIMEOUT?" in ran.stdout


def test_corrupt_artefacts_are_named(tmp_path: Path) -> None:
    import shutil

    models = tmp_path / "models"
    shutil.copytree(ROOT / "models", models)
    head = next(models.glob("head*.npz"))
    head.write_bytes(head.read_bytes()[:-20])
    ran = cli("--check", "--demo", env={"MODELS_DIR": str(models)}, cwd=tmp_path)
    assert ran.returncode == 2
    assert head.name in ran.stderr


def test_version(tmp_path: Path) -> None:
    ran = cli("--version", cwd=tmp_path)
    assert ran.returncode == 0 and re.search(r"\d+\.\d+\.\d+", ran.stdout)


async def test_a_taken_port_is_said_so(tmp_path: Path) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        ran = await asyncio.to_thread(
            cli, "--demo", "--host", "127.0.0.1", "--port", str(sock.getsockname()[1]), cwd=tmp_path
        )
    assert ran.returncode == 1 and "cannot listen" in ran.stderr


@pytest.mark.parametrize("host", ["a..b", "nowhere.invalid", "x" * 64 + ".example"])
def test_a_host_that_is_none_is_said_in_one_line(tmp_path: Path, host: str) -> None:
    ran = cli("--demo", "--host", host, "--port", "0", cwd=tmp_path)
    assert ran.returncode == 1
    assert len(ran.stderr.splitlines()) == 1 and f"cannot listen on {host}:0: " in ran.stderr


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_sigterm_drains(spawn: Spawn, fake: FakeOpenAI, workers: str) -> None:
    fake.script(Stream(["a "] * 20, delay=0.05))
    process = await spawn(tier_env("simple", fake), "--workers", workers)

    async def one() -> str:
        async with process.chat(stream=True) as response:
            return await response.text()

    streams = [asyncio.create_task(one()) for _ in range(25)]
    await process.until(lambda: _async(len(fake.requests) == 25))
    process.popen.send_signal(signal.SIGTERM)
    await process.until(lambda: _is(process.status("/ready"), 503), 2)
    for text in await asyncio.gather(*streams):
        assert text.count("a ") == 20 and text.endswith("data: [DONE]\n\n")
    assert await process.ended() == 0, process.log.read_text()
    assert "terminate" not in process.log.read_text()


async def test_a_drain_waits_for_the_last_byte_of_an_answer(spawn: Spawn, fake: FakeOpenAI) -> None:
    """The request is over for the router long before a slow client has its megabytes."""
    text = "x" * 12_000_000
    fake.script(Answer(text))
    process = await spawn(tier_env("simple", fake))
    async with process.chat() as response:
        process.popen.send_signal(signal.SIGTERM)
        size = 0
        async for piece in response.content.iter_chunked(400_000):
            size += len(piece)
            await asyncio.sleep(0.04)
    assert size > len(text)
    assert await process.ended() == 0


async def test_drain_timeout_ends_what_does_not_end(spawn: Spawn, fake: FakeOpenAI) -> None:
    fake.script(Stream(["a "] * 1000, delay=0.05))
    process = await spawn({**tier_env("simple", fake), "DRAIN_TIMEOUT": "0.5"})
    async with process.chat(stream=True) as response:
        await response.content.readany()
        process.popen.send_signal(signal.SIGTERM)
        assert await process.ended(5) == 0


async def test_sighup_swaps_a_valid_configuration_only(spawn: Spawn, fake: FakeOpenAI, tmp_path: Path) -> None:
    file = tmp_path / "router.env"

    def write(**settings: str) -> None:
        env = {**tier_env("simple", fake), **settings}
        file.write_text("".join(f"{name}={value}\n" for name, value in env.items()))

    async def model() -> str:
        async with process.chat() as response:
            return str((await response.json())["model"])

    write()
    process = await spawn({}, "--env", str(file), "--workers", "2")
    assert await model() == "simple-model"
    write(SIMPLE_MODEL="new-model")
    process.popen.send_signal(signal.SIGHUP)
    await process.until(lambda: _is(model(), "new-model"))
    write(SIMPLE_PROVIDER="nonsense")
    process.popen.send_signal(signal.SIGHUP)
    await process.until(lambda: _async("not reloaded" in process.log.read_text()))
    assert await model() == "new-model"


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_sighup_does_not_change_tiers(spawn: Spawn, fake: FakeOpenAI, tmp_path: Path, workers: str) -> None:
    """The classifier knows the old ones: neither the running workers nor those that come later take the new."""
    file = tmp_path / "router.env"

    def write(**settings: str) -> None:
        env = {**tier_env("simple", fake), **settings}
        file.write_text("".join(f"{name}={value}\n" for name, value in env.items()))

    write()
    process = await spawn({}, "--env", str(file), "--workers", workers)
    write(TIERS="simple,huge", SIMPLE_MODEL="new-model")
    process.popen.send_signal(signal.SIGHUP)
    await process.until(lambda: _async("TIERS" in process.log.read_text()))
    if workers != "1":
        for pid in process.children():
            os.kill(pid, signal.SIGKILL)
        await process.until(process.is_ready)
    async with process.chat() as response:
        assert (await response.json())["model"] == "simple-model"
    async with process.chat(model="reasoning") as response:
        assert response.status == 200


async def test_a_log_that_nobody_reads_any_more_stops_nothing(fake: FakeOpenAI, tmp_path: Path) -> None:
    port = free_port()
    reader, writer = os.pipe()
    popen = subprocess.Popen(
        [sys.executable, "-m", "router", "--host", "127.0.0.1", "--port", str(port)],
        env={**CLEAN, "PYTHONPATH": str(ROOT), **tier_env("simple", fake)},
        cwd=tmp_path,
        stderr=writer,
    )
    os.close(writer)
    async with aiohttp.ClientSession() as client:
        process = Process(popen, f"http://127.0.0.1:{port}", client, Path(os.devnull))
        try:
            await process.until(process.is_ready)
            os.close(reader)
            for _ in range(3):
                async with process.chat() as response:
                    assert response.status == 200
                await asyncio.sleep(0.1)
            popen.send_signal(signal.SIGHUP)
            async with process.chat() as response:
                assert response.status == 200
            popen.send_signal(signal.SIGTERM)
            assert await process.ended() in (0, 120)  # 120: Python itself could not flush stderr
        finally:
            popen.kill()


async def test_a_killed_worker_is_replaced(spawn: Spawn, fake: FakeOpenAI) -> None:
    fake.script(Answer())
    process = await spawn(tier_env("simple", fake), "--workers", "2")
    await process.until(lambda: _async(len(process.children()) == 2))
    before = process.children()
    os.kill(before[0], signal.SIGKILL)
    ok = 0
    for _ in range(60):
        try:
            async with aiohttp.ClientSession() as fresh, fresh.get(process.url + "/health") as response:
                ok += response.status == 200
        except aiohttp.ClientError:
            pass
        await asyncio.sleep(0.02)
    assert ok >= 59, "at most the one connection that the dead worker had taken"
    await process.until(lambda: _async(len(process.children()) == 2 and before[0] not in process.children()))


async def test_metrics_sum_over_workers(spawn: Spawn, fake: FakeOpenAI) -> None:
    fake.script(Answer())
    process = await spawn(tier_env("simple", fake), "--workers", "2")

    async def one() -> None:
        async with aiohttp.ClientSession() as fresh:
            body = {"model": "simple", "messages": [{"role": "user", "content": "x"}]}
            async with fresh.post(process.url + "/v1/chat/completions", json=body) as response:
                assert response.status == 200

    await asyncio.gather(*(one() for _ in range(40)))
    async with process.client.get(process.url + "/metrics") as response:
        text = await response.text()
    rows = [row for row in text.splitlines() if row.startswith("virtusoul_requests_total{") and 'tier="simple"' in row]
    assert sum(float(row.rpartition(" ")[2]) for row in rows) == 40
    assert "virtusoul_in_flight 0.0" in text
    assert "virtusoul_build_info{" in text


def test_no_temporary_folder_is_said_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A container with a read-only root and no tmpfs."""
    from router import cli as commands

    def read_only(**_: str) -> str:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(commands.tempfile, "mkdtemp", read_only)
    assert commands.main(["--demo", "--workers", "2"]) == 2
    assert "WORKERS: several need a temporary folder" in capsys.readouterr().err


@pytest.mark.parametrize(("path", "status"), [("/health", 0), ("/nothing", 1)])
async def test_the_container_s_health_check_asks_no_proxy(spawn: Spawn, path: str, status: int) -> None:
    import json

    line = next(line for line in (ROOT / "Dockerfile").read_text().splitlines() if line.startswith("    CMD ["))
    _, *command = json.loads(line.removeprefix("    CMD "))
    process = await spawn({}, "--demo")
    env = {**CLEAN, "PORT": process.url.rpartition(":")[2], "http_proxy": "http://127.0.0.1:9"}
    asked = [part.replace("/health", path) for part in command]
    ran = await asyncio.to_thread(subprocess.run, [sys.executable, *asked], env=env, check=False)
    assert ran.returncode == status


def test_metrics_of_several_workers_tell_what_runs_from_what_ran(tmp_path: Path) -> None:
    script = (
        "from router import metrics\nmetrics.show_build('1', 'e', 'old')\nmetrics.show_build('1', 'e', 'new')\n"
        "print(metrics.exposition().decode())"
    )
    env = {**CLEAN, "PYTHONPATH": str(ROOT), "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    shown = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True).stdout
    assert 'head="new",version="1"} 1.0' in shown and 'head="old",version="1"} 1.0' not in shown


async def test_every_line_is_json_whatever_happens_to_the_workers(
    spawn: Spawn, fake: FakeOpenAI, tmp_path: Path
) -> None:
    """A killed worker, which gunicorn reports, and a format that a reload brings."""
    import json

    (tmp_path / ".env").write_text("LOG_FORMAT=text\n")
    process = await spawn(tier_env("simple", fake), "--workers", "2")
    banner = len(process.log.read_text().splitlines())
    (tmp_path / ".env").write_text("LOG_FORMAT=json\n")
    process.popen.send_signal(signal.SIGHUP)
    await process.until(lambda: _async(process.log.read_text().count("configuration reloaded") == 2))
    os.kill(process.children()[0], signal.SIGKILL)
    await process.until(lambda: _async("SIGKILL" in process.log.read_text()))
    lines = [json.loads(line) for line in process.log.read_text().splitlines()[banner:]]
    assert any("SIGKILL" in line["message"] for line in lines)


async def test_a_reload_that_meets_a_worker_at_its_birth_is_neither_its_end_nor_lost(
    spawn: Spawn, fake: FakeOpenAI
) -> None:
    process = await spawn(tier_env("simple", fake), "--workers", "2")
    before = set(process.children())
    os.kill(min(before), signal.SIGKILL)
    end = time.monotonic() + 10
    while not (born := set(process.children()) - before):
        assert time.monotonic() < end
    os.kill(born.pop(), signal.SIGHUP)
    await process.until(lambda: _async("configuration reloaded" in process.log.read_text()))
    assert "was sent SIGHUP" not in process.log.read_text()


async def test_json_logs_hold_one_line_a_request_and_no_prompt(spawn: Spawn, fake: FakeOpenAI) -> None:
    import json

    process = await spawn({**tier_env("simple", fake), "LOG_FORMAT": "json"})
    async with process.chat("my secret diary") as response:
        assert response.status == 200
    await process.until(lambda: _async('"request_id"' in process.log.read_text()))
    log = process.log.read_text()
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    requests = [line for line in lines if line.get("endpoint") == "/v1/chat/completions"]
    assert len(requests) == 1 and requests[0]["status"] == 200 and requests[0]["tier"] == "simple"
    assert "secret" not in log and "diary" not in log


async def _async(value: bool) -> bool:
    return value


async def _is(value: Awaitable[Any], wanted: Any) -> bool:
    try:
        return bool(await value == wanted)
    except aiohttp.ClientError:
        return False
