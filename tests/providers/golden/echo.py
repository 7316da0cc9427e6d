"""The embedded provider reads OpenAI's form, which it also writes."""

from __future__ import annotations

from dataclasses import replace

from tests.providers.golden.openai import CASES as _OPENAI

# Its requests go nowhere, so that nothing of them changes.
CASES = {name: replace(case, vendor="echo", wire={}) for name, case in _OPENAI.items()}
