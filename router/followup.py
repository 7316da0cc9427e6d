"""Whether a message is too short to stand alone: then it is classified together with what it follows."""

from __future__ import annotations

import re
from itertools import takewhile

FOLLOW_UP_MAX_CHARS = 60
FOLLOW_UP_MAX_WORDS = 9

# `\w` lacks the signs that follow a letter in Arabic and Hindi: without them "हाँ" would be the word "ह".
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
