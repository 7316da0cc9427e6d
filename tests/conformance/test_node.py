"""npm's `openai` against the running router, where there is a Node to run it and a registry to fetch it from."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.conftest import Running
from tests.fakes import anthropic as claude
from tests.fakes.openai import Answer, FakeOpenAI, Status, Stream, tool

HERE = Path(__file__).parent / "node"
CALLS = [("a", {"q": "ü"}), ("b", {"q": "dogs"})]
REFUSED = Status(429, headers={"retry-after": "7"})
# What the two fakes do in each scene; a scene that is not here is a plain answer.
SCENES: dict[str, tuple[list[Any], list[Any]]] = {
    "tools": (
        [Answer(None, [tool("look", q, call) for call, q in CALLS]), Answer("Done")],
        [claude.Answer([claude.tool_use("look", q, call) for call, q in CALLS]), claude.Answer("Done")],
    ),
    "limited": ([REFUSED], [REFUSED]),
    "refused": ([Status(400)], [Status(400)]),
    "broken": ([Stream(["Hel", "lo"], cut_after=1)], [claude.Stream(["Hel", "lo"], cut_after=1)]),
}


async def run(*command: str, cwd: Path, env: dict[str, str] | None = None) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *command, cwd=cwd, env={**os.environ, **(env or {})}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )  # fmt: skip
    try:
        output, _ = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    return process.returncode or 0, output.decode("utf-8", "replace")


@pytest.mark.timeout(180)
async def test_the_node_client(
    router: Running, fake: FakeOpenAI, claude_fake: claude.FakeAnthropic, tmp_path: Path
) -> None:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("no node and npm here")
    for file in ("package.json", "check.mjs"):
        shutil.copy(HERE / file, tmp_path)
    install = (
        npm,
        "install",
        "--no-audit",
        "--no-fund",
        "--ignore-scripts",
        "--fetch-retries=1",
        "--fetch-timeout=20000",
    )
    try:
        code, output = await asyncio.wait_for(run(*install, cwd=tmp_path), 90)
    except TimeoutError:
        pytest.skip("the npm registry does not answer")
    if code != 0:
        pytest.skip(f"npm install: {output[-300:]}")

    async def scene(request: web.Request) -> web.Response:
        steps = SCENES.get(request.match_info["name"], ([Answer()], [claude.Answer()]))
        fake.script(*steps[0])
        claude_fake.script(*steps[1])
        return web.Response()

    app = web.Application()
    app.router.add_post("/{tier}/{name}", scene)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    scenes = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        command = (node, "check.mjs", f"{router.url}/v1", "simple", "complex")
        code, output = await asyncio.wait_for(run(*command, cwd=tmp_path, env={"SCENES": scenes}), 60)
    finally:
        await runner.cleanup()
    assert code == 0, output
    assert len(output.splitlines()) == 12
