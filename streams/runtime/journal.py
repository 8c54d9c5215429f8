"""The write path: one journal per worker, in plan order, with group commit (DESIGN §4, rules 1–3).

Records are planned in order into the open group. A released group goes through four steps, each after the same step of
all earlier groups: its rows are appended to the changelogs; once the broker has them they enter RocksDB; its outputs
are published; its records are acknowledged and its calls let go. Several groups are on their way at once.

All rows of a group in one partition are one record batch, so a crash keeps a group's decisions whole or not at all
(docs/decisions/0001-atomic-groups.md). A key written twice in a group is stored once.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

import structlog

from streams.runtime.lease import Lease
from streams.runtime.ports import Log, Outgoing, Process, Record, Source, Store

TRY_AGAIN = 75

MOST_RECORDS = 512
MOST_BYTES = 512 * 1024
"""A group's rows fit one record batch (topics take 2 MiB) with room for the largest decision."""

MOST_IN_FLIGHT = 6
MOST_WAIT_S = 0.005
"""A group is offered when its stage has nothing more at hand, and at the latest after this."""

DRAIN_S = 8.0

T = TypeVar("T")

Row = object
Effect = Callable[[], None]
Late = Callable[[], Awaitable[Sequence[Outgoing]]]
"""An output that must be read back from the log before it can be published."""

log = structlog.get_logger()


@dataclass(slots=True)
class Planned:
    """A row that the broker may not have yet: its bytes, what they mean, and the group that writes it."""

    value: bytes | None
    row: Row
    group: "Group"


@dataclass(slots=True, eq=False)
class Group:
    """Decisions that are stored together. `effects` run when all of it is acknowledged, or when the lease is
    renewed."""

    generation: int
    rows: dict[tuple[str, int], dict[bytes, bytes | None]] = field(default_factory=dict)
    outputs: list[Outgoing | Late] = field(default_factory=list)
    records: list[tuple[Source, Record]] = field(default_factory=list)
    effects: list[tuple[int, Effect]] = field(default_factory=list)
    undo: list[Effect] = field(default_factory=list)
    size: int = 0
    appended: asyncio.Event = field(default_factory=asyncio.Event)
    stored: asyncio.Event = field(default_factory=asyncio.Event)
    published: asyncio.Event = field(default_factory=asyncio.Event)


class Journal:
    """The one place where rows, outputs and acknowledgements of a worker are put in order."""

    def __init__(self, log: Log, store: Store, process: Process, lease: Lease) -> None:
        """Write through `log` into `store`; end `process` when it cannot be known whether something was stored."""
        self._log, self._store, self._process, self._lease = log, store, process, lease
        self._overlay: dict[tuple[str, int, bytes], Planned] = {}
        self._open = Group(lease.generation)
        self._last: Group | None = None
        self._in_flight: deque[asyncio.Task[None]] = deque()
        self._held_back: list[tuple[int, Effect]] = []
        self.groups, self.records = 0, 0

    def read(self, table: str, partition: int, key: bytes, decode: Callable[[bytes], T]) -> T | None:
        """Return the newest planned row, else the stored one."""
        planned = self._overlay.get((table, partition, key))
        if planned is not None:
            return planned.row  # type: ignore[return-value]  # put() stored a row of this key's type
        value = self._store.get(table, partition, key)
        return None if value is None else decode(value)

    def value(self, table: str, partition: int, key: bytes) -> bytes | None:
        """Return the bytes of the newest planned row, else of the stored one."""
        planned = self._overlay.get((table, partition, key))
        return planned.value if planned is not None else self._store.get(table, partition, key)

    def scan(self, table: str, partition: int, prefix: bytes, start: bytes, most: int) -> list[tuple[bytes, bytes]]:
        """Return the first `most` rows whose key has `prefix` and is not below `start`, planned ones included."""
        planned = {
            key: row.value
            for (its_table, its_partition, key), row in self._overlay.items()
            if its_partition == partition and its_table == table and key.startswith(prefix) and key >= start
        }
        stored = self._store.scan(table, partition, prefix, start)
        found = list(islice((row for row in stored if row[0] not in planned), most))
        found += [(key, value) for key, value in planned.items() if value is not None]
        return sorted(found)[:most]

    def put(self, table: str, partition: int, key: bytes, value: bytes | None, row: Row) -> None:
        """Plan a row; None deletes."""
        group = self._open
        group.rows.setdefault((table, partition), {})[key] = value
        group.size += len(key) + len(value or b"")
        self._overlay[table, partition, key] = Planned(value, row, group)

    def publish(self, output: Outgoing | Late) -> None:
        """Plan an output: published once the group's rows are stored."""
        self._open.outputs.append(output)

    def afterwards(self, partition: int, effect: Effect, undo: Effect) -> None:
        """Plan what may happen once the group is acknowledged; `undo` runs instead if the group is dropped."""
        self._open.effects.append((partition, effect))
        self._open.undo.append(undo)

    def add(self, source: Source, record: Record) -> None:
        """Count a record, on which everything planned since the last one was decided, into the open group."""
        group = self._open
        if not group.records:
            group.generation = record.generation
            asyncio.get_running_loop().call_later(MOST_WAIT_S, self._offer_if_open, group)
        group.records.append((source, record))

    @property
    def full(self) -> bool:
        """Whether the open group should be released before the next record is planned."""
        return len(self._open.records) >= MOST_RECORDS or self._open.size >= MOST_BYTES

    def offer(self) -> None:
        """Release the open group, as soon as the rows of the one before are stored.

        So groups are as large as the load makes them: a broker's round trip costs the same for one decision as for
        hundreds. The rows of a group and the outputs of the one before it leave together.
        """
        if self._last is None or self._last.stored.is_set():
            self.release()

    def release(self) -> None:
        """Let the open group go its way."""
        if not self._open.records or not self._lease.active:
            return
        group, self._open = self._open, Group(self._lease.generation)
        task = asyncio.get_running_loop().create_task(self._commit(group, self._last))
        self._last = group
        self._in_flight.append(task)

    def _offer_if_open(self, group: Group) -> None:
        if self._open is group:
            self.offer()

    async def room(self) -> None:
        """Return when another group may be released."""
        while len(self._in_flight) >= MOST_IN_FLIGHT:
            await self._in_flight[0]
            self._reap()
        self._reap()

    def _reap(self) -> None:
        while self._in_flight and self._in_flight[0].done():
            self._in_flight.popleft().result()

    async def drain(self) -> None:
        """Drop what is planned and not released, wait for the groups on their way. Ends the process when that takes
        long.

        Called in LIMBO, before the group is rejoined: rows of this generation must not arrive behind the next owner's.
        """
        self._drop_open()
        waiting = [task for task in self._in_flight if not task.done()]
        if waiting:
            _, late = await asyncio.wait(waiting, timeout=DRAIN_S)
            if late:
                self._process.exit(TRY_AGAIN, f"{len(late)} groups were not stored within {DRAIN_S:g} s of a rebalance")
        self._reap()
        self._overlay.clear()

    def _drop_open(self) -> None:
        dropped, self._open = self._open, Group(self._lease.generation)
        for undo in dropped.undo:
            undo()

    def resume(self) -> None:
        """After a new assignment: let go what stored groups held back in LIMBO, where the partition stayed."""
        held_back, self._held_back = self._held_back, []
        for partition, effect in held_back:
            if partition in self._lease.partitions:
                effect()

    async def _commit(self, group: Group, earlier: Group | None) -> None:
        try:
            await self._append(group, earlier)
            await self._publish(group, earlier)
        except Exception as error:  # noqa: BLE001 - nobody knows what is stored: redelivery repairs it
            self._process.exit(TRY_AGAIN, f"cannot know whether a group was stored: {error!r}")
        self._acknowledge(group)

    async def _append(self, group: Group, earlier: Group | None) -> None:
        if earlier is not None:
            await earlier.appended.wait()
        sent = []
        for (table, partition), rows in group.rows.items():
            batch = list(rows.items())
            sent.append((table, partition, batch, await self._log.append_rows(table, partition, batch)))
        group.appended.set()
        offsets = [await stored for *_, stored in sent]
        if earlier is not None:
            await earlier.stored.wait()
        for (table, partition, batch, _), offset in zip(sent, offsets, strict=True):
            self._store.write(table, partition, batch, offset)
        for (table, partition), rows in group.rows.items():
            for key in rows:
                planned = self._overlay.get((table, partition, key))
                if planned is not None and planned.group is group:
                    del self._overlay[table, partition, key]
        group.stored.set()
        if self._last is group:
            self.offer()

    async def _publish(self, group: Group, earlier: Group | None) -> None:
        outputs: list[Outgoing] = []
        for output in group.outputs:
            outputs.extend([output] if isinstance(output, Outgoing) else await output())
        if earlier is not None:
            await earlier.published.wait()
        if outputs:
            await self._log.publish(outputs)

    def _acknowledge(self, group: Group) -> None:
        """Runs in group order: it follows `published` of the earlier group without another wait."""
        if self._lease.active and self._lease.generation == group.generation:
            by_source: dict[int, tuple[Source, list[Record]]] = {}
            for source, record in group.records:
                by_source.setdefault(id(source), (source, []))[1].append(record)
            for source, records in by_source.values():
                source.ack(records)
            for _, effect in group.effects:
                effect()
        else:
            self._held_back.extend(group.effects)
        self.groups += 1
        self.records += len(group.records)
        group.published.set()
