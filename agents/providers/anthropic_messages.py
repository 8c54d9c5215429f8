"""The dialect of Anthropic's messages API: what is sent, and how an answer is read. Pure.

Sources, read 2026-11-24: "Create a Message" and "Errors" of platform.claude.com, as typed in Anthropic's Python SDK
2.13.0. Servers that speak it too (llama.cpp, vLLM, Ollama) wrap errors as OpenAI does.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import httpx
import orjson

from agents.providers import refusals
from agents.providers.dialect import (
    DEEPEST,
    LONGEST_ID,
    CannotSayError,
    Conversation,
    Reading,
    Written,
    are_objects,
    document_of,
    extended,
    is_deeper,
    joined,
    reading_of,
    refuse_dearer,
    short,
    texts_of,
    tool_call,
    unless_empty,
)
from agents.providers.parameters import sorted_out
from agents.providers.refusals import Verdict
from schemas.progress import Answer, FinishReason
from streams.core.usage import usage_of_anthropic

VERSION: Final = "2023-06-01"
LONGEST_USER_ID: Final = 256

_SET_BY_US = frozenset({"model", "messages", "system", "max_tokens", "stream"})
_DEARER = frozenset({"speed", "inference_geo", "service_tier", "container", "mcp_servers"})
"""Other tiers have other prices, and tools that the provider runs read more than the prompt."""
_DATA_URL = re.compile(r"data:(image/[a-z0-9.+-]+);base64,([A-Za-z0-9+/=]+)", re.IGNORECASE)
_TOOL_USE_ID = re.compile(r"[A-Za-z0-9_-]+")


def url_of(endpoint: str, provider_model: str) -> httpx.URL:
    """Return where to POST. Raises `httpx.InvalidURL`."""
    url = httpx.URL(endpoint)
    return url.copy_with(path=f"{url.path.rstrip('/')}/messages")


def headers_of(api_key: str | None) -> dict[str, str]:
    """Return the headers that are this dialect's own."""
    return {"anthropic-version": VERSION} | ({} if api_key is None else {"x-api-key": api_key})


def write(conversation: Conversation, *, provider_model: str, max_tokens: int, host: str) -> Written:
    """Write the request's body. Raises `CannotSayError` and `TypeError` (`agents.providers.dialect.Dialect`).

    Instructions, wherever they stand, become the one `system` prompt. Messages of one side in a row become one.
    """
    refuse_dearer(conversation.extra_body, _DEARER)
    said, dropped = sorted_out("anthropic", conversation.parameters)
    spoken = [message for message in conversation.messages if not _instructs(message)]
    system = [text for m in conversation.messages if _instructs(m) for text in texts_of(m["content"])]
    ours = {"model": provider_model, "max_tokens": max_tokens, "messages": _turns(spoken), **_parameters(said)}
    instructed = {"system": "\n\n".join(system)} if system else {}
    body = extended(conversation.extra_body, ours | instructed, bound=_SET_BY_US)
    return Written(orjson.dumps(body), dropped + _unsaid(conversation.messages))


def read(body: bytes, *, framed: bool, may_be_empty: bool) -> Reading:
    """Read the complete body of a 2xx (`agents.providers.dialect.Dialect`)."""
    document = document_of(body, framed=framed)
    if isinstance(document, Verdict):
        return Reading(document)
    return reading_of(_outcome_of(document, may_be_empty=may_be_empty), usage_of_anthropic(document.get("usage")))


_NO_MONEY_TEXT = re.compile(r"credit balance is too low", re.IGNORECASE)
_CONTEXT_TEXT = re.compile(r"input length and `?max_tokens`? exceed context limit", re.IGNORECASE)
_MAX_TOKENS_TEXT = re.compile(r"max_tokens: \d+ > \d+")


def read_error(status: int, document: object) -> Verdict:
    """Return what a complete answer other than 2xx means.

    An empty account, a prompt that leaves no room for `max_tokens` and a `max_tokens` above the model's limit are all
    `invalid_request_error` with 400: only the message tells them apart.
    """
    error = refusals.error_of(document)
    if status == 400:
        if _NO_MONEY_TEXT.search(error.message):
            return refusals.NO_MONEY
        if _CONTEXT_TEXT.search(error.message):
            return refusals.CONTEXT
        if _MAX_TOKENS_TEXT.match(error.message):
            return refusals.MAX_TOKENS
    return refusals.verdict_on(status, error)


# --- parameters -----------------------------------------------------------------------------------------------------


def _parameters(said: Mapping[str, Any]) -> dict[str, Any]:
    body: dict[str, Any] = {name: said[name] for name in ("temperature", "top_p") if name in said}
    if said.get("temperature", 0) > 1:
        raise CannotSayError("temperature", "must be at most 1 there")  # clamped, it would be another sampling
    if "stop" in said:
        body["stop_sequences"] = _stops(said["stop"])
    if "user" in said:
        body["metadata"] = {"user_id": _user(said["user"])}
    return body | _output(said) | _tools(said)


def _stops(stop: str | list[str]) -> list[str]:
    stops = [stop] if isinstance(stop, str) else stop
    if not all(each.strip() for each in stops):
        raise CannotSayError("stop", "must hold more than white space there")
    return stops


def _user(user: str) -> str:
    if len(user) > LONGEST_USER_ID:
        raise CannotSayError("user", f"must have at most {LONGEST_USER_ID} characters there")
    return user


def _output(said: Mapping[str, Any]) -> dict[str, Any]:
    """Effort and form of the answer. There is no JSON without a schema, so `json_object` cannot be promised."""
    body: dict[str, Any] = {}
    config: dict[str, Any] = {}
    effort = said.get("reasoning_effort")
    if effort == "none":
        body["thinking"] = {"type": "disabled"}
    elif effort is not None:
        config["effort"] = "low" if effort == "minimal" else effort
    if "response_format" in said:
        wanted = said["response_format"].get("json_schema", {})
        if "schema" not in wanted:
            raise CannotSayError("response_format", "needs a JSON schema there")
        described = {"description": wanted["description"]} if "description" in wanted else {}
        config["format"] = {"type": "json_schema", "schema": described | wanted["schema"]}
    return body | ({"output_config": config} if config else {})


def _tools(said: Mapping[str, Any]) -> dict[str, Any]:
    if "tools" not in said:
        if said.get("tool_choice", "auto") not in ("auto", "none"):
            raise CannotSayError("tool_choice", "needs tools")
        return {}
    body: dict[str, Any] = {"tools": [_tool(tool["function"]) for tool in said["tools"]]}
    choice = _choice(said.get("tool_choice", "auto"))
    if said.get("parallel_tool_calls") is False and choice["type"] != "none":
        choice["disable_parallel_tool_use"] = True
    return body | ({} if choice == {"type": "auto"} else {"tool_choice": choice})


def _tool(function: Mapping[str, Any]) -> dict[str, Any]:
    schema = {"type": "object", **function.get("parameters", {"properties": {}})}
    told = {name: function[name] for name in ("description", "strict") if name in function}
    return {"name": function["name"], **told, "input_schema": schema}


def _choice(choice: str | Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(choice, str):
        return {"type": "any" if choice == "required" else choice}
    return {"type": "tool", "name": choice["function"]["name"]}


# --- messages -------------------------------------------------------------------------------------------------------


def _instructs(message: Mapping[str, Any]) -> bool:
    return message["role"] in ("system", "developer")


def _unsaid(messages: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return what messages hold and this API has no place for."""
    parts = [part for message in messages for part in _parts(message) if part["type"] == "image_url"]
    named = any("name" in message for message in messages)
    detailed = any(part["image_url"].get("detail", "auto") != "auto" for part in parts)
    return ("messages.name",) * named + ("messages.image_url.detail",) * detailed


def _turns(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    turns: list[dict[str, Any]] = []
    for place, message in enumerate(messages):
        role = "assistant" if message["role"] == "assistant" else "user"
        blocks = list(_blocks(message, place))
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        elif blocks:
            turns.append({"role": role, "content": blocks})
    if not turns or turns[0]["role"] != "user":
        raise CannotSayError("messages", "must begin with one of the user's there, and one that is not empty")
    return turns


def _blocks(message: Mapping[str, Any], place: int) -> Iterator[dict[str, Any]]:
    content = message.get("content")
    if message["role"] == "tool":
        text = "\n".join(texts_of(content))
        yield {"type": "tool_result", "tool_use_id": _tool_use_id(message["tool_call_id"]), "content": text}
        return
    for part in _parts(message):
        if part["type"] == "image_url":
            yield {"type": "image", "source": _image(part["image_url"]["url"])}
        else:
            yield from ({"type": "text", "text": text} for text in texts_of([part]))
    yield from ({"type": "text", "text": text} for text in texts_of(message.get("refusal")))
    for call in message.get("tool_calls", ()):
        yield _tool_use(call, place)


def _parts(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    content = message.get("content")
    return content if isinstance(content, list) else [{"type": "text", "text": content or ""}]


def _image(url: str) -> dict[str, Any]:
    if not url.lower().startswith("data:"):
        return {"type": "url", "url": url}
    told = _DATA_URL.fullmatch(url)
    if told is None:
        raise CannotSayError("messages.image_url", "must be http, https or a base64 image there")
    return {"type": "base64", "media_type": told[1].lower(), "data": told[2]}


def _tool_use(call: Mapping[str, Any], place: int) -> dict[str, Any]:
    try:
        arguments = orjson.loads(call["function"]["arguments"].strip() or "{}")
    except orjson.JSONDecodeError:
        arguments = None
    if not isinstance(arguments, dict):
        raise CannotSayError(f"messages[{place}].tool_calls", "must have a JSON object as arguments there")
    return {
        "type": "tool_use",
        "id": _tool_use_id(call["id"]),
        "name": call["function"]["name"],
        "input": arguments,
    }


def _tool_use_id(call_id: str) -> str:
    """Return an id that this API takes, a call's and its result's alike; different ones stay different."""
    return call_id if _TOOL_USE_ID.fullmatch(call_id) else f"call_{call_id.encode().hex()}"


# --- the answer -----------------------------------------------------------------------------------------------------


def _outcome_of(document: dict[str, Any], *, may_be_empty: bool) -> Answer | Verdict:
    if document.get("type") == "error" or document.get("error") is not None:
        return refusals.ERROR_BODY
    blocks, told = document.get("content"), document.get("stop_reason")
    if blocks is None:
        return refusals.EMPTY
    if not are_objects(blocks) or not isinstance(told, str | None):
        return refusals.MALFORMED
    text = joined([block.get("text") for block in blocks if block.get("type") == "text"])
    calls = [_call_of(block) for block in blocks if block.get("type") == "tool_use"]
    if text is None or None in calls:
        return refusals.MALFORMED
    if not told:
        return refusals.TRUNCATED
    answer = Answer(
        text=text,
        tool_calls=tuple(call for call in calls if call is not None),
        finish_reason=_FINISH.get(told, "other"),
        finish_reason_raw=told[:LONGEST_ID],
        response_id=short(document.get("id")),
        response_model=short(document.get("model")),
    )
    return unless_empty(answer, may_be_empty=may_be_empty)


_FINISH: Mapping[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


def _call_of(block: Mapping[str, Any]) -> dict[str, Any] | None:
    call_id, name, given = block.get("id"), block.get("name"), block.get("input")
    if not isinstance(call_id, str) or not isinstance(name, str) or not isinstance(given, dict):
        return None
    return None if is_deeper(given, DEEPEST) else tool_call(call_id, name, given)
