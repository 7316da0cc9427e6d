"""Configuration: `.env` and environment → frozen dataclasses, with every fault reported at once.

Precedence: command-line flags, then real environment variables, then the file. A variable that is set but empty counts
as unset, as compose files write it. To add a setting: a field of `Settings` (or `Target`) and a row in `_GLOBAL` (or
`_TIER_SETTINGS`), then `.env.example` and the README's table; a test holds the three together.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass, field, replace
from functools import cached_property
from io import StringIO
from pathlib import Path
from types import MappingProxyType
from typing import Any

from dotenv import dotenv_values
from dotenv.parser import parse_stream

from router import values as parse
from router.values import CAPABILITIES
from router.vendors import VENDORS, Vendor

DEFAULT_TIERS = ("simple", "medium", "complex", "reasoning")


class ConfigError(Exception):
    """The configuration cannot be used. `faults`: one line each, naming the variable; never a key's value."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


@dataclass(frozen=True, slots=True)
class Target:
    """A tier's provider, model, base URL and key, and how long to wait for them. Times in seconds."""

    tier: str
    vendor: Vendor
    model: str
    base_url: str
    api_key: str = field(repr=False)
    connect_timeout: float
    attempt_timeout: float
    first_token_timeout: float
    stream_idle_timeout: float
    fallbacks: tuple[str, ...] = ()
    context_window: int | None = None
    capabilities: frozenset[str] = CAPABILITIES
    input_price: float | None = None  # USD per million tokens
    output_price: float | None = None

    @property
    def route(self) -> str:
        """`provider/model`: how responses, logs and metrics name this target."""
        return f"{self.vendor.name}/{self.model}"


@dataclass(frozen=True)
class Settings:
    """Everything the server was told. Times in seconds; `targets` holds configured tiers only, in `tiers` order."""

    host: str = "0.0.0.0"  # noqa: S104 - a container must be reachable; the README says how to bind elsewhere
    port: int = 4000
    model_name: str = "virtusoul-v1"
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    admin_api_keys: tuple[str, ...] = field(default=(), repr=False)
    log_level: str = "INFO"
    log_format: str = "text"
    log_prompts: bool = False
    timeout: float = 120.0
    connect_timeout: float = 5.0
    attempt_timeout: float | None = None
    first_token_timeout: float | None = None
    stream_idle_timeout: float = 60.0
    retries: int = 2
    cooldown_failures: int = 5
    cooldown: float = 15.0
    stream_recovery: str = "error"
    keepalive: float = 15.0
    max_body_mb: float = 32.0
    max_concurrency: int = 1000
    workers: int = 1
    drain_timeout: float = 30.0
    confidence_threshold: float = 0.60
    low_confidence_tier: str | None = None
    routing_bias: float = 0.0
    ort_threads: int = 1
    cascade: bool | None = None  # None: what the shipped artefacts were measured to be best with
    models_dir: Path | None = None  # None: the shipped `models/`
    training_data: Path | None = None
    tiers: tuple[str, ...] = DEFAULT_TIERS
    targets: Mapping[str, Target] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def max_body_bytes(self) -> int:
        return int(self.max_body_mb * 1024 * 1024)

    @cached_property
    def serving(self) -> Mapping[str, str]:
        """Tier → the configured tier that serves it: itself, else `medium`, else the nearest above, else below."""
        return {tier: serving for tier in self.tiers if (serving := self._serving(tier)) is not None}

    @cached_property
    def has_prices(self) -> bool:
        """Whether any tier's price is known."""
        return any(t.input_price is not None or t.output_price is not None for t in self.targets.values())

    @cached_property
    def has_windows(self) -> bool:
        """Whether any tier's context window is known."""
        return any(target.context_window is not None for target in self.targets.values())

    def _serving(self, tier: str) -> str | None:
        for candidate in (tier, "medium"):
            if candidate in self.targets:
                return candidate
        here = self.tiers.index(tier)
        nearest = [*self.tiers[here + 1 :], *reversed(self.tiers[:here])]
        return next((candidate for candidate in nearest if candidate in self.targets), None)


# What Kubernetes sets in every container for a service that bears the tier's name.
# https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
_OF_A_CLUSTER = re.compile(r"SERVICE_(HOST|PORT(_.+)?)|PORT(_\d+_.+)?")

_SECONDS = parse.number(0.001, 86_400)
_PRICE = parse.number(0, 1_000_000)


def _tier_names(raw: str) -> tuple[str, ...]:
    names = tuple(name.lower() for name in parse.names(raw))
    if not names or len(set(names)) < len(names) or not all(re.fullmatch(r"[a-z][a-z0-9_-]*", name) for name in names):
        raise ValueError("different names of letters, digits, '-' and '_', comma-separated")
    for name in names:
        if [env_prefix(other) for other in names].count(env_prefix(name)) > 1:
            raise ValueError(f"names whose variables differ: more than one begins with {env_prefix(name)}")
        if taken := [env_prefix(name) + suffix for suffix in _TIER_SETTINGS if env_prefix(name) + suffix in _GLOBAL]:
            raise ValueError(f"other names: {', '.join(taken)} already means something else")
    return names


# Variable → (field of Settings, parser).
_GLOBAL: dict[str, tuple[str, Callable[[str], Any]]] = {
    "HOST": ("host", parse.text),
    "PORT": ("port", parse.integer(0, 65_535)),
    "MODEL_NAME": ("model_name", parse.header_safe),
    "API_KEY": ("api_keys", parse.keys),
    "ADMIN_API_KEY": ("admin_api_keys", parse.keys),
    "LOG_LEVEL": ("log_level", parse.one_of("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", upper=True)),
    "LOG_FORMAT": ("log_format", parse.one_of("text", "json")),
    "LOG_PROMPTS": ("log_prompts", parse.flag),
    "TIMEOUT": ("timeout", _SECONDS),
    "CONNECT_TIMEOUT": ("connect_timeout", _SECONDS),
    "ATTEMPT_TIMEOUT": ("attempt_timeout", _SECONDS),
    "FIRST_TOKEN_TIMEOUT": ("first_token_timeout", _SECONDS),
    "STREAM_IDLE_TIMEOUT": ("stream_idle_timeout", _SECONDS),
    "RETRIES": ("retries", parse.integer(0, 20)),
    "COOLDOWN_FAILURES": ("cooldown_failures", parse.integer(1, 1_000_000)),
    "COOLDOWN": ("cooldown", parse.number(0, 86_400)),
    "STREAM_RECOVERY": ("stream_recovery", parse.one_of("error", "buffer")),
    "KEEPALIVE": ("keepalive", parse.number(0, 86_400)),
    "MAX_BODY_MB": ("max_body_mb", parse.number(0.001, 4096)),
    "MAX_CONCURRENCY": ("max_concurrency", parse.integer(1, 1_000_000)),
    "WORKERS": ("workers", parse.integer(1, 256)),
    "DRAIN_TIMEOUT": ("drain_timeout", parse.number(0, 86_400)),
    "CONFIDENCE_THRESHOLD": ("confidence_threshold", parse.number(0, 1)),
    "LOW_CONFIDENCE_TIER": ("low_confidence_tier", lambda raw: raw.lower()),
    "ROUTING_BIAS": ("routing_bias", parse.number(-1, 1)),
    "ORT_THREADS": ("ort_threads", parse.integer(1, 256)),
    "CASCADE": ("cascade", parse.flag),
    "MODELS_DIR": ("models_dir", Path),
    "TRAINING_DATA": ("training_data", parse.file),
    "TIERS": ("tiers", _tier_names),
}

# Suffix of {TIER}_… → (field of Target, parser).
_TIER_SETTINGS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "PROVIDER": ("vendor", lambda raw: VENDORS[parse.one_of(*VENDORS)(raw)]),
    "MODEL": ("model", parse.header_safe),
    "API_KEY": ("api_key", parse.header_safe),
    "BASE_URL": ("base_url", parse.url),
    "FALLBACKS": ("fallbacks", lambda raw: tuple(name.lower() for name in parse.names(raw))),
    "CONTEXT_WINDOW": ("context_window", parse.integer(1, 1_000_000_000)),
    "CAPABILITIES": ("capabilities", parse.capabilities),
    "INPUT_PRICE": ("input_price", _PRICE),
    "OUTPUT_PRICE": ("output_price", _PRICE),
    "CONNECT_TIMEOUT": ("connect_timeout", _SECONDS),
    "ATTEMPT_TIMEOUT": ("attempt_timeout", _SECONDS),
    "FIRST_TOKEN_TIMEOUT": ("first_token_timeout", _SECONDS),
    "STREAM_IDLE_TIMEOUT": ("stream_idle_timeout", _SECONDS),
}


def read_environment(env_file: Path | None, environ: Mapping[str, str]) -> dict[str, str]:
    """The file's variables with the real environment laid over them. `env_file` None: `.env` here, if there is one.

    Raises `ConfigError` for a file that was named but cannot be read, and for lines that say nothing.
    """
    path = env_file or Path(".env")
    from_file: dict[str, str] = {}
    if env_file is not None or path.is_file():
        try:
            content = path.read_text(encoding="utf-8-sig")  # some editors put a byte order mark in front
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError([f"--env {path}: cannot be read ({error.__class__.__name__})"]) from None
        # dotenv would skip them: behind a quotation mark that nobody closed, an API_KEY, and the router would be open.
        if broken := [found.original for found in parse_stream(StringIO(content)) if found.error]:
            # Blank lines before it are counted as part of a statement.
            lines = [one.line + one.string.count("\n", 0, -len(one.string.lstrip())) for one in broken]
            raise ConfigError([f"{path}, line {line}: not NAME=value, or a quote left open" for line in lines])
        from_file = {key: value for key, value in dotenv_values(stream=StringIO(content)).items() if value}
    return {**from_file, **{key: value for key, value in environ.items() if value}}


def load(env: Mapping[str, str], *, demo: bool = False) -> Settings:
    """Variables → settings. Raises `ConfigError` with every fault. `demo`: each tier is served by `echo`."""
    faults: list[str] = []
    values = {name: _parse(variable, env, parser, faults) for variable, (name, parser) in _GLOBAL.items()}
    settings = Settings(**{name: value for name, value in values.items() if value is not None})
    if not settings.admin_api_keys:
        settings = replace(settings, admin_api_keys=settings.api_keys)
    if settings.model_name in settings.tiers:
        faults.append(f"MODEL_NAME: {settings.model_name!r} is a tier's name; it must be another")
    if settings.low_confidence_tier and settings.low_confidence_tier not in settings.tiers:
        faults.append(f"LOW_CONFIDENCE_TIER: {settings.low_confidence_tier!r} is no tier ({', '.join(settings.tiers)})")
    if demo:
        targets = {tier: _demo_target(tier, settings) for tier in settings.tiers}
    else:
        targets = {
            tier: target for tier in settings.tiers if (target := _target(tier, env, settings, faults)) is not None
        }
    if faults:
        raise ConfigError(faults)
    return replace(settings, targets=MappingProxyType(targets), warnings=tuple(_likely_typos(env, settings)))


def _parse(variable: str, env: Mapping[str, str], parser: Callable[[str], Any], faults: list[str]) -> Any:
    raw = env.get(variable, "").strip()
    if not raw:
        return None
    try:
        return parser(raw)
    except ValueError as error:
        shown = "" if variable.endswith(("API_KEY", "BASE_URL")) else f" (got {raw[:60]!r})"
        faults.append(f"{variable}: must be {error}{shown}")
        return None


def env_prefix(tier: str) -> str:
    """`long-context` → `LONG_CONTEXT_`."""
    return tier.upper().replace("-", "_") + "_"


def _target(tier: str, env: Mapping[str, str], settings: Settings, faults: list[str]) -> Target | None:
    """The tier as its variables say; None where none is set, and where they have faults: then all of them are noted."""
    prefix = env_prefix(tier)
    faults.extend(_misspelt(prefix, env, settings))
    given = {suffix for suffix in _TIER_SETTINGS if env.get(prefix + suffix, "").strip()}
    if not given:
        return None
    before = len(faults)
    values = {
        name: value
        for suffix, (name, parser) in _TIER_SETTINGS.items()
        if (value := _parse(prefix + suffix, env, parser, faults)) is not None
    }
    if "PROVIDER" not in given:
        faults.append(f"{prefix}PROVIDER: not set, though other {prefix}… variables are; one of {', '.join(VENDORS)}")
    vendor: Vendor | None = values.get("vendor")
    if vendor is not None:
        faults.extend(_missing(prefix, vendor, given))
    for name in values.get("fallbacks", ()):
        if name not in settings.tiers:
            faults.append(f"{prefix}FALLBACKS: {name!r} is no tier ({', '.join(settings.tiers)})")
    if vendor is None or len(faults) > before:
        return None
    values.setdefault("model", "echo")
    return _with_defaults(tier, vendor, values, settings)


def _missing(prefix: str, vendor: Vendor, given: Set[str]) -> Iterator[str]:
    """What `vendor` needs and nobody set; a value that cannot be read (`given`, and a fault already) is not missing."""
    if "MODEL" not in given and vendor.dialect != "echo":
        yield f"{prefix}MODEL: not set; the model that {vendor.name} is asked for"
    if "BASE_URL" not in given and vendor.needs_base_url:
        yield f"{prefix}BASE_URL: not set, and {vendor.name} has no default"
    if "API_KEY" not in given and vendor.needs_key and "BASE_URL" not in given:
        yield f"{prefix}API_KEY: not set, and {vendor.name} needs a key"


def _with_defaults(tier: str, vendor: Vendor, values: dict[str, Any], settings: Settings) -> Target:
    attempt = values.get("attempt_timeout") or settings.attempt_timeout or settings.timeout
    defaults = {
        "base_url": vendor.base_url,
        "api_key": "",
        "connect_timeout": settings.connect_timeout,
        "attempt_timeout": attempt,
        "first_token_timeout": settings.first_token_timeout or attempt,
        "stream_idle_timeout": settings.stream_idle_timeout,
    }
    return Target(tier=tier, **{**defaults, **values})


def _demo_target(tier: str, settings: Settings) -> Target:
    return _with_defaults(tier, VENDORS["echo"], {"vendor": VENDORS["echo"], "model": "echo"}, settings)


def _misspelt(prefix: str, env: Mapping[str, str], settings: Settings) -> list[str]:
    """`{TIER}_…` variables that mean nothing, each with the name that was probably meant."""
    longer = [
        env_prefix(tier)
        for tier in settings.tiers
        if env_prefix(tier).startswith(prefix) and env_prefix(tier) != prefix
    ]
    faults = []
    for variable in sorted(env):
        suffix = variable.removeprefix(prefix)
        if suffix == variable or suffix in _TIER_SETTINGS or any(variable.startswith(other) for other in longer):
            continue
        if variable in _GLOBAL or _OF_A_CLUSTER.fullmatch(suffix):
            continue
        close = difflib.get_close_matches(suffix, _TIER_SETTINGS, n=1, cutoff=0.5)
        meant = f"; did you mean {prefix}{close[0]}?" if close else f"; known: {', '.join(_TIER_SETTINGS)}"
        faults.append(f"{variable}: no such setting of a tier{meant}")
    return faults


def _likely_typos(env: Mapping[str, str], settings: Settings) -> list[str]:
    """Variables one or two letters away from one of ours, and models for tiers that do not exist: warned of only."""
    warnings = []
    for variable in sorted(env):
        if variable in _GLOBAL or any(variable.startswith(env_prefix(tier)) for tier in settings.tiers):
            continue
        close = difflib.get_close_matches(variable, _GLOBAL, n=1, cutoff=0.88)
        if close:
            warnings.append(f"{variable}: unknown; did you mean {close[0]}?")
        elif variable.endswith("_PROVIDER") and env[variable].lower() in VENDORS:
            warnings.append(f"{variable}: there is no such tier; TIERS names {', '.join(settings.tiers)}")
    return warnings


def masked(key: str) -> str:
    """How a key may be shown: enough to tell two apart, too little to use."""
    if not key:
        return "none"
    return f"{key[:3]}…{key[-2:]}" if len(key) >= 12 else "set"
