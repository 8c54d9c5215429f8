"""Commands on a real Kafka: topics are applied and checked, prompts reach their homes, outcomes are told once."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.structs import ConsumerRecord

from streams.runtime.topics import Topics, apply
from tests.broker.kafka import Kafka

pytestmark = pytest.mark.broker

PARTITIONS = 3
ORCHESTRATOR = [sys.executable, "-c", "import sys; from agents.cli import main; sys.exit(main())"]


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Place:
    """A directory with a configuration for a cluster, and a prefix of its own there."""

    directory: Path
    bootstrap: str
    prefix: str

    @property
    def topics(self) -> Topics:
        return Topics(self.prefix, "orchestrator")

    async def apply(self) -> None:
        await apply(
            self.bootstrap, partitions=PARTITIONS, replication_factor=1, prefix=self.prefix, group="orchestrator"
        )

    def start(self, *arguments: str, partitions: int = PARTITIONS) -> subprocess.Popen[bytes]:
        environ = os.environ | {"ORCHESTRATOR_KAFKA__PARTITIONS": str(partitions)}
        return subprocess.Popen(
            [*ORCHESTRATOR, *arguments],
            cwd=self.directory,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    async def run(self, *arguments: str, partitions: int = PARTITIONS) -> Ended:
        process = self.start(*arguments, partitions=partitions)
        out, err = await asyncio.to_thread(process.communicate, timeout=90)
        return Ended(process.returncode, out.decode(), err.decode())


@pytest.fixture
def place(kafka: Kafka, topic_prefix: str, tmp_path: Path) -> Place:
    (tmp_path / "orchestrator.yaml").write_text(
        f"kafka: {{bootstrap_servers: '{kafka.bootstrap}', topic_prefix: {topic_prefix}}}\n"
        "orchestrator: {timeout: 1}\n"
        "tenants: [{name: acme, budgets: [{usd: 10, window: day}]}]\n"
    )
    return Place(tmp_path, kafka.bootstrap, topic_prefix)


@asynccontextmanager
async def requests(place: Place) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(bootstrap_servers=place.bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    consumer.assign([TopicPartition(place.topics.requests, partition) for partition in range(PARTITIONS)])
    try:
        yield consumer
    finally:
        await consumer.stop()


async def published(place: Place, count: int) -> list[ConsumerRecord]:
    async with requests(place) as consumer, asyncio.timeout(30):
        records = [await consumer.getone() for _ in range(count)]
    return sorted(records, key=lambda record: (record.partition, record.offset))


def answer(record: ConsumerRecord) -> dict[str, Any]:
    request = json.loads(record.value)
    names = {"tenant": request.get("tenant", "default"), "request_id": request["request_id"]}
    return {"id": f"event-{request['request_id']}", "type": "prompt.answered.v1", "text": "Hello!", **names}


def failure(record: ConsumerRecord) -> dict[str, Any]:
    return answer(record) | {"type": "prompt.failed.v1", "error": {"code": "MODEL_ERROR"}}


def dead_letter(record: ConsumerRecord) -> dict[str, Any]:
    """One that does not know the request's name."""
    where = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
    return {"id": f"letter-{record.offset}", "type": "prompt.dead_lettered.v1", **where}


# --- topics -----------------------------------------------------------------------------------------------------------


async def test_topics_are_missing_then_created_then_right(place: Place) -> None:
    missing = await place.run("topics", "check")
    assert (missing.code, missing.err, len(missing.out.splitlines())) == (1, "", 11)
    assert f"{place.prefix}prompt.requests: missing" in missing.out.splitlines()
    created = await place.run("topics", "apply")
    assert (created.code, created.err, len(created.out.splitlines())) == (0, "", 11)
    assert f"{place.prefix}prompt.requests: created" in created.out.splitlines()
    right = Ended(0, "all topics are as they have to be\n", "")
    assert await place.run("topics", "apply") == right
    assert await place.run("topics", "check") == right


async def test_another_number_of_partitions_is_told_and_refused(place: Place) -> None:
    await place.apply()
    checked = await place.run("topics", "check", partitions=4)
    assert (checked.code, checked.err) == (1, "")
    assert checked.out.splitlines()[0] == f"{place.prefix}prompt.requests: partitions is 3, not 4"
    refused = await place.run("topics", "apply", partitions=4)
    assert (refused.code, refused.out, refused.err) == (1, "", checked.out)


# --- submit -----------------------------------------------------------------------------------------------------------


async def test_submit_publishes_to_the_homes_and_prints_the_ids(place: Place) -> None:
    await place.apply()
    asked = [{"request_id": f"r-{n}", "prompt": "Hi", "tenant": "acme"} for n in (1, 2)]
    asked += [{"request_id": f"s-{n}", "prompt": "Hi"} for n in (1, 2, 3)]
    (place.directory / "f.jsonl").write_text("".join(json.dumps(line) + "\n" for line in asked))
    assert await place.run("submit", "--file", "f.jsonl") == Ended(0, "r-1\nr-2\ns-1\ns-2\ns-3\n", "")
    records = await published(place, 5)
    # homes: murmur2 mod 3 of `acme`, which has a budget; of `7:default3:s-1` and so on for a tenant without limits
    assert [(record.partition, record.key.decode()) for record in records] == [
        *((0, "r-1"), (0, "r-2")),
        *((1, "s-1"), (1, "s-3")),
        (2, "s-2"),
    ]
    assert {record.key.decode(): json.loads(record.value) for record in records} == {a["request_id"]: a for a in asked}
    traces = [dict(record.headers)["traceparent"].decode() for record in records]
    assert all(trace.startswith("00-") and trace.endswith("-01") and len(trace) == 55 for trace in traces)
    assert len(set(traces)) == 5


async def test_texts_get_random_ids_and_a_repeated_file_the_same(place: Place) -> None:
    await place.apply()
    (place.directory / "f.jsonl").write_text('"one"\n"two"\n')
    first = (await place.run("submit", "--file", "f.jsonl", "three")).out.splitlines()
    again = (await place.run("submit", "--file", "f.jsonl", "three")).out.splitlines()
    assert len({*first, *again}) == 4
    assert first[1:] == again[1:]


async def test_submit_refuses_topics_that_are_missing_or_have_another_p(place: Place) -> None:
    missing = await place.run("submit", "Hi")
    assert (missing.code, missing.out) == (1, "")
    assert missing.err.splitlines()[0] == (
        f"{place.prefix}prompt.requests: missing; `orchestrator topics apply` creates it"
    )
    await place.apply()
    differing = await place.run("submit", "Hi", partitions=4)
    assert (differing.code, differing.out) == (1, "")
    assert differing.err.splitlines()[0] == f"{place.prefix}prompt.requests: has 3 partitions, `kafka.partitions` is 4"


async def test_wait_tells_each_answer_once_and_nothing_older(place: Place) -> None:
    await place.apply()
    lines = [json.dumps({"request_id": f"r-{n}", "prompt": "Hi"}) for n in range(20)]
    (place.directory / "f.jsonl").write_text("\n".join(lines))
    async with AIOKafkaProducer(bootstrap_servers=place.bootstrap) as producer, requests(place) as consumer:
        old = {"id": "old", "type": "prompt.answered.v1", "tenant": "default", "request_id": "r-0"}
        await producer.send_and_wait(place.topics.responses, json.dumps(old).encode())
        await producer.send_and_wait(place.topics.responses, b"\xff no event")
        running = asyncio.create_task(place.run("submit", "--wait", "--file", "f.jsonl"))
        for _ in range(20):
            event = json.dumps(answer(await consumer.getone())).encode()
            await producer.send_and_wait(place.topics.responses, event)
            await producer.send_and_wait(place.topics.responses, event)
        ended = await running
    assert (ended.code, ended.err) == (0, "")
    told = [json.loads(line) for line in ended.out.splitlines()]
    assert {event["id"] for event in told} == {f"event-r-{n}" for n in range(20)}
    assert len(told) == 20
    assert told[0]["text"] == "Hello!"


async def test_a_failure_and_a_dead_letter_end_the_wait_with_1(place: Place) -> None:
    await place.apply()
    async with AIOKafkaProducer(bootstrap_servers=place.bootstrap) as producer, requests(place) as consumer:
        running = asyncio.create_task(place.run("submit", "--wait", "--tenant", "acme", "a", "b", "c"))
        topics = (place.topics.responses, place.topics.errors, place.topics.deadletters)
        for topic, outcome in zip(topics, (answer, failure, dead_letter), strict=True):
            await producer.send_and_wait(topic, json.dumps(outcome(await consumer.getone())).encode())
        ended = await running
    assert (ended.code, ended.err) == (1, "2 of 3 failed\n")
    assert sorted(json.loads(line)["type"] for line in ended.out.splitlines()) == [
        "prompt.answered.v1",
        "prompt.dead_lettered.v1",
        "prompt.failed.v1",
    ]


async def test_requests_without_an_outcome_in_time_are_named(place: Place) -> None:
    """Takes the 30 s of grace and the request's own second."""
    await place.apply()
    (place.directory / "f.jsonl").write_text('{"request_id": "r-1", "prompt": "Hi"}\n')
    ended = await place.run("submit", "--wait", "--file", "f.jsonl")
    assert ended == Ended(1, "", "no outcome within 31 s: r-1\n")


async def test_ctrl_c_while_waiting_ends_with_130(place: Place) -> None:
    await place.apply()
    process = place.start("submit", "--wait", "Hi")
    await published(place, 1)
    process.send_signal(signal.SIGINT)
    assert await asyncio.to_thread(process.communicate, timeout=30) == (b"", b"")
    assert process.returncode == 130
