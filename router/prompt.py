"""Which text is classified: the one definition that serving, training and `/classify` share.

The last request that a person wrote, and nothing else. System prompts, assistant turns and tool results never steer
the tier; blocks that an agent harness writes into a user message are taken out; a short follow-up ("yes, do it") is
read together with what it follows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from router.followup import is_follow_up
from router.harness import answer_in, has_answer, is_returned, strip_harness

# How many user turns before a follow-up are read with it.
MAX_EARLIER_TURNS = 2
# Beyond this, the middle of a message isn't searched for harness blocks: a pasted book must not cost milliseconds.
# Once messages of twice as much were searched, of the turns before only the first of all is looked at.
SEARCHED_CHARS = 400_000
SEARCHED_PARTS = 200


def text_to_classify(messages: Sequence[Mapping[str, Any]]) -> str:
    """The text that decides the tier of a chat: "" if no person wrote any.

    A turn that only returns tool results has no user text of its own, so the newest user text before it, which it
    belongs to, is found and its tier kept.
    """
    turns = _human_turns(messages)
    newest = next(turns, "")
    parts = [newest]
    while is_follow_up(parts[-1]) and len(parts) <= MAX_EARLIER_TURNS:
        earlier = next(turns, "")
        if not earlier:
            break
        parts.append(earlier)
    return "\n".join(reversed(parts))


def bare_text_to_classify(text: str) -> str:
    """A text that comes without a chat is read as the only message of one, so that all ways of asking agree."""
    return text_to_classify([{"role": "user", "content": text}])


def _human_turns(messages: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Texts of the user messages, newest first, without those that are empty once harness blocks are out."""
    searched = 0
    for texts in _user_texts(reversed(messages)):
        if searched >= 2 * SEARCHED_CHARS:  # an agent's long loop: what it is about was said at its beginning
            if text := _human_text(next(_user_texts(messages))):
                yield text
            return
        if is_returned(texts) and not has_answer(texts):
            continue  # costs next to nothing and counts for as much
        searched += min(sum(map(len, texts)), SEARCHED_CHARS)
        if text := _human_text(texts):
            yield text


def _user_texts(messages: Iterable[Mapping[str, Any]]) -> Iterator[list[str]]:
    contents = (message.get("content") for message in messages if message.get("role") == "user")
    return (texts for content in contents if (texts := _texts(content)))


def human_text(content: Any) -> str:
    """The person's words in one message's `content` (a string, or parts of which the text ones count)."""
    texts = _texts(content)
    return _human_text(texts) if texts else ""


def _human_text(texts: Sequence[str]) -> str:
    words_of = answer_in if is_returned(texts) else strip_harness
    return "\n".join(kept for text in texts if (kept := words_of(clip(text, SEARCHED_CHARS))))


def _texts(content: Any) -> list[str]:
    """What is searched one by one; as one text, of which the middle is left out, where it is too much or too many."""
    if not isinstance(content, list):
        return [content] if isinstance(content, str) else []
    texts = [part["text"] for part in content if isinstance(part, Mapping) and isinstance(part.get("text"), str)]
    few = len(texts) <= SEARCHED_PARTS and sum(map(len, texts)) <= SEARCHED_CHARS
    return texts if few else ["\n".join(texts)]


def clip(text: str, limit_chars: int) -> str:
    """`text` cut in the middle to about `limit_chars` characters: both ends stay, for the ask stands at one of them."""
    if len(text) <= limit_chars:
        return text
    head = limit_chars // 2
    return f"{text[:head]} … {text[len(text) - (limit_chars - head) :]}"
