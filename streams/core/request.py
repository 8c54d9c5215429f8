"""A prompt request's row: its coordinates, small numbers, and every decision about it. The state is their fold.

Prompts and answers stay in the log: the row says where.
"""

from dataclasses import dataclass, field
from typing import Any, Literal, assert_never

from streams.core.changes import changed
from streams.core.facts import (
    Answered,
    AttemptEnded,
    AttemptStarted,
    AttemptWaits,
    BookingAdjusted,
    BudgetSet,
    Charged,
    Decision,
    Fact,
    Failed,
    HoldPlaced,
    HoldRefused,
    HoldReleased,
    HoldSettled,
)


@dataclass(frozen=True, slots=True)
class Intake:
    """What never changes about a request: who asked, where it stands in the log, what its attempts may cost.

    `offset`: of its record in the home partition of `prompt.requests`. `received_ms`: the broker time when it was first
    published. `hold`: nano-USD that one attempt needs; `tokens`: how many it may use. `candidates`:
    deployments that may serve it.
    """

    tenant: str
    request_id: str
    partition: int
    offset: int
    digest: str
    received_ms: int
    deadline_ms: int
    traceparent: str
    metadata: dict[str, str]
    model: str
    hold: int = 0
    tokens: int = 0
    candidates: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Booking:
    """What is booked for one attempt. An uncertain one waits for its truth."""

    attempt: int
    amount: int
    certain: bool


@dataclass(frozen=True, slots=True)
class OpenHold:
    """The hold of the attempt that runs now."""

    attempt: int
    hold: int
    windows: tuple[str, ...]


State = Literal["new", "waiting", "pending", "done"]


@dataclass(frozen=True)  # without slots, for `changed`
class Request:
    """One request and the fold of its decisions."""

    intake: Intake
    decisions: tuple[Decision, ...] = ()
    state: State = "new"
    attempt: int = 0
    not_before_ms: int = 0
    hold: OpenHold | None = None
    windows: dict[int, tuple[str, ...]] = field(default_factory=dict)
    bookings: tuple[Booking, ...] = ()
    failures: int = 0
    redrives: int = 0
    uncalled: int = 0
    tried: tuple[str, ...] = ()
    last_error: dict[str, Any] | None = None
    terminal: Decision | None = None

    def decision_at(self, topic: str, offset: int) -> Decision | None:
        """Return what was decided for the record at these coordinates, if it was."""
        return next((d for d in self.decisions if d.offset == offset and d.topic == topic), None)

    def booking(self, attempt: int) -> Booking | None:
        """Return what is booked for an attempt, if its outcome was decided."""
        return next((b for b in self.bookings if b.attempt == attempt), None)

    @property
    def attempts(self) -> int:
        """How many attempts called a provider, or may have; one that still waits, or found nobody to call, is none."""
        return self.attempt - self.uncalled - (self.state == "waiting")

    @property
    def booked(self) -> int:
        """Nano-USD booked for the request so far."""
        return sum(b.amount for b in self.bookings)


@dataclass(frozen=True, slots=True)
class Start:
    """*Run this attempt*: what a call needs beside the prompt. `offset` is where the prompt stands in the log.

    `decided_ms`: broker time of the record that was admitted; its UTC day is the one that prices are of. `last_reason`:
    of the failure before, if one was.
    """

    tenant: str
    request_id: str
    partition: int
    offset: int
    attempt: int
    received_ms: int
    decided_ms: int
    deadline_ms: int
    traceparent: str
    candidates: tuple[str, ...]
    tried: tuple[str, ...]
    hold: int
    last_reason: str | None = None


def start_of(request: Request) -> Start:
    """Return what the call of a pending request's current attempt needs."""
    i = request.intake
    return Start(
        tenant=i.tenant,
        request_id=i.request_id,
        partition=i.partition,
        offset=i.offset,
        attempt=request.attempt,
        received_ms=i.received_ms,
        decided_ms=request.decisions[0].time_ms,
        deadline_ms=i.deadline_ms,
        traceparent=i.traceparent,
        candidates=i.candidates,
        tried=request.tried,
        hold=i.hold,
        last_reason=None if request.last_error is None else request.last_error.get("reason"),
    )


def after(request: Request, decision: Decision) -> Request:
    """Return the request after one decision."""
    for fact in decision.facts:
        request = evolve(request, fact)
    return recorded(request, decision)


def recorded(request: Request, decision: Decision) -> Request:
    """Return the request, into which the decision's facts are folded already, with the decision kept."""
    ends = request.terminal is None and request.state == "done"
    terminal = decision if ends else request.terminal
    return changed(request, decisions=(*request.decisions, decision), terminal=terminal)


def evolve(request: Request, fact: Fact) -> Request:
    """Return the request after one fact. Total: never raises, never reads a clock."""
    match fact:
        case HoldPlaced(attempt, hold, lines):
            names = tuple(line.window for line in lines)
            windows = {**request.windows, attempt: names}
            return changed(request, hold=OpenHold(attempt, hold, names), windows=windows)
        case HoldSettled():
            return changed(request, hold=None)
        case HoldReleased(attempt):
            bookings = (*request.bookings, Booking(attempt, 0, certain=True))
            return changed(request, hold=None, bookings=bookings)
        case Charged("adjusted", attempt, delta):
            return changed(
                request,
                bookings=tuple(
                    Booking(attempt, b.amount + delta, certain=True) if b.attempt == attempt else b
                    for b in request.bookings
                ),
            )
        case Charged(kind, attempt, amount):
            return changed(request, bookings=(*request.bookings, Booking(attempt, amount, kind == "incurred")))
        case AttemptStarted(attempt):
            return changed(request, state="pending", attempt=attempt, not_before_ms=0)
        case AttemptWaits(attempt, not_before_ms):
            return changed(request, state="waiting", attempt=attempt, not_before_ms=not_before_ms)
        case AttemptEnded(_, None, False):
            return changed(request, uncalled=request.uncalled + 1)
        case AttemptEnded(_, deployment, redriven, error):
            return changed(
                request,
                failures=request.failures + (not redriven),
                redrives=request.redrives + redriven,
                tried=request.tried if deployment is None else (*request.tried, deployment),
                last_error=error or request.last_error,
            )
        case Answered() | Failed():
            return changed(request, state="done", not_before_ms=0)
        case HoldRefused() | BookingAdjusted() | BudgetSet():
            return request
        case _:
            assert_never(fact)
