"""How many tokens a chat will be, without its model's tokenizer: characters per token by class of script.

Calibrated against published tokenizers (the figures are in `tests/test_estimate.py`); leans to the high side, for a
prompt that is sent to a window in which it does not fit costs an attempt, and one that is sent to a larger window than
it needs costs a little. Claude's newer tokenizer makes about a third more of the same text than its older ones and than
OpenAI's (https://platform.claude.com/docs/en/models/sonnet-5/migration-guide); the estimate stands between.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from router.chat import Chat

# Characters per token.
_WORDS = 4.4  # Latin letters and blanks
_FOREIGN = 2.3  # Cyrillic, Greek, and Latin letters with marks
_ABUGIDAS = 1.7  # Arabic, Hebrew, the scripts of India and South-East Asia: 1 in older tokenizers, 3.5 in newer ones
_SYMBOLS = 1.45  # digits and punctuation, which code, logs and JSON are made of
_IDEOGRAMS = 0.9  # Chinese, Japanese, Korean, emoji: about one token each
# Roles and separators of one message; tools come with instructions of their own.
_PER_MESSAGE = 4
_PER_TOOL = 12
_TOOLS = 300  # https://platform.claude.com/docs/en/agents-and-tools/tool-use/overview#pricing: 264 to 530
# Images: OpenAI's high detail at 1024×1024 is 765, Claude's about width × height / 750, at most 1600 or so.
IMAGE = 1_100
# A PDF page is 1500 to 3000 tokens, and of the order of 50 kB in base64.
_BASE64_CHARS_PER_TOKEN = 25.0
_AUDIO_CHARS_PER_TOKEN = 400.0  # base64 of 24 kHz audio: about 10 tokens a second

# Of a chat larger than this, only a share of each text is looked at, so that the time is bounded whatever comes.
_LOOKED_AT_BYTES = 200_000
_MIN_SAMPLE_CHARS = 1_000
_SLICES = 20

_LETTERS = re.compile(r"[A-Za-z \n]+")
_OTHER_ASCII = re.compile(r"[!-@\[-`{-~\t\r]+")
_WIDE = re.compile(
    "[\u1100-\u11ff\u2e80-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\uff00-\uffef\U00010000-\U0003ffff]+"
)


_MIDDLE = re.compile("[\u0590-\u10ff\u1780-\u17ff]+")


def estimate_tokens(chat: Chat) -> int:
    """Prompt tokens of a chat: messages, images, files and tools. Never raises for a parsed chat."""
    total = 3.0
    share = _LOOKED_AT_BYTES / max(len(chat.raw), 1)
    for message in chat.messages:
        total += _PER_MESSAGE + _content(message.get("content"), share)
        for name in ("tool_calls", "function_call", "thinking_blocks", "reasoning_content", "refusal"):
            if value := message.get(name):
                total += _json(value, share)
    tools = chat.body.get("tools") or chat.body.get("functions")
    if isinstance(tools, list) and tools:
        total += _TOOLS + _PER_TOOL * len(tools) + _json(tools, share)
    if response_format := chat.body.get("response_format"):
        total += _json(response_format, share)
    return round(total)


def text_tokens(text: str, share: float = 1.0) -> float:
    """Tokens of plain text, judged by `share` of it."""
    length = len(text)
    if share < 1.0 and length > _MIN_SAMPLE_CHARS:
        step = length // _SLICES
        size = max(_MIN_SAMPLE_CHARS // _SLICES, int(step * share))
        sample = "".join(text[at * step : at * step + size] for at in range(_SLICES))
        return text_tokens(sample) * (length / len(sample))
    if text.isascii():
        letters = _count(_LETTERS, text)
        return letters / _WORDS + (length - letters) / _SYMBOLS
    letters, symbols = _count(_LETTERS, text), _count(_OTHER_ASCII, text)
    wide, middle = _count(_WIDE, text), _count(_MIDDLE, text)
    foreign = length - letters - symbols - wide - middle
    # Latin letters between accented ones split into smaller tokens than English does.
    per_letter = _WORDS if foreign < letters / 50 else 3.4
    tokens = letters / per_letter + symbols / _SYMBOLS + wide / _IDEOGRAMS
    return tokens + middle / _ABUGIDAS + foreign / _FOREIGN


def _count(pattern: re.Pattern[str], text: str) -> int:
    return sum(map(len, pattern.findall(text)))


def _content(content: Any, share: float) -> float:
    if isinstance(content, str):
        return text_tokens(content, share)
    if not isinstance(content, list):
        return 0.0
    return sum(_part(part, share) for part in content)


def _part(part: dict[str, Any], share: float) -> float:
    kind = part.get("type")
    if kind in ("image_url", "input_image", "image"):
        return IMAGE
    if kind == "input_audio":
        audio = part.get("input_audio")
        data = audio.get("data") if isinstance(audio, dict) else None
        return len(data) / _AUDIO_CHARS_PER_TOKEN if isinstance(data, str) else 0.0
    if kind in ("file", "input_file", "document"):
        holder = part.get("file") or part.get("source") or part
        data = (holder.get("file_data") or holder.get("data")) if isinstance(holder, dict) else None
        return len(data) / _BASE64_CHARS_PER_TOKEN if isinstance(data, str) else IMAGE
    text = part.get("text")
    return text_tokens(text, share) if isinstance(text, str) else _json(part, share)


def _json(value: Any, share: float) -> float:
    if isinstance(value, str):
        return text_tokens(value, share)
    try:
        return text_tokens(orjson.dumps(value).decode(), share)
    except orjson.JSONEncodeError:
        return 0.0  # nested too deeply to be sent, either
