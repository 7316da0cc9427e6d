"""`virtusoul-router`: flags, configuration, banner, and the process or processes that serve."""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from router import __version__
from router.config import ConfigError, Settings, load, masked, read_environment

# EX_USAGE-like: for a configuration that cannot be served.
EXIT_CONFIGURATION = 2
EXIT_CANNOT_LISTEN = 1


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the server. Returns the exit status: 0 after a clean stop, 2 for a faulty configuration."""
    args = _arguments(argv)
    try:
        settings = _settings(args)
    except ConfigError as error:
        return _refuse(error.faults)
    if not settings.targets:
        return _refuse([_NOTHING_CONFIGURED])
    try:
        _before_metrics(settings, args.check)
    except OSError as error:  # a read-only root without a tmpfs, a full disk
        return _refuse([f"WORKERS: several need a temporary folder that can be written (TMPDIR): {error.strerror}"])
    from router.artifacts import ArtifactError
    from router.service import load_classifier

    try:
        classifier = load_classifier(settings)
    except ArtifactError as error:
        return _refuse([f"model artefacts: {error}"])
    if args.check:
        print(_table(settings, demo=args.demo))
        for warning in settings.warnings:
            print(f"  warning: {warning}")
        print("The configuration and the model artefacts are valid.")
        return 0
    return _serve(args, settings, classifier)


_NOTHING_CONFIGURED = """no tier is configured, so there is nothing to route to. Set at least one, for example in .env:

    MEDIUM_PROVIDER=openai
    MEDIUM_MODEL=gpt-5-mini
    MEDIUM_API_KEY=sk-...

(README.md and .env.example show providers and complete examples), or try it without any key: virtusoul-router --demo"""


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="virtusoul-router", description="An OpenAI-compatible LLM router with a learned, local classifier."
    )
    parser.add_argument("--host", help="bind address (HOST)")
    parser.add_argument("--port", help="port (PORT)")
    parser.add_argument("--env", type=Path, metavar="FILE", help="configuration file (default: .env, if there is one)")
    parser.add_argument("--workers", help="processes sharing the port (WORKERS)")
    parser.add_argument("--demo", action="store_true", help="serve every tier by the embedded echo: no key, no network")
    parser.add_argument("--check", action="store_true", help="validate the configuration and the models, then exit")
    parser.add_argument("--version", action="version", version=f"virtusoul-router {__version__}")
    return parser.parse_args(argv)


def _settings(args: argparse.Namespace) -> Settings:
    """Flags over environment over file. Raises `ConfigError`."""
    flags = {"HOST": args.host, "PORT": args.port, "WORKERS": args.workers}
    env = read_environment(args.env, os.environ)
    return load({**env, **{name: value for name, value in flags.items() if value is not None}}, demo=args.demo)


def _before_metrics(settings: Settings, check: bool) -> None:
    """Several workers share their counters through files; the client library reads the folder's name at import."""
    if settings.workers > 1 and not check:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix="virtusoul-metrics-")
    else:
        os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)


def _serve(args: argparse.Namespace, settings: Settings, classifier: object) -> int:
    from router import logs
    from router.classifier import Classifier
    from router.server import listen, serve

    assert isinstance(classifier, Classifier)  # noqa: S101 - typed loosely so that --version imports nothing heavy
    logs.set_up(settings.log_level, settings.log_format)
    for warning in settings.warnings:
        logging.getLogger("router").warning("%s", warning)
    try:
        sock = listen(settings.host, settings.port)
    except OSError as error:
        print(f"virtusoul-router: cannot listen on {settings.host}:{settings.port}: {error.strerror}", file=sys.stderr)
        return EXIT_CANNOT_LISTEN
    print(_banner(settings, sock.getsockname()[1], demo=args.demo), file=sys.stderr, flush=True)

    def reload() -> Settings:
        fresh = _settings(args)
        if not fresh.targets:
            raise ConfigError(["no tier is configured"])
        return fresh

    if settings.workers > 1:
        from router import workers

        try:
            workers.run(settings, classifier, sock, reload)
        finally:
            shutil.rmtree(os.environ.get("PROMETHEUS_MULTIPROC_DIR", ""), ignore_errors=True)
        return 0
    import uvloop

    uvloop.run(serve(settings, classifier, [sock], reload=reload))
    return 0


def _refuse(faults: Sequence[str]) -> int:
    print("virtusoul-router: cannot start:", file=sys.stderr)
    for fault in faults:
        print(f"  - {fault}", file=sys.stderr)
    return EXIT_CONFIGURATION


def _banner(settings: Settings, port: int, *, demo: bool) -> str:
    host = "localhost" if settings.host in ("0.0.0.0", "::") else settings.host  # noqa: S104 - compared, not bound
    host = f"[{host}]" if ":" in host else host
    return "\n".join(
        [
            f"VirtuSoul Router {__version__}{'  (demo: every tier is an echo)' if demo else ''}",
            f"  model      {settings.model_name}",
            f"  endpoint   http://{host}:{port}/v1",
            _table(settings, demo=demo),
        ]
    )


def _table(settings: Settings, *, demo: bool) -> str:
    """The resolved configuration for a person; keys are masked."""
    auth = f"{len(settings.api_keys)} key(s)" if settings.api_keys else "none: anyone who can connect may use it"
    lines = [f"  auth       {auth}", f"  workers    {settings.workers}"]
    width = max(len(tier) for tier in settings.tiers)
    for tier in settings.tiers:
        target = settings.targets.get(tier)
        if target is None:
            serving = settings.serving.get(tier)
            lines.append(f"  {tier:{width}}  not configured, served by {serving}")
            continue
        key = "" if demo else f"  key {masked(target.api_key)}"
        fallbacks = f"  then {', '.join(target.fallbacks)}" if target.fallbacks else ""
        where = f"  {target.base_url}" if target.base_url else ""
        lines.append(f"  {tier:{width}}  {target.route}{where}{key}{fallbacks}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
