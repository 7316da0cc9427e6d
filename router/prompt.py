"""Which text is classified: the one definition that serving, training and `/classify` share.

The last request that a person wrote, and nothing else. System prompts, assistant turns and tool results never steer
the tier; blocks that an agent harness writes into a user message are taken out; a short follow-up ("yes, do it") is
read together with what it follows.
"""

from __future__ import annotations

import re
from bisect import bisect
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from heapq import merge
from itertools import takewhile
from typing import Any, NamedTuple

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
# What a harness writes beside them.
_PREAMBLE = re.compile(
    r"(?:\[[A-Za-z]+(?:[ _][A-Za-z]+)*(?: for '[^\n]*')?\]|The user (?:denied|approved|rejected|has provided)\b|"
    r"# (?:task_progress|TODO LIST|Todo List)\b)"
)
# Lines that a harness writes without a tag.
_NOTICES = re.compile(r"^\[Request interrupted by user(?: for tool use)?\]$", re.MULTILINE)
# Begins a message in which a harness, not a person, returns what a tool found; a person's answer in it is in tags.
_RETURNED = re.compile(r"\[[a-z]+(?:_[a-z]+)+(?: for '[^\n]*')?\] Result:|\[ERROR\] You did not use a tool in your")
_RETURNED_TAGS = (*_SURE_ASK_TAGS, *_LIKELY_ASK_TAGS, "answer")
# Names that a person's own markup may bear, too: harnesses put such blocks on lines of their own, people in sentences.
_OWN_LINES = frozenset(
    {"rules", "user_info", "current_file", "additional_data", "function_results", "tool_result", "tool_results"}
    | {*_RETURNED_TAGS}
)

# How many user turns before a follow-up are read with it.
MAX_EARLIER_TURNS = 2
# Beyond this, the middle of a message isn't searched for harness blocks: a pasted book must not cost milliseconds.
# Once messages of twice as much were searched, of the turns before only the first of all is looked at.
SEARCHED_CHARS = 400_000
FOLLOW_UP_MAX_CHARS = 60
FOLLOW_UP_MAX_WORDS = 9

# `\\w` lacks the signs that follow a letter in Arabic and Hindi: without them "हाँ" would be the word "ह".
_LETTER = r"(?:[^\W_]|[\u0300-\u036f\u064b-\u065f\u0900-\u0903\u093a-\u094f\u0962\u0963])"
_WORD = re.compile(rf"{_LETTER}+(?:['’]{_LETTER}+)*")
_CLAUSE_END = re.compile(r"[,;:.!?\n—–]| - ")

# Says nothing by itself: agreement, continuation, "again". Whole message of such words = follow-up.
_GO_ON = frozenset(
    """
    yes yeah yep yup y ok okay k sure right correct exactly agreed please pls do it that this so go ahead on continue
    proceed more next again retry try keep going start begin now then finish complete sounds looks good great perfect
    fine nice lgtm approved confirm confirmed both all first second third one two option either the a an and just
    shorter longer simpler better different another no nope not why how elaborate expand redo
    explain further show tell give me details step example examples approach way full complete code
    wrong incorrect really though simplify summarize summarise tldr rewrite rephrase refactor undo revert rollback
    resume run commit push merge sgtm
    encore pourquoi explique plus court fais le por qué quê más corto otra vez explica warum nochmal es kürzer genauer
    perché ancora più почему короче ещё еще раз подробнее расскажи
    sí si claro vale adelante continúa sigue hazlo dale oui vas-y vas y continue d'accord daccord ja genau weiter mach
    los bitte sim pode continua faz ok va bene sì avanti tak dalej dobrze evet devam tamam да давай продолжай дальше
    хорошо ага ладно так далі はい お願いします 続けて 네 응 계속
    好 好的 是 是的 继续 可以 对 行 繼續 为什么 為什麼 不对 不對 なぜ 왜 نعم اكمل تابع لماذا हाँ हां जारी रखें रखो
    """.split()
)
# Points at something said before.
_POINTERS = frozenset(
    """
    it its it's that that's this these those them they their there same above previous earlier last former latter
    former instead também eso esto lo das dies ça cela isso это этого его 它 这个 那个 这 那 上面
    それ これ その 그거 그것
    """.split()
)
# Leaves out what the turn before named: "write the tests", "option 2", "too long", "which is faster?", "use Go".
_UNNAMED = re.compile(
    r"\bthe (?:(?:full|whole|complete|final|new|old|same|other|next|last|first|second|third|failing|remaining) )?"
    r"(?:ones?|rest|others?|code|tests?|errors?|bugs?|issues?|problem|solution|answer|difference|plan|steps?|points?|"
    r"options?|examples?|results?|output|changes|diff|script|function|method|class|files?|migration|implementation)$|"
    r"^(?:(?:\w+ ){0,2}(?:option|step|line|number|point) )?(?:\d\d?|[a-d])(?: please)?$|"
    r"^(?:who|what|when|where|which(?: one)?(?: is \w+)?)$|^what(?:['’]s| is| do you)? (?:next|else|mean)$|"
    r"^what if(?: \S+){1,4}$|^too \w+$|^not \w+ enough$|^(?:are )?you sure$|^i don['’]?t (?:understand|get it)$|"
    r"^(?:(?:i|we) )?still (?:not|no|does|fail|get|the same)|^(?:the )?tests? (?:are |still )*fail|"
    r"^(?:does not|doesn['’]?t|did not|didn['’]?t|not) work(?:ing)?$|^i mean(?:t \w+)?$|^you (?:forgot|missed|broke)\b|"
    r"^(?:use|(?:translate|convert|port|switch) (?:in)?to) \w+$|^(?:add|remove|handle)(?: [^\W\d]+){1,2}$"
)
_LINKS = frozenset("and but also now then or so plus instead y et und e и а но також і".split())
_FRAGMENT_STARTS = frozenset(
    "in with without for using as to on from at by like en mit auf ohne с на без avec sans con sem".split()
)
# Complete in themselves, however short: they must not inherit the weight of the turn before.
_SOCIAL = frozenset(
    """
    thanks thank thx ty cheers hello hi hey bye goodbye welcome gracias merci danke obrigado obrigada grazie
    спасибо привет пока 谢谢 謝謝 你好 再见 ありがとう こんにちは 감사합니다 안녕 شكرا धन्यवाद dziękuję teşekkürler dank
    """.split()
)
_EXCLAMATIONS = frozenset("lol haha cool awesome wow".split())
# Begins an answer to what was proposed. These are matched in words joined by one blank, with a comma between clauses.
# Some assents are ordinary words as well ("Approved drugs", "OK Computer"): no more may follow those in their clause
# than what carries on.
_GOING_ON = r"(?:please|pls|yes|go (?:ahead|on|with)|continue|proceed|do (?:it|so|that|this|both|all))\b"
_TURNING = (
    r"(?:and|but|now|then|so|in|with|without|use|try|let['’]?s|make it|what about|how about|sounds|looks|works|"
    r"add|implement|fix|run|commit|push|remove|rename|refactor)\b"
)
_ASSENTS = re.compile(
    r"^(?:(?:yes|yeah|yep|yup|of course|oui|bien sûr|d['’]accord|sí|sì|gerne|jasne|evet|tamam|да|конечно|نعم|हाँ|हां)"
    r"(?:,? |$)|"
    r"(?:ok|okay|alright|sure(?: thing)?|works for me|хорошо|ладно|ага|"
    r"(?:sounds|looks|seems|works) (?:good|great|fine|perfect|right|ok|okay)(?: (?:to|for) me)?)"
    rf"(?:, |$| (?={_GOING_ON}|{_TURNING}))|"
    r"(?:absolutely|definitely|certainly|agreed|approved|confirmed|no|nein|non|нет|wrong|great|perfect|nice|good|excellent|"
    r"claro|vale|dale|ja|klar|natürlich|sim|certo|tak)"
    rf"(?:, |$| (?={_GOING_ON})))*"
)
_GO_AHEAD = re.compile(
    r"(?:please |pls )?(?:go (?:ahead|on)|continue|proceed|carry on)"
    r"(?:,|$| (?:please|pls|then|now|from|where|to the next)\b| (?:the|your|with) \w+$)|"
    r"(?:please |pls )?(?:(?:go (?:ahead|on)|continue|proceed|carry on|go) with|go for)"
    r" (?:the|that|this|it|your|my|both|all|option|plan|number)\b|(?:please |pls )?go with \w+$|"
    r"(?:please|pls) do (?:it|so|that|this|them|both|all|go (?:on|ahead))(?:,|$)|"
    r"(?:s['’]il te plaît )?vas y\b|(?:adelante|continúa|sigue|mach weiter|weiter mit|давай|продолжай)\b"
)
# Behind an assent: a new question ("ok, what is DNS?"), or no assent at all ("yes or no: …").
_ASKS = frozenset(
    """
    what who whose when where which how or no qué que o wer wo wann wie was oder quel quelle où ou где кто когда или
    """.split()
)
# Begins a remark on the answer, which asks for nothing: "ok cool, that makes sense".
_REMARKS = frozenset(
    """
    great perfect good nice fine excellent super no nope all that that's thats das it it's this ok okay i i'll i'm you
    we so very perfetto perfecto parfait понятно
    """.split()
)
# "It" and "there" that point at nothing. "Is it safe to …" does where what it is about is not named: "to delete".
_EMPTY_IT = re.compile(
    r"\bwhat (?:time|day|date|month|year) is it\b|\bhow(?:'s| is) it going\b|\bwhat(?:'s| is) it like\b|^got it\b|"
    r"\bhow many (?!of )(?:\w+ ){1,3}are there\b|"
    r"\bis it (?:still |going to )?(?:rain|snow|cold|hot|warm|sunny|windy|cloudy|dark|late|early)|"
    r"\bis it (?:safe|legal|illegal|possible|true|normal|healthy|worth|bad|ok|okay) (?:to|that|for) "
    r"\S+ (?!(?:up|down|out|off|on|in|over|back|away|now|here|there|again|anyway|yet|too|first|next|then)$)"
)
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_CJK_FOLLOW_UP_MAX_CHARS = 8
_CJK_ASSENT_MAX_CHARS = 20
_CJK_ASSENTS = re.compile(
    r"(?!.*(?:谢|謝|ありがと|감사|고마))(?:好的?|好啊|是的?|可以|行|对|嗯|没问题|當然|当然|はい|ええ|うん|네|예|응|그래|좋아요?)[\s,.!，。、！~～].*[^?？吗嗎か]$",
    re.DOTALL,
)
_CJK_POINTS_BACK = re.compile(
    "继续|繼續|接着|可以|好的|是的|再来|再試|再试|这个|那个|上面|一点|一點|举个例|舉個例|换成|換成|^用(?:.+写|中文|英文)|一下吗?[?？]?$|"
    "続け|お願い|それ|もっと|で書いて|例を挙げ|계속|그거|다시|^더 |예를 들|更|呢[?？]?$"
)


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
    contents = (message.get("content") for message in messages if message.get("role") == "user")
    from_user = [texts for content in contents if (texts := _texts(content))]
    while from_user:
        # An agent's long loop: what it is about was said at its beginning.
        texts = from_user.pop() if searched < 2 * SEARCHED_CHARS else from_user[0]
        if searched >= 2 * SEARCHED_CHARS:
            from_user.clear()
        if _is_returned(texts) and not _has_answer(texts):
            continue  # costs next to nothing and counts for as much
        searched += min(sum(map(len, texts)), SEARCHED_CHARS)
        if text := _human_text(texts):
            yield text


def human_text(content: Any) -> str:
    """The person's words in one message's `content` (a string, or parts of which the text ones count)."""
    return _human_text(_texts(content))


def _human_text(texts: Sequence[str]) -> str:
    if texts and _is_returned(texts):
        return "\n".join(kept for text in texts if (kept := _asked(clip(text, SEARCHED_CHARS), _RETURNED_TAGS)))
    return "\n".join(kept for text in texts if (kept := strip_harness(text)))


def _is_returned(texts: Sequence[str]) -> bool:
    return _RETURNED.match(texts[0]) is not None


def _has_answer(texts: Sequence[str]) -> bool:
    return any("</" in text and any(f"</{tag}>" in text for tag in _RETURNED_TAGS) for text in texts)


def _texts(content: Any) -> list[str]:
    """What is searched one by one; as one text, of which the middle is left out, where it is too much together."""
    if not isinstance(content, list):
        return [content] if isinstance(content, str) else []
    texts = [part["text"] for part in content if isinstance(part, Mapping) and isinstance(part.get("text"), str)]
    return texts if sum(map(len, texts)) <= SEARCHED_CHARS else ["\n".join(texts)]


def strip_harness(text: str) -> str:
    """`text` without harness blocks, trimmed. Linear in the length, whatever the input: no backtracking."""
    text = clip(text, SEARCHED_CHARS)
    if "[Request interrupted" in text:
        text = _NOTICES.sub("", text)
    if "</" not in text:
        return text.strip()
    closed = {tag: at for tag in HARNESS_TAGS if (at := text.find(f"</{tag}>")) >= 0}
    for tag in sorted(closed, key=closed.__getitem__):  # of blocks that share a line, the first one goes first
        text = _without(text, _blocks(text, tag))
    asked = _asked(text, _SURE_ASK_TAGS)
    if asked is None:
        asked = _asked(text, _LIKELY_ASK_TAGS, alone=True)
    return text.strip() if asked is None else asked


def _asked(text: str, tags: Sequence[str], alone: bool = False) -> str | None:
    """The inside of the blocks of the first of `tags` that has any; `alone`: unless somebody wrote beside them."""
    for tag in tags:
        if f"</{tag}>" in text and (blocks := _blocks(text, tag)):
            beside = _without(text, blocks).strip() if alone else ""
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
    for start in merge(_places(text, opening), _places(text, closing)):
        if start < behind:
            continue  # in a value of that tag
        opens = text[start + 1] != "/"
        if opens:
            if (found := end.match(text, start + len(opening))) is None:
                continue  # a longer name, or no end
            stop, ends = found.end(), False
        else:
            found = _REST_OF_LINE.match(text, start + len(closing))
            stop, ends = (found.end(), True) if found else (start + len(closing), False)
        line = text[behind:start].rpartition("\n")[2]
        begins = opens and not line.strip(" \t") and (not behind or behind + len(line) < start)
        # What begins a line has the blanks before it, what ends one those behind it.
        yield _Tag(start - len(line) if begins else start, stop, opens, begins, ends)
        behind = stop


def _places(text: str, sought: str) -> Iterator[int]:
    at = text.find(sought)
    while at >= 0:
        yield at
        at = text.find(sought, at + 1)


@cache
def _ends_of_openings(whole: bool) -> re.Pattern[str]:
    """What follows the name in an opening tag. No part can match in two ways, so nothing is ever tried twice.

    Of a block that goes whole, only the tag's name matters; an ask's must end (`whole`), for what is behind it stays.
    """
    return re.compile(r"""(?:\s(?:[^<>"']|"[^"<]*"|'[^'<]*')*+)?>""" if whole else r">|(?=\s)")


# Nothing else stands behind it on its line; another block may follow there.
_REST_OF_LINE = re.compile(r"[ \t\r]*(?:$|(?=<))", re.MULTILINE)


def _without(text: str, blocks: list[_Block]) -> str:
    kept: list[str] = []
    position = 0
    for opening, closing in blocks:
        kept.append(text[position : opening.start])
        position = closing.end
    return "".join((*kept, text[position:]))


def is_follow_up(text: str) -> bool:
    """Whether `text` is too short to stand alone: agreement, a fragment, or words that point at an earlier turn."""
    if len(text) > FOLLOW_UP_MAX_CHARS:
        return False
    words = _WORD.findall(text.lower())
    if not words:
        return True
    if _CJK.search(text):
        return _is_cjk_follow_up(text, words)
    if len(words) > FOLLOW_UP_MAX_WORDS:
        return False
    said = _without_courtesy(text)
    after = _ASSENTS.sub("", said, count=1)
    assents = after != said or _GO_AHEAD.match(said) is not None
    rest = _WORD.findall(after)
    if len(_WORD.findall(said)) < len(words) and (not rest or rest[0] in _REMARKS):
        return False  # "thanks" is complete in itself; "thanks, please do it" is not
    if assents and not (rest and (text.rstrip().endswith("?") or rest[0] in _ASKS)):
        return True
    # "ok, what is DNS?" turns to something else; "ok, what about Rust?" does not.
    words = rest[2:] if rest[:2] in (["can", "you"], ["could", "you"]) else rest
    if all(word in _GO_ON for word in words) or words[0] in _LINKS:
        return True
    if words[0] in _FRAGMENT_STARTS and len(words) <= (3 if _ASKS.intersection(words[1:2]) else 5):
        return True  # "in Go?"; not "in which country is Bern?"
    if words[:2] in (["what", "about"], ["how", "about"], ["why", "not"]):
        return True
    before, _, behind = text.rpartition(": ")  # "fix this: he go" names there what it points at
    if not before and _UNNAMED.search(" ".join(words)):
        return True
    asked = _EMPTY_IT.sub(" ", " ".join(words[-len(_WORD.findall(behind)) :]))
    return any(word in _POINTERS for word in _WORD.findall(asked))


def _is_cjk_follow_up(text: str, words: list[str]) -> bool:
    if len(text) <= _CJK_ASSENT_MAX_CHARS and _CJK_ASSENTS.match(text):
        return True
    return len(text) <= _CJK_FOLLOW_UP_MAX_CHARS and (
        all(word in _GO_ON for word in words) or _CJK_POINTS_BACK.search(text) is not None
    )


def _without_courtesy(text: str) -> str:
    """The clauses, without exclamations, and without thanks and greetings and what follows those in their clause."""
    clauses: list[str] = []
    for clause in _CLAUSE_END.split(text.lower()):
        words = list(takewhile(lambda word: word not in _SOCIAL, _WORD.findall(clause)))
        if kept := " ".join(word for word in words if word not in _EXCLAMATIONS):
            clauses.append(kept)
    return ", ".join(clauses)


def clip(text: str, limit_chars: int) -> str:
    """`text` cut in the middle to about `limit_chars` characters: both ends stay, for the ask stands at one of them."""
    if len(text) <= limit_chars:
        return text
    head = limit_chars // 2
    return f"{text[:head]} … {text[len(text) - (limit_chars - head) :]}"
