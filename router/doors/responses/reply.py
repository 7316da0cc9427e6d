"""The response object and its output items, whole or in the making.

API: https://platform.openai.com/docs/api-reference/responses/object
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from router.chat import Chat, encode
from router.doors.answer import Counts, choices_of, counts, created_of, model_of, new_id, read
from router.doors.details import Details
from router.doors.responses.tools import custom_names
from router.doors.sealed import seal
from router.doors.translated import source_of
from router.providers.dialect import Reply

Json = dict[str, Any]

# `model_length`: Mistral's word for a full context window.
_INCOMPLETE = {
    "length": "max_output_tokens",
    "model_length": "max_output_tokens",
    "content_filter": "content_filter",
}
# Request fields that the object repeats, and what stands there where the client sent none.
_REPEATED: tuple[tuple[str, Any], ...] = (
    ("instructions", None), ("max_output_tokens", None), ("max_tool_calls", None), ("metadata", {}),
    ("parallel_tool_calls", True), ("prompt_cache_key", None), ("reasoning", {"effort": None, "summary": None}),
    ("safety_identifier", None), ("service_tier", None), ("temperature", None), ("text", {"format": {"type": "text"}}),
    ("tool_choice", "auto"), ("tools", []), ("top_logprobs", None), ("top_p", None), ("truncation", "disabled"),
    ("user", None),
)  # fmt: skip


def response_of(reply: Reply, chat: Chat, meta: Mapping[str, Any]) -> bytes:
    """The body of a whole answer."""
    document = reply.document
    choice: Json = next(iter(choices_of(document)), {})
    response = envelope(document, chat, meta)
    customs = custom_names(source_of(chat))
    said = read(choice.get("message"))
    last = "incomplete" if is_cut(choice.get("finish_reason")) else "completed"  # where the answer was cut
    output: list[Json] = []
    details = Details(said.details).take()
    if said.reasoning or said.thinking_blocks or details:
        blocks = [dict(block) for block in said.thinking_blocks]
        output.append(reasoning_item(new_id("rs_"), said.reasoning, blocks, details=details))
    parts = []
    if said.text or not (said.refusal or said.calls):
        parts.append(text_content(said.text, logprobs_of(choice), annotations_of(choice.get("message"))))
    if said.refusal:
        parts.append({"type": "refusal", "refusal": said.refusal})
    if parts:
        output.append(message_item(new_id("msg_"), parts, "completed" if said.calls else last))
    for call in said.calls:
        call_id = call.id or new_id("call_")
        if call.extra:
            output.append(reasoning_item(new_id("rs_"), "", calls={call_id: call.extra}))
        status, custom = last if call is said.calls[-1] else "completed", call.name in customs
        output.append(call_item(new_id("fc_"), call_id, call.name, call.arguments, custom=custom, status=status))
    found = counts(document.get("usage"), reply.usage)
    return encode(finished(response, output, choice.get("finish_reason"), usage_of(found)))


def envelope(document: Mapping[str, Any], chat: Chat, meta: Mapping[str, Any]) -> Json:
    """The object as it stands before anything was said."""
    source = source_of(chat)
    response: Json = {
        "id": new_id("resp_"),
        "object": "response",
        "created_at": created_of(document),
        "status": "in_progress",
        "background": False,
        "completed_at": None,
        "error": None,
        "incomplete_details": None,
        "model": model_of(document, chat.model),
        "output": [],
        "previous_response_id": None,
        "store": False,
        "usage": None,
    }
    for name, default in _REPEATED:
        given = source.get(name)
        response[name] = default if given is None else given
    if isinstance(tier := document.get("service_tier"), str):  # the one that served, whatever was asked for
        response["service_tier"] = tier
    text = response["text"]
    if isinstance(text, dict) and text.get("format") is None:
        response["text"] = {**text, "format": {"type": "text"}}
    response["_virtusoul"] = meta
    return response


def finished(response: Json, output: list[Json], finish: Any, usage: Json) -> Json:
    """`response` with its `output`, and the status that the hub's finish reason means."""
    done = {**response, "output": output, "usage": usage, "status": "completed", "completed_at": int(time.time())}
    if isinstance(finish, str) and (reason := _INCOMPLETE.get(finish)):
        done |= {"status": "incomplete", "completed_at": None, "incomplete_details": {"reason": reason}}
    return done


def is_cut(finish: Any) -> bool:
    """Whether an answer that ends so is not whole: its last item is not, then."""
    return isinstance(finish, str) and finish in _INCOMPLETE


def usage_of(found: Counts) -> Json:
    return {
        "input_tokens": found.prompt,
        "input_tokens_details": {"cached_tokens": found.cached, "cache_write_tokens": found.written},
        "output_tokens": found.completion,
        "output_tokens_details": {"reasoning_tokens": found.reasoning},
        "total_tokens": found.prompt + found.completion,
    }


def reasoning_item(
    item_id: str,
    text: str,
    thinking_blocks: list[Json] | None = None,
    calls: Json | None = None,
    details: list[Json] | None = None,
    status: str = "completed",
) -> Json:
    """A provider's state travels sealed, so that a client which sends its output items back keeps it whole."""
    item: Json = {"id": item_id, "type": "reasoning", "summary": []}
    if status == "incomplete":  # the other states may be left unsaid here
        item["status"] = status
    if text:
        item["summary"] = [{"type": "summary_text", "text": text}]
    if thinking_blocks or calls or details:
        for block in thinking_blocks or ():
            block.pop("index", None)  # the numbering of a stream's pieces
        item["encrypted_content"] = seal(thinking_blocks=thinking_blocks, calls=calls, details=details)
    return item


def message_item(item_id: str, content: list[Json], status: str = "completed") -> Json:
    return {"id": item_id, "type": "message", "status": status, "role": "assistant", "content": content}


def text_content(text: str, logprobs: list[Json], annotations: list[Json]) -> Json:
    return {"type": "output_text", "text": text, "annotations": annotations, "logprobs": logprobs}


def call_item(
    item_id: str, call_id: str, name: str, arguments: str, *, custom: bool, status: str = "completed"
) -> Json:
    item = {"id": item_id, "call_id": call_id, "name": name, "status": status}
    if custom:
        return {**item, "type": "custom_tool_call", "input": arguments}
    return {**item, "type": "function_call", "arguments": arguments or ("{}" if status == "completed" else "")}


def logprobs_of(choice: Mapping[str, Any]) -> list[Json]:
    logprobs = choice.get("logprobs")
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    if not isinstance(content, list):
        return []
    return [{"bytes": [], "top_logprobs": [], **entry} for entry in content if isinstance(entry, dict)]


def annotations_of(message: Any) -> list[Json]:
    """Chat's nested URL citations → the flat ones of this API."""
    given = message.get("annotations") if isinstance(message, dict) else None
    if not isinstance(given, list):
        return []
    return [
        {"type": "url_citation", **citation}
        for entry in given
        if isinstance(entry, dict) and isinstance(citation := entry.get("url_citation"), dict)
    ]
