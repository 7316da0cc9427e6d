"""Labelled prompts from a JSONL file, and a guess at each one's language."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import orjson

from bench.processes import BenchError

# How a Unicode character name begins → the language written so, where the script says it. Latin needs a closer look.
_SCRIPTS = {
    "CJK": "zh", "HIRAGANA": "ja", "KATAKANA": "ja", "HANGUL": "ko", "CYRILLIC": "cyrillic", "ARABIC": "arabic",
    "DEVANAGARI": "hi", "THAI": "th", "HEBREW": "he", "GREEK": "el", "BENGALI": "bn", "TAMIL": "ta", "LATIN": "latin",
}  # fmt: skip
# Function words that are frequent in one language and rare in the others.
_FUNCTION_WORDS = {
    "en": "the of and to is in that for with how what this are you my write please can does which",
    "es": "el los las una por qué cómo como con para del es escribe cuál que más mi",
    "fr": "le les des une est et pour dans avec comment quel quelle sur pas je qui que mon écris",
    "de": "der die das und ist ein eine mit für wie ich nicht auf wird schreibe einen zu",
    "pt": "os uma não com para como é do da em qual você escreva meu são que",
    "it": "il gli di che è per con una come sono scrivi del della un nel perché",
    "nl": "het een van en is voor met hoe niet zijn schrijf wat ik mijn",
    "pl": "jest nie się jak napisz czy dla to na i w z co",
    "tr": "bir ve için nasıl bu ile ne mi olarak yaz nedir",
    "vi": "là của và cho một các không những viết tôi được",
    "id": "yang dan untuk dengan apa ini itu bagaimana saya tuliskan adalah",
}
_WORD = re.compile(r"[^\W\d_]+")
_READ_CHARACTERS = 2000


@dataclass(frozen=True)
class Row:
    text: str
    tier: str
    source: str
    language: str


def read(path: Path) -> list[Row]:
    """The rows of a file: `{"text", "tier"}`, and `"source"` and `"lang"` where given. Raises `BenchError`."""
    rows: list[Row] = []
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise BenchError(f"cannot read {path}: {error.strerror}") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            item = orjson.loads(line)
            text, tier = item["text"], item["tier"]
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise BenchError(f'{path}, line {number}: not an object with "text" and "tier"') from error
        if not isinstance(text, str) or not isinstance(tier, str):
            raise BenchError(f'{path}, line {number}: "text" and "tier" must be strings')
        language = item.get("lang") or guess_language(text)
        rows.append(Row(text, tier, str(item.get("source") or "–"), str(language)))
    if not rows:
        raise BenchError(f"{path} holds no prompts")
    return rows


def guess_language(text: str) -> str:
    """A language code, or a script's name where several languages share it; `en` for Latin text without a sign."""
    sample = text[:_READ_CHARACTERS]
    scripts = Counter(script for char in sample if char.isalpha() and (script := _script(char)))
    if not scripts:
        return "en"
    if scripts["ja"] * 10 > sum(scripts.values()):  # Japanese is written with Han characters, too
        return "ja"
    total = sum(scripts.values())
    # Prompts in other scripts are full of Latin names and code: a fifth of another script decides.
    other = [(count, script) for script, count in scripts.items() if script != "latin" and count * 5 > total]
    return max(other)[1] if other else _latin_language(sample)


def _latin_language(sample: str) -> str:
    words = [word.lower() for word in _WORD.findall(sample)]
    hits = {language: sum(word in known for word in words) for language, known in _WORDS.items()}
    best = max(hits, key=lambda language: hits[language])
    return best if hits[best] > hits["en"] else "en"


def _script(char: str) -> str | None:
    try:
        return _SCRIPTS.get(unicodedata.name(char).partition(" ")[0])
    except ValueError:
        return None


_WORDS = {language: frozenset(words.split()) for language, words in _FUNCTION_WORDS.items()}
