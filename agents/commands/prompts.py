"""What `orchestrator submit` was given, as requests that are right, or as one line per mistake; nothing is published.

A TEXT, or a line of a file that is a JSON string, is a prompt; a line that is a JSON object is a request (CONTRACT §1).
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import orjson

from agents.commands.exits import WRONG, CommandError
from schemas.deadletters import DeadLetter
from schemas.requests import Limits, PromptRequest, WrongFields, understand
from schemas.strict_json import JsonObject, decode_object
from streams.core.identity import netstrings

_MOST_TOLD: Final = 20


@dataclass(frozen=True, slots=True)
class Filling:
    """What `--tenant` and `--model` put where a request says nothing."""

    tenant: str | None
    model: str | None


@dataclass(frozen=True, slots=True)
class Prompt:
    """One request to publish: `value` is its JSON, in which the request id always stands."""

    request: PromptRequest
    value: bytes


@dataclass(frozen=True, slots=True)
class _Given:
    """`place` names it in a mistake; `request_id` is for a request that has none."""

    place: str
    body: JsonObject | DeadLetter
    request_id: str


def understood(
    texts: Iterable[str],
    lines: tuple[str, bytes] | None,
    filling: Filling,
    limits: Limits,
    new_id: Callable[[], str],
) -> list[Prompt]:
    """Return the prompts in order: `texts`, then those of `lines`, a file's name and content.

    Requests without an id get one: a text's is `new_id()`; a line's follows from the file's content, the filling and
    the line's number, so that to submit the same file again repeats its requests and pays for none twice.
    Raises `CommandError` (2) with one line per mistake, naming line and field.
    """
    given = [*_texts(texts, new_id), *(_lines(*lines, filling, limits) if lines is not None else ())]
    prompts: list[Prompt] = []
    mistakes: list[str] = []
    for each in given:
        prompt = _understand(each, filling, limits)
        if isinstance(prompt, Prompt):
            prompts.append(prompt)
        else:
            mistakes += prompt
    if mistakes:
        more = [f"{len(mistakes) - _MOST_TOLD} more mistakes"] if len(mistakes) > _MOST_TOLD else []
        raise CommandError(WRONG, [*mistakes[:_MOST_TOLD], *more])
    if not prompts:
        raise CommandError(WRONG, ["nothing to submit: give a TEXT, or --file with a prompt in it"])
    return prompts


def _texts(texts: Iterable[str], new_id: Callable[[], str]) -> Iterator[_Given]:
    for number, text in enumerate(texts, 1):
        yield _Given(f"TEXT {number}", {"prompt": text}, new_id())


def _lines(name: str, content: bytes, filling: Filling, limits: Limits) -> Iterator[_Given]:
    digest = hashlib.sha256(content).hexdigest()
    batch = hashlib.sha256(netstrings(digest, filling.tenant or "", filling.model or "").encode()).hexdigest()[:20]
    for number, line in enumerate(content.split(b"\n"), 1):
        if line.strip(b" \t\r"):
            yield _Given(f"{name}: line {number}", _body(line.rstrip(b"\r"), limits), f"{batch}-{number}")


def _body(line: bytes, limits: Limits) -> JsonObject | DeadLetter:
    if line.lstrip(b" \t").startswith(b'"'):
        try:
            return {"prompt": orjson.loads(line)}
        except orjson.JSONDecodeError:
            return DeadLetter("not_json", "not a JSON string")
    return decode_object(line, max_bytes=limits.max_request_bytes)


def _understand(given: _Given, filling: Filling, limits: Limits) -> Prompt | list[str]:
    if isinstance(given.body, DeadLetter):
        return [f"{given.place}: must be a JSON object or a JSON string: {_sentence(given.body)}"]
    filled: dict[str, Any] = {"request_id": given.request_id, "tenant": filling.tenant, "model": filling.model}
    body = {name: content for name, content in (filled | _present(given.body)).items() if content is not None}
    try:
        value = orjson.dumps(body)
    except TypeError:  # a lone surrogate: what the shell gave was not UTF-8
        return [f"{given.place}: is not UTF-8"]
    match understand(value, default_request_id=given.request_id, limits=limits):
        case PromptRequest() as request:
            return Prompt(request, value)
        case WrongFields(fields=fields):
            return [f"{given.place}: {wrong.field}: {wrong.problem}" for wrong in fields]
        case DeadLetter() as refused:
            return [f"{given.place}: {_sentence(refused)}"]


def _present(body: JsonObject) -> JsonObject:
    """Null counts as absent (CONTRACT §5)."""
    return {name: content for name, content in body.items() if content is not None}


def _sentence(refused: DeadLetter) -> str:
    return refused.message.rstrip(".")
