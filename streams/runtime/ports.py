"""What the write path needs from the world: a log, a store, a clock, a provider. Kafka and RocksDB are one answer to
it, the simulator (`tests/simulation`) is another."""

from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NoReturn, Protocol

Rows = Sequence[tuple[bytes, bytes | None]]
"""Rows of one table and partition, in plan order; a value of None deletes."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record as consumed. `time_ms` is the broker's time; `generation` the group generation it was fetched in.

    `delivery` is the source's own handle, which acknowledging needs.
    """

    topic: str
    partition: int
    offset: int
    time_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    generation: int = 0
    delivery: object = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One record to publish; `partition` None lets the key decide (murmur2, as Java does)."""

    topic: str
    key: bytes | None
    value: bytes | None
    partition: int | None = None
    headers: tuple[tuple[str, bytes], ...] = ()


class Source(Protocol):
    """One consumed topic, as one stage reads it."""

    def __aiter__(self) -> AsyncIterator[Record]:
        """Deliver records; those of one partition in offset order, without holes, possibly again after a rebalance."""
        ...

    def idle(self) -> bool:
        """Whether no further record is at hand right now."""
        ...

    def ack(self, records: Sequence[Record]) -> None:
        """Let the offsets of `records` be committed. Called in offset order per partition, never from another
        generation."""
        ...


class Log(Protocol):
    """The broker, written to by one idempotent producer: what one caller sends to one partition keeps its order."""

    async def append_rows(self, table: str, partition: int, rows: Rows) -> Awaitable[int]:
        """Send one table's rows to its changelog as ONE record batch, so that all of them are stored or none.

        Returns once the batch has its place behind everything appended before; the awaitable it returns yields the
        changelog offset of the last row when the broker has them. Fenced: never sends for a worker that may have lost
        its partitions, the process ends instead. Raises when it cannot know whether the rows were stored.
        """
        ...

    async def publish(self, records: Sequence[Outgoing]) -> None:
        """Publish in order and return when the broker has all of them. Fenced like `append_rows`; raises when
        unknown."""
        ...

    async def publish_progress(self, records: Sequence[Outgoing]) -> None:
        """Publish facts that are safe from anyone, also while a rebalance runs: not fenced."""
        ...

    async def fetch(self, topic: str, partition: int, offset: int) -> Record | None:
        """Read one record back by its coordinates; None if retention has removed it."""
        ...

    async def end_offset(self, topic: str, partition: int) -> int:
        """Return the offset that the next record of this partition will get."""
        ...


class Store(Protocol):
    """Local rows of the partitions held here: RocksDB. Never ahead of the changelog (DESIGN §4, rule 3)."""

    def get(self, table: str, partition: int, key: bytes) -> bytes | None:
        """Return a row's value."""
        ...

    def write(self, table: str, partition: int, rows: Rows, changelog_offset: int) -> None:
        """Write rows and the changelog offset that they are stored under, in one atomic batch."""
        ...

    def scan(self, table: str, partition: int, prefix: bytes, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Yield rows whose key starts with `prefix` and is not below `start`, in key order."""
        ...


class Clock(Protocol):
    """Wall time for deadlines (drawn once per decision and kept), and waiting."""

    def now_ms(self) -> int:
        """Return milliseconds since the Unix epoch."""
        ...

    async def sleep_until(self, moment_ms: int) -> None:
        """Return at or after `moment_ms`."""
        ...


class Process(Protocol):
    """This operating-system process."""

    def exit(self, code: int, why: str) -> NoReturn:
        """End at once, without cleaning up: 75 means *start me again*, 1 *starting again will not help*."""
        ...
