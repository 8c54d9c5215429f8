"""What a decision says: facts about one request and its account. Folding them gives the state (DESIGN §2, G8).

They are kept in the request's row, so that a record delivered again repeats the same events, byte for byte.
"""

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class LedgerLine:
    """One window of an account after an entry; `seq` counts the ledger entries of the home partition without gaps."""

    window: str
    spent: int
    reserved: int
    limit: int | None
    seq: int


@dataclass(frozen=True, slots=True)
class HoldPlaced:
    """Money was reserved for an attempt, in every window at once, before its call."""

    attempt: int
    hold: int
    lines: tuple[LedgerLine, ...]


@dataclass(frozen=True, slots=True)
class HoldSettled:
    """An attempt's hold was closed: `amount` is booked as spent, the rest is given back."""

    attempt: int
    hold: int
    amount: int
    lines: tuple[LedgerLine, ...]


@dataclass(frozen=True, slots=True)
class HoldReleased:
    """An attempt's hold was closed and nothing booked: nothing can have been billed."""

    attempt: int
    hold: int
    lines: tuple[LedgerLine, ...]


@dataclass(frozen=True, slots=True)
class HoldRefused:
    """The request was refused before any call; `hold` is what it would have needed, 0 where it did not come to that."""

    hold: int
    lines: tuple[LedgerLine, ...]


@dataclass(frozen=True, slots=True)
class BookingAdjusted:
    """The truth about an attempt booked at its bound has arrived: `delta` corrects what was booked."""

    attempt: int
    delta: int
    lines: tuple[LedgerLine, ...]


@dataclass(frozen=True, slots=True)
class BudgetSet:
    """The configured limit of a window differs from the one that the account had."""

    before: int | None
    lines: tuple[LedgerLine, ...]


@dataclass(frozen=True, slots=True)
class Charged:
    """A cost event: `adjusted` carries a signed difference, the others an amount."""

    kind: Literal["incurred", "uncertain", "adjusted"]
    attempt: int
    nano_usd: int


@dataclass(frozen=True, slots=True)
class AttemptStarted:
    """The attempt's call may start once this fact is stored."""

    attempt: int


@dataclass(frozen=True, slots=True)
class AttemptWaits:
    """The attempt may start at `not_before_ms`, not earlier."""

    attempt: int
    not_before_ms: int


@dataclass(frozen=True, slots=True)
class AttemptEnded:
    """An attempt brought no answer: a failure of its deployment, or lost with its worker (`redriven`).

    `deployment` is None where none was called, or where a crash hid which one was. `error`: what the failure was, as a
    later `Failed` would tell it; empty when it was lost.
    """

    attempt: int
    deployment: str | None
    redriven: bool
    error: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answered:
    """The request is done: the answer of `attempt` stands. `cost`: all that is booked for the request so far."""

    attempt: int
    attempts: int
    cost: int


@dataclass(frozen=True, slots=True)
class Failed:
    """The request is done: this error stands. `cost`: all that is booked for the request so far."""

    code: str
    message: str
    details: dict[str, Any]
    attempts: int
    cost: int


Fact = (
    HoldPlaced
    | HoldSettled
    | HoldReleased
    | HoldRefused
    | BookingAdjusted
    | BudgetSet
    | Charged
    | AttemptStarted
    | AttemptWaits
    | AttemptEnded
    | Answered
    | Failed
)


@dataclass(frozen=True, slots=True)
class Decision:
    """What one record caused: at its coordinates in the home partition, at its broker time.

    `now_ms` is the wall time that deadlines were checked against: drawn once, kept here.
    """

    topic: Literal["prompt.requests", "prompt.progress"]
    offset: int
    time_ms: int
    now_ms: int
    facts: tuple[Fact, ...]
