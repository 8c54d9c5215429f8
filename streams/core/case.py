"""What a decision is made on, and the pen that writes it: facts, the account and the ledger sequence after each."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from schemas.configuration import Configuration
from schemas.errors import ErrorCode, Reason
from streams.core import account as accounts
from streams.core import gcra
from streams.core.account import Account, Window
from streams.core.facts import (
    Answered,
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
    LedgerLine,
)
from streams.core.request import Request, evolve, recorded
from streams.core.rows import Home


@dataclass(frozen=True, slots=True)
class Case:
    """One request with its account and home partition, as the newest planned rows have them.

    `at`: topic, offset and broker time of the record to decide on; `now_ms`: wall time, drawn once by the shell.
    """

    topic: Literal["prompt.requests", "prompt.progress"]
    offset: int
    time_ms: int
    now_ms: int
    home: Home
    account: Account
    configuration: Configuration


@dataclass(frozen=True, slots=True)
class Verdict:
    """The rows after a decision, and the decision itself; equal to the rows before where nothing was decided."""

    request: Request
    account: Account
    home: Home
    decision: Decision


@dataclass(slots=True)
class Pen:
    """Writes one decision: every entry changes the account and takes the next ledger sequence number."""

    case: Case
    request: Request
    account: Account
    current: tuple[str, ...]
    seq: int
    token_rate: gcra.Rate | None = None
    facts: list[Fact] = field(default_factory=list)

    def _write(self, fact: Fact) -> None:
        self.facts.append(fact)
        self.request = evolve(self.request, fact)

    def _line(self, window: Window) -> LedgerLine:
        self.account = accounts.with_window(self.account, window)
        self.seq += 1
        return LedgerLine(window.id, window.spent, window.reserved, window.limit, self.seq)

    def _windows(self, names: Sequence[str]) -> list[Window]:
        return [w for name in names if (w := self.account.window(name)) is not None]

    def note_budgets(self, limits: Sequence[tuple[str, int]]) -> None:
        """Bring the windows' limits in line with the configuration, each change a fact."""
        for kind, limit in limits:
            for window in self._windows(self.current):
                if window.kind == kind and window.limit != limit:
                    before = window.limit
                    self._write(BudgetSet(before, (self._line(replace(window, limit=limit)),)))

    def lift(self) -> bool:
        """Let the tenant go on after an overrun; return whether anything was stopped.

        Each window leaves a `budget.set` of the limit that it has already. One whose limit changes in this decision has
        said so and leaves no second one.
        """
        stopped = [window for window in self.account.windows if window.overrun]
        noted = {line.window for fact in self.facts if isinstance(fact, BudgetSet) for line in fact.lines}
        for window in stopped:
            lifted = replace(window, overrun=False)
            if window.id in noted:
                self.account = accounts.with_window(self.account, lifted)
            else:
                self._write(BudgetSet(window.limit, (self._line(lifted),)))
        return bool(stopped)

    def room_for(self, hold: int) -> Window | None:
        """Return the first current window that a hold does not fit into, or that an overrun has stopped."""
        return next((w for w in self._windows(self.current) if w.overrun or not w.fits(hold)), None)

    def hold_for(self, attempt: int, hold: int) -> None:
        """Place the hold of an attempt in all current windows, count its tokens. The caller has asked `room_for`."""
        self.count_tokens(self.request.intake.tokens)
        lines = tuple(self._line(accounts.place(w, hold)) for w in self._windows(self.current))
        self._write(HoldPlaced(attempt, hold, lines))

    def take_turn(self, tat_ns: int) -> None:
        """Count the request in the tenant's rate limit."""
        self.account = replace(self.account, tat_ns=tat_ns)

    def count_tokens(self, amount: int) -> None:
        """Count tokens in the tenant's rate limit; a negative amount gives back what was not used."""
        if self.token_rate is not None:
            now_ns = self.account.clock_ms * gcra.NS_PER_MS
            tat_ns = max(self.account.tokens_tat_ns, now_ns) if amount > 0 else self.account.tokens_tat_ns
            self.account = replace(self.account, tokens_tat_ns=tat_ns + amount * self.token_rate.interval_ns)

    def close_hold(self, kind: Literal["incurred", "uncertain"] | None, amount: int, tokens: int | None = None) -> None:
        """Close the open hold: book `amount` under a cost event of `kind`, or release it all where nothing was billed.

        `tokens`: how many were used; None where that is not known: then the bound counts.
        """
        open_hold = self.request.hold
        if open_hold is None:
            return
        if kind is None or tokens is not None:
            self.count_tokens((tokens or 0) - self.request.intake.tokens)
        lines = tuple(
            self._line(accounts.settle(w, open_hold.hold, amount, certain=kind != "uncertain"))
            for w in self._windows(open_hold.windows)
        )
        if kind is None:
            self._write(HoldReleased(open_hold.attempt, open_hold.hold, lines))
            return
        if amount > open_hold.hold:
            self.account = accounts.stopped(self.account, self.current)
        self._write(HoldSettled(open_hold.attempt, open_hold.hold, amount, lines))
        self._write(Charged(kind, open_hold.attempt, amount))

    def adjust(self, attempt: int, truth: int) -> None:
        """Replace an uncertain booking by its truth."""
        booking = self.request.booking(attempt)
        if booking is None or booking.certain:
            return
        delta = truth - booking.amount
        lines = tuple(
            self._line(accounts.adjust(w, delta)) for w in self._windows(self.request.windows.get(attempt, ()))
        )
        if delta > 0:
            self.account = accounts.stopped(self.account, self.current)
        self._write(BookingAdjusted(attempt, delta, lines))
        self._write(Charged("adjusted", attempt, delta))

    def refuse(self, hold: int, code: ErrorCode, reason: Reason, message: str, **details: Any) -> None:
        """End the request before any call; the ledger gets an entry of amount 0."""
        self._write(HoldRefused(hold, tuple(self._line(w) for w in self._windows(self.current))))
        self.fail(code, reason, message, **details)

    def fail(self, code: ErrorCode, reason: Reason, message: str, **details: Any) -> None:
        """End the request with an error."""
        told = {k: v for k, v in details.items() if v is not None}
        self._write(Failed(code, message, {"reason": reason, **told}, self.request.attempts, self.request.booked))

    def answer(self, attempt: int) -> None:
        """End the request with the answer of `attempt`."""
        self._write(Answered(attempt, self.request.attempts, self.request.booked))

    def write(self, fact: Fact) -> None:
        """Write a fact that touches no money."""
        self._write(fact)

    def verdict(self) -> Verdict:
        """Return the rows after all that was written."""
        case = self.case
        decision = Decision(case.topic, case.offset, case.time_ms, case.now_ms, tuple(self.facts))
        before, decides = case.home, case.topic == "prompt.requests"
        home = Home(
            seq=self.seq,
            clock_ms=max(before.clock_ms, case.time_ms),
            partitions=case.configuration.kafka.partitions,
            requests_to=max(before.requests_to, case.offset if decides else -1),
            progress_to=max(before.progress_to, -1 if decides else case.offset),
        )
        return Verdict(recorded(self.request, decision), self.account, home, decision)


def pen_for(case: Case, request: Request) -> Pen:
    """Take up the pen: the account's windows are those of the record's broker time, never an earlier one."""
    rules = case.configuration.tenant(case.account.tenant)
    limits = tuple((b.window, b.limit_nano_usd) for b in rules.budgets) if rules else ()
    account, current = accounts.turned_to(case.account, limits, case.time_ms)
    limit = None if rules is None or rules.rate_limit is None else rules.rate_limit.tokens_per_minute
    pen = Pen(case, request, account, current, case.home.seq, None if limit is None else gcra.Rate(limit, limit))
    pen.note_budgets(limits)
    return pen
