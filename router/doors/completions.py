"""`POST /v1/completions`, the API before chat. API: https://platform.openai.com/docs/api-reference/completions

The prompt becomes one user message: the models of today are all chat models.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from router.chat import Chat, encode, parse_object
from router.doors import checks
from router.doors.answer import choices_of, created_of, model_of, new_id, read
from router.doors.translated import TranslatedChat
from router.errors import RouterError
from router.providers.dialect import Piece, Reply, Usage
from router.sse import DONE
from router.sse import encode as event

Json = dict[str, Any]

_FINISH_REASONS = ("stop", "length", "content_filter")
# Parameters that a chat cannot fulfil, with the values that ask for nothing.
_IMPOSSIBLE: dict[str, tuple[tuple[Any, ...], str]] = {
    "suffix": ((None, ""), "Text cannot be inserted before a 'suffix': the prompt is served by a chat model."),
    "echo": ((None, False), "'echo' is not supported: the prompt is served by a chat model."),
    "best_of": ((None, 0, 1), "'best_of' above 1 is not supported; 'n' is."),
}


class Completions:
    def parse(self, raw: bytes) -> Chat:
        body = parse_object(raw)
        for name, (harmless, message) in _IMPOSSIBLE.items():
            if body.get(name) not in harmless:
                checks.refuse(message, name, "unsupported_parameter")
        handled = {"prompt", "logprobs", *_IMPOSSIBLE}
        hub = {name: value for name, value in body.items() if name not in handled}  # the rest has the same names
        hub["messages"] = [{"role": "user", "content": _prompt(body)}]
        _add_logprobs(body, hub)
        return TranslatedChat(hub, body)

    def reply(self, reply: Reply, chat: Chat, meta: Mapping[str, Any]) -> bytes:
        document = reply.document
        choices, offset = [], 0
        for index, choice in enumerate(choices_of(document)):
            said = read(choice.get("message"))
            logprobs, _ = _logprobs(choice, offset)
            finish = _finish(choice.get("finish_reason")) or "stop"
            choices.append(_choice(choice.get("index", index), said.text or said.refusal, logprobs, finish))
        body = {**_envelope(document, chat, _id(document)), "choices": choices}
        if isinstance(document.get("usage"), dict):
            body["usage"] = document["usage"]
        return encode({**body, "_virtusoul": meta})

    def writer(self, chat: Chat) -> CompletionsWriter:
        return CompletionsWriter(chat)

    def error(self, error: RouterError) -> bytes:
        return orjson.dumps(error.body())


class CompletionsWriter:
    def __init__(self, chat: Chat) -> None:
        self._chat = chat
        self._id = ""
        self._first = True
        self._offsets: dict[int, int] = {}

    def write(self, pieces: list[Piece], meta: Mapping[str, Any]) -> bytes:
        events = []
        for piece in pieces:
            self._id = self._id or _id(piece.document)
            choices = [self._choice(choice) for choice in choices_of(piece.document)]
            chunk = {**_envelope(piece.document, self._chat, self._id), "choices": choices}
            usage = piece.document.get("usage")
            if isinstance(usage, dict):
                chunk["usage"] = usage
            if self._first:
                chunk["_virtusoul"] = meta
            elif not usage and not any(choice["text"] or choice["finish_reason"] for choice in choices):
                continue  # a chunk that says nothing this API could say, such as a role or reasoning
            self._first = False
            events.append(event(orjson.dumps(chunk)))
        return b"".join(events)

    def end(self, usage: Usage | None) -> bytes:
        return DONE

    def error(self, error: RouterError) -> bytes:
        return event(orjson.dumps(error.body()))

    def _choice(self, choice: Json) -> Json:
        index = choice.get("index")
        index = index if isinstance(index, int) else 0
        said = read(choice.get("delta"))
        logprobs, self._offsets[index] = _logprobs(choice, self._offsets.get(index, 0))
        return _choice(index, said.text or said.refusal, logprobs, _finish(choice.get("finish_reason")))


DOOR = Completions()


def _prompt(body: Json) -> str:
    """The one prompt. Token arrays would need the model's own tokenizer, which routing leaves open."""
    prompt = body.get("prompt")
    if prompt is None:
        checks.missing("prompt")
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str):
        prompt = prompt[0]
    if isinstance(prompt, str):
        return prompt
    if isinstance(prompt, list) and prompt and all(isinstance(entry, str) for entry in prompt):
        checks.refuse("Several prompts in one request are not supported; send one each.", "prompt", "unsupported_value")
    if isinstance(prompt, list) and prompt and all(isinstance(entry, int | list) for entry in prompt):
        checks.refuse("Arrays of tokens are not supported; send the prompt as a string.", "prompt", "unsupported_value")
    checks.wrong_type("prompt", "a string or an array of one string")


def _add_logprobs(body: Json, hub: Json) -> None:
    """A number of alternatives here; a flag and a number in a chat."""
    wanted = body.get("logprobs")
    if wanted is None:
        return
    if not isinstance(wanted, int) or isinstance(wanted, bool) or not 0 <= wanted <= 20:
        checks.refuse("'logprobs' must be a whole number from 0 to 20.", "logprobs", "invalid_value")
    hub["logprobs"] = True
    if wanted:
        hub["top_logprobs"] = wanted


def _id(document: Mapping[str, Any]) -> str:
    given = document.get("id")
    return f"cmpl-{given.removeprefix('chatcmpl-')}" if isinstance(given, str) and given else new_id("cmpl-")


def _envelope(document: Mapping[str, Any], chat: Chat, identifier: str) -> Json:
    envelope = {
        "id": identifier,
        "object": "text_completion",
        "created": created_of(document),
        "model": model_of(document, chat.model),
    }
    fingerprint = document.get("system_fingerprint")
    return {**envelope, "system_fingerprint": fingerprint} if fingerprint else envelope


def _choice(index: Any, text: str, logprobs: Json | None, finish: str | None) -> Json:
    return {"text": text, "index": index, "logprobs": logprobs, "finish_reason": finish}


def _finish(reason: Any) -> str | None:
    if not reason:  # "" is null, as in `providers.openai`
        return None
    if reason == "model_length":  # Mistral's word for a full context window
        return "length"
    return reason if reason in _FINISH_REASONS else "stop"


def _logprobs(choice: Json, offset: int) -> tuple[Json | None, int]:
    """Chat's list of tokens → this API's parallel lists, and the offset behind the last token."""
    given = choice.get("logprobs")
    content = given.get("content") if isinstance(given, dict) else None
    if not isinstance(content, list):
        return None, offset
    lists: Json = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
    for entry in content:
        if not isinstance(entry, dict):
            continue
        token, tops = str(entry.get("token", "")), entry.get("top_logprobs")
        lists["tokens"].append(token)
        lists["token_logprobs"].append(entry.get("logprob"))
        alternatives = [top for top in tops if isinstance(top, dict)] if isinstance(tops, list) else []
        lists["top_logprobs"].append({str(top.get("token", "")): top.get("logprob") for top in alternatives})
        lists["text_offset"].append(offset)
        offset += len(token)
    return lists, offset
