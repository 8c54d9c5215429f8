"""An in-memory Kafka, local disks, and the ports that one simulated process sees of them.

What the broker does happens in the world's own process: it goes on while workers pause or die.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random

from aiokafka.partitioner import murmur2

from streams.runtime.ports import Outgoing, Record, Rows
from tests.simulation.loop import EPOCH_MS, SimLoop, SimProcess

LATE_S = 0.2
"""A request sent before a crash has landed this much later, or never: sooner than a process can be back."""

LOCKED_S = 0.3
"""No worker starts sooner than this after its crash."""


class DeliveryUnknown(Exception):
    """The producer cannot know whether the broker has a batch."""


@dataclass(frozen=True, slots=True)
class Weather:
    """What the world is like in one history. Times in virtual seconds."""

    partitions: int = 3
    session_s: float = 10.0
    heartbeat_s: float = 3.0
    rebalance_timeout_s: float = 30.0
    trip_s: float = 0.005
    slow_trip_s: float = 0.8
    slow: float = 0.02
    requests_in_flight: int = 3
    unknown_delivery: float = 0.0
    stale_delivery: float = 0.5
    handover: float = 0.0
    recovery_s: float = 0.0
    row_by_row: bool = False
    commit_s: float = 1.0


Rowset = dict[bytes, bytes]


@dataclass(slots=True)
class Disk:
    """RocksDB of one worker id: rows of each (table, partition), and the changelog offset that they stand for."""

    rows: dict[tuple[str, int], Rowset] = field(default_factory=dict)
    offsets: dict[tuple[str, int], int] = field(default_factory=dict)


class World:
    """Broker, disks and everything observed. `violations`: rules of the ports that a worker broke."""

    def __init__(self, loop: SimLoop, random: Random, weather: Weather) -> None:
        self.loop = loop
        self.random = random
        self.weather = weather
        self.log: dict[tuple[str, int], list[Record]] = {}
        self.changelog: dict[tuple[str, int], list[tuple[bytes, bytes | None]]] = {}
        self.disks: dict[str, Disk] = {}
        self.violations: list[str] = []
        self.timeline: list[tuple[float, str, str]] = []
        self.appended: list[tuple[float, str, Record]] = []
        self._readers: dict[str, list[asyncio.Future[None]]] = {}

    def note(self, who: str, what: str) -> None:
        """Add a line to the history's timeline."""
        self.timeline.append((self.loop.time(), who, what))

    def violation(self, who: str, what: str) -> None:
        """Remember that a worker broke a rule of its ports."""
        self.note(who, f"VIOLATION {what}")
        self.violations.append(f"{who}: {what}")

    def trip_s(self) -> float:
        """Draw how long one way to the broker takes."""
        draw = self.random.random
        if draw() < self.weather.slow:
            return self.weather.slow_trip_s * draw()
        return self.weather.trip_s * (0.1 + draw())

    def records(self, topic: str, partition: int) -> list[Record]:
        """Return the log of one partition, to be read only."""
        return self.log.setdefault((topic, partition), [])

    def rows_of(self, table: str, partition: int) -> list[tuple[bytes, bytes | None]]:
        """Return the changelog of one partition."""
        return self.changelog.setdefault((table, partition), [])

    def all_records(self, topic: str) -> list[Record]:
        """Return every record of a topic, partition by partition."""
        return [record for p in range(self.weather.partitions) for record in self.records(topic, p)]

    def append(self, out: Outgoing, partition: int, who: str) -> Record:
        """Store one record sent by `who`; the broker stamps it."""
        log = self.records(out.topic, partition)
        record = Record(out.topic, partition, len(log), self.loop.now_ms(), out.key, out.value, out.headers)
        log.append(record)
        self.appended.append((self.loop.time(), who, record))
        for reader in self._readers.pop(out.topic, ()):
            if not reader.done():
                reader.set_result(None)
        return record

    def partition_of(self, out: Outgoing) -> int:
        """Choose a partition as a Java producer does; without a key, any."""
        if out.partition is not None:
            return out.partition
        if out.key is None:
            return self.random.randrange(self.weather.partitions)
        return int((murmur2(out.key) & 0x7FFFFFFF) % self.weather.partitions)

    async def next_append(self, topic: str) -> None:
        """Return when any partition of the topic has grown."""
        reader = self.loop.create_future()
        self._readers.setdefault(topic, []).append(reader)
        await reader

    def disk(self, worker: str) -> Disk:
        """Return the volume of one worker id."""
        return self.disks.setdefault(worker, Disk())

    def lose_disk(self, worker: str) -> None:
        """Give the worker an empty volume."""
        self.disks[worker] = Disk()

    def set_disk_back(self, worker: str) -> None:
        """Let every partition of the worker's store be at some earlier point of its changelog."""
        disk = self.disk(worker)
        for place, offset in disk.offsets.items():
            earlier = self.random.randrange(-1, offset + 1)
            disk.offsets[place] = earlier
            disk.rows[place] = fold_rows(self.changelog[place][: earlier + 1])


def fold_rows(rows: Sequence[tuple[bytes, bytes | None]], into: Rowset | None = None) -> Rowset:
    """Return the table that a changelog leaves."""
    table = {} if into is None else into
    for key, value in rows:
        if value is None:
            table.pop(key, None)
        else:
            table[key] = value
    return table


@dataclass(slots=True, eq=False)
class _Batch:
    """One produce request to one partition: records, or rows of a table."""

    records: Sequence[Outgoing]
    rows: Rows
    fenced: bool
    stored: "asyncio.Future[int]"
    sent: bool = False
    settled: bool = False


@dataclass(slots=True, eq=False)
class _Lane:
    """What one producer sends to one partition: in order, several requests in flight."""

    kind: str
    name: str
    partition: int
    waiting: deque[_Batch] = field(default_factory=deque)
    in_flight: list[_Batch] = field(default_factory=list)
    last_landing: float = 0.0
    broken: bool = False


class SimLog:
    """The `Log` port of one process. `fence` says why the process may not send, or nothing."""

    def __init__(self, world: World, process: SimProcess, fence: Callable[[], str | None]) -> None:
        self._world = world
        self._loop = world.loop
        self._process = process
        self._fence = fence
        self._lanes: dict[tuple[str, str, int], _Lane] = {}

    async def append_rows(self, table: str, partition: int, rows: Rows) -> Awaitable[int]:
        """See `Log`."""
        self._process.checkpoint()
        stored = self._enqueue("rows", table, partition, (), tuple(rows), fenced=True)
        if self._world.random.random() < 0.1:
            await asyncio.sleep(self._world.trip_s())
        return stored

    async def publish(self, records: Sequence[Outgoing]) -> None:
        """See `Log`."""
        await self._publish(records, fenced=True)

    async def publish_progress(self, records: Sequence[Outgoing]) -> None:
        """See `Log`."""
        await self._publish(records, fenced=False)

    async def fetch(self, topic: str, partition: int, offset: int) -> Record | None:
        """See `Log`."""
        self._process.checkpoint()
        await asyncio.sleep(self._world.trip_s())
        self._process.checkpoint()
        log = self._world.records(topic, partition)
        return log[offset] if offset < len(log) else None

    async def end_offset(self, topic: str, partition: int) -> int:
        """See `Log`."""
        self._process.checkpoint()
        await asyncio.sleep(self._world.trip_s())
        end = len(self._world.records(topic, partition))
        await asyncio.sleep(self._world.trip_s())
        self._process.checkpoint()
        return end

    def crashed(self) -> None:
        """Decide what of the requests in flight still lands: a prefix per partition."""
        for lane in self._lanes.values():
            pending = [batch for batch in lane.in_flight if not batch.settled]
            landing = 0 if lane.broken else self._world.random.randint(0, len(pending))
            delays = sorted(self._world.random.random() * LATE_S for _ in range(landing))
            for batch, delay in zip(pending, delays, strict=False):
                self._loop.at_world(delay, self._store, lane, batch)
            if self._world.weather.row_by_row and landing < len(pending) and not lane.broken:
                torn = pending[landing]
                torn.rows = torn.rows[: self._world.random.randint(0, len(torn.rows))]
                self._loop.at_world(LATE_S, self._store, lane, torn)
            for batch in pending:
                batch.settled = True
            lane.in_flight.clear()
            lane.waiting.clear()

    async def _publish(self, records: Sequence[Outgoing], *, fenced: bool) -> None:
        self._process.checkpoint()
        by_place: dict[tuple[str, int], list[Outgoing]] = {}
        for out in records:
            by_place.setdefault((out.topic, self._world.partition_of(out)), []).append(out)
        stored = [
            self._enqueue("records", topic, partition, tuple(outs), (), fenced=fenced)
            for (topic, partition), outs in by_place.items()
        ]
        for future in stored:
            await future
        self._process.checkpoint()

    def _enqueue(
        self, kind: str, name: str, partition: int, records: Sequence[Outgoing], rows: Rows, *, fenced: bool
    ) -> "asyncio.Future[int]":
        lane = self._lanes.get((kind, name, partition))
        if lane is None:
            lane = self._lanes[kind, name, partition] = _Lane(kind, name, partition)
        batch = _Batch(records, rows, fenced, self._loop.create_future())
        lane.waiting.append(batch)
        self._send(lane)
        return batch.stored

    def _send(self, lane: _Lane) -> None:
        now = self._loop.time()
        while lane.waiting and len(lane.in_flight) < self._world.weather.requests_in_flight:
            batch = lane.waiting.popleft()
            if batch.fenced and (why := self._fence()) is not None:
                self._process.exit(75, why)
            lane.last_landing = max(lane.last_landing, now + self._world.trip_s())
            lane.in_flight.append(batch)
            self._loop.at_world(lane.last_landing - now, self._land, lane, batch)

    def _land(self, lane: _Lane, batch: _Batch) -> None:
        """The broker gets a request. In the world's process."""
        if batch.settled:
            return
        batch.settled = True
        unknown = lane.broken or self._world.random.random() < self._world.weather.unknown_delivery
        offset = -1
        if unknown and self._world.weather.row_by_row:
            batch.rows = batch.rows[: self._world.random.randint(0, len(batch.rows))]
        if not lane.broken and not (unknown and self._world.random.random() < 0.5):
            offset = self._store(lane, batch)
        lane.broken = lane.broken or unknown
        self._loop.call_later(
            self._world.trip_s(), self._answered, lane, batch, offset, unknown, context=self._process.context.copy()
        )

    def _store(self, lane: _Lane, batch: _Batch) -> int:
        if lane.kind == "rows":
            changelog = self._world.rows_of(lane.name, lane.partition)
            changelog.extend(batch.rows)
            return len(changelog) - 1
        return [self._world.append(out, lane.partition, self._process.name).offset for out in batch.records][-1]

    def _answered(self, lane: _Lane, batch: _Batch, offset: int, unknown: bool) -> None:
        """The producer hears of a request. In the worker's process."""
        lane.in_flight.remove(batch)
        if not batch.stored.done():
            if unknown:
                batch.stored.set_exception(DeliveryUnknown(f"{lane.name}[{lane.partition}]"))
                batch.stored.exception()  # whoever awaits it gets it; nobody has to
            else:
                batch.stored.set_result(offset)
        self._send(lane)


class SimStore:
    """The `Store` port of one process, over the disk of its worker id. Checks that it never runs ahead of the log."""

    def __init__(self, world: World, process: SimProcess, worker: str) -> None:
        self._world = world
        self._process = process
        self._disk = world.disk(worker)

    def get(self, table: str, partition: int, key: bytes) -> bytes | None:
        """See `Store`."""
        return self._disk.rows.get((table, partition), {}).get(key)

    def write(self, table: str, partition: int, rows: Rows, changelog_offset: int) -> None:
        """See `Store`."""
        self._process.checkpoint()
        place = (table, partition)
        stored = self._disk.offsets.get(place, -1)
        logged = self._world.rows_of(table, partition)[stored + 1 : changelog_offset + 1]
        if changelog_offset - stored != len(logged) or dict(logged) != dict(rows):
            self._world.violation(
                self._process.name,
                f"wrote {table}[{partition}] up to {changelog_offset} over {stored}: not what the changelog has there",
            )
        fold_rows(rows, self._disk.rows.setdefault(place, {}))
        self._disk.offsets[place] = changelog_offset

    def scan(self, table: str, partition: int, prefix: bytes, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """See `Store`."""
        rows = self._disk.rows.get((table, partition), {})
        return iter(sorted((key, value) for key, value in rows.items() if key.startswith(prefix) and key >= start))

    async def recover(self, table: str, partition: int) -> None:
        """Replay the changelog from the stored offset to its end, as it grows."""
        place = (table, partition)
        while True:
            await asyncio.sleep(self._world.trip_s())
            self._process.checkpoint()
            changelog = self._world.rows_of(table, partition)
            stored = self._disk.offsets.get(place, -1)
            chunk = changelog[stored + 1 : stored + 1 + self._world.random.randint(1, 60)]
            if not chunk:
                return
            fold_rows(chunk, self._disk.rows.setdefault(place, {}))
            self._disk.offsets[place] = stored + len(chunk)


class SimClock:
    """The `Clock` port of one process: its wall clock may be off by `skew_ms`."""

    def __init__(self, loop: SimLoop, skew_ms: int = 0) -> None:
        self._loop = loop
        self._skew_ms = skew_ms

    def now_ms(self) -> int:
        """See `Clock`."""
        return self._loop.now_ms() + self._skew_ms

    async def sleep_until(self, moment_ms: int) -> None:
        """See `Clock`."""
        while self.now_ms() < moment_ms:
            wait_s = (moment_ms - self._skew_ms - EPOCH_MS) / 1000 - self._loop.time()
            await asyncio.sleep(max(wait_s, 0.0) + 1e-4)
