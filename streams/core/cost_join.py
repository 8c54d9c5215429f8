"""Bookings of the ledger and cost events, joined: each booking has one cost event, each cost event one booking.

Memory: about 400 bytes per attempt while its booking is not read, then 200. A long log is joined in parts, each by a
pass of its own over the topics: a part holds the attempts whose key falls to it (`part_of`).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b
from sys import intern
from typing import Literal

from pydantic import BaseModel, ConfigDict, NonNegativeInt, ValidationError

from schemas.units import NanoUsd, RequestId, Tenant
from streams.core.identity import netstrings
from streams.core.ledger_fold import Booking, Difference

ATTEMPTS_PER_PART = 250_000
"""Of one pass: some 100 MB."""


class CostTold(BaseModel):
    """What a bill needs of a cost event; later versions may say more."""

    model_config = ConfigDict(frozen=True)

    id: str
    type: Literal["cost.incurred.v1", "cost.uncertain.v1", "cost.adjusted.v1", "cost.saved.v1"]
    time: str
    tenant: Tenant
    request_id: RequestId
    attempt: NonNegativeInt | None = None
    cost_nano_usd: NanoUsd


def parts_for(cost_events: int) -> int:
    """Return how many passes keep a join of so many events within `ATTEMPTS_PER_PART`."""
    return max(1, -(-cost_events // ATTEMPTS_PER_PART))


def attempt_key(tenant: str, request_id: str, attempt: int) -> bytes:
    """Return 16 bytes that stand for an attempt."""
    return blake2b(netstrings(tenant, request_id, str(attempt)).encode(), digest_size=16).digest()


def part_of(key: bytes, parts: int) -> int:
    """Return the part that an attempt falls to."""
    return int.from_bytes(key[:4]) % parts


@dataclass(frozen=True, slots=True)
class _Unbooked:
    """A cost event that waits for its booking: little, for there may be many."""

    mark: bytes
    type: str
    tenant: str
    request_id: str
    attempt: int
    amount: int


@dataclass(slots=True)
class CostJoin:
    """One part of the join. Amounts of matched events are summed per (tenant, window) of their booking.

    Cost events are heard first, then bookings, then what is missing. `is_aged`: whether the cost event of a tenant's
    booking of this time may be gone already (its topic is not kept as long as the ledger); such bookings are summed
    apart. `events` counts distinct ones. An event told again is the same bytes, else it is a difference.
    """

    part: int = 0
    parts: int = 1
    is_aged: Callable[[str, str], bool] = lambda _tenant, _time: False
    events: int = 0
    repeated: int = 0
    spent: dict[tuple[str, str], int] = field(default_factory=dict)
    aged: dict[tuple[str, str], int] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)
    waiting: int = 0
    _found: dict[bytes, bytes | _Unbooked | Booking] = field(default_factory=dict)
    _adjusted: dict[bytes, Booking] = field(default_factory=dict)

    def book(self, booking: Booking) -> None:
        """Take a booking of the ledger."""
        attempt = attempt_key(booking.tenant, booking.request_id, booking.attempt)
        if part_of(attempt, self.parts) != self.part:
            return
        key = attempt + (b"a" if booking.kind == "adjusted" else b"s")
        match self._found.get(key):
            case None if self.is_aged(booking.tenant, booking.time):
                _add(self.aged, booking, booking.amount)
            case None:
                self._found[key] = booking
                self.waiting += 1
            case _Unbooked() as event:
                self._found[key] = event.mark
                self._match(booking, event.amount)
            case _:
                self._differs(booking.tenant, booking.request_id, booking.attempt, f"was {booking.kind} twice")

    def hear(self, value: bytes, *, only_missing: bool = False) -> None:
        """Take a cost event. `only_missing`: only if a booking waits for it; the bookings of others may come later."""
        try:
            event = CostTold.model_validate_json(value)
        except ValidationError as error:
            first = error.errors()[0]
            if self.part == 0:
                path = ".".join(str(part) for part in first["loc"])
                self.differences.append(Difference("cost", "prompt.costs", f"no cost event: {path} {first['msg']}"))
            return
        attempt = attempt_key(event.tenant, event.request_id, event.attempt or 0)
        if part_of(attempt, self.parts) != self.part:
            return
        if event.type == "cost.saved.v1":
            if event.cost_nano_usd:
                self._differs(event.tenant, event.request_id, event.attempt, "a cost.saved costs something")
            return
        mark = event.type[5:6].encode() + blake2b(value, digest_size=16).digest()
        key = attempt + (b"a" if event.type == "cost.adjusted.v1" else b"s")
        match self._found.get(key):
            case None | bytes() | _Unbooked() if only_missing:
                pass
            case None:
                self.events += 1
                self._found[key] = _Unbooked(
                    mark,
                    intern(event.type),
                    intern(event.tenant),
                    event.request_id,
                    event.attempt or 0,
                    event.cost_nano_usd,
                )
            case Booking() as booking:
                self.events += 1
                self.waiting -= 1
                self._found[key] = mark
                self._match(booking, event.cost_nano_usd)
            case bytes() | _Unbooked() as known:
                if (known if isinstance(known, bytes) else known.mark) == mark:
                    self.repeated += 1
                else:
                    problem = f"has two different cost events; the second is {event.id}"
                    self._differs(event.tenant, event.request_id, event.attempt, problem)

    def unmatched(self) -> list[Booking]:
        """Return the bookings without a cost event."""
        return [found for found in self._found.values() if isinstance(found, Booking)]

    def finish(self) -> None:
        """Tell what found no partner."""
        for found in self._found.values():
            match found:
                case Booking():
                    problem = f"is {found.kind} in the ledger with {found.amount}, and has no cost event"
                    self._differs(found.tenant, found.request_id, found.attempt, problem)
                case _Unbooked() as event:
                    problem = f"has a {event.type} of {event.amount} that the ledger does not have"
                    self._differs(event.tenant, event.request_id, event.attempt, problem)
                case bytes():
                    pass
        for attempt, booking in self._adjusted.items():
            self._require_uncertain(attempt, booking)

    def _require_uncertain(self, attempt: bytes, booking: Booking) -> None:
        booked = self._found.get(attempt + b"s")
        mark = booked.mark if isinstance(booked, _Unbooked) else booked
        if (mark is None and not self.aged) or (isinstance(mark, bytes) and not mark.startswith(b"u")):
            problem = "was adjusted, and its booking was not uncertain"
            self._differs(booking.tenant, booking.request_id, booking.attempt, problem)

    def _match(self, booking: Booking, told: int) -> None:
        _add(self.spent, booking, told)
        if booking.kind == "adjusted":
            self._adjusted[attempt_key(booking.tenant, booking.request_id, booking.attempt)] = booking
        if booking.amount != told:
            problem = f"is {booking.kind} in the ledger with {booking.amount}, its cost event says {told}"
            self._differs(booking.tenant, booking.request_id, booking.attempt, problem)

    def _differs(self, tenant: str, request_id: str, attempt: int | None, problem: str) -> None:
        where = f"attempt {attempt} of {request_id} ({tenant})"
        self.differences.append(Difference("cost", where, problem, tenant))


def _add(sums: dict[tuple[str, str], int], booking: Booking, amount: int) -> None:
    for window in booking.windows:
        sums[booking.tenant, window] = sums.get((booking.tenant, window), 0) + amount
