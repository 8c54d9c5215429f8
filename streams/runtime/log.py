"""The broker as the write path sees it (`ports.Log`)."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer.fetcher import READ_UNCOMMITTED, PartitionRecords
from aiokafka.errors import KafkaConnectionError, KafkaError, OffsetOutOfRangeError, for_code
from aiokafka.protocol.fetch import FetchRequest

from streams.runtime.embedded import is_embedded
from streams.runtime.fence import Fence
from streams.runtime.ports import Outgoing, Process, Record, Rows
from streams.runtime.process import TRY_AGAIN
from streams.runtime.producer import REQUEST_TIMEOUT_MS, Producer
from streams.runtime.records import TolerantRecords

REACH_S = 20.0
"""How long a start waits for the cluster."""
FETCH_S = 15.0
"""How long one record is waited for (leader elections)."""
BACKOFF_S = 0.1
LONG_POLL_MS = 100
MAX_ANSWER_BYTES = 4 * 1024 * 1024


class NotStoredError(Exception):
    """It is unknown whether something was stored, or it is known that it was not."""


class KafkaLog:
    """Two producers and a reader of one worker. Order between them is the caller's, by awaiting.

    `fence` guards rows and outputs; progress goes through a second, unfenced producer, since one request carries the
    batches of many topics. `tables` maps a table's name to its changelog topic.
    """

    def __init__(
        self,
        connection: Mapping[str, Any],
        process: Process,
        *,
        tables: Mapping[str, str],
        fence: Fence | None,
    ) -> None:
        self._connection = connection
        self._process = process
        self._tables = tables
        self._fence = fence
        self._turns: dict[tuple[str, int], asyncio.Lock] = defaultdict(asyncio.Lock)

    async def start(self) -> None:
        """Connect. Without a cluster for 20 s the process ends (75)."""
        self._reader = AIOKafkaConsumer(**self._connection, group_id=None, request_timeout_ms=REQUEST_TIMEOUT_MS)
        await self._reach()
        idempotent = not await is_embedded(self._reader._client)
        self._fenced = Producer(self._connection, self._process, fence=self._fence, idempotent=idempotent)
        self._free = Producer(self._connection, self._process, idempotent=idempotent)
        await asyncio.gather(self._fenced.start(), self._free.start())

    async def stop(self) -> None:
        """Send what is queued and close."""
        await asyncio.gather(self._fenced.stop(), self._free.stop(), self._reader.stop())

    async def _reach(self) -> None:
        deadline = time.monotonic() + REACH_S
        while True:
            try:
                await self._reader.start()
                return
            except KafkaConnectionError:
                if time.monotonic() > deadline:
                    servers = self._connection["bootstrap_servers"]
                    self._process.exit(TRY_AGAIN, f"no Kafka at {', '.join(servers)} for {REACH_S:.0f} s")
                self._reader._fetcher = None
            await asyncio.sleep(1)

    async def partitions(self, topics: Iterable[str]) -> dict[str, int]:
        """Return the number of partitions of each topic; 0 where it does not exist."""
        cluster = await self._reader._client.fetch_all_metadata()
        return {topic: len(cluster.partitions_for_topic(topic) or ()) for topic in topics}

    async def append_rows(self, table: str, partition: int, rows: Rows) -> Awaitable[int]:
        """Queue rows as one record batch behind all earlier ones; the awaitable yields the last row's offset.

        Raises `RowsTooLargeError` when they do not fit; the awaitable raises when it is unknown what was stored.
        """
        if not rows:
            raise ValueError("no rows to append")
        topic = self._tables[table]
        async with self._turns[topic, partition]:
            stored = await self._fenced.send_rows(topic, partition, rows)
        return asyncio.ensure_future(_last_offset(stored, len(rows)))

    async def publish(self, records: Sequence[Outgoing]) -> None:
        """Publish in order; return when the broker has all of them. Fenced."""
        await _publish(self._fenced, records)

    async def publish_progress(self, records: Sequence[Outgoing]) -> None:
        """Publish in order; return when the broker has all of them. Not fenced."""
        await _publish(self._free, records)

    async def fetch(self, topic: str, partition: int, offset: int) -> Record | None:
        """Read one record back; None if retention, compaction or an abort left none at this offset.

        Asks the partition's leader directly: no assignment, so any number of fetches may run at once. Raises
        `KafkaError` after 15 s without an answer, and where the log does not reach that far.
        """
        tp = TopicPartition(topic, partition)
        deadline = time.monotonic() + FETCH_S
        while True:
            try:
                return await self._fetch(tp, offset)
            except OffsetOutOfRangeError:
                first = (await self._reader.beginning_offsets([tp]))[tp]
                if offset < first:
                    return None
                failure: KafkaError = KafkaError(f"{topic} {partition} does not reach offset {offset}")
            except KafkaError as error:
                failure = error
                if not error.retriable:
                    raise
                await self._reader._client.force_metadata_update()
            if time.monotonic() > deadline:
                raise failure
            await asyncio.sleep(BACKOFF_S)

    async def _fetch(self, tp: TopicPartition, offset: int) -> Record | None:
        client = self._reader._client
        await client._wait_on_metadata(tp.topic)
        leader = client.cluster.leader_for_partition(tp)
        one_batch = [(tp.topic, [(tp.partition, offset, 1)])]  # a broker answers with a whole batch at least
        request = FetchRequest(LONG_POLL_MS, 1, MAX_ANSWER_BYTES, READ_UNCOMMITTED, one_batch)
        response = await client.send(leader, request)
        [(_, [(_, code, end, *rest)])] = response.topics
        if code:
            raise for_code(code)()
        if end <= offset:
            raise OffsetOutOfRangeError
        read = PartitionRecords(tp, TolerantRecords(rest[-1]), [], offset, None, None, False, READ_UNCOMMITTED)
        return next((_record(found) for found in read if found.offset == offset), None)

    async def end_offset(self, topic: str, partition: int) -> int:
        """Return the offset that the next record of this partition will get."""
        tp = TopicPartition(topic, partition)
        return int((await self._reader.end_offsets([tp]))[tp])


async def _publish(producer: Producer, records: Sequence[Outgoing]) -> None:
    deliveries = []
    try:
        for record in records:
            deliveries.append(
                await producer.send(
                    record.topic,
                    record.value,
                    key=record.key,
                    partition=record.partition,
                    headers=list(record.headers),
                )
            )
    finally:
        outcomes = await asyncio.gather(*deliveries, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome


async def _last_offset(stored: Awaitable[Any], rows: int) -> int:
    metadata = await stored
    if metadata is None or metadata.offset < 0:
        raise NotStoredError("the broker told no offset")
    return int(metadata.offset) + rows - 1


def _record(found: Any) -> Record:
    return Record(
        topic=found.topic,
        partition=found.partition,
        offset=found.offset,
        time_ms=found.timestamp,
        key=found.key,
        value=found.value,
        headers=tuple(found.headers),
    )
