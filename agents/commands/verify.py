"""`orchestrator verify`: recomputes every account from the topics, and compares it with tables and cost events.

With workers running or stopped. Ends are recorded in this order: ledger, cost events, changelog. Rows are stored before
the events of their decision are published, so the tables up to their end contain every entry and every cost event that
was recorded, and their home rows say up to which entry (`Home.seq`) they go: accounts are compared at exactly that one.
Entries and events behind the recorded ends are waited for; those that a dead worker left unpublished are taken from the
rows, unless their record was acknowledged, which no worker does before they are published.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Final

import orjson

from agents.commands.reading import reading
from schemas.configuration import Configuration
from schemas.units import rfc3339, usd
from streams.core.books import Decided, Line, Tables, Unpublished, compare_accounts, report
from streams.core.cost_join import CostJoin, parts_for
from streams.core.homes import partition_of
from streams.core.ledger_fold import Difference, LedgerFold
from streams.runtime.reading import Progress, Reader, Span
from streams.runtime.topics import Topics

PATIENCE_S: Final = 5.0
"""How long events that were decided and not yet published are waited for, from one to the next."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What was found. `entries` and `cost_events` are distinct ones; `repeated` and `unpublished` count both."""

    lines: tuple[Line, ...]
    differences: tuple[Difference, ...]
    entries: int
    cost_events: int
    repeated: int
    unpublished: int
    not_compared: int

    def notes(self) -> list[str]:
        """Return what is no difference, and worth knowing."""
        notes = [
            f"{self.entries:,} ledger entries and {self.cost_events:,} cost events; {self.repeated:,} were told again"
        ]
        if self.unpublished:
            notes.append(f"{self.unpublished:,} decided, not published yet: the next worker to run publishes them")
        if self.not_compared:
            notes.append(f"{self.not_compared:,} repeated entries are too far from the first ones to be compared")
        if any(line.aged for line in self.lines):
            aged = sum(line.aged for line in self.lines if line.window.partition(":")[0] in {"total", "none"})
            notes.append(f"bookings older than prompt.costs is kept have no cost event any more ({usd(aged)} USD)")
        return notes

    def to_json(self) -> bytes:
        """Write everything, for programs; amounts in nano-USD."""
        body = {
            "ok": not self.differences,
            "entries": self.entries,
            "cost_events": self.cost_events,
            "repeated": self.repeated,
            "unpublished": self.unpublished,
            "differences": [asdict(difference) for difference in self.differences],
            "accounts": [_nano(line) for line in self.lines],
        }
        return orjson.dumps(body)


COLUMNS: Final = ("tenant", "window", "limit", "spent", "reserved", "cost events", "rows: spent", "reserved", "ok")
"""Of `table`."""


def table(lines: Iterable[Line]) -> list[tuple[str, ...]]:
    """Return rows for people, in US dollars. Past windows without a difference are one row per tenant and kind."""
    rows, past = [], dict[tuple[str, str], list[Line]]()
    for line in lines:
        if line.ok and line.row_spent is None:
            past.setdefault((line.tenant, line.window.partition(":")[0]), []).append(line)
        else:
            rows.append(_cells(line, line.window))
    for (tenant, kind), these in past.items():
        spent, costs, aged = (sum(getattr(line, name) for line in these) for name in ("spent", "costs", "aged"))
        together = Line(tenant, "", spent, 0, None, costs, aged, None, None, ok=True)
        rows.append(_cells(together, these[0].window if len(these) == 1 else f"{kind}, {len(these):,} past ones"))
    return sorted(rows)


def _cells(line: Line, window: str) -> tuple[str, ...]:
    limit, row_spent, row_reserved = (
        "-" if amount is None else usd(amount) for amount in (line.limit, line.row_spent, line.row_reserved)
    )
    costs, ok = usd(line.costs + line.aged), "yes" if line.ok else "NO"
    return (line.tenant, window, limit, usd(line.spent), usd(line.reserved), costs, row_spent, row_reserved, ok)


def _nano(line: Line) -> dict[str, object]:
    named = {"spent", "reserved", "limit", "costs", "aged", "row_spent", "row_reserved"}
    return {f"{name}_nano_usd" if name in named else name: value for name, value in asdict(line).items()}


@dataclass(slots=True)
class _Check:
    reader: Reader
    topics: Topics
    ledger: Span
    costs: Span
    changelog: Span
    tables: Tables = field(default_factory=Tables)
    oldest: dict[int, str] = field(default_factory=dict)
    unpublished: int = 0
    acknowledged: Mapping[tuple[str, int], int] | None = None

    def is_aged(self, tenant: str, time: str) -> bool:
        """Whether a cost event of a tenant may be gone: its partition has lost its beginning, which was after it."""
        partition = partition_of(tenant.encode(), len(self.costs.ends))
        return self.costs.begins[partition] > 0 and time < self.oldest.get(partition, "9")

    async def read_tables(self) -> None:
        async for records in self.reader.read(self.changelog):
            for record in records:
                self.tables.add(record.partition, record.key, record.value)

    async def run(self, part: int, parts: int) -> tuple[dict[int, LedgerFold], CostJoin, list[Difference]]:
        """Read cost events and ledger once, and join the attempts of one part."""
        join = CostJoin(part, parts, self.is_aged)
        ledgers = {p: LedgerFold(p, self.tables.target(p)) for p in self.ledger.ends}
        await self._read_costs(join)
        await self._read_ledger(ledgers, join)
        async for records in self.reader.follow(self.costs, lambda: not join.waiting, PATIENCE_S):
            for record in records:
                join.hear(record.value or b"", only_missing=True)
        differences = await self._take_from_rows(ledgers, join)
        join.finish()
        return ledgers, join, differences

    async def _read_costs(self, join: CostJoin) -> None:
        async for records in self.reader.read(self.costs):
            for record in records:
                self.oldest.setdefault(record.partition, rfc3339(record.timestamp))
                join.hear(record.value or b"")

    async def _read_ledger(self, ledgers: Mapping[int, LedgerFold], join: CostJoin) -> None:
        async for records in self.reader.read(self.ledger):
            for record in records:
                for booking in ledgers[record.partition].add(record.value or b""):
                    join.book(booking)
        complete = lambda: all(fold.seq >= fold.target for fold in ledgers.values())  # noqa: E731
        async for records in self.reader.follow(self.ledger, complete, PATIENCE_S):
            for record in records:
                for booking in ledgers[record.partition].add(record.value or b"", beyond_is_wrong=False):
                    join.book(booking)
        for fold in ledgers.values():
            if fold.seq >= fold.target:  # else the rows may have the rest of its last booking
                for booking in fold.end():
                    join.book(booking)

    async def _take_from_rows(self, ledgers: Mapping[int, LedgerFold], join: CostJoin) -> list[Difference]:
        """Complete the books from the rows; return what should have been published."""
        behind = {p: fold.seq for p, fold in ledgers.items() if fold.seq < fold.target}
        open_bookings = [ledgers[p].open_booking for p in behind]
        unmatched = (*join.unmatched(), *(booking for booking in open_bookings if booking is not None))
        lacking = frozenset((booking.tenant, booking.request_id) for booking in unmatched)
        if not (behind or lacking):
            return []
        found = Unpublished(behind, lacking)
        async for records in self.reader.read(self.changelog):
            for record in records:
                found.add(record.partition, record.key, record.value)
        differences = []
        self.acknowledged = await self.reader.committed(self.topics.app_id)
        for partition in behind:
            differences += self._complete(ledgers[partition], found.entries.get(partition, {}), join)
        for partition, events in found.costs.items():
            for event in events.values():
                if not self._is_acknowledged(partition, event):
                    before = join.waiting
                    join.hear(event.value, only_missing=True)
                    self.unpublished += before - join.waiting
        return differences

    def _complete(self, fold: LedgerFold, entries: Mapping[int, Decided], join: CostJoin) -> list[Difference]:
        differences = []
        for seq, entry in sorted(entries.items()):
            if self._is_acknowledged(fold.partition, entry):
                where = f"ledger partition {fold.partition} seq {seq}"
                differences.append(Difference("sequence", where, "is missing; a row has it"))
            else:
                self.unpublished += 1
            for booking in fold.add(entry.value):
                join.book(booking)
        for booking in fold.end():
            join.book(booking)
        if fold.seq < fold.target:
            where = f"ledger partition {fold.partition}"
            problem = f"ends with seq {fold.seq}; the tables contain entries up to {fold.target}"
            differences.append(Difference("sequence", where, problem))
        return differences

    def _is_acknowledged(self, partition: int, decided: Decided) -> bool:
        topic = self.topics.prefix + decided.topic
        return (self.acknowledged or {}).get((topic, partition), 0) > decided.offset


async def verify(configuration: Configuration, environ: Mapping[str, str], advance: Progress) -> Findings:
    """Check everything as of now. Raises `CommandError` (1, 75) where the topics cannot be read."""
    async with reading(configuration, environ, advance) as (reader, topics):
        ledger = await reader.span(topics.ledger)
        costs = await reader.span(topics.costs)
        check = _Check(reader, topics, ledger, costs, await reader.span(topics.accounts_changelog))
        await check.read_tables()
        parts = parts_for(costs.count)
        ledgers, join, missing = await check.run(0, parts)
        joins, unpublished = [join], check.unpublished
        for part in range(1, parts):
            joins.append((await check.run(part, parts))[1])
    budgets = {t.name: frozenset(b.window for b in t.budgets) for t in configuration.tenants if t.budgets}
    differences = [
        *check.tables.differences,
        *(difference for fold in ledgers.values() for difference in fold.differences),
        *missing,
        *compare_accounts(check.tables, ledgers, budgets),
        *(difference for join in joins for difference in join.differences),
    ]
    return Findings(
        lines=tuple(report(check.tables, ledgers, joins, differences)),
        differences=tuple(differences),
        entries=sum(fold.seq for fold in ledgers.values()),
        cost_events=sum(join.events for join in joins),
        repeated=sum(fold.repeated for fold in ledgers.values()) + sum(join.repeated for join in joins),
        unpublished=unpublished,
        not_compared=sum(fold.not_compared for fold in ledgers.values()),
    )
