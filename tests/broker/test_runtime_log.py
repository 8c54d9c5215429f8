"""`KafkaLog` against a real broker."""

import asyncio
from collections.abc import AsyncIterator
from typing import NoReturn

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from streams.runtime import log as log_module
from streams.runtime.fence import Fence
from streams.runtime.log import KafkaLog
from streams.runtime.ports import Outgoing
from streams.runtime.producer import RowsTooLargeError
from tests.broker.kafka import Kafka, free_port

pytestmark = pytest.mark.broker


class ExitedError(BaseException):
    """The process would have ended."""


class RecordedProcess:
    """A process whose end is an exception."""

    def __init__(self) -> None:
        self.ends: list[tuple[int, str]] = []

    def exit(self, code: int, why: str) -> NoReturn:
        self.ends.append((code, why))
        raise ExitedError(code, why)


@pytest.fixture
async def topic(kafka: Kafka, topic_prefix: str) -> str:
    name = f"{topic_prefix}rows"
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(name, 2, 1)])
    await admin.close()
    return name


@pytest.fixture
async def log(kafka: Kafka, topic: str) -> AsyncIterator[KafkaLog]:
    connection = {"bootstrap_servers": [kafka.bootstrap]}
    log = KafkaLog(connection, RecordedProcess(), tables={"accounts": topic}, fence=None)
    await log.start()
    yield log
    await log.stop()


async def read(kafka: Kafka, topic: str, partition: int, count: int) -> list[tuple[int, bytes | None, bytes | None]]:
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest")
    consumer.assign([TopicPartition(topic, partition)])
    await consumer.start()
    try:
        found: list[tuple[int, bytes | None, bytes | None]] = []
        async with asyncio.timeout(20):
            while len(found) < count:
                for records in (await consumer.getmany(timeout_ms=500)).values():
                    found += [(record.offset, record.key, record.value) for record in records]
        return found
    finally:
        await consumer.stop()


async def test_rows_get_the_offsets_that_the_awaitable_tells(kafka: Kafka, log: KafkaLog, topic: str) -> None:
    first = await log.append_rows("accounts", 1, [(b"a", b"1"), (b"b", b"2")])
    second = await log.append_rows("accounts", 1, [(b"a", None)])
    assert [await first, await second] == [1, 2]
    assert await read(kafka, topic, 1, 3) == [(0, b"a", b"1"), (1, b"b", b"2"), (2, b"a", None)]
    assert await log.end_offset(topic, 1) == 3


async def test_rows_of_callers_that_wait_at_once_keep_the_order_of_the_calls(
    kafka: Kafka, log: KafkaLog, topic: str
) -> None:
    async def append(number: int) -> int:
        return await (await log.append_rows("accounts", 0, [(b"k", b"%d" % number), (b"l", b"%d" % number)]))

    offsets = await asyncio.gather(*(append(number) for number in range(300)))
    assert offsets == list(range(1, 600, 2))
    values = [value for _, _, value in await read(kafka, topic, 0, 600)]
    assert values == [b"%d" % number for number in range(300) for _ in (1, 2)]


async def test_rows_stay_apart_from_records_published_to_the_same_partition(
    kafka: Kafka, log: KafkaLog, topic: str
) -> None:
    appended = asyncio.create_task(log.append_rows("accounts", 0, [(b"row", b"1"), (b"row", b"2")]))
    await asyncio.gather(log.publish([Outgoing(topic, b"out", b"%d" % n, 0) for n in range(50)]), appended)
    last = await appended.result()
    found = await read(kafka, topic, 0, 52)
    assert [value for _, key, value in found if key == b"row"] == [b"1", b"2"]
    assert found[last][2] == b"2"
    assert found[last - 1][1] == b"row"


async def test_rows_beyond_one_batch_are_refused_and_none_is_stored(log: KafkaLog, topic: str) -> None:
    with pytest.raises(RowsTooLargeError):
        await log.append_rows("accounts", 0, [(b"%d" % n, bytes(100_000)) for n in range(11)])
    with pytest.raises(RowsTooLargeError):
        await log.append_rows("accounts", 0, [(b"one", bytes(1_100_000))])
    assert await log.end_offset(topic, 0) == 0


async def test_a_record_without_partition_goes_where_murmur2_of_its_key_says(log: KafkaLog, topic: str) -> None:
    await log.publish([Outgoing(topic, b"21", b"x"), Outgoing(topic, b"foobar", b"y", headers=(("h", b"1"),))])
    # Kafka's own test vectors: murmur2("21") = -973932308, murmur2("foobar") = -790332482; both are even when positive
    found = await log.fetch(topic, 0, 1)
    assert found is not None
    assert (found.key, found.value, found.headers) == (b"foobar", b"y", (("h", b"1"),))


async def test_fetch_finds_any_record_of_a_batch_also_many_at_once(log: KafkaLog, topic: str) -> None:
    rows = [(b"%d" % n, b"v%d" % n) for n in range(500)]
    await (await log.append_rows("accounts", 0, rows))
    found = await asyncio.gather(*(log.fetch(topic, 0, offset) for offset in range(0, 500, 7)))
    assert [record and record.value for record in found] == [b"v%d" % n for n in range(0, 500, 7)]


async def test_fetch_of_what_retention_removed_is_none(kafka: Kafka, log: KafkaLog, topic: str) -> None:
    await log.publish([Outgoing(topic, b"k", b"%d" % n, 0) for n in range(5)])
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    from aiokafka.admin import RecordsToDelete  # noqa: PLC0415

    await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=3)})
    await admin.close()
    assert await log.fetch(topic, 0, 2) is None
    kept = await log.fetch(topic, 0, 3)
    assert kept is not None
    assert kept.value == b"3"


async def test_a_worker_that_is_no_member_cannot_write_rows_or_outputs_but_progress(kafka: Kafka, topic: str) -> None:
    process = RecordedProcess()
    fence = Fence(10, process)
    connection = {"bootstrap_servers": [kafka.bootstrap]}
    log = KafkaLog(connection, process, tables={"accounts": topic}, fence=fence)
    await log.start()
    await log.publish_progress([Outgoing(topic, b"k", b"progress", 0)])
    with pytest.raises(ExitedError):
        await log.publish([Outgoing(topic, b"k", b"output", 0)])
    assert await log.end_offset(topic, 0) == 1
    assert process.ends[0] == (75, "fenced: about to write without being a member of the group")


async def test_a_start_without_a_cluster_ends_with_75_and_names_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "REACH_S", 0)
    process = RecordedProcess()
    address = f"127.0.0.1:{free_port()}"
    log = KafkaLog({"bootstrap_servers": [address]}, process, tables={}, fence=None)
    with pytest.raises(ExitedError):
        await log.start()
    assert process.ends == [(75, f"no Kafka at {address} for 0 s")]
