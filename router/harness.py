"""What agent harnesses write into user messages, and how a person's words are taken out of it.

Time is linear in the length, whatever the text: tags are sought by their names, and no pattern can match in two ways.
"""

from __future__ import annotations

import re
from bisect import bisect
from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

# Blocks that agent harnesses put into user messages. Only closed blocks are taken out, so that a person who asks what
# a tag means is still understood.
HARNESS_TAGS = (
    "system-reminder", "system_reminder", "environment_details", "environment_context", "user_info",
    "project_layout", "open_and_recently_viewed_files", "additional_data", "attached_files", "current_file",
    "command-name", "command-message", "local-command-stdout", "local-command-stderr", "local-command-caveat",
    "ide_opened_file", "ide_selection", "ide_diagnostics", "user_instructions", "user_rules", "rules",
    "system-notification", "task-notification", "function_results", "tool_result", "tool_results",
    "git_status", "agent_skills", "mcp_instructions", "bash-input", "bash-stdout", "bash-stderr",
    "user-prompt-submit-hook", "environment_info", "workspace_info",
)  # fmt: skip
# Tags in which a harness wraps the person's own words: where one is found, only its inside counts.
_SURE_ASK_TAGS = ("user_query", "userRequest", "command-args")
# People use these for their data, too ("Summarise this:" and a <feedback>): there, only where nobody else has written
# anything beside the block.
_LIKELY_ASK_TAGS = ("user_message", "user_request", "feedback", "task")
# What a harness writes beside them: blocks, which may be a person's own where there is no such tag, and sentences.
_COMPANION_TAGS = (
    "file_content", "folder_content", "url_content", "workspace_diagnostics", "terminal_output", "git_working_state",
    "git_commit", "explicit_instructions",
)  # fmt: skip
_TOOL = r"[a-z]{1,40}(?:_[a-z]{1,40}){1,8}(?: for '[^\n]{0,10000}')?"
_PREAMBLE = re.compile(
    rf"\[(?:TASK RESUMPTION|result|{_TOOL})\]|The user (?:denied|approved|rejected|has provided)\b|"
    r"# (?:task_progress|TODO LIST|Todo List)\b"
)
# Lines that a harness writes without a tag.
_NOTICES = re.compile(r"^\[Request interrupted by user(?: for tool use)?\]$", re.MULTILINE)
# Begins a message in which a harness, not a person, returns what a tool found; a person's answer in it is in tags.
_RETURNED = re.compile(rf"\[{_TOOL}\] Result:|\[ERROR\] You did not use a tool in your")
_RETURNED_TAGS = (*_SURE_ASK_TAGS, *_LIKELY_ASK_TAGS, "answer")
# Names that a person's own markup may bear, too: harnesses put such blocks on lines of their own, people in sentences.
_OWN_LINES = frozenset(
    {"rules", "user_info", "current_file", "additional_data", "function_results", "tool_result", "tool_results"}
    | {*_RETURNED_TAGS}
)


def is_returned(texts: Sequence[str]) -> bool:
    """Whether a harness, not a person, sent the message of these texts, to return what a tool found."""
    return _RETURNED.match(texts[0]) is not None


def has_answer(texts: Sequence[str]) -> bool:
    """Whether there may be a person's answer in what was returned."""
    return any("</" in text and any(f"</{tag}>" in text for tag in _RETURNED_TAGS) for text in texts)


def answer_in(text: str) -> str:
    """A person's answer in what was returned; "" if there is none."""
    return _asked(text, _RETURNED_TAGS) or ""


def strip_harness(text: str) -> str:
    """`text` without harness blocks, trimmed. Linear in the length, whatever the input: no backtracking."""
    if "[Request interrupted" in text:
        text = _NOTICES.sub("", text)
    if "</" not in text:
        return text.strip()
    text = _without_all(text, HARNESS_TAGS)
    asked = _asked(text, _SURE_ASK_TAGS)
    if asked is None:
        asked = _asked(text, _LIKELY_ASK_TAGS, alone=True)
    return text.strip() if asked is None else asked


def _asked(text: str, tags: Sequence[str], alone: bool = False) -> str | None:
    """The inside of the blocks of the first of `tags` that has any; `alone`: unless somebody wrote beside them."""
    for tag in tags:
        if f"</{tag}>" in text and (blocks := _blocks(text, tag)):
            beside = _without_all(_without(text, blocks), _COMPANION_TAGS).strip() if alone else ""
            if not beside or _PREAMBLE.match(beside):
                return "\n".join(text[opening.end : closing.start].strip() for opening, closing in blocks).strip()
    return None


class _Tag(NamedTuple):
    start: int
    end: int
    opens: bool
    begins: bool  # nothing else stands before it on its line
    ends: bool  # nor behind it, if it is a closing one


_Block = tuple[_Tag, _Tag]  # the opening tag and the closing one


def _blocks(text: str, tag: str) -> list[_Block]:
    """The outermost blocks of `tag`, in order; one stack, so that the time is linear."""
    opened: list[_Tag] = []
    blocks: list[_Block] = []
    for found in _tags(text, tag):
        if found.opens:
            opened.append(found)
        elif opened:
            opening = opened.pop()
            while blocks and blocks[-1][0].start > opening.start:
                blocks.pop()  # it was nested
            blocks.append((opening, found))
    # What stays open is a mention; but where it begins a line or stands right behind a block, it is the block that
    # begins, and the mention was inside.
    for opening in reversed(opened):
        at = bisect(blocks, opening.start, key=lambda block: block[0].start)
        behind = at > 0 and blocks[at - 1][1].end == opening.start
        if (behind or opening.begins) and at < len(blocks):
            blocks[at] = (opening, blocks[at][1])
    if tag not in _OWN_LINES:
        return blocks
    kept: list[_Block] = []
    for opening, closing in blocks:
        begins = opening.begins or bool(kept and kept[-1][1].end == opening.start)
        if begins and closing.ends:
            kept.append((opening, closing))
    return kept


def _tags(text: str, tag: str) -> Iterator[_Tag]:
    """Opening and closing tags, in order. Found by their names first: a pattern that is tried at every place costs ten
    times as much, and there are many tags to look for.
    """
    end = _ends_of_openings(tag in _RETURNED_TAGS)
    opening, closing = f"<{tag}", f"</{tag}>"
    behind = 0  # the end of the tag before
    next_opening, next_closing = text.find(opening), text.find(closing)
    while next_opening >= 0 or next_closing >= 0:
        opens = next_closing < 0 or 0 <= next_opening < next_closing
        if opens:
            start = next_opening
            next_opening = text.find(opening, start + 1)
            found = end.match(text, start + len(opening))
            if start < behind or found is None:
                continue  # in a value of the tag before, a longer name, or no end
            stop, ends = found.end(), False
        else:
            start = next_closing
            next_closing = text.find(closing, start + 1)
            if start < behind:
                continue
            found = _REST_OF_LINE.match(text, start + len(closing))
            stop, ends = (found.end(), True) if found else (start + len(closing), False)
        begins = False
        if opens:
            line = text[behind:start].rpartition("\n")[2]
            begins = not line.strip(" \t") and (not behind or behind + len(line) < start)
            start -= len(line) * begins  # what begins a line has the blanks before it, what ends one those behind it
        yield _Tag(start, stop, opens, begins, ends)
        behind = stop


@cache
def _ends_of_openings(whole: bool) -> re.Pattern[str]:
    """What follows the name in an opening tag. No part can match in two ways, so nothing is ever tried twice.

    Of a block that goes whole, only the tag's name matters; an ask's must end (`whole`), for what is behind it stays.
    """
    return re.compile(r"""(?:\s(?:[^<>"']|"[^"<]*"|'[^'<]*')*+)?>""" if whole else r">|(?=\s)")


# Nothing else stands behind it on its line; another block may follow there.
_REST_OF_LINE = re.compile(r"[ \t\r]*(?:$|(?=<))", re.MULTILINE)


def _without_all(text: str, tags: Sequence[str]) -> str:
    closed = {tag: at for tag in tags if (at := text.find(f"</{tag}>")) >= 0}
    for tag in sorted(closed, key=closed.__getitem__):  # of blocks that share a line, the first one goes first
        text = _without(text, _blocks(text, tag))
    return text


def _without(text: str, blocks: list[_Block]) -> str:
    kept: list[str] = []
    position = 0
    for opening, closing in blocks:
        kept.append(text[position : opening.start])
        position = closing.end
    return "".join((*kept, text[position:]))
