"""The bill: a fold of distinct cost events into rows of one tenant and one group each (CONTRACT §2).

Memory: 16 bytes (some 100 in Python) per attempt of the part that is folded, see `cost_join.parts_for`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError

from schemas.units import NanoUsd, RequestId, Tenant
from schemas.usage import Usage
from streams.core.cost_join import attempt_key, part_of

UNKNOWN = "(unknown)"
"""The model of a call whose deployment a crash hid."""
NONE = "(none)"
"""The group of a request whose metadata lacks the key."""


class Billed(BaseModel):
    """What a bill needs of a cost event; later versions may say more."""

    model_config = ConfigDict(frozen=True)

    id: str
    type: Literal["cost.incurred.v1", "cost.uncertain.v1", "cost.adjusted.v1", "cost.saved.v1"]
    time: str
    tenant: Tenant
    request_id: RequestId
    attempt: NonNegativeInt | None = None
    model: str | None = None
    usage: Usage | None = None
    cost_nano_usd: NanoUsd
    saved_nano_usd: NanoUsd = 0
    metadata: dict[str, str] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which cost events count, by their time (UTC), and how they are grouped: `model`, `day`, `metadata.KEY` or not."""

    tenant: str | None = None
    month: str | None = None
    by: str | None = None

    def counts(self, event: Billed) -> bool:
        """Whether the event belongs to the bill."""
        mine = self.tenant is None or event.tenant == self.tenant
        return mine and (self.month is None or event.time.startswith(self.month + "-"))

    def group_of(self, event: Billed) -> str:
        """Name the row that the event belongs to."""
        match self.by:
            case None:
                return ""
            case "model":
                return event.model or UNKNOWN
            case "day":
                return event.time[:10]
            case _:
                return event.metadata.get(self.by.removeprefix("metadata."), NONE)


@dataclass(slots=True)
class Row:
    """Amounts in nano-USD. `uncertain`: the part of `cost` booked at a bound whose truth is not known (yet)."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: int = 0
    uncertain: int = 0
    saved: int = 0

    def add(self, other: "Row") -> None:
        """Add up."""
        self.calls += other.calls
        self.input_tokens += other.input_tokens
        self.output_tokens += other.output_tokens
        self.cost += other.cost
        self.uncertain += other.uncertain
        self.saved += other.saved


@dataclass(slots=True)
class Bill:
    """Folds cost events, each once by its id. `rows`: by (tenant, group). `problems`: records that are no cost event.

    An uncertain booking whose deployment nobody knew moves to the model that its adjustment names.
    """

    selection: Selection
    part: int = 0
    parts: int = 1
    rows: dict[tuple[str, str], Row] = field(default_factory=dict)
    problems: int = 0
    _seen: set[bytes] = field(default_factory=set)
    _uncertain: dict[bytes, tuple[str, int]] = field(default_factory=dict)

    def add(self, value: bytes) -> None:
        """Fold one cost event."""
        try:
            event = Billed.model_validate_json(value)
        except ValidationError:
            self.problems += self.part == 0
            return
        attempt = attempt_key(event.tenant, event.request_id, event.attempt or 0)
        if part_of(attempt, self.parts) != self.part:
            return
        told = attempt_key("", event.id, 0)
        if told in self._seen:
            return
        self._seen.add(told)
        group = self.selection.group_of(event)
        if event.type == "cost.adjusted.v1":
            self._resolve(attempt, event.tenant, group)
        if not self.selection.counts(event):
            return
        row = self._row(event.tenant, group)
        row.cost += event.cost_nano_usd
        match event.type:
            case "cost.uncertain.v1":
                row.calls += 1
                row.uncertain += event.cost_nano_usd
                self._uncertain[attempt] = (group, event.cost_nano_usd)
            case "cost.incurred.v1":
                row.calls += 1
                row.input_tokens += event.usage.input_tokens if event.usage else 0
                row.output_tokens += event.usage.output_tokens if event.usage else 0
            case "cost.saved.v1":
                row.saved += event.saved_nano_usd
            case "cost.adjusted.v1":
                pass

    def _resolve(self, attempt: bytes, tenant: str, group: str) -> None:
        """The truth of an uncertain booking is known: count it where the truth belongs."""
        booked_in, amount = self._uncertain.pop(attempt, (None, 0))
        if booked_in is None:
            return
        row = self._row(tenant, booked_in)
        row.uncertain -= amount
        if self.selection.by == "model" and booked_in != group:
            row.cost -= amount
            row.calls -= 1
            self._row(tenant, group).add(Row(calls=1, cost=amount))
            if row == Row():
                del self.rows[tenant, booked_in]

    def _row(self, tenant: str, group: str) -> Row:
        return self.rows.setdefault((tenant, group), Row())


def total_of(rows: Mapping[tuple[str, str], Row]) -> Row:
    """Add all rows up."""
    total = Row()
    for row in rows.values():
        total.add(row)
    return total
