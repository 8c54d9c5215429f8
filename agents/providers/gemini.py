"""The dialect of Google's Gemini API, `generateContent`: what is sent, and how an answer is read. Pure.

Source, read 2026-11-24: "generateContent" of ai.google.dev, as typed in google-genai 3.6.1. JSON schemas go into the
fields that take JSON Schema, not into those of OpenAPI's subset.
"""

import mimetypes
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote, urlsplit

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
from agents.providers.gemini_errors import verdict_on
from agents.providers.parameters import sorted_out
from agents.providers.refusals import Verdict
from schemas.progress import Answer, FinishReason
from streams.core.usage import usage_of_gemini

_SET_BY_US = frozenset(
    {"contents", "systemInstruction", "system_instruction", "generationConfig", "generation_config", "tools", "model"}
)
_DEARER = frozenset({"serviceTier", "service_tier", "cachedContent", "cached_content"})
_DATA_URL = re.compile(r"data:(image/[a-z0-9.+-]+);base64,([A-Za-z0-9+/=]+)", re.IGNORECASE)
FOREIGN_SIGNATURE: Final = "skip_thought_signature_validator"
"""Stands for the signature of a call that this API cannot verify; from Gemini 3 on it refuses a call without any.

OpenAI's messages have no place for signatures, so every call in a conversation comes back without its own.
"""
_BUDGETS: Final = {"none": 0, "minimal": 1024, "low": 1024, "medium": 8192, "high": 24576, "xhigh": 24576, "max": 24576}
"""Thinking tokens of Gemini 2, which knows no levels: as Google's own OpenAI-compatible endpoint maps them."""
_LEVELS: Final = {
    "minimal": "minimal",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "xhigh",
    "max": "xhigh",
}


def url_of(endpoint: str, provider_model: str) -> httpx.URL:
    """Return where to POST; the key is never part of it. Raises `httpx.InvalidURL`."""
    url = httpx.URL(endpoint)
    name = provider_model if "/" in provider_model else f"models/{provider_model}"
    return url.copy_with(path=f"{url.path.rstrip('/')}/{quote(name, safe='/')}:generateContent")


def headers_of(api_key: str | None) -> dict[str, str]:
    """Return the headers that are this dialect's own."""
    return {} if api_key is None else {"x-goog-api-key": api_key}


def write(conversation: Conversation, *, provider_model: str, max_tokens: int, host: str) -> Written:
    """Write the request's body. Raises `CannotSayError` and `TypeError` (`agents.providers.dialect.Dialect`).

    Instructions, wherever they stand, become the one `systemInstruction`. Messages of one side in a row become one.
    """
    refuse_dearer(conversation.extra_body, _DEARER)
    said, dropped = sorted_out("google", conversation.parameters)
    signs = not provider_model.removeprefix("models/").startswith(("gemini-1", "gemini-2"))
    spoken = [message for message in conversation.messages if not _instructs(message)]
    system = [{"text": text} for m in conversation.messages if _instructs(m) for text in texts_of(m["content"])]
    ours = {
        "contents": _contents(spoken, signs=signs),
        "generationConfig": _generation(said, levels=signs) | {"maxOutputTokens": max_tokens},
        **_tools(said),
    }
    instructed = {"systemInstruction": {"parts": system}} if system else {}
    body = extended(conversation.extra_body, ours | instructed, bound=_SET_BY_US)
    return Written(orjson.dumps(body), dropped + _unsaid(conversation.messages, said))


def read(body: bytes, *, framed: bool, may_be_empty: bool) -> Reading:
    """Read the complete body of a 2xx (`agents.providers.dialect.Dialect`)."""
    document = document_of(body, framed=framed)
    if isinstance(document, Verdict):
        return Reading(document)
    return reading_of(_outcome_of(document, may_be_empty=may_be_empty), usage_of_gemini(document.get("usageMetadata")))


def read_error(status: int, document: object) -> Verdict:
    """Return what a complete answer other than 2xx means."""
    return verdict_on(status, document)


# --- parameters -----------------------------------------------------------------------------------------------------

_SAME_MEANING: Final[Mapping[str, str]] = {
    "temperature": "temperature",
    "top_p": "topP",
    "seed": "seed",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
    "logprobs": "responseLogprobs",
    "top_logprobs": "logprobs",
}
_INT32: Final = 2**31


def _generation(said: Mapping[str, Any], *, levels: bool) -> dict[str, Any]:
    config = {theirs: said[ours] for ours, theirs in _SAME_MEANING.items() if ours in said}
    if not -_INT32 <= said.get("seed", 0) < _INT32:
        raise CannotSayError("seed", "must fit into 32 bits there")
    if "stop" in said:
        config["stopSequences"] = [said["stop"]] if isinstance(said["stop"], str) else said["stop"]
    if "response_format" in said:
        config |= _format(said["response_format"])
    if "reasoning_effort" in said:
        config["thinkingConfig"] = _thinking(said["reasoning_effort"], levels=levels)
    return config


def _format(wanted: Mapping[str, Any]) -> dict[str, Any]:
    told = wanted.get("json_schema", {})
    described = {"description": told["description"]} if "description" in told else {}
    schema = {"responseJsonSchema": described | told["schema"]} if "schema" in told else {}
    return {"responseMimeType": "application/json", **schema}


def _thinking(effort: str, *, levels: bool) -> dict[str, Any]:
    if not levels:
        return {"thinkingBudget": _BUDGETS[effort]}
    if effort not in _LEVELS:
        raise CannotSayError("reasoning_effort", f"cannot be `{effort}`: this model always thinks")
    return {"thinkingLevel": _LEVELS[effort]}


def _tools(said: Mapping[str, Any]) -> dict[str, Any]:
    choice = said.get("tool_choice", "auto")
    if "tools" not in said:
        if choice not in ("auto", "none"):
            raise CannotSayError("tool_choice", "needs tools")
        return {}
    body: dict[str, Any] = {
        "tools": [{"functionDeclarations": [_declared(tool["function"]) for tool in said["tools"]]}]
    }
    return body if choice == "auto" else body | {"toolConfig": {"functionCallingConfig": _calling(choice)}}


def _declared(function: Mapping[str, Any]) -> dict[str, Any]:
    described = {"description": function["description"]} if "description" in function else {}
    schema = {"parametersJsonSchema": function["parameters"]} if function.get("parameters") else {}
    return {"name": function["name"], **described, **schema}


def _calling(choice: str | Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(choice, str):
        return {"mode": {"none": "NONE", "required": "ANY"}[choice]}
    return {"mode": "ANY", "allowedFunctionNames": [choice["function"]["name"]]}


# --- messages -------------------------------------------------------------------------------------------------------


def _instructs(message: Mapping[str, Any]) -> bool:
    return message["role"] in ("system", "developer")


def _unsaid(messages: Sequence[Mapping[str, Any]], said: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what messages and tools hold and this API has no place for."""
    parts = [part for message in messages for part in _parts_of(message) if part["type"] == "image_url"]
    named = any("name" in message for message in messages)
    detailed = any(part["image_url"].get("detail", "auto") != "auto" for part in parts)
    strict = any(tool["function"].get("strict") for tool in said.get("tools", ()))
    return ("messages.name",) * named + ("messages.image_url.detail",) * detailed + ("tools.function.strict",) * strict


def _contents(messages: Sequence[Mapping[str, Any]], *, signs: bool) -> list[dict[str, Any]]:
    names = {call["id"]: call["function"]["name"] for message in messages for call in message.get("tool_calls", ())}
    contents: list[dict[str, Any]] = []
    for place, message in enumerate(messages):
        role = "model" if message["role"] == "assistant" else "user"
        parts = list(_parts(message, place, names, signs=signs))
        if contents and contents[-1]["role"] == role:
            contents[-1]["parts"] += parts
        elif parts:
            contents.append({"role": role, "parts": parts})
    if not contents or contents[0]["role"] != "user":
        raise CannotSayError("messages", "must begin with one of the user's there, and one that is not empty")
    return contents


def _parts(
    message: Mapping[str, Any], place: int, names: Mapping[str, str], *, signs: bool
) -> Iterator[dict[str, Any]]:
    if message["role"] == "tool":
        yield {"functionResponse": _response(message, place, names)}
        return
    for part in _parts_of(message):
        if part["type"] == "image_url":
            yield _image(part["image_url"]["url"])
        else:
            yield from ({"text": text} for text in texts_of([part]))
    yield from ({"text": text} for text in texts_of(message.get("refusal")))
    for number, call in enumerate(message.get("tool_calls", ())):
        made = {"functionCall": _function_call(call, place)}
        yield made | {"thoughtSignature": FOREIGN_SIGNATURE} if signs and not number else made


def _parts_of(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    content = message.get("content")
    return content if isinstance(content, list) else [{"type": "text", "text": content or ""}]


def _image(url: str) -> dict[str, Any]:
    told = _DATA_URL.fullmatch(url)
    if told is not None:
        return {"inlineData": {"mimeType": told[1].lower(), "data": told[2]}}
    kind, _ = mimetypes.guess_type(urlsplit(url).path)
    if url.lower().startswith("data:") or kind is None or not kind.startswith("image/"):
        raise CannotSayError("messages.image_url", "must be a base64 image there, or a URL that ends like one")
    return {"fileData": {"mimeType": kind, "fileUri": url}}


def _function_call(call: Mapping[str, Any], place: int) -> dict[str, Any]:
    try:
        arguments = orjson.loads(call["function"]["arguments"].strip() or "{}")
    except orjson.JSONDecodeError:
        arguments = None
    if not isinstance(arguments, dict):
        raise CannotSayError(f"messages[{place}].tool_calls", "must have a JSON object as arguments there")
    return {"id": call["id"], "name": call["function"]["name"], "args": arguments}


def _response(message: Mapping[str, Any], place: int, names: Mapping[str, str]) -> dict[str, Any]:
    """A tool's result, with the name of the function that was called; what is no JSON object goes under `output`."""
    call_id, text = message["tool_call_id"], "\n".join(texts_of(message["content"]))
    if call_id not in names:
        raise CannotSayError(f"messages[{place}].tool_call_id", "must be that of an earlier tool call")
    try:
        result = orjson.loads(text)
    except orjson.JSONDecodeError:
        result = None
    return {"id": call_id, "name": names[call_id], "response": result if isinstance(result, dict) else {"output": text}}


# --- the answer -----------------------------------------------------------------------------------------------------


def _outcome_of(document: dict[str, Any], *, may_be_empty: bool) -> Answer | Verdict:
    if document.get("error") is not None:
        return refusals.ERROR_BODY
    candidates, feedback = document.get("candidates"), document.get("promptFeedback")
    if not candidates:
        blocked = isinstance(feedback, dict) and feedback.get("blockReason")
        return refusals.FILTERED if blocked else refusals.EMPTY
    if not are_objects(candidates):
        return refusals.MALFORMED
    answer = _answer_of(document, candidates[0])
    return answer if isinstance(answer, Verdict) else unless_empty(answer, may_be_empty=may_be_empty)


def _answer_of(document: dict[str, Any], candidate: dict[str, Any]) -> Answer | Verdict:
    content, told = candidate.get("content") or {}, candidate.get("finishReason")
    parts = (content.get("parts") or []) if isinstance(content, dict) else None
    if not are_objects(parts) or not isinstance(told, str | None) or is_deeper(parts, DEEPEST):
        return refusals.MALFORMED
    text = joined([part["text"] for part in parts if "text" in part and not part.get("thought")])
    calls = [_call_of(part["functionCall"], document, n) for n, part in enumerate(parts) if "functionCall" in part]
    logprobs = _logprobs_of(candidate.get("logprobsResult"))
    if text is None or None in calls or isinstance(logprobs, Verdict):
        return refusals.MALFORMED
    if not told:
        return refusals.TRUNCATED
    finish = _FINISH.get(told, "other")
    return Answer(
        text=text,
        tool_calls=tuple(call for call in calls if call is not None),
        finish_reason="tool_calls" if calls and finish == "stop" else finish,
        finish_reason_raw=told[:LONGEST_ID],
        response_id=short(document.get("responseId")),
        response_model=short(document.get("modelVersion")),
        logprobs=logprobs,
    )


_FINISH: Mapping[str, FinishReason] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "CONTINUATION": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "LANGUAGE": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "IMAGE_PROHIBITED_CONTENT": "content_filter",
    "IMAGE_RECITATION": "content_filter",
    "ESCALATION": "content_filter",
    "MODEL_ARMOR": "content_filter",
}


def _call_of(call: object, document: Mapping[str, Any], number: int) -> dict[str, Any] | None:
    """Return a call in OpenAI's words. Most models give it no id; then it gets one that no other answer's call has."""
    if not isinstance(call, dict):
        return None
    name, given = call.get("name"), call.get("args") or {}
    if not isinstance(name, str) or not isinstance(given, dict):
        return None
    call_id = short(call.get("id")) or f"call_{short(document.get('responseId')) or 'gemini'}_{number}"
    return tool_call(call_id, name, given)


def _logprobs_of(told: object) -> dict[str, Any] | Verdict | None:
    """Return OpenAI's `logprobs`: chosen tokens, each with the likeliest ones of its place."""
    if told is None:
        return None
    chosen, top = _listed(told, "chosenCandidates"), _listed(told, "topCandidates")
    places = [_listed(place, "candidates") for place in top or ()]
    if chosen is None or top is None or None in places:
        return refusals.MALFORMED
    likeliest = [[_token(one) for one in place or ()] for place in places]
    likeliest += [[] for _ in chosen[len(likeliest) :]]
    return {
        "content": [_token(one) | {"top_logprobs": likely} for one, likely in zip(chosen, likeliest, strict=False)],
        "refusal": None,
    }


def _listed(told: object, name: str) -> list[dict[str, Any]] | None:
    listed = told.get(name, []) if isinstance(told, dict) else None
    return listed if are_objects(listed) else None


def _token(candidate: Mapping[str, Any]) -> dict[str, Any]:
    token = candidate.get("token", "")
    spelled = list(token.encode()) if isinstance(token, str) else None
    return {"token": token, "logprob": candidate.get("logProbability", 0.0), "bytes": spelled}
