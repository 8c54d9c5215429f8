"""Worker processes against a real broker: killed, stopped, suspended, restarted. They may not lose any record."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete

from tests.broker.kafka import Kafka, KafkaBroker

pytestmark = pytest.mark.broker

PARTITIONS = 4
SESSION_S = 3.0
TOPICS = ("requests", "progress", "observations", "accounts")
ROOT = Path(__file__).parents[2]


class Worker:
    """One worker process and what it said."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.state = Path(settings["state"])
        self._said = self.state.with_suffix(".err")
        self.state.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "tests.broker.runtime_worker", json.dumps(settings)]
        with self._said.open("ab") as said:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, cwd=ROOT)

    async def ready(self, count: int | None = None, within_s: float = 40) -> list[int]:
        """Wait for the next assignment (of `count` partitions) and return it."""
        assert self.process.stdout is not None
        async with asyncio.timeout(within_s):
            while True:
                line = await asyncio.to_thread(self.process.stdout.readline)
                assert line, f"worker ended with {self.process.wait()}: {self.errors()}"
                partitions: list[int] = json.loads(line)["ready"]
                if count is None or len(partitions) == count:
                    return partitions

    async def ended(self, within_s: float = 20) -> int:
        """Wait for the end and return the exit code."""
        return await asyncio.to_thread(self.process.wait, within_s)

    async def stop(self) -> dict[str, dict[str, str]]:
        """Stop it with SIGTERM, which takes less than 10 s and ends with 0; return the rows that its store held."""
        self.process.terminate()
        assert await self.ended(10) == 0, self.errors()
        rows: dict[str, dict[str, str]] = json.loads((self.state / "rows.json").read_text())
        return rows

    def errors(self) -> str:
        return self._said.read_text()


@dataclass
class Cluster:
    """Topics of one test and the workers on them."""

    kafka: Kafka
    prefix: str
    directory: Path
    producer: AIOKafkaProducer
    workers: list[Worker] = field(default_factory=list)
    produced: int = 0

    def start(self, name: str, **changes: Any) -> Worker:
        settings = {
            "bootstrap_servers": [self.kafka.bootstrap],
            "group": f"{self.prefix}group",
            "worker": name,
            "requests": f"{self.prefix}requests",
            "progress": f"{self.prefix}progress",
            "observations": f"{self.prefix}observations",
            "tables": {"accounts": f"{self.prefix}accounts"},
            "partitions": PARTITIONS,
            "state": str(self.directory / name),
            "session_timeout_s": SESSION_S,
        }
        worker = Worker(settings | changes)
        self.workers.append(worker)
        return worker

    async def produce(self, count: int) -> None:
        for _ in range(count):
            value = b"%d" % self.produced
            await self.producer.send(f"{self.prefix}requests", value, partition=self.produced % PARTITIONS)
            self.produced += 1
        await self.producer.flush()

    @asynccontextmanager
    async def load(self) -> AsyncIterator[None]:
        """Produce some hundred records a second meanwhile."""
        done = asyncio.Event()

        async def produce() -> None:
            while not done.is_set():
                await self.produce(5)
                await asyncio.sleep(0.01)

        producing = asyncio.create_task(produce())
        yield
        done.set()
        await producing

    async def offsets(self, *topics: str) -> tuple[int, int]:
        """Return how many records these topics have, and how many of them are committed."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self.kafka.bootstrap, group_id=f"{self.prefix}group")
        await consumer.start()
        try:
            tps = [TopicPartition(self.prefix + topic, p) for topic in topics for p in range(PARTITIONS)]
            ends = await consumer.end_offsets(tps)
            found = await consumer._coordinator.fetch_committed_offsets(tps)
            return sum(ends.values()), sum(committed.offset for committed in found.values())
        finally:
            await consumer.stop()

    async def committed_beyond(self, count: int) -> None:
        """Wait until so many requests are committed."""
        async with asyncio.timeout(40):
            while (await self.offsets("requests"))[1] <= count:
                await asyncio.sleep(0.1)

    async def caught_up(self, within_s: float = 60) -> None:
        """Wait until everything produced has gone through both stages and is committed."""
        end, committed = 1, 0
        try:
            async with asyncio.timeout(within_s):
                while committed < end:
                    await asyncio.sleep(0.1)
                    end, committed = await self.offsets("requests", "progress")
        except TimeoutError:
            told = [worker.errors() for worker in self.workers]
            pytest.fail(f"{committed} of {end} committed after {within_s} s; workers said {told}")

    async def log(self, topic: str) -> dict[int, list[tuple[bytes, bytes]]]:
        """Read a whole topic: keys and values per partition."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self.kafka.bootstrap, auto_offset_reset="earliest")
        tps = [TopicPartition(self.prefix + topic, partition) for partition in range(PARTITIONS)]
        consumer.assign(tps)
        await consumer.start()
        try:
            ends = await consumer.end_offsets(tps)
            found: dict[int, list[tuple[bytes, bytes]]] = {partition: [] for partition in range(PARTITIONS)}
            async with asyncio.timeout(30):
                while any([await consumer.position(tp) < end for tp, end in ends.items()]):
                    for tp, records in (await consumer.getmany(timeout_ms=300)).items():
                        found[tp.partition] += [(record.key, record.value) for record in records]
            return found
        finally:
            await consumer.stop()

    async def values_in_rows(self) -> list[int]:
        """Return the values in DECIDE's rows, by the changelog, after checking that no group skipped a record."""
        values = []
        for rows in (await self.log("accounts")).values():
            require_contiguous(rows)
            last = {key: value for key, value in rows if key.startswith(b"r/") and key != b"r/last"}
            values += [int(value.split()[1]) for value in last.values()]
        return sorted(values)


def require_contiguous(rows: list[tuple[bytes, bytes]]) -> None:
    """Fail if a source record was stored before the one that precedes it (as written, every offset has a record)."""
    seen = {b"r/": -1, b"p/": -1}
    for key, _ in rows:
        prefix, name = key[:2], key[2:]
        if name != b"last":
            assert int(name) <= seen[prefix] + 1, f"{key!r} after {seen[prefix]}"
            seen[prefix] = max(seen[prefix], int(name))


@pytest.fixture
async def cluster(kafka: Kafka, topic_prefix: str, tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster_on(kafka, topic_prefix, tmp_path) as cluster:
        yield cluster


@asynccontextmanager
async def cluster_on(kafka: Kafka, topic_prefix: str, tmp_path: Path) -> AsyncIterator[Cluster]:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    topics = [NewTopic(topic_prefix + name, PARTITIONS, 1) for name in TOPICS]
    await admin.create_topics(topics)
    await admin.close()
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, linger_ms=2, enable_idempotence=True)
    await producer.start()
    cluster = Cluster(kafka, topic_prefix, tmp_path, producer)
    yield cluster
    for worker in cluster.workers:
        if worker.process.poll() is None:
            worker.process.kill()
            worker.process.wait()
        assert worker.process.stdout is not None
        worker.process.stdout.close()
    await producer.stop()


def folded(rows: list[tuple[bytes, bytes]]) -> dict[str, str]:
    return {key.decode(): value.decode() for key, value in rows}


async def test_kills_stops_and_restarts_lose_nothing_and_the_state_equals_the_log(cluster: Cluster) -> None:
    first, second = cluster.start("w1"), cluster.start("w2")
    await asyncio.gather(first.ready(2), second.ready(2))
    async with cluster.load():
        first.process.kill()  # a static member: noticed after the session timeout
        await second.ready(4)
        first = cluster.start("w1")  # its state directory is still there
        await asyncio.gather(first.ready(2), second.ready(2))
        await second.stop()
        await first.ready(4, within_s=SESSION_S - 1)  # it has left the group, so nobody waits for its session to end
    await cluster.caught_up()
    assert await cluster.values_in_rows() == list(range(cluster.produced))
    rows = await first.stop()
    changelog = await cluster.log("accounts")
    assert rows == {str(partition): folded(changelog[partition]) for partition in range(PARTITIONS)}
    assert sorted(rows["0"]) == sorted(folded(changelog[0]))


@pytest.mark.parametrize("kept", [True, False], ids=["kept-state", "empty-state"])
async def test_a_restarted_worker_has_the_state_of_the_log(cluster: Cluster, kept: bool) -> None:
    await cluster.produce(1000)
    worker = cluster.start("w1")
    await worker.ready(4)
    await cluster.caught_up()
    worker.process.kill()
    await worker.ended()
    again = cluster.start("w1", **({} if kept else {"state": str(cluster.directory / "elsewhere")}))
    await again.ready(4)
    changelog = await cluster.log("accounts")
    assert await again.stop() == {str(partition): folded(changelog[partition]) for partition in range(PARTITIONS)}


async def test_a_suspended_worker_fences_itself_before_it_writes_a_row(cluster: Cluster) -> None:
    first, second = cluster.start("w1"), cluster.start("w2")
    mine, _ = await asyncio.gather(first.ready(2), second.ready(2))
    async with cluster.load():
        await cluster.committed_beyond(200)
        first.process.send_signal(signal.SIGSTOP)  # with groups in flight
        await second.ready(4)
        before = cluster.produced
        await cluster.committed_beyond(before)  # its successor has written rows of its partitions
        first.process.send_signal(signal.SIGCONT)
        assert await first.ended() == 75
        assert "fenced" in first.errors()
    await cluster.caught_up()
    assert await cluster.values_in_rows() == list(range(cluster.produced))
    changelog = await cluster.log("accounts")
    for partition in mine:
        writers = [value.split()[0] for key, value in changelog[partition] if not key.endswith(b"last")]
        assert writers.index(b"w2") > 0
        assert b"w1" not in writers[writers.index(b"w2") :], f"a zombie's row lies behind in {partition}"


async def test_a_second_process_under_the_same_id_ends_the_first(cluster: Cluster) -> None:
    first = cluster.start("w1")
    await first.ready(4)
    cluster.start("w1", state=str(cluster.directory / "other"))
    assert await first.ended() == 75
    assert "another process uses" in first.errors()


async def test_holes_of_transactions_do_not_hold_up_commits(cluster: Cluster) -> None:
    worker = cluster.start("w1")
    await worker.ready(4)
    producer = AIOKafkaProducer(bootstrap_servers=cluster.kafka.bootstrap, transactional_id=f"{cluster.prefix}t")
    await producer.start()
    topic = f"{cluster.prefix}requests"
    for number in range(20):
        async with producer.transaction():
            await producer.send(topic, b"%d" % number, partition=0)
            await producer.send(topic, b"%d" % (100 + number), partition=0)
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"never seen", partition=0)
        await producer.abort_transaction()
    await producer.stop()
    await cluster.producer.send_and_wait(topic, b"999", partition=0)
    await cluster.producer.send_and_wait(topic, key=b"a tombstone", partition=0)
    await cluster.caught_up(within_s=20)
    rows = await worker.stop()
    stored = [row.partition(" ")[2] for key, row in sorted(rows["0"].items()) if key[:2] == "r/" and key != "r/last"]
    assert stored == [text for n in range(20) for text in (str(n), str(100 + n))] + ["999", ""]


async def test_records_lost_to_retention_end_the_worker_with_1(cluster: Cluster) -> None:
    await cluster.produce(400)
    worker = cluster.start("w1")
    await worker.ready(4)
    await cluster.caught_up()
    await worker.stop()
    await cluster.produce(400)
    admin = AIOKafkaAdminClient(bootstrap_servers=cluster.kafka.bootstrap)
    await admin.start()
    await admin.delete_records({TopicPartition(f"{cluster.prefix}requests", 2): RecordsToDelete(before_offset=150)})
    await admin.close()
    again = cluster.start("w1")
    assert await again.ended() == 1
    assert "requests partition 2: retention removed records 100 to 149" in again.errors()


async def test_a_number_of_partitions_that_is_not_the_configured_one_ends_the_worker_with_1(cluster: Cluster) -> None:
    worker = cluster.start("w1", partitions=6)
    assert await worker.ended() == 1
    assert "has 4 partitions, kafka.partitions is 6" in worker.errors()


async def test_a_missing_topic_ends_the_worker_with_1(cluster: Cluster) -> None:
    worker = cluster.start("w1", progress=f"{cluster.prefix}other")
    assert await worker.ended() == 1
    assert f"topic {cluster.prefix}other does not exist" in worker.errors()


async def test_a_broker_crash_longer_than_the_fence_loses_nothing_and_ends_no_worker(
    crashable_kafka: KafkaBroker, topic_prefix: str, tmp_path: Path
) -> None:
    async with cluster_on(Kafka(crashable_kafka.bootstrap, "crashable"), topic_prefix, tmp_path) as cluster:
        worker = cluster.start("w1")
        await worker.ready(4)
        async with cluster.load():
            await cluster.committed_beyond(200)
            await asyncio.to_thread(crashable_kafka.kill)
            await asyncio.sleep(SESSION_S)  # the outage that is tested
            await asyncio.to_thread(crashable_kafka.start)
        await cluster.caught_up()
        assert await cluster.values_in_rows() == list(range(cluster.produced))
        assert worker.process.poll() is None, worker.errors()
