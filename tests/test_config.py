"""Settings: defaults, precedence, and every fault named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from router.config import ConfigError, load, masked, read_environment

ONE = {"MEDIUM_PROVIDER": "openai", "MEDIUM_MODEL": "gpt-x", "MEDIUM_API_KEY": "sk-secret-0123456789"}


def faults(env: dict[str, str]) -> str:
    with pytest.raises(ConfigError) as caught:
        load(env)
    return "\n".join(caught.value.faults)


def test_defaults() -> None:
    settings = load(ONE)
    assert (settings.host, settings.port, settings.model_name) == ("0.0.0.0", 4000, "virtusoul-v1")
    assert (settings.timeout, settings.retries, settings.cooldown_failures, settings.cooldown) == (120, 2, 5, 15)
    assert settings.tiers == ("simple", "medium", "complex", "reasoning")
    target = settings.targets["medium"]
    assert target.base_url == "https://api.openai.com/v1"
    assert (target.attempt_timeout, target.first_token_timeout, target.connect_timeout) == (120, 120, 5)
    assert target.capabilities == {"tools", "vision", "json"}
    assert "secret" not in repr(settings)


def test_timeouts_inherit() -> None:
    env = {
        **ONE,
        "TIMEOUT": "50",
        "ATTEMPT_TIMEOUT": "20",
        "MEDIUM_ATTEMPT_TIMEOUT": "7",
        "MEDIUM_CONNECT_TIMEOUT": "1",
    }
    target = load(env).targets["medium"]
    assert (target.attempt_timeout, target.first_token_timeout, target.connect_timeout) == (7, 7, 1)


def test_the_admin_key_defaults_to_the_key() -> None:
    assert load({**ONE, "API_KEY": "a,b"}).admin_api_keys == ("a", "b")
    assert load({**ONE, "API_KEY": "a", "ADMIN_API_KEY": "c"}).admin_api_keys == ("c",)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PORT", "http"), ("PORT", "70000"), ("PORT", "4000.5"), ("TIMEOUT", "-1"), ("TIMEOUT", "nan"), ("TIMEOUT", "inf"),
        ("RETRIES", "two"), ("LOG_FORMAT", "xml"), ("LOG_LEVEL", "LOUD"), ("STREAM_RECOVERY", "magic"),
        ("ROUTING_BIAS", "2"), ("CONFIDENCE_THRESHOLD", "60"), ("WORKERS", "0"), ("LOW_CONFIDENCE_TIER", "huge"),
        ("TIERS", "a,a"), ("TIERS", "ok,not ok"), ("MEDIUM_PROVIDER", "opanai"), ("MEDIUM_FALLBACKS", "huge"),
        ("MEDIUM_CAPABILITIES", "flying"), ("MEDIUM_CONTEXT_WINDOW", "big"), ("MEDIUM_BASE_URL", "ftp://x"),
        ("MEDIUM_BASE_URL", "https://user:pass@x/v1"), ("MEDIUM_BASE_URL", "https://x/v1?key=1"), ("MEDIUM_BASE_URL", "http://a..b/v1"),
        ("MEDIUM_API_KEY", "two\nlines"), ("MEDIUM_INPUT_PRICE", "free"), ("MEDIUM_MODLE", "x"), ("MEDIUM_TIMEOUT", "5"),
        ("CASCADE", "maybe"), ("MODEL_NAME", "simple"), ("TRAINING_DATA", "/dev/zero"), ("TRAINING_DATA", "/"),
        ("TRAINING_DATA", "x" * 300),
    ],
)  # fmt: skip
def test_a_fault_names_its_variable(variable: str, value: str) -> None:
    text = faults({**ONE, variable: value})
    assert variable in text
    assert "secret" not in text and "pass@" not in text


@pytest.mark.parametrize("url", ["https://[::1", "https://x:99999/v1", "https://x:port/v1"])
def test_what_is_wrong_with_a_url_is_said_in_our_words(url: str) -> None:
    assert faults({**ONE, "MEDIUM_BASE_URL": url}) == "MEDIUM_BASE_URL: must be a URL with a valid host and port"


def test_training_data_may_be_a_file_to_come(tmp_path: Path) -> None:
    store = tmp_path / "data.jsonl"
    assert load({**ONE, "TRAINING_DATA": str(store)}).training_data == store
    store.write_text("")
    assert load({**ONE, "TRAINING_DATA": str(store)}).training_data == store
    os.mkfifo(tmp_path / "pipe")
    assert "not a folder, a pipe or a device" in faults({**ONE, "TRAINING_DATA": str(tmp_path / "pipe")})


def test_faults_come_all_at_once_with_hints() -> None:
    text = faults({"PORT": "x", "SIMPLE_PROVIDER": "custom", "SIMPLE_MODEL": "m", "COMPLEX_MODLE": "y"})
    assert "PORT" in text and "SIMPLE_BASE_URL" in text and "COMPLEX_MODEL" in text


@pytest.mark.parametrize(
    ("env", "missing"),
    [
        ({"SIMPLE_MODEL": "m"}, "SIMPLE_PROVIDER"),
        ({"SIMPLE_PROVIDER": "openai", "SIMPLE_API_KEY": "k"}, "SIMPLE_MODEL"),
        ({"SIMPLE_PROVIDER": "groq", "SIMPLE_MODEL": "m"}, "SIMPLE_API_KEY"),
        ({"SIMPLE_PROVIDER": "custom", "SIMPLE_MODEL": "m"}, "SIMPLE_BASE_URL"),
    ],
)
def test_what_a_tier_needs(env: dict[str, str], missing: str) -> None:
    assert missing in faults(env)


@pytest.mark.parametrize(
    ("env", "named"),
    [
        ({"PROVIDER": "bogus", "MODEL": "x", "FALLBACKS": "ghost"}, ["PROVIDER", "FALLBACKS"]),
        ({"PROVIDER": "custom", "FALLBACKS": "ghost", "CONTEXT_WINDOW": "abc"},
         ["CONTEXT_WINDOW", "MODEL", "BASE_URL", "FALLBACKS"]),
        ({"FALLBACKS": "ghost"}, ["PROVIDER", "FALLBACKS"]),
        ({"CONTEXT_WINDOW": "abc"}, ["CONTEXT_WINDOW", "PROVIDER"]),
        ({"PROVIDER": "openai", "MODEL": "m", "BASE_URL": "ftp://x"}, ["BASE_URL"]),
        ({"PROVIDER": "groq", "MODEL": "m\nn", "API_KEY": "k\nl"}, ["MODEL", "API_KEY"]),
        ({"PROVIDER": "custom", "MODEL": "m", "BASE_URL": "ftp://x"}, ["BASE_URL"]),
    ],
)  # fmt: skip
def test_the_faults_of_one_tier_do_not_hide_each_other(env: dict[str, str], named: list[str]) -> None:
    """Each variable once: what is set and cannot be read is not called missing too."""
    lines = faults({f"SIMPLE_{suffix}": value for suffix, value in env.items()}).splitlines()
    assert [line.partition(":")[0] for line in lines] == [f"SIMPLE_{suffix}" for suffix in named]


def test_what_a_tier_does_not_need() -> None:
    assert load({"SIMPLE_PROVIDER": "ollama", "SIMPLE_MODEL": "m"}).targets["simple"].api_key == ""
    assert load({"SIMPLE_PROVIDER": "openai", "SIMPLE_MODEL": "m", "SIMPLE_BASE_URL": "http://vllm:8000/v1/"}).targets
    assert load({"SIMPLE_PROVIDER": "echo"}).targets["simple"].model == "echo"


def test_who_serves_an_unconfigured_tier() -> None:
    def serving(*tiers: str) -> dict[str, str]:
        env: dict[str, str] = {}
        for tier in tiers:
            env |= {f"{tier.upper()}_PROVIDER": "echo"}
        return dict(load(env).serving)

    assert serving("medium", "reasoning")["simple"] == "medium"
    assert serving("medium", "reasoning")["complex"] == "medium"
    assert serving("complex")["simple"] == "complex"
    assert serving("simple", "complex")["medium"] == "complex"
    assert serving("simple", "complex")["reasoning"] == "complex"
    assert serving() == {}


def test_tiers_beyond_the_four() -> None:
    env = {"TIERS": "simple,medium,complex,reasoning,long-context", "LONG_CONTEXT_PROVIDER": "echo"}
    assert "long-context" in load(env).targets


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("A=file\nB=file\nC=file\n# comment\nD='quo ted'\nEMPTY=\n")
    env = read_environment(file, {"B": "real", "C": ""})
    assert env == {"A": "file", "B": "real", "C": "file", "D": "quo ted"}


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        read_environment(tmp_path / "nothing", {})


@pytest.mark.parametrize("line", ['API_KEY="secret-0123', "API_KEY = 'secret-0123", "API_KEY: secret-0123"])
def test_a_line_that_cannot_be_read_does_not_leave_the_router_open(tmp_path: Path, line: str) -> None:
    file = tmp_path / "router.env"
    file.write_text(f"MEDIUM_PROVIDER=echo\n\n{line}\nPORT=4001\n")
    with pytest.raises(ConfigError) as caught:
        read_environment(file, {})
    assert "router.env, line 3:" in str(caught.value) and "secret" not in str(caught.value)


def test_likely_typos_are_warned_of() -> None:
    warnings = load({**ONE, "TIMEOUTT": "5", "HUGE_PROVIDER": "openai", "HOME": "/root"}).warnings
    assert any("TIMEOUTT" in warning for warning in warnings)
    assert any("HUGE_PROVIDER" in warning for warning in warnings)
    assert len(warnings) == 2


def test_masking() -> None:
    assert masked("sk-0123456789abcdef") == "sk-…ef"
    assert masked("short") == "set"
    assert masked("") == "none"


def test_demo_serves_every_tier() -> None:
    assert {target.vendor.name for target in load({}, demo=True).targets.values()} == {"echo"}


@pytest.mark.parametrize("keys", [",", " , ,"])
def test_commas_alone_do_not_leave_the_router_open(keys: str) -> None:
    assert "API_KEY" in faults({**ONE, "API_KEY": keys})
    assert "ADMIN_API_KEY" in faults({**ONE, "API_KEY": "a", "ADMIN_API_KEY": keys})


def test_tiers_share_no_variables() -> None:
    assert "LONG_CONTEXT_" in faults({**ONE, "TIERS": "medium,long-context,long_context"})
    assert "ADMIN_API_KEY" in faults({**ONE, "TIERS": "medium,admin"}), "the admin's key would go to a provider"


def test_a_tier_may_be_called_what_a_setting_begins_with() -> None:
    env = {"TIERS": "low,max,log", "LOW_PROVIDER": "openai", "LOW_MODEL": "m", "LOW_API_KEY": "k"}
    settings = load({**env, "LOW_CONFIDENCE_TIER": "max", "MAX_BODY_MB": "2", "LOG_LEVEL": "DEBUG"})
    assert (list(settings.targets), settings.low_confidence_tier, settings.max_body_mb) == (["low"], "max", 2)
    assert "LOW_MODLE" in faults({**env, "LOW_MODLE": "x"})


def test_a_clusters_own_variables_are_no_misspelt_ones() -> None:
    cluster = {"MEDIUM_PORT": "tcp://10.0.0.1:80", "MEDIUM_SERVICE_HOST": "10.0.0.1", "MEDIUM_SERVICE_PORT": "80"}
    assert load({**ONE, **cluster, "MEDIUM_PORT_80_TCP_ADDR": "10.0.0.1", "MEDIUM_SERVICE_PORT_HTTP": "80"}).targets


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_files_as_editors_leave_them(tmp_path: Path, start: bytes, end: bytes) -> None:
    lines = (
        b"MEDIUM_PROVIDER=openai", b"export MEDIUM_MODEL='gpt #1'", b'MEDIUM_API_KEY = "sk-a=b" # mine', b"",
        b"# COMPLEX_PROVIDER=x", b"SIMPLE_PROVIDER=", b"export TIMEOUT=7",
    )  # fmt: skip
    file = tmp_path / "router.env"
    file.write_bytes(start + end.join(lines))
    settings = load(read_environment(file, {"SIMPLE_PROVIDER": ""}))
    target = settings.targets["medium"]
    assert (target.model, target.api_key, settings.timeout, list(settings.targets)) == (
        "gpt #1",
        "sk-a=b",
        7,
        ["medium"],
    )
