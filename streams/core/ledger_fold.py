"""The ledger of one home partition, folded from its first entry: what `orchestrator verify` recomputes accounts from.

Nothing is taken from the code that decides. The fold knows what a type of entry means (CONTRACT §2), and finds every
entry that says something else.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Literal, assert_never

from pydantic import ValidationError

from schemas.ledger import LedgerEntry

REMEMBERED = 131_072
"""How far back a repeated entry is compared with the first one, in entries of its partition. 16 bytes each: 2 MiB."""

_DIGEST = 16
_UNSEEN = bytes(_DIGEST)

Kind = Literal["entry", "sequence", "repetition", "balance", "limit", "hold", "account", "cost"]


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that does not agree. `tenant` and `window` where it concerns one; None: not known, or all of them."""

    kind: Kind
    where: str
    problem: str
    tenant: str | None = None
    window: str | None = None

    def __str__(self) -> str:
        """Write it on one line."""
        return f"{self.where}: {self.problem}"


@dataclass(frozen=True, slots=True)
class Booking:
    """What the ledger books for an attempt in all its windows: needs a cost event of the same amount."""

    kind: Literal["settled", "adjusted"]
    tenant: str
    request_id: str
    attempt: int
    amount: int
    windows: tuple[str, ...]
    time: str


@dataclass(slots=True)
class Balance:
    """One window, in nano-USD. `excused`: a provider's overrun or a lowered budget may have put it above its limit."""

    spent: int = 0
    reserved: int = 0
    limit: int | None = None
    excused: bool = False


@dataclass(slots=True)
class LedgerFold:
    """Folds the entries of `partition` in log order, up to `target`: the last one that the tables contain.

    An entry that was told before (its `seq` is not above the last one's) changes nothing; it must be the same bytes.
    `open_booking` is the last one as long as another of its windows may follow.
    Memory: `REMEMBERED` digests, one balance per tenant and window, and the holds that are open.
    """

    partition: int
    target: int
    seq: int = 0
    repeated: int = 0
    not_compared: int = 0
    balances: dict[tuple[str, str], Balance] = field(default_factory=dict)
    open_holds: dict[tuple[str, str, int, str], int] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)
    _digests: bytearray = field(default_factory=bytearray)
    open_booking: Booking | None = None

    def add(self, value: bytes, *, beyond_is_wrong: bool = True) -> Iterator[Booking]:
        """Fold one entry; yield the booking that it shows to be complete.

        `beyond_is_wrong`: whether an entry above the target was in the log before the tables were looked at. Rows are
        stored before their entries are published, so such an entry belongs to no decision.
        """
        try:
            entry = LedgerEntry.model_validate_json(value)
        except ValidationError as error:
            first = error.errors()[0]
            path = ".".join(str(part) for part in first["loc"])
            self._differs("entry", f"ledger partition {self.partition}", f"is no entry: {path} {first['msg']}")
            return
        digest = blake2b(value, digest_size=_DIGEST).digest()
        if entry.partition != self.partition:
            self._wrong("entry", entry, f"says partition {entry.partition}")
        if entry.seq <= self.seq:
            self._repeated(entry, digest)
            return
        if entry.seq > self.target:
            if beyond_is_wrong:
                self._wrong("sequence", entry, f"the tables end with seq {self.target}: no decision made this entry")
            return
        if entry.seq > self.seq + 1:
            missing = f"{self.seq + 1}" if entry.seq == self.seq + 2 else f"{self.seq + 1} to {entry.seq - 1}"
            self._wrong("sequence", entry, f"seq {missing} is missing before it")
        self._remember(entry.seq, digest)
        yield from self._booked(entry)
        self._fold(entry)

    def end(self) -> Iterator[Booking]:
        """Yield the booking that no further entry follows."""
        if self.open_booking is not None:
            yield self.open_booking
            self.open_booking = None

    def _repeated(self, entry: LedgerEntry, digest: bytes) -> None:
        if entry.seq <= self.seq - REMEMBERED:
            self.not_compared += 1
            return
        at = (entry.seq - 1) % REMEMBERED * _DIGEST
        known = bytes(self._digests[at : at + _DIGEST])
        if known == digest:
            self.repeated += 1
        elif known == _UNSEEN:
            self._digests[at : at + _DIGEST] = digest
            self._wrong("sequence", entry, f"comes behind seq {self.seq}")
        else:
            self._wrong("repetition", entry, "was told before with other content")

    def _remember(self, seq: int, digest: bytes) -> None:
        for skipped in range(max(self.seq + 1, seq - REMEMBERED), seq):
            self._keep(skipped, _UNSEEN)
        self._keep(seq, digest)
        self.seq = seq

    def _keep(self, seq: int, digest: bytes) -> None:
        at = (seq - 1) % REMEMBERED * _DIGEST
        if at > len(self._digests):
            self._digests.extend(bytes(at - len(self._digests)))
        self._digests[at : at + _DIGEST] = digest

    def _booked(self, entry: LedgerEntry) -> Iterator[Booking]:
        """Put the entries of one booking, one per window and next to each other, together."""
        match entry.type:
            case "hold.settled.v1":
                kind: Literal["settled", "adjusted"] = "settled"
            case "booking.adjusted.v1":
                kind = "adjusted"
            case _:
                yield from self.end()
                return
        if entry.request_id is None or entry.attempt is None:
            self._wrong("entry", entry, "books money for no attempt")
            return
        before = self.open_booking
        same = before is not None and (before.kind, before.tenant, before.request_id, before.attempt) == (
            kind,
            entry.tenant,
            entry.request_id,
            entry.attempt,
        )
        if before is None or not same or entry.window in before.windows:
            yield from self.end()
            windows: tuple[str, ...] = (entry.window,)
        else:
            windows = (*before.windows, entry.window)
            if entry.amount_nano_usd != before.amount:
                self._wrong("entry", entry, f"books {entry.amount_nano_usd}, in another window {before.amount}")
        amount = entry.amount_nano_usd if len(windows) == 1 or before is None else before.amount
        self.open_booking = Booking(kind, entry.tenant, entry.request_id, entry.attempt, amount, windows, entry.time)

    def _fold(self, entry: LedgerEntry) -> None:
        known = self.balances.get((entry.tenant, entry.window))
        balance = known or self.balances.setdefault((entry.tenant, entry.window), Balance(limit=entry.limit_nano_usd))
        hold, amount = entry.hold_nano_usd, entry.amount_nano_usd
        match entry.type:
            case "hold.placed.v1":
                balance.reserved += hold
                self._place(entry)
            case "hold.settled.v1" | "hold.released.v1":
                balance.reserved -= hold
                balance.spent += amount
                balance.excused |= amount > hold
                self._close(entry)
                if entry.type == "hold.released.v1" and amount:
                    self._wrong("entry", entry, f"is a release and books {amount}")
            case "booking.adjusted.v1":
                balance.spent += amount
                balance.excused |= amount > 0
            case "budget.set.v1":
                self._set_budget(entry, balance, is_new=known is None)
            case "hold.refused.v1":
                if amount:
                    self._wrong("entry", entry, f"is a refusal and books {amount}")
            case _:
                assert_never(entry.type)
        self._compare(entry, balance)

    def _place(self, entry: LedgerEntry) -> None:
        key = _hold_of(entry)
        if key in self.open_holds:
            self._wrong("hold", entry, f"places the hold of attempt {key[2]} of {key[1]} a second time")
        if entry.amount_nano_usd:
            self._wrong("entry", entry, f"places a hold and books {entry.amount_nano_usd}")
        self.open_holds[key] = entry.hold_nano_usd

    def _close(self, entry: LedgerEntry) -> None:
        key = _hold_of(entry)
        placed = self.open_holds.pop(key, None)
        if placed is None:
            self._wrong("hold", entry, f"closes a hold of attempt {key[2]} of {key[1]} that is not open")
        elif placed != entry.hold_nano_usd:
            self._wrong("hold", entry, f"closes a hold of {entry.hold_nano_usd}, placed were {placed}")

    def _set_budget(self, entry: LedgerEntry, balance: Balance, *, is_new: bool) -> None:
        if not is_new and balance.limit != entry.limit_before_nano_usd:
            self._wrong("limit", entry, f"changes a limit of {entry.limit_before_nano_usd}, it was {balance.limit}")
        balance.limit = entry.limit_nano_usd
        balance.excused = True  # a lowered budget; the next hold must fit all the same

    def _compare(self, entry: LedgerEntry, balance: Balance) -> None:
        told = (entry.spent_after_nano_usd, entry.reserved_after_nano_usd)
        if told != (balance.spent, balance.reserved):
            self._wrong(
                "balance",
                entry,
                f"says spent {told[0]} and reserved {told[1]}; the entries up to it make {balance.spent} and"
                f" {balance.reserved}",
            )
            balance.spent, balance.reserved = told  # one mistake is told once
        if entry.limit_nano_usd != balance.limit:
            self._wrong("limit", entry, f"says limit {entry.limit_nano_usd}; it was {balance.limit}")
            balance.limit = entry.limit_nano_usd
        above = balance.limit is not None and balance.spent + balance.reserved > balance.limit
        if above and (entry.type == "hold.placed.v1" or not balance.excused):
            over = f"spent {balance.spent} and reserved {balance.reserved} are above the limit {balance.limit}"
            self._wrong("limit", entry, over)

    def _wrong(self, kind: Kind, entry: LedgerEntry, problem: str) -> None:
        where = f"ledger partition {self.partition} seq {entry.seq} ({entry.type} of {entry.tenant}, {entry.window})"
        self._differs(kind, where, problem, entry.tenant, entry.window)

    def _differs(
        self, kind: Kind, where: str, problem: str, tenant: str | None = None, window: str | None = None
    ) -> None:
        self.differences.append(Difference(kind, where, problem, tenant, window))


def _hold_of(entry: LedgerEntry) -> tuple[str, str, int, str]:
    return entry.tenant, entry.request_id or "", entry.attempt or 0, entry.window
