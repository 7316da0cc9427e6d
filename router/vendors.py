"""The providers a tier can name. An OpenAI-compatible vendor is one row here, not a file.

To add one: a row with the dialect it speaks and its default base URL. A new *dialect* is a file in `router/providers/`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Vendor:
    """`dialect`: module in `router.providers`. `base_url`: "" = the tier must bring one (`needs_base_url`)."""

    name: str
    dialect: str
    base_url: str = ""
    needs_key: bool = True
    needs_base_url: bool = False


_ROWS = (
    Vendor("openai", "openai", "https://api.openai.com/v1"),
    Vendor("anthropic", "anthropic", "https://api.anthropic.com/v1"),
    Vendor("openrouter", "openai", "https://openrouter.ai/api/v1"),
    Vendor("groq", "openai", "https://api.groq.com/openai/v1"),
    Vendor("together", "openai", "https://api.together.xyz/v1"),
    Vendor("ollama", "openai", "http://localhost:11434/v1", needs_key=False),
    Vendor("mistral", "openai", "https://api.mistral.ai/v1"),
    Vendor("deepseek", "openai", "https://api.deepseek.com/v1"),
    Vendor("google", "openai", "https://generativelanguage.googleapis.com/v1beta/openai"),
    Vendor("custom", "openai", needs_key=False, needs_base_url=True),
    Vendor("echo", "echo", needs_key=False),
)

VENDORS = {vendor.name: vendor for vendor in _ROWS}
