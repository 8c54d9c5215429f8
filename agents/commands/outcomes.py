"""Which of the submitted requests have ended, and how."""

from collections.abc import Iterable
from typing import Any

import orjson

from agents.commands.prompts import Prompt
from schemas.requests import PromptRequest, content_digest

_Name = tuple[str, str]
_Place = tuple[str, int, int]


class Outcomes:
    """Terminal events of some requests, each counted once by its event id.

    A repetition of a request shares the outcome of the first; the same id with other content has one of its own, an
    error. So as many outcomes belong to a tenant's request id as there were different contents under it.
    """

    def __init__(self, requests: Iterable[PromptRequest]) -> None:
        """Expect the outcomes of `requests`."""
        contents: dict[_Name, set[bytes]] = {}
        for request in requests:
            contents.setdefault((request.tenant, request.request_id), set()).add(content_digest(request))
        self._open = {name: len(different) for name, different in contents.items()}
        self._places: dict[_Place | None, _Name] = {}
        self._heard: set[str] = set()
        self.expected = sum(self._open.values())
        self.ended = 0
        self.failed = 0

    @property
    def complete(self) -> bool:
        """Whether all have ended."""
        return self.ended == self.expected

    @property
    def missing(self) -> list[str]:
        """The request ids that have not ended, in the order of submission."""
        return [request_id for (_, request_id), count in self._open.items() if count]

    def published(self, place: _Place, prompt: Prompt) -> None:
        """Note topic, partition and offset of a request: what a dead letter is known by."""
        self._places[place] = (prompt.request.tenant, prompt.request.request_id)

    def heard(self, value: bytes | None) -> bytes | None:
        """Take a record of a result topic; return its event as a line of JSON if it ends one of the requests."""
        event = _event(value)
        name = self._name_of(event)
        if name is None or not self._open.get(name) or event["id"] in self._heard:
            return None
        self._heard.add(event["id"])
        self._open[name] -= 1
        self.ended += 1
        self.failed += event["type"] != "prompt.answered.v1"
        return orjson.dumps(event)

    def _name_of(self, event: dict[str, Any]) -> _Name | None:
        match event:
            case {"id": str(), "type": "prompt.answered.v1" | "prompt.failed.v1"}:
                return _named(event)
            case {"id": str(), "type": "prompt.dead_lettered.v1"}:
                place = _place(event)
                return self._places[place] if place in self._places else _named(event)
            case _:
                return None


def _named(event: dict[str, Any]) -> _Name | None:
    match event:
        case {"tenant": str() as tenant, "request_id": str() as request_id}:
            return tenant, request_id
        case _:
            return None


def _place(event: dict[str, Any]) -> _Place | None:
    match event:
        case {"topic": str() as topic, "partition": int() as partition, "offset": int() as offset}:
            return topic, partition, offset
        case _:
            return None


def _event(value: bytes | None) -> dict[str, Any]:
    """Return the JSON object that a record holds, else an empty one: others may write to these topics too."""
    try:
        event = orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return {}
    return event if isinstance(event, dict) else {}
