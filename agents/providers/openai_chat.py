"""The dialect of OpenAI's chat completions: what is sent, and how an answer is read. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import httpx
import orjson

from agents.providers import refusals
from agents.providers.refusals import Verdict
from schemas.progress import Answer, FinishReason
from schemas.usage import Usage
from streams.core.usage import usage_of_openai

OPENAI_HOST: Final = "api.openai.com"
DEEPEST = 64
"""Levels of nesting in what is passed on as it came: a deeper answer could not be written into an event."""
LONGEST_ID = 256

_SET_BY_US = frozenset({"model", "messages", "max_tokens", "max_completion_tokens", "n", "stream", "stream_options"})


class Conversation(Protocol):
    """What a call needs of a prompt request."""

    @property
    def messages(self) -> Sequence[Mapping[str, Any]]: ...
    @property
    def parameters(self) -> Mapping[str, Any]: ...
    @property
    def extra_body(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Reading:
    """An answer, or why it is none; with the usage that the body told, if it is one."""

    outcome: Answer | Verdict
    usage: Usage | None = None


def url_of(endpoint: str) -> httpx.URL:
    """Return where to POST. Raises `httpx.InvalidURL`."""
    url = httpx.URL(endpoint)
    return url.copy_with(path=f"{url.path.rstrip('/')}/chat/completions")


def body_of(conversation: Conversation, *, provider_model: str, max_tokens: int, host: str) -> bytes:
    """Write the request's body. What we set ourselves cannot be overridden; an output limit is always sent.

    OpenAI's own reasoning models refuse `max_tokens`, other servers know nothing else. Raises `TypeError` where JSON in
    UTF-8 cannot hold it (a lone surrogate, an integer beyond 64 bits).
    """
    limit = "max_completion_tokens" if host == OPENAI_HOST else "max_tokens"
    free = {**conversation.extra_body, **conversation.parameters}
    body = {name: value for name, value in free.items() if name not in _SET_BY_US}
    messages = [dict(message) for message in conversation.messages]
    return orjson.dumps(body | {"model": provider_model, "messages": messages, limit: max_tokens})


def read(body: bytes, *, framed: bool, may_be_empty: bool) -> Reading:
    """Read the complete body of a 2xx.

    `framed`: the transport proved the body complete; otherwise broken JSON is a truncated one. `may_be_empty`: an empty
    text is an answer, because the request had stop sequences.
    """
    if not body.strip():
        return Reading(refusals.EMPTY)
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return Reading(refusals.MALFORMED if framed else refusals.TRUNCATED)
    if not isinstance(document, dict):
        return Reading(refusals.MALFORMED)
    usage = usage_of_openai(document.get("usage"))
    outcome = _outcome_of(document, may_be_empty=may_be_empty)
    if isinstance(outcome, Answer) and usage is not None and not usage.output_tokens and _says_something(outcome):
        usage = None  # nobody writes for 0 tokens
    return Reading(outcome, usage)


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
    if isinstance(answer, Verdict) or _says_something(answer):
        return answer
    content = choice["message"].get("content")
    ended = answer.finish_reason in {"length", "content_filter"} or (may_be_empty and content is not None)
    return answer if ended else refusals.EMPTY


def _answer_of(document: dict[str, Any], choice: dict[str, Any]) -> Answer | Verdict:
    message, told, logprobs = choice.get("message"), choice.get("finish_reason"), choice.get("logprobs")
    if message is None:
        return refusals.EMPTY
    text, calls = (_text_of(message), _calls_of(message)) if isinstance(message, dict) else (None, None)
    if text is None or calls is None or not isinstance(told, str | None) or not isinstance(logprobs, dict | None):
        return refusals.MALFORMED
    if _is_deeper([calls, logprobs], DEEPEST):
        return refusals.MALFORMED
    if not told:
        return refusals.TRUNCATED
    refused = text and not message.get("content")  # the text is the model's `refusal`
    return Answer(
        text=text,
        tool_calls=tuple(calls),
        finish_reason="content_filter" if refused else _FINISH.get(told.lower(), "other"),
        finish_reason_raw=told[:LONGEST_ID],
        response_id=_short(document.get("id")),
        response_model=_short(document.get("model")),
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
        if not _are_objects(content):
            return None
        texts = [part.get("text") for part in content if part.get("type") == "text"]
        content = "".join(texts) if all(isinstance(text, str) for text in texts) else None
    return content if isinstance(content, str) else None


def _calls_of(message: dict[str, Any]) -> list[dict[str, Any]] | None:
    calls = message.get("tool_calls")
    if calls is None:
        return []
    return calls if _are_objects(calls) else None


def _says_something(answer: Answer) -> bool:
    return bool(answer.text or answer.tool_calls)


def _are_objects(told: object) -> bool:
    return isinstance(told, list) and all(isinstance(item, dict) for item in told)


def _is_deeper(told: object, levels: int) -> bool:
    if not isinstance(told, dict | list) or not told:
        return False
    return not levels or any(
        _is_deeper(item, levels - 1) for item in (told.values() if isinstance(told, dict) else told)
    )


def _short(told: object) -> str | None:
    return told[:LONGEST_ID] if isinstance(told, str) else None
