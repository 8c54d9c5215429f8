"""Reading whole topics from their beginning, up to end offsets that were recorded before: for commands, no group."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord

from streams.runtime import clients
from streams.runtime.records import tolerate_header_names

STALL_S: Final = 30.0
"""How long a read waits for the next record that must be there."""
_POLL_MS: Final = 500
_FETCH_MS: Final = 50
"""How long a broker may hold a fetch that finds nothing new: what is asked next waits behind it."""
_CLOSE_S: Final = 5.0

Progress = Callable[[str, int, int], None]
"""Told (topic, records read, records to read) now and then."""


def no_progress(_topic: str, _read: int, _all: int) -> None:
    """Tell nobody."""


class StalledError(Exception):
    """The records that were there when the read began do not come; `str()` is one line."""


class MissingTopicError(Exception):
    """A topic is not there, or has another number of partitions; `str()` is one line."""


@dataclass(frozen=True, slots=True)
class Span:
    """What a topic holds at one moment, per partition: first offset, and the one behind the last."""

    topic: str
    begins: Mapping[int, int]
    ends: Mapping[int, int]

    @property
    def count(self) -> int:
        """How many offsets that are: an upper bound of its records."""
        return sum(end - self.begins[partition] for partition, end in self.ends.items())


@dataclass(slots=True)
class Reader:
    """Reads one topic at a time, each from its beginning; use `reader()`."""

    consumer: AIOKafkaConsumer
    settings: Mapping[str, Any]
    partitions: int
    advance: Progress = no_progress

    async def span(self, topic: str) -> Span:
        """Record where a topic begins and ends now. Raises `MissingTopicError`."""
        found = (await self.consumer._client.fetch_all_metadata()).partitions_for_topic(topic) or ()
        if len(found) != self.partitions:
            raise MissingTopicError(
                f"{topic}: has {len(found)} partitions, `kafka.partitions` is {self.partitions}"
                if found
                else f"{topic}: missing; `orchestrator topics apply` creates it"
            )
        everywhere = [TopicPartition(topic, partition) for partition in range(self.partitions)]
        begins = await self.consumer.beginning_offsets(everywhere)
        ends = await self.consumer.end_offsets(everywhere)
        return Span(
            topic, {tp.partition: at for tp, at in begins.items()}, {tp.partition: at for tp, at in ends.items()}
        )

    async def read(self, span: Span) -> AsyncIterator[Sequence[ConsumerRecord]]:
        """Yield the records of a span, each partition in order. Raises `StalledError`."""
        ends = {TopicPartition(span.topic, partition): end for partition, end in span.ends.items()}
        at = {tp: span.begins[tp.partition] for tp in ends}
        self.consumer.assign(list(ends))
        for tp, begin in at.items():
            self.consumer.seek(tp, begin)
        heard = time.monotonic()
        while open_ := [tp for tp, end in ends.items() if at[tp] < end]:
            batches = await self.consumer.getmany(*open_, timeout_ms=_POLL_MS)
            for tp, records in batches.items():
                yield [record for record in records if record.offset < ends[tp]]
                at[tp] = records[-1].offset + 1
                heard = time.monotonic()
            if not batches:
                # Compaction or a transaction's marker may leave no record at the end; the position passes it.
                at |= {tp: max(at[tp], await self.consumer.position(tp)) for tp in open_}
            if time.monotonic() - heard > STALL_S:
                raise StalledError(f"{span.topic}: no record for {STALL_S:.0f} s, {len(open_)} partitions not read yet")
            self.advance(span.topic, span.count - sum(max(0, end - at[tp]) for tp, end in ends.items()), span.count)

    async def follow(
        self, span: Span, enough: Callable[[], bool], patience_s: float
    ) -> AsyncIterator[Sequence[ConsumerRecord]]:
        """Yield what comes behind a span, until it is enough or `patience_s` pass without a record."""
        if enough():
            return
        self.consumer.assign([TopicPartition(span.topic, partition) for partition in span.ends])
        for partition, end in span.ends.items():
            self.consumer.seek(TopicPartition(span.topic, partition), end)
        heard = time.monotonic()
        while not enough() and time.monotonic() - heard < patience_s:
            for records in (await self.consumer.getmany(timeout_ms=_POLL_MS)).values():
                yield records
                heard = time.monotonic()

    async def committed(self, group: str) -> dict[tuple[str, int], int]:
        """Return how far a group has acknowledged: (topic, partition) to the offset it reads next."""
        admin = AIOKafkaAdminClient(**self.settings)
        await admin.start()
        try:
            offsets = await admin.list_consumer_group_offsets(group)
        finally:
            await _close(admin.close)
        return {(tp.topic, tp.partition): found.offset for tp, found in offsets.items() if found.offset >= 0}


@asynccontextmanager
async def reader(
    settings: Mapping[str, Any], partitions: int, advance: Progress = no_progress
) -> AsyncIterator[Reader]:
    """Connect once the cluster answers. Raises `clients.NoClusterError`."""
    await clients.reach(settings)
    tolerate_header_names()
    consumer = AIOKafkaConsumer(
        **settings,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_poll_records=2000,
        fetch_max_wait_ms=_FETCH_MS,
    )
    try:
        await consumer.start()
        yield Reader(consumer, settings, partitions, advance)
    finally:
        await _close(consumer.stop)


async def _close(stop: Callable[[], Any]) -> None:
    """Say goodbye; a broker that is away need not answer."""
    with suppress(KafkaError, OSError, TimeoutError):
        async with asyncio.timeout(_CLOSE_S):
            await stop()
