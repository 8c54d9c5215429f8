"""The dialect of OpenAI's chat completions: what is sent, and how an answer is read. Pure."""

from collections.abc import Mapping
from typing import Any, Final

import httpx
import orjson

from agents.providers import refusals
from agents.providers.dialect import (
    DEEPEST,
    LONGEST_ID,
    Conversation,
    Reading,
    Written,
    are_objects,
    document_of,
    is_deeper,
    joined,
    reading_of,
    says_something,
    short,
    unless_empty,
)
from agents.providers.refusals import Verdict
from schemas.progress import Answer, FinishReason
from streams.core.usage import usage_of_openai

OPENAI_HOST: Final = "api.openai.com"

_SET_BY_US = frozenset({"model", "messages", "max_tokens", "max_completion_tokens", "n", "stream", "stream_options"})


def url_of(endpoint: str, provider_model: str) -> httpx.URL:
    """Return where to POST. Raises `httpx.InvalidURL`."""
    url = httpx.URL(endpoint)
    return url.copy_with(path=f"{url.path.rstrip('/')}/chat/completions")


def headers_of(api_key: str | None) -> dict[str, str]:
    """Return the headers that are this dialect's own."""
    return {} if api_key is None else {"authorization": f"Bearer {api_key}"}


def write(conversation: Conversation, *, provider_model: str, max_tokens: int, host: str) -> Written:
    """Write the request's body: all of it, the words are OpenAI's already.

    OpenAI's own reasoning models refuse `max_tokens`, other servers know nothing else.
    """
    limit = "max_completion_tokens" if host == OPENAI_HOST else "max_tokens"
    free = {**conversation.extra_body, **conversation.parameters}
    body = {name: value for name, value in free.items() if name not in _SET_BY_US}
    messages = [dict(message) for message in conversation.messages]
    return Written(orjson.dumps(body | {"model": provider_model, "messages": messages, limit: max_tokens}))


def read(body: bytes, *, framed: bool, may_be_empty: bool) -> Reading:
    """Read the complete body of a 2xx (`agents.providers.dialect`)."""
    document = document_of(body, framed=framed)
    if isinstance(document, Verdict):
        return Reading(document)
    return reading_of(_outcome_of(document, may_be_empty=may_be_empty), usage_of_openai(document.get("usage")))


def read_error(status: int, document: object) -> Verdict:
    """Return what a complete answer other than 2xx means."""
    return refusals.verdict_on(status, refusals.error_of(document))


def _outcome_of(document: dict[str, Any], *, may_be_empty: bool) -> Answer | Verdict:
    if document.get("error") is not None:
        return refusals.ERROR_BODY
    choices = document.get("choices")
    if choices is None or choices == []:
        return refusals.EMPTY
    if not isinstance(choices, list) or not isinstance(choices[0], dict):
        return refusals.MALFORMED
    choice = choices[0]
    if choice.get("error") is not None:
        return refusals.ERROR_BODY
    answer = _answer_of(document, choice)
    if isinstance(answer, Verdict) or says_something(answer):
        return answer
    return unless_empty(answer, may_be_empty=may_be_empty and choice["message"].get("content") is not None)


def _answer_of(document: dict[str, Any], choice: dict[str, Any]) -> Answer | Verdict:
    message, told, logprobs = choice.get("message"), choice.get("finish_reason"), choice.get("logprobs")
    if message is None:
        return refusals.EMPTY
    text, calls = (_text_of(message), _calls_of(message)) if isinstance(message, dict) else (None, None)
    if text is None or calls is None or not isinstance(told, str | None) or not isinstance(logprobs, dict | None):
        return refusals.MALFORMED
    if is_deeper([calls, logprobs], DEEPEST):
        return refusals.MALFORMED
    if not told:
        return refusals.TRUNCATED
    refused = text and not message.get("content")  # the text is the model's `refusal`
    return Answer(
        text=text,
        tool_calls=tuple(calls),
        finish_reason="content_filter" if refused else _FINISH.get(told.lower(), "other"),
        finish_reason_raw=told[:LONGEST_ID],
        response_id=short(document.get("id")),
        response_model=short(document.get("model")),
        logprobs=logprobs,
    )


_FINISH: Mapping[str, FinishReason] = {
    "stop": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "tool_calls": "tool_calls",
    "tool_use": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "content_filtered": "content_filter",
    "safety": "content_filter",
    "recitation": "content_filter",
    "prohibited_content": "content_filter",
}


def _text_of(message: dict[str, Any]) -> str | None:
    """The answer's text: never null; of a list of parts (Mistral) the text parts. None: it is something else."""
    content = message.get("content")
    if content is None or content == "":
        content = message.get("refusal") or ""
    if isinstance(content, list):
        if not are_objects(content):
            return None
        content = joined([part.get("text") for part in content if part.get("type") == "text"])
    return content if isinstance(content, str) else None


def _calls_of(message: dict[str, Any]) -> list[dict[str, Any]] | None:
    calls = message.get("tool_calls")
    if calls is None:
        return []
    return calls if are_objects(calls) else None
