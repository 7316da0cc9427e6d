"""Several processes on one port, under gunicorn's supervision.

The classifier is loaded before the fork, so that all workers share one copy of its weights (copy on write). gunicorn's
arbiter replaces workers that crash or fall silent; SIGHUP is passed to the workers, which swap their settings, instead
of restarting them.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

import uvloop
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.glogging import Logger
from gunicorn.workers.base import Worker

from router import logs, metrics
from router.classifier import Classifier
from router.config import ConfigError, Settings
from router.server import serve

log = logging.getLogger("router.workers")

# A worker whose loop has not run for this long is replaced. Far above any pause of a healthy one.
SILENT_WORKER_SECONDS = 60
_AFTER_DRAIN_SECONDS = 5


class RouterWorker(Worker):  # type: ignore[misc]
    """One worker process: gunicorn's life cycle around `server.serve`."""

    def init_signals(self) -> None:
        """`serve` installs the handlers that matter; the arbiter's own must not survive the fork."""
        for number in self.SIGNALS:
            signal.signal(number, signal.SIG_DFL)

    def run(self) -> None:
        application: _Application = self.app
        uvloop.run(
            serve(
                application.settings,
                application.classifier,
                [sock.sock for sock in self.sockets],
                reload=application.reload,
                started=self._started,
                heartbeat=self._heartbeat,
            )
        )
        logging.shutdown()
        sys.stdout.flush()
        # The threads of what was loaded before the fork exist in the parent alone; destructors that would join them
        # here abort the process. Nothing is left to do, so it ends without them.
        os._exit(0)

    def _started(self) -> None:
        self.booted = True

    def _heartbeat(self) -> bool:
        self.notify()
        return bool(self.ppid == os.getppid())  # an orphan must not keep the port


class _ArbiterLog(Logger):  # type: ignore[misc]
    """gunicorn's log through the handler and in the format of ours: a worker's end is one JSON line as well."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True


class RouterArbiter(Arbiter):  # type: ignore[misc]
    """gunicorn's master, except that SIGHUP reloads in place."""

    def spawn_worker(self) -> int:
        """A worker is born with SIGHUP blocked: one that comes before `serve` can act on it waits and does no harm."""
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
        try:
            return int(super().spawn_worker())
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})

    def handle_hup(self) -> None:
        """Valid new settings reach every worker, and those that are forked later; faulty ones change nothing."""
        try:
            fresh = self.app.reload()
            if fresh.tiers != self.app.settings.tiers:
                raise ConfigError(["TIERS: cannot change while running; restart the router"])
            self.app.settings = fresh
            logs.set_up(fresh.log_level, fresh.log_format)
        except ConfigError as error:
            log.error("configuration not reloaded, the old one stays: %s", "; ".join(error.faults))
            return
        self.kill_workers(signal.SIGHUP)


class _Application(BaseApplication):  # type: ignore[misc]
    def __init__(self, settings: Settings, classifier: Classifier, sock: socket.socket, reload: Callable[[], Settings]):
        self.settings = settings
        self.classifier = classifier
        self.reload = reload
        self._sock = sock
        super().__init__()

    def load_config(self) -> None:
        options: dict[str, Any] = {
            "bind": f"fd://{self._sock.fileno()}",
            "workers": self.settings.workers,
            "worker_class": RouterWorker,
            "timeout": SILENT_WORKER_SECONDS,
            "graceful_timeout": int(self.settings.drain_timeout) + _AFTER_DRAIN_SECONDS,
            "loglevel": "warning",
            "logger_class": _ArbiterLog,
            "child_exit": lambda arbiter, worker: metrics.forget_worker(worker.pid),
            "control_socket_disable": True,
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        return self  # gunicorn wants something callable to serve; RouterWorker never calls it

    def __call__(self, *_: Any) -> Any:  # pragma: no cover
        raise RuntimeError("RouterWorker serves by itself")

    def run(self) -> None:
        RouterArbiter(self).run()


def run(settings: Settings, classifier: Classifier, sock: socket.socket, reload: Callable[[], Settings]) -> None:
    """Supervises `settings.workers` processes until told to stop; ends the process (0 after a clean drain)."""
    gc.collect()
    gc.freeze()  # untouched by the collector, the pages of what is loaded stay shared after the fork
    try:
        _Application(settings, classifier, sock, reload).run()
    except SystemExit as ended:
        sys.exit(ended.code)
