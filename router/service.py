"""What one process serves with: settings, classifier, pool, circuits, permits. Endpoints take it from the app.

Settings are swapped by exchanging one reference; a request keeps those that it started with.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

from aiohttp import web

from router import __version__, logs, metrics, tracing
from router.access import Keys
from router.artifacts import default_models_dir
from router.classification import ClassifierService
from router.classifier import Classifier
from router.config import ConfigError, Settings
from router.dispatch import Dispatcher
from router.errors import Overloaded
from router.health import Health
from router.logs import RequestLog
from router.tracing import Tracer
from router.upstream import Upstream

log = logging.getLogger("router.service")

# How often the models folder is looked at (one `stat`): a retraining elsewhere is followed within a second.
WATCH_SECONDS = 0.5
# From how many requests in flight on their gauge may lag behind, and by how many seconds.
_SHOWN_AT_ONCE = 8
_SHOWN_AFTER = 0.05


class Service:
    """One process's state. `start` inside a running loop, `close` at the end."""

    def __init__(self, settings: Settings, classifier: Classifier) -> None:
        self.settings = settings
        self.keys = Keys(settings.api_keys)
        self.admin_keys = Keys(settings.admin_api_keys)
        self.classifier = ClassifierService(classifier)
        self.health = Health(settings.cooldown_failures, settings.cooldown, on_change=_circuit_changed)
        self.in_flight = 0
        self.draining = False
        self.tracer: Tracer | None = None
        self.request_log = RequestLog(settings.log_level, settings.log_format)
        self.retraining: asyncio.Task[dict[str, Any]] | None = None  # the last one, running or done
        self.probed = False
        self._to_be_shown = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._upstream: Upstream | None = None
        self._dispatcher: Dispatcher | None = None
        self._watch: asyncio.Task[None] | None = None

    @property
    def dispatcher(self) -> Dispatcher:
        assert self._dispatcher is not None  # noqa: S101 - `start` ran before any request
        return self._dispatcher

    @property
    def models_dir(self) -> Path:
        return self.classifier.classifier.models_dir

    @property
    def is_retraining(self) -> bool:
        return self.retraining is not None and not self.retraining.done()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        assert self._loop is not None  # noqa: S101 - `start` ran before any request
        return self._loop

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.tracer = tracing.from_environment()
        self._upstream = Upstream()
        self._dispatcher = Dispatcher(self._upstream, self.health)
        self._watch = asyncio.create_task(self._watch_models())
        self.show_build()
        for tier in self.settings.targets:
            metrics.show_circuit(tier, False)

    async def close(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        if self.retraining is not None:  # the process would wait for its thread in any case; so its outcome is whole
            await asyncio.wait([self.retraining])
        if self._upstream is not None:
            await self._upstream.close()
        self.classifier.close()
        self.request_log.flush()
        if self.tracer is not None:
            await asyncio.to_thread(self.tracer.close)

    async def ready(self) -> bool:
        """Whether requests should come here: the classifier has served a probe, and we are not draining."""
        if self.draining:
            return False
        if not self.probed:
            await self.classifier.classify("Hello")
            self.probed = True
        return True

    def swap_settings(self, settings: Settings) -> None:
        """New settings for the requests that follow; what only a restart can change is named in the log.

        Raises `ConfigError`, and changes nothing, where the tiers themselves are others: the classifier knows the old.
        """
        for name in ("host", "port", "workers", "models_dir", "ort_threads", "max_body_mb", "cascade"):
            if getattr(settings, name) != getattr(self.settings, name):
                log.warning("the new value of %s takes effect at the next restart", name.upper())
        if settings.tiers != self.settings.tiers:
            raise ConfigError(["TIERS: cannot change while running; restart the router"])
        for tier, target in settings.targets.items():
            if target != self.settings.targets.get(tier):
                self.health.forget(tier)  # what was counted, the target before this one did
        before, self.settings = self.settings, settings
        self.keys = Keys(settings.api_keys)
        self.admin_keys = Keys(settings.admin_api_keys)
        self.request_log.flush()
        self.request_log = RequestLog(settings.log_level, settings.log_format)
        if settings.log_format != before.log_format:  # or its lines and the requests' would differ
            logs.set_up(settings.log_level, settings.log_format)
        logging.getLogger("router").setLevel(settings.log_level)
        self.health.reconfigure(settings.cooldown_failures, settings.cooldown)
        self.classifier.reconfigure(settings.confidence_threshold, settings.routing_bias)
        for tier in settings.targets:
            metrics.show_circuit(tier, self.health.is_open(tier))

    def take_permit(self) -> None:
        """One more request in flight. Raises `Overloaded`; otherwise `release_permit` must follow."""
        if self.draining or self.in_flight >= self.settings.max_concurrency:
            raise Overloaded("The router is at its limit of concurrent requests; try again shortly.")
        self.in_flight += 1
        self._in_flight_changed()

    def release_permit(self) -> None:
        self.in_flight -= 1
        self._in_flight_changed()

    def _in_flight_changed(self) -> None:
        """The gauge follows at once, or under load a little later: every setting of it costs microseconds."""
        if self.in_flight < _SHOWN_AT_ONCE or self._loop is None:
            metrics.show_in_flight(self.in_flight)
        elif not self._to_be_shown:
            self._to_be_shown = True
            self._loop.call_later(_SHOWN_AFTER, self.show_in_flight)

    def show_in_flight(self) -> None:
        """Sets the gauge to what is in flight now."""
        self._to_be_shown = False
        metrics.show_in_flight(self.in_flight)

    def show_build(self) -> None:
        encoder, head = self.classifier.classifier.versions
        metrics.show_build(__version__, encoder, head)

    async def _watch_models(self) -> None:
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            try:
                if await self.classifier.reload_if_changed():
                    self.show_build()
            except Exception:
                log.exception("looking for new model artefacts failed; the present ones stay")


SERVICE: web.AppKey[Service] = web.AppKey("service", Service)


def load_classifier(settings: Settings) -> Classifier:
    """The classifier that `settings` ask for. Raises `ArtifactError`."""
    return Classifier.load(
        settings.models_dir or default_models_dir(),
        tiers=settings.tiers,
        threads=settings.ort_threads,
        confidence_threshold=settings.confidence_threshold,
        bias=settings.routing_bias,
        cascade=settings.cascade,
    )


def _circuit_changed(tier: str, is_open: bool) -> None:
    log.warning("circuit of tier '%s' %s", tier, "opened" if is_open else "closed")
    metrics.show_circuit(tier, is_open)
