"""What a provider's dialect has to offer, and what the dialects share. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeGuard

import httpx
import orjson

from agents.providers import refusals
from agents.providers.refusals import Verdict
from schemas.progress import Answer
from schemas.usage import Usage

DEEPEST: Final = 64
"""Levels of nesting in what is passed on as it came: a deeper answer could not be written into an event."""
LONGEST_ID: Final = 256


class Conversation(Protocol):
    """What a call needs of a prompt request."""

    @property
    def messages(self) -> Sequence[Mapping[str, Any]]: ...
    @property
    def parameters(self) -> Mapping[str, Any]: ...
    @property
    def extra_body(self) -> Mapping[str, Any]: ...


class CannotSayError(ValueError):
    """The dialect has no words for something that the request cannot do without: another dialect may have.

    `parameter` is the field by OpenAI's name, `why` completes "<parameter> …".
    """

    def __init__(self, parameter: str, why: str) -> None:
        super().__init__(f"{parameter} {why}")
        self.parameter, self.why = parameter, why


@dataclass(frozen=True, slots=True)
class Written:
    """The body of a request, and what was asked for and left out of it, by OpenAI's names."""

    body: bytes
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """An answer, or why it is none; with the usage that the body told, if it is one."""

    outcome: Answer | Verdict
    usage: Usage | None = None


class Dialect(Protocol):
    """How one family of providers is spoken to. A module of pure functions.

    `write` raises `CannotSayError`, and `TypeError` where JSON in UTF-8 cannot hold what was asked (a lone surrogate,
    an integer beyond 64 bits). It always sends the output limit; nothing in `extra_body` overrides what we set.
    `url_of` raises `httpx.InvalidURL`. `read` gets the complete body of a 2xx: `framed` says that the transport proved
    it complete (otherwise broken JSON is a truncated one), `may_be_empty` that no text may be an answer, because the
    request had stop sequences. `read_error` gets the parsed body of any other status, None where it is no JSON.
    """

    def url_of(self, endpoint: str, provider_model: str) -> httpx.URL: ...
    def headers_of(self, api_key: str | None) -> dict[str, str]: ...
    def write(self, conversation: Conversation, *, provider_model: str, max_tokens: int, host: str) -> Written: ...
    def read(self, body: bytes, *, framed: bool, may_be_empty: bool) -> Reading: ...
    def read_error(self, status: int, document: object) -> Verdict: ...


def extended(extra_body: Mapping[str, Any], ours: Mapping[str, Any], *, bound: frozenset[str]) -> dict[str, Any]:
    """Return the body: what a request passes on as it is, below what we say. Objects of one name are merged.

    `bound` are names that are ours alone, said or not.
    """
    body = {name: value for name, value in extra_body.items() if name not in bound}
    for name, value in ours.items():
        theirs = body.get(name)
        body[name] = theirs | value if isinstance(theirs, dict) and isinstance(value, dict) else value
    return body


def refuse_dearer(extra_body: Mapping[str, Any], names: frozenset[str]) -> None:
    """Raises `CannotSayError` for what would make a call dearer than its hold (CONTRACT §2 "Exactly how much")."""
    for name in extra_body:
        if name in names:
            raise CannotSayError(f"extra_body.{name}", "is not passed on: it changes the price that the hold rests on")


def document_of(body: bytes, *, framed: bool) -> dict[str, Any] | Verdict:
    """Return the JSON object that a 2xx holds, or what is wrong with it."""
    if not body.strip():
        return refusals.EMPTY
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return refusals.MALFORMED if framed else refusals.TRUNCATED
    return document if isinstance(document, dict) else refusals.MALFORMED


def reading_of(outcome: Answer | Verdict, usage: Usage | None) -> Reading:
    """Return both, without a usage that the answer belies: nobody writes for 0 tokens."""
    wrote = isinstance(outcome, Answer) and says_something(outcome)
    return Reading(outcome, None if wrote and usage is not None and not usage.output_tokens else usage)


def unless_empty(answer: Answer, *, may_be_empty: bool) -> Answer | Verdict:
    """Return the answer, or that it is none: without text and tool calls it is one only if it was cut or filtered."""
    ended = answer.finish_reason in {"length", "content_filter"} or may_be_empty
    return answer if says_something(answer) or ended else refusals.EMPTY


def says_something(answer: Answer) -> bool:
    """Whether there is text or a tool call in it."""
    return bool(answer.text or answer.tool_calls)


def tool_call(call_id: str, name: str, arguments: object) -> dict[str, Any]:
    """Return a tool call in OpenAI's words: there the arguments are JSON in a string."""
    return {
        "id": call_id,
        "type": "function",
        "function": {"name": name, "arguments": orjson.dumps(arguments).decode()},
    }


def texts_of(content: object) -> list[str]:
    """Return the texts of a message's content: of a string itself, of parts those of text and refusal. None is empty.

    Providers other than OpenAI refuse empty texts; they are left out.
    """
    parts = [{"text": content}] if isinstance(content, str) else content if isinstance(content, list) else []
    return [text for part in parts if (text := part.get("text") or part.get("refusal"))]


def joined(texts: Sequence[object]) -> str | None:
    """Return the texts as one; None where one of them is no text."""
    strings = [text for text in texts if isinstance(text, str)]
    return "".join(strings) if len(strings) == len(texts) else None


def are_objects(told: object) -> TypeGuard[list[dict[str, Any]]]:
    """Whether it is a list of JSON objects."""
    return isinstance(told, list) and all(isinstance(item, dict) for item in told)


def is_deeper(told: object, levels: int) -> bool:
    """Whether JSON is nested deeper than that."""
    if not isinstance(told, dict | list) or not told:
        return False
    return not levels or any(
        is_deeper(item, levels - 1) for item in (told.values() if isinstance(told, dict) else told)
    )


def short(told: object) -> str | None:
    """Return an id or name of the provider's, bounded; None where it told none."""
    return told[:LONGEST_ID] if isinstance(told, str) else None
