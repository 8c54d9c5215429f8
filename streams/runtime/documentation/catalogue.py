"""Every message on every topic: its schema, its key, and one literal example."""

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final, get_args

from pydantic import BaseModel

from schemas.costs import CostEvent, CostType
from schemas.deadletters import PromptDeadLettered
from schemas.health import ModelHealth, Observation
from schemas.ledger import LedgerEntry, LedgerType
from schemas.lifts import BudgetLifted
from schemas.progress import AttemptDue, AttemptFailed, AttemptRedriven, AttemptSucceeded, RequestExpired
from schemas.request_schema import request_schema
from schemas.results import PromptAnswered, PromptFailed
from streams.runtime.documentation.words import FIELDS

Schema = dict[str, Any]

REQUEST: Final = "prompt.request"
"""The name here of what has no `type`: a value of `prompt.requests`."""


@dataclass(frozen=True, slots=True)
class Message:
    """One kind of message. `name`: its `type`. `topic`: without prefix. `schema_class` None: a request, no event."""

    name: str
    topic: str
    says: str
    schema_class: type[BaseModel] | None = None
    internal: bool = False

    @property
    def headers(self) -> tuple[str, ...]:
        """The names of the headers that every such message has."""
        if self.topic in _WITHOUT_HEADERS:
            return ()
        return _CLOUD_EVENT if self.topic in _WITHOUT_TRACE else (*_CLOUD_EVENT, "traceparent")

    @property
    def example(self) -> Any:
        """One literal message."""
        return _examples()[self.name]

    def schema(self) -> Schema:
        """Return the JSON Schema of the value, with `$defs` where it has parts, without `$schema`."""
        if self.schema_class is None:
            return request_schema()
        schema = self.schema_class.model_json_schema()
        described: Schema = _cleaned(schema)
        described["properties"]["type"] = {"const": self.name, "description": FIELDS["type"]}
        described["required"] = sorted(
            {*described.get("required", ()), "type"}, key=list(described["properties"]).index
        )
        return described | {"title": self.name, "description": self.says}


_CLOUD_EVENT: Final = ("ce_specversion", "ce_id", "ce_type", "ce_source", "ce_time", "content-type")
_WITHOUT_HEADERS: Final = frozenset({"prompt.requests", "prompt.progress", "model.observations"})
_WITHOUT_TRACE: Final = frozenset({"prompt.deadletters", "model.health"})

_COSTS: Final[dict[CostType, str]] = {
    "cost.incurred.v1": "A call was answered: what it cost, from its usage, or from the bound where usage is missing.",
    "cost.uncertain.v1": "A call whose outcome is unknown may have been billed: booked at its upper bound.",
    "cost.adjusted.v1": "The truth about an uncertain call has arrived: the signed difference.",
}
_LEDGER: Final[dict[LedgerType, str]] = {
    "hold.placed.v1": "Money was reserved for an attempt, before its call.",
    "hold.settled.v1": "An attempt's hold was closed: an amount is booked as spent, the rest is given back.",
    "hold.released.v1": "An attempt's hold was closed and nothing booked: nothing can have been billed.",
    "hold.refused.v1": "A request was refused before any call; the hold is what it would have needed.",
    "booking.adjusted.v1": "What was booked for an attempt is corrected by the signed amount.",
    "budget.set.v1": "The limit of a window is another one than the account had, or the same: an overrun was lifted.",
}
assert set(_COSTS) == set(get_args(CostType))
assert set(_LEDGER) == set(get_args(LedgerType))

MESSAGES: Final = (
    Message(REQUEST, "prompt.requests", "What a tenant asks. It has no `type`: it is no event yet."),
    Message("prompt.answered.v1", "prompt.responses", "The request was answered: its one outcome.", PromptAnswered),
    Message("prompt.failed.v1", "prompt.errors", "The request has failed for good: its one outcome.", PromptFailed),
    *(Message(name, "prompt.costs", says, CostEvent) for name, says in _COSTS.items()),
    *(Message(name, "ledger.entries", says, LedgerEntry) for name, says in _LEDGER.items()),
    Message("model.health.v1", "model.health", "How a deployment does, from now on.", ModelHealth),
    Message(
        "prompt.dead_lettered.v1", "prompt.deadletters", "A record could not be understood at all.", PromptDeadLettered
    ),
    Message("prompt.attempt.succeeded.v1", "prompt.progress", "A provider answered.", AttemptSucceeded, internal=True),
    Message("prompt.attempt.failed.v1", "prompt.progress", "An attempt brought none.", AttemptFailed, internal=True),
    Message(
        "prompt.attempt.redriven.v1",
        "prompt.progress",
        "An open attempt is run by nobody: its outcome is unknown.",
        AttemptRedriven,
        internal=True,
    ),
    Message("prompt.attempt.due.v1", "prompt.progress", "A waiting attempt may start.", AttemptDue, internal=True),
    Message("prompt.request.expired.v1", "prompt.progress", "A deadline has passed.", RequestExpired, internal=True),
    Message("budget.lifted.v1", "prompt.progress", "An operator lifts an overrun.", BudgetLifted, internal=True),
    Message(
        "model.observed.v1",
        "model.observations",
        "What one worker saw of a deployment since its last observation.",
        Observation,
        internal=True,
    ),
)


@cache
def _examples() -> dict[str, Any]:
    text = files("streams.runtime.documentation").joinpath("examples.json").read_text("utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def _cleaned(node: Any) -> Any:
    """Drop pydantic's titles, and its ban on unknown fields (readers ignore what they do not know); describe fields."""
    if isinstance(node, list):
        return [_cleaned(entry) for entry in node]
    if not isinstance(node, dict):
        return node
    kept = {name: _cleaned(content) for name, content in node.items() if name != "title" or isinstance(content, dict)}
    if kept.get("additionalProperties") is False:
        del kept["additionalProperties"]
    if isinstance(properties := kept.get("properties"), dict):
        for name, field in properties.items():
            if name in FIELDS:
                properties[name] = field | {"description": FIELDS[name]}
        # Docstrings of parts are for who reads the code; line breaks in them mean nothing.
        kept["description"] = " ".join(str(kept.get("description", "")).split())
    return kept
