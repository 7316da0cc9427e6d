"""VirtuSoul Router: an OpenAI-compatible LLM router with a learned, local complexity classifier."""

__version__ = "0.1.0"
