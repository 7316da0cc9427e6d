"""The house's one rule of structure: a module imports lower floors only, and serving imports nothing that it need not."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "router"

# Floor of each module (or package) of `router`. A new module is added here; README.md ("Layout") says what each is for.
FLOORS: dict[str, int] = {
    "errors": 0, "sse": 0, "chat": 1, "harness": 0, "followup": 0, "prompt": 1, "vendors": 0, "values": 0, "examples": 0, "features": 0,
    "config": 1, "artifacts": 1, "metrics": 1, "access": 1, "logs": 2, "tracing": 2, "fitting": 3, "scoring": 3,
    "encoder": 2, "head": 2, "estimate": 2, "firststage": 2, "policy": 2, "health": 2, "feedback": 2, "providers": 2,
    "connection": 0, "inflater": 1, "pool": 1, "classifier": 3, "upstream": 3, "doors": 3, "embeddings": 3,
    "training": 4, "classification": 4, "opened": 4, "dispatch": 5, "downstream": 4,
    "routing": 5, "service": 6,
    "http": 7, "api": 8, "admin": 8, "vectors": 9, "dashboard": 8,
    "app": 10, "server": 11, "workers": 12, "cli": 13, "__main__": 14, "__init__": 0,
}  # fmt: skip


def room(module: str) -> str:
    """`router.providers.openai` → `providers`."""
    return module.split(".")[1]


def imports(path: Path) -> set[str]:
    """Rooms that a file imports from, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("router."):
            found.add(room(node.module))
        elif isinstance(node, ast.ImportFrom) and node.module == "router":
            found |= {alias.name for alias in node.names if alias.name in FLOORS}
        elif isinstance(node, ast.Import):
            found |= {room(alias.name) for alias in node.names if alias.name.startswith("router.")}
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_lower_floors_only(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert own in FLOORS, f"{own} has no floor yet"
    for other in imports(path) - {own}:
        assert FLOORS[other] < FLOORS[own], f"{own} (floor {FLOORS[own]}) imports {other} (floor {FLOORS[other]})"


def test_no_module_is_a_drawer() -> None:
    assert not {"utils", "helpers", "common", "manager", "misc"} & {path.stem for path in PACKAGE.rglob("*.py")}


def test_serving_imports_nothing_heavy() -> None:
    code = (
        "import sys, router.server, router.cli\n"
        "heavy = {'torch', 'transformers', 'optimum', 'sklearn', 'scipy', 'matplotlib', 'gunicorn', 'huggingface_hub'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert ran.stdout.strip() == "[]"
