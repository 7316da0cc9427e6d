"""Prompts for load: unique ones that read like people's, and ones of an exact token count.

Unique, because a router may remember embeddings of texts that it has seen; a benchmark that repeats one prompt would
measure that memory.
"""

from __future__ import annotations

import random

_ASKS = (
    "Explain how to", "Show me how to", "What is the best way to", "Write a short guide on how to", "How do I",
    "Give me three ways to", "Describe in two sentences how to", "I need help to", "Can you tell me how to",
    "Draft a checklist to", "Write a function to", "Outline a plan to", "What does it take to", "Is it hard to",
    "Tell my team how to", "Compare two approaches to", "Why would anyone want to", "List the risks when you",
    "Summarise what experts say about how to", "Teach me to", "What tools help to", "When is it wrong to",
    "Estimate the cost to", "Write a tweet about how to",
)  # fmt: skip
_TASKS = (
    "cache database results", "grow tomatoes", "sort a linked list", "negotiate a salary", "tune a guitar",
    "migrate a monolith", "write unit tests", "bake sourdough bread", "train for a marathon", "plan a wedding",
    "parse large log files", "learn Spanish verbs", "invest a small sum", "repair a bicycle", "design an icon",
    "review a pull request", "prepare a lecture", "reduce energy use", "move to a new city", "build a treehouse",
    "rotate API keys", "translate a poem", "store passwords safely", "photograph stars", "run a survey",
    "estimate a project", "merge two spreadsheets", "teach fractions", "choose a laptop", "interview a candidate",
    "debug a memory leak", "draw a portrait", "organise a library", "brew good coffee", "split a large file",
    "answer a complaint", "plan a road trip", "solve a cubic equation", "clean a keyboard", "index a book",
)  # fmt: skip
_SETTINGS = (
    "in a small flat", "on an old laptop", "without any budget", "for a school class", "in Python", "over a weekend",
    "with two children around", "for a startup", "on a rainy day", "in a hospital", "under time pressure", "in Rust",
    "when nobody helps", "at high altitude", "in a rural area", "for a museum", "on a phone", "with poor internet",
    "in winter", "for elderly people", "after a long break", "in a noisy office", "before a deadline", "at home",
    "in a team of five", "for the first time", "on a boat", "with free tools", "during exams", "in a big company",
    "across time zones", "in a shared kitchen", "for a charity", "on a train", "with one hand", "in the evening",
    "as a student", "as a beginner", "as a manager", "as a nurse",
)  # fmt: skip
_ENDINGS = (
    "", "please", "and keep it brief", "and say why", "with one example", "in plain words", "step by step",
    "and name your sources", "for me", "today", "this week", "if possible", "and be honest", "without jargon",
    "in a friendly tone", "and add a table", "in five lines", "like a coach", "and list pitfalls", "quickly",
    "in simple English", "and give numbers", "as a story", "as bullet points", "in detail", "again", "right now",
    "for a blog", "for my boss", "in one paragraph",
)  # fmt: skip
# How many different prompts there are before the first one comes again.
UNIQUE = len(_ASKS) * len(_TASKS) * len(_SETTINGS) * len(_ENDINGS)
# A step through all combinations that shares no factor with their number: neighbours differ in every part.
_STRIDE = 500_009

# Each of these is one token of the encoder's vocabulary, so that n words are n tokens.
_WORD_LIST = (
    "time year people way day man thing woman life child world school state family student group country problem hand "
    "part place case week company system program question work government number night point home water room mother "
    "area money story fact month lot right study book eye job word business issue side kind head house service friend "
    "father power hour game line end member law car city community name president team minute idea body information "
    "back parent face others level office door health person art war history party result change morning reason "
    "research girl guy moment air teacher force education "
)
_WORDS = _WORD_LIST.split()

# [CLS] and [SEP], which the encoder adds to every text.
_SPECIAL_TOKENS = 2


def unique(number: int) -> str:
    """Prompt number `number`: 8 to 20 tokens, different for every number below `UNIQUE`."""
    rest = number * _STRIDE % UNIQUE
    rest, ask = divmod(rest, len(_ASKS))
    rest, task = divmod(rest, len(_TASKS))
    ending, setting = divmod(rest, len(_SETTINGS))
    return f"{_ASKS[ask]} {_TASKS[task]} {_SETTINGS[setting]} {_ENDINGS[ending]}".rstrip()


def of_tokens(count: int, number: int) -> str:
    """A text of exactly `count` tokens, special ones included; different for every `number`."""
    return " ".join(random.Random(number).choices(_WORDS, k=count - _SPECIAL_TOKENS))


def make(kind: str, number: int) -> str:
    """The prompt of a load job: `unique`, `fixed` (always the same), or `tokens:256`."""
    if kind == "unique":
        return unique(number)
    if kind.startswith("tokens:"):
        return of_tokens(int(kind.removeprefix("tokens:")), number)
    return "What is the capital of France?"
