"""Finds a dialect by its name; a provider file is imported the first time that a tier speaks it."""

from __future__ import annotations

from functools import cache
from importlib import import_module

from router.providers.dialect import Dialect


@cache
def dialect_for(name: str) -> Dialect:
    """The dialect in `router.providers.<name>`; each provider file exports one as `DIALECT`."""
    dialect: Dialect = import_module(f"router.providers.{name}").DIALECT
    return dialect
