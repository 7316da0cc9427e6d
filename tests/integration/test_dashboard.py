"""The dashboard: what the page may do, and what it shows in a real browser (headless Chromium, where there is one).

The screenshots in docs/ are made here, too:
`pytest tests/integration/test_dashboard.py -m slow` (three minutes of traffic against fakes).
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from router import metrics
from router.classifier import Classification
from tests.conftest import TIERS, Running, Start, tier_env
from tests.fakes.classifier import FakeClassifier
from tests.fakes.openai import Answer, FakeOpenAI, Request, Reset, Status, Stream

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "router" / "dashboard.html").read_text()
CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome", "chrome") if (found := shutil.which(name))),
    None,
)
in_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --hide-scrollbars --remote-debugging-port=0"
).split()


# --- a browser, over its own debugging protocol: https://chromedevtools.github.io/devtools-protocol ------------------


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running Chromium; its debugging address."""
    assert CHROMIUM is not None
    profile = tmp_path_factory.mktemp("chromium")
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            said = []
            for line in process.stderr:
                said.append(line)
                if found := re.search(r"listening on (ws://\S+)", line):
                    yield found[1]
                    break
            else:
                pytest.skip("chromium does not start here: " + "".join(said)[-500:])
        finally:
            process.terminate()


class Page:
    """One tab. `errors`: what went wrong in it; `urls`: everything that it asked for."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._session: str | None = None
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._sent = 0
        self.errors: list[str] = []
        self.urls: list[str] = []
        self.metrics: list[str] = []  # scripted answers of /metrics, the last one for ever; none: the router's own

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._sent += 1
        number = self._sent
        message = {"id": number, "method": method, "params": params}
        self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({**message, "sessionId": self._session} if self._session else message)
        return await self._waiting[number]

    async def listen(self) -> None:
        async for message in self._socket:
            document = json.loads(message.data)
            if "id" in document:
                waiting = self._waiting.pop(document["id"])
                if "error" in document:
                    waiting.set_exception(RuntimeError(str(document["error"])))
                else:
                    waiting.set_result(document["result"])
            else:
                self._note(document["method"], document["params"])

    def _note(self, method: str, params: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.urls.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.errors.append(str(params["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled":
            self.errors.append(str(params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["source"] != "network":
            self.errors.append(params["entry"]["text"])
        elif method == "Fetch.requestPaused":
            text = self.metrics.pop(0) if len(self.metrics) > 1 else self.metrics[0]
            body = base64.b64encode(text.encode()).decode()
            answer = self.call("Fetch.fulfillRequest", requestId=params["requestId"], responseCode=200, body=body)
            self.answering = asyncio.ensure_future(answer)

    async def open(self, url: str, width: int = 1440, height: int = 900, dark: bool = False) -> None:
        self._context = (await self.call("Target.createBrowserContext"))["browserContextId"]  # a storage of its own
        target = await self.call("Target.createTarget", url="about:blank", browserContextId=self._context)
        attached = await self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Runtime", "Log", "Network", "Page"):
            await self.call(f"{domain}.enable")
        if self.metrics:
            await self.call("Fetch.enable", patterns=[{"urlPattern": "*/metrics"}])
        await self.look(width, height, dark)
        await self.call("Page.navigate", url=url)

    async def look(self, width: int, height: int, dark: bool, scale: float = 1) -> None:
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 600,
        )
        feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[feature])

    async def evaluate(self, script: str) -> Any:
        options = {"awaitPromise": True, "returnByValue": True, "allowUnsafeEvalBlockedByCSP": False}
        result = await self.call("Runtime.evaluate", expression=script, **options)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def until(self, condition: str, seconds: float = 20) -> None:
        """Waits until the script `condition` holds in the page."""
        await self.evaluate(
            f"""new Promise((done, failed) => {{
                const end = Date.now() + {seconds * 1000};
                const look = () => {{
                    let found = false;
                    try {{ found = {condition}; }} catch {{ /* the page is being exchanged */ }}
                    if (found) done();
                    else if (Date.now() > end) failed(new Error(document.body.innerText));
                    else setTimeout(look, 50);
                }};
                look();
            }})"""
        )

    async def text(self) -> str:
        return str(await self.evaluate("document.body.innerText"))

    async def screenshot(self, path: Path, whole: bool = False) -> None:
        shot = await self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    async def close(self) -> None:
        self._session = None
        await self.call("Target.disposeBrowserContext", browserContextId=self._context)


@asynccontextmanager
async def tab(browser: str, url: str, scripted: list[str] | None = None, **look: Any) -> AsyncIterator[Page]:
    """A tab on `url`. At its end nothing may have gone wrong in it, and it may have asked nobody but the router."""
    async with aiohttp.ClientSession() as session, session.ws_connect(browser, max_msg_size=0) as socket:
        page = Page(socket)
        page.metrics = scripted or []
        listening = asyncio.create_task(page.listen())
        try:
            await page.open(url, **look)
            yield page
            assert page.errors == []
            host = url.split("/")[2]
            assert [asked for asked in page.urls if not asked.startswith((f"http://{host}/", "data:"))] == []
            await page.close()
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)


LIVE = "document.getElementById('status').dataset.state === 'live'"
GATE = "!document.getElementById('gate').hidden"


# --- what is served --------------------------------------------------------------------------------------------------


async def test_the_page_is_served_without_a_key_and_under_a_strict_policy(
    start_router: Start, fake: FakeOpenAI
) -> None:
    router = await start_router({**tier_env("simple", fake), "API_KEY": "a-key"})
    async with router.client.get(router.url + "/dashboard") as response:
        assert response.status == 200
        assert response.headers["content-type"] == "text/html; charset=utf-8"
        assert response.headers["cache-control"] == "no-store"
        policy = response.headers["content-security-policy"]
        assert await response.text() == PAGE
    assert "default-src 'none'" in policy and "unsafe" not in policy and "*" not in policy
    for tag in ("script", "style"):
        blocks = re.findall(rf"<{tag}>(.*?)</{tag}>", PAGE, re.DOTALL)
        digests = [base64.b64encode(hashlib.sha256(block.encode()).digest()).decode() for block in blocks]
        assert len(blocks) == 1
        assert f"{tag}-src 'sha256-{digests[0]}';" in policy
    async with router.client.head(router.url + "/dashboard") as response:
        assert response.status == 200
    async with router.client.post(router.url + "/dashboard") as response:
        assert response.status == 405


def test_the_page_names_no_other_host_and_writes_no_markup() -> None:
    assert set(re.findall(r"https?://[^\s'\"`]+", PAGE)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", PAGE)
    assert "api.key" not in PAGE.lower().replace("api key", "")


def test_the_two_ways_to_dark_are_the_same() -> None:
    automatic, chosen = (
        PAGE.split(start)[1].split("}")[0].split()
        for start in (':root:not([data-theme="light"]) {', ':root[data-theme="dark"] {')
    )
    assert automatic == chosen


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_colours_have_contrast(theme: str) -> None:
    """WCAG 2.2: 4.5:1 for text (1.4.3), 3:1 for what carries meaning in charts (1.4.11)."""
    block = PAGE.split(":root {")[1] if theme == "light" else PAGE.split(':root[data-theme="dark"] {')[1]
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6});", block.split("}")[0]))
    for ink in ("text", "muted", "accent", "good", "warn", "bad"):
        for ground in ("bg", "card"):
            assert _contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)
    for tone in ("good", "warn", "bad"):
        assert _contrast(colours[tone], colours[f"{tone}-bg"]) >= 4.5, tone
    for ink in [*(f"c{number}" for number in range(8)), "cx"]:
        assert _contrast(colours[ink], colours["card"]) >= 3, ink


def _contrast(one: str, other: str) -> float:
    high, low = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(digit * 2 for digit in colour[1:])
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


# A count as a reader of English expects it: in full, or in thousands from a hundred of them on.
SHORTENED = """new Intl.NumberFormat('en', {0} < 100000 ? {{}} : {{notation: 'compact', maximumFractionDigits: 1}}).format({0})"""

# --- what is seen ----------------------------------------------------------------------------------------------------


@in_browser
async def test_numbers_appear(browser: str, start_router: Start, fake: FakeOpenAI, other: FakeOpenAI) -> None:
    env = {
        **tier_env("simple", fake, INPUT_PRICE="1", OUTPUT_PRICE="2"),
        **tier_env("complex", fake, INPUT_PRICE="10", OUTPUT_PRICE="20"),
        **tier_env("reasoning", other, FALLBACKS="complex"),
        "RETRIES": "0",
    }
    router = await start_router(env)
    other.script(Status(500))
    for _ in range(3):
        await router.chat("virtusoul-v1", "simple")
    await router.chat("reasoning")
    await router.stream("complex", stream_options={"include_usage": True})
    await router.chat("nonsense")
    requests = await _total(router, "virtusoul_requests_total")
    prompt = await _total(router, 'virtusoul_tokens_total{kind="prompt"')
    completion = await _total(router, 'virtusoul_tokens_total{kind="completion"')
    async with tab(browser, router.url + "/dashboard") as page:
        await page.until(LIVE)
        text = await page.text()
        # The process's counters go on from the tests before this one, and the page shortens large numbers.
        shown = [
            await page.evaluate(SHORTENED.format(total)) for total in (requests, prompt + completion, requests + 1)
        ]
        assert f"{shown[0]} since the router started" in text
        assert f"{shown[1]} in all" in text
        for words in (
            "reasoning → complex",
            "server error",
            "malformed request",
            "all closed",
            "below the strongest tier",
        ):
            assert words in text
        assert "custom/simple-model" in text and "fake-encoder" in text
        assert "No prices are known" not in text
        await router.chat("simple")
        await page.until(f"document.body.innerText.includes('{shown[2]} since')")
        assert await page.evaluate("document.querySelector('.chart svg path') !== null")


@in_browser
async def test_a_key_is_asked_for_and_kept_in_the_tab_alone(
    browser: str, start_router: Start, fake: FakeOpenAI
) -> None:
    router = await start_router({**tier_env("simple", fake), "API_KEY": "right-key"})
    async with tab(browser, router.url + "/dashboard") as page:
        await page.until(GATE)
        for key, then in (("wrong-key", "document.body.innerText.includes('refused this key')"), ("right-key", LIVE)):
            script = "document.getElementById('key').value = '{}'; document.querySelector('#key-form button').click()"
            await page.evaluate(script.format(key))
            await page.until(then)
        assert await page.evaluate("document.getElementById('gate').hidden")
        assert await page.evaluate("Object.values({...sessionStorage}).join()") == "right-key"
        everywhere = "JSON.stringify({...localStorage}) + document.cookie + location.href + document.body.innerHTML"
        assert "right-key" not in await page.evaluate(everywhere)
        assert not any("key" in url for url in page.urls)
        await page.evaluate("document.getElementById('forget').click()")
        await page.until(GATE)
        assert await page.evaluate("sessionStorage.length") == 0


@in_browser
async def test_an_unreachable_router_is_told_and_tried_again(browser: str, router: Running) -> None:
    async with tab(browser, router.url + "/dashboard") as page:
        await page.until(LIVE)
        wire = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        await page.call("Network.emulateNetworkConditions", offline=True, **wire)
        await page.until(
            "/cannot be reached since \\d\\d:\\d\\d:\\d\\d/.test(document.getElementById('down').innerText)"
        )
        await page.call("Network.emulateNetworkConditions", offline=False, **wire)
        await page.until(LIVE + " && document.getElementById('down').hidden")


HISTOGRAM = "\n".join(
    [
        "# TYPE virtusoul_requests_total counter",
        'virtusoul_requests_total{{tier="simple",provider="p",status="200",mechanism="direct"}} {n}',
        "# TYPE virtusoul_overhead_seconds histogram",
        'virtusoul_overhead_seconds_bucket{{le="0.001"}} {low}',
        'virtusoul_overhead_seconds_bucket{{le="0.01"}} {high}',
        'virtusoul_overhead_seconds_bucket{{le="+Inf"}} {high}',
        "virtusoul_overhead_seconds_count {high}",
        "",
    ]
)


@in_browser
async def test_quantiles_and_restarts(browser: str, router: Running) -> None:
    """Quantiles as Prometheus interpolates them; a counter that falls was restarted, and nothing turns negative."""
    scripted = [
        HISTOGRAM.format(n=1000, low=50, high=100),
        HISTOGRAM.format(n=1010, low=50, high=100),
        HISTOGRAM.format(n=5, low=0, high=10),
    ]
    async with tab(browser, router.url + "/dashboard", scripted) as page:
        await page.until("document.body.innerText.includes('1,000 since')")
        overhead = "document.querySelectorAll('.kpi .value')[3].textContent"
        assert await page.evaluate(overhead) == "1.0ms"
        await page.until("document.body.innerText.includes('1,010 since')")
        await page.evaluate("document.querySelector('input[name=range][value=\"60000\"]').click()")
        await page.until("/\\b15 last/.test(document.body.innerText)")
        assert await page.evaluate(overhead) == "5.5ms"


@in_browser
async def test_labels_are_text_never_markup(browser: str, start_router: Start, fake: FakeOpenAI) -> None:
    classifier = FakeClassifier()
    classifier.versions = ('<img src=x onerror="window.owned=1">', 'a "quoted" \\ back\nslash')
    router = await start_router(tier_env("simple", fake), classifier)
    async with tab(browser, router.url + "/dashboard") as page:
        await page.until(LIVE)
        shown = await page.evaluate("document.querySelector('.facts').textContent")
        assert classifier.versions[0] in shown and classifier.versions[1] in shown
        assert await page.evaluate("document.images.length") == 0
        assert await page.evaluate("window.owned === undefined")


ATTACKS = {
    "markup": "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=window.owned=1>')",
    "a handler in an attribute": "document.body.setAttribute('onclick', 'window.owned=1'); document.body.click()",
    "a script": "const s = document.createElement('script'); s.textContent = 'window.owned=1'; document.body.append(s)",
    "eval": "window.eval('window.owned=1')",
    "another host": "await fetch('http://127.0.0.2:1/?' + sessionStorage.length)",
}


@in_browser
async def test_injected_code_does_not_run_and_cannot_call_out(browser: str, router: Running) -> None:
    async with tab(browser, router.url + "/dashboard") as page:
        await page.until(LIVE)
        for name, attack in ATTACKS.items():
            refused = await page.evaluate(
                f"(async () => {{ try {{ {attack} }} catch {{ return true }} return false }})()"
            )
            assert refused, name
        assert await page.evaluate("window.owned === undefined")
        page.errors.clear()  # the browser's word that the policy held


@in_browser
@pytest.mark.parametrize(("width", "dark"), [(360, False), (360, True), (768, False), (2560, True)])
async def test_it_fits_every_screen(browser: str, router: Running, width: int, dark: bool) -> None:
    await router.chat()
    async with tab(browser, router.url + "/dashboard", width=width, height=800, dark=dark) as page:
        await page.until(LIVE)
        assert await page.evaluate("document.documentElement.scrollWidth") <= width
        unnamed = (
            "[...document.querySelectorAll('button, input, svg[role=img], section')].filter(n => !(n.ariaLabel || "
        )
        unnamed += "n.getAttribute('aria-labelledby') || n.labels?.length || n.textContent.trim())).length"
        assert await page.evaluate(unnamed) == 0
        ground = await page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert ground == ("rgb(11, 13, 17)" if dark else "rgb(245, 246, 248)")
        await page.evaluate("document.getElementById('theme').click()")
        assert await page.evaluate("getComputedStyle(document.body).backgroundColor") != ground
        await page.evaluate("document.getElementById('theme').click()")


@in_browser
async def test_values_are_read_with_the_arrow_keys(browser: str, router: Running) -> None:
    async with tab(browser, router.url + "/dashboard") as page:
        await page.until(LIVE)
        await router.chat()
        await page.until("document.querySelectorAll('.chart svg path').length > 0")
        await page.evaluate("document.querySelector('.chart').focus()")
        await page.call("Input.dispatchKeyEvent", type="keyDown", key="ArrowLeft", code="ArrowLeft")
        await page.until("/\\d\\d:\\d\\d:\\d\\d\\s[^]*simple/.test(document.querySelector('.tip').innerText)")


async def _total(router: Running, start: str) -> int:
    """The sum of the samples whose line begins with `start`."""
    async with router.client.get(router.url + "/metrics") as response:
        text = await response.text()
    return int(sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(start)))


# --- screenshots -----------------------------------------------------------------------------------------------------


class _Busy(FakeOpenAI):
    """A provider with a speed of its own, a few faults, and an outage now and then."""

    def __init__(self, seconds: float, tokens: int, faults: float) -> None:
        super().__init__()
        self.seconds, self.tokens, self.faults, self.down = seconds, tokens, faults, False

    def next_step(self) -> Any:
        if self.down:
            return Status(503)
        if random.random() < self.faults:
            return random.choice([Status(429, headers={"retry-after": "1"}), Status(500), Reset()])
        prompt = int(random.lognormvariate(6.2, 0.9))
        usage = {
            "prompt_tokens": prompt,
            "completion_tokens": int(self.tokens * random.lognormvariate(0, 0.6)),
            "prompt_tokens_details": {"cached_tokens": int(prompt * random.choice([0, 0, 0.4, 0.8]))},
        }
        return Answer("An answer of some words", usage=usage, delay=self.seconds * random.lognormvariate(0, 0.45))

    async def answer(self, step: Answer, request: Request, http: web.Request) -> web.StreamResponse:
        if not request.json.get("stream"):
            return await super().answer(step, request, http)
        last = {"choices": [], "usage": step.usage}
        stream = Stream([*["word "] * 12, last], first_delay=step.delay * 0.3, delay=step.delay * 0.06)
        return await self._stream(stream, request, http)


class _Plausible(FakeClassifier):
    """Milliseconds, a cache, and doubts."""

    def __init__(self) -> None:
        super().__init__()
        self.versions = ("all-MiniLM-L6-v2-int8", "logreg-3f9a1c2e")

    def classify(self, text: str, bias: float | None = None) -> Classification:
        hit = random.random() < 0.3
        metrics.observe_embedding_cache(hit)
        time.sleep(0.0001 if hit else random.uniform(0.0015, 0.004))
        self.confidence = random.choice([0.97, 0.93, 0.88, 0.81, 0.74, 0.66, 0.55])
        return super().classify(text, bias)


async def _one_request(router: Running, text: str) -> None:
    model = "virtusoul-v1" if random.random() < 0.9 else random.choice(TIERS)
    if random.random() < 0.004:
        model = "gpt-unknown"
    patience = aiohttp.ClientTimeout(total=0.4 if random.random() < 0.006 else 60)
    body = {"model": model, "messages": [{"role": "user", "content": text}], "stream": random.random() < 0.6}
    try:
        async with router.post({**body, "stream_options": {"include_usage": True}}, timeout=patience) as response:
            await response.read()
    except (aiohttp.ClientError, TimeoutError):
        pass


async def _traffic(router: Running, fakes: dict[str, _Busy], seconds: float) -> None:
    """Swelling and falling; the strongest tier is out for a while."""
    running: set[asyncio.Task[None]] = set()
    began = time.monotonic()
    while (passed := time.monotonic() - began) < seconds:
        fakes["reasoning"].down = 0.42 < passed / seconds < 0.52
        wave = 1 + 0.5 * random.random() + 0.6 * abs((passed / seconds * 3) % 2 - 1)
        text = random.choices(TIERS, (46, 31, 15, 8))[0]
        task = asyncio.create_task(_one_request(router, text))
        running.add(task)
        task.add_done_callback(running.discard)
        await asyncio.sleep(random.expovariate(7 * wave))
    metrics.observe_retrain("succeeded")


@in_browser
@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_screenshots(browser: str, start_router: Start) -> None:
    """Rewrites docs/dashboard.png and docs/dashboard-dark.png. DASHBOARD_SHOTS: a folder for phone and wall, too."""
    speeds = {
        "simple": (0.35, 90, 0.004),
        "medium": (0.8, 260, 0.008),
        "complex": (1.6, 520, 0.01),
        "reasoning": (3.2, 900, 0.01),
    }
    prices = {"simple": ("0.05", "0.40"), "medium": ("0.25", "2"), "complex": ("1.25", "10"), "reasoning": ("5", "25")}
    routes = {
        "simple": ("groq", "llama-3.1-8b-instant"),
        "medium": ("openai", "gpt-5-mini"),
        "complex": ("mistral", "mistral-large"),
        "reasoning": ("openai", "gpt-5.2"),
    }
    fakes = {tier: _Busy(*speed) for tier, speed in speeds.items()}
    env = {"COOLDOWN": "4", "COOLDOWN_FAILURES": "3"}
    for tier, fake in fakes.items():
        await fake.start()
        (provider, model), (price_in, price_out) = routes[tier], prices[tier]
        env |= tier_env(tier, fake, provider, INPUT_PRICE=price_in, OUTPUT_PRICE=price_out, MODEL=model)
        env[f"{tier.upper()}_FALLBACKS"] = {"reasoning": "complex", "simple": "medium"}.get(tier, "reasoning")
    router = await start_router(env, _Plausible())
    folder = Path(os.environ.get("DASHBOARD_SHOTS", ROOT / "docs"))
    folder.mkdir(parents=True, exist_ok=True)
    async with tab(browser, router.url + "/dashboard", width=1440, height=1000) as page:
        traffic = asyncio.create_task(_traffic(router, fakes, float(os.environ.get("DASHBOARD_SECONDS", "170"))))
        await page.until(LIVE)
        await asyncio.sleep(float(os.environ.get("DASHBOARD_SECONDS", "170")) - 8)
        shots = [("dashboard", 1440, False), ("dashboard-dark", 1440, True)]
        if "DASHBOARD_SHOTS" in os.environ:
            shots += [("phone", 360, False), ("phone-dark", 360, True), ("wall", 2560, True)]
        for name, width, dark in shots:
            await page.look(width, 1000, dark)
            height = await page.evaluate(
                "new Promise(r => setTimeout(() => r(document.documentElement.scrollHeight), 300))"
            )
            await page.look(width, height, dark)
            await page.evaluate("new Promise(r => setTimeout(r, 300))")
            await page.screenshot(folder / f"{name}.png")
        await traffic
    for fake in fakes.values():
        await fake.stop()
