"""Format, lint and types are tests like any other, so that one command runs everything."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    "command",
    [["ruff", "format", "--check", "--quiet", "."], ["ruff", "check", "--quiet", "."], ["mypy"]],
    ids=["format", "lint", "types"],
)
@pytest.mark.timeout(300)
def test_the_code_is_clean(command: list[str]) -> None:
    ran = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_files_can_be_read_in_one_sitting() -> None:
    folders = ("router", "export", "bench")
    long = {
        str(path.relative_to(ROOT)): lines
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        if (lines := len(path.read_text().splitlines())) > 360
    }
    assert not long


def test_the_changelog_is_up_to_date() -> None:
    from router import __version__

    versions = [
        line[3:].split()[0] for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if line.startswith("## ")
    ]
    assert versions[0] == __version__


def test_every_setting_is_explained() -> None:
    from router.config import _GLOBAL, _TIER_SETTINGS

    example = (ROOT / ".env.example").read_text()
    readme = (ROOT / "README.md").read_text()
    names = [*_GLOBAL, *(f"MEDIUM_{suffix}" for suffix in _TIER_SETTINGS)]
    assert [name for name in names if f"{name}=" not in example] == []
    assert [name for name in _GLOBAL if name not in readme] == []
    assert [suffix for suffix in _TIER_SETTINGS if f"_{suffix}" not in readme] == []


def test_the_example_configuration_is_valid() -> None:
    from dotenv import dotenv_values

    from router.config import load

    values = {name: value for name, value in dotenv_values(ROOT / ".env.example").items() if value}
    assert load({**values, "MEDIUM_API_KEY": "sk-x"}).targets["medium"].model


def test_no_optional_package_is_needed_to_test() -> None:
    assert importlib.util.find_spec("pytest_timeout")
