"""Providers: each file maps the hub form (OpenAI chat-completions JSON) to one wire dialect and back."""

from router.providers.dialect import Dialect
from router.providers.registry import dialect_for

__all__ = ["Dialect", "dialect_for"]
