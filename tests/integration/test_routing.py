"""Choosing, cooling down and keeping to limits, with real workers."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from tests.broker.kafka import Kafka
from tests.integration.books import wait_for
from tests.integration.fleet import Fleet, fleet
from tests.providers.fake import Behaviour, FakeProvider

pytestmark = pytest.mark.broker

PARTITIONS = 6


async def ask(bootstrap: str, prefix: str, names: list[str], **asked: Any) -> None:
    """Publish requests."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    for name in names:
        body = {"request_id": name, "prompt": name, "max_tokens": 8, **asked}
        await producer.send(f"{prefix}prompt.requests", json.dumps(body).encode())
    await producer.stop()


async def read_until(bootstrap: str, topic: str, enough: Any) -> list[dict[str, Any]]:
    """Read a topic from its beginning until `enough` of what was read is true."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    consumer.assign([TopicPartition(topic, p) for p in range(PARTITIONS)])
    await consumer.start()
    events: list[dict[str, Any]] = []
    try:
        while not enough(events):
            for records in (await consumer.getmany(timeout_ms=300)).values():
                events += [json.loads(record.value) for record in records if record.value is not None]
        return events
    finally:
        await consumer.stop()


async def all_say(workers: Fleet, message: str, within_s: float = 30) -> None:
    """Wait until each worker has logged this."""
    async with asyncio.timeout(within_s):
        while not all(message in {line["message"] for line in w.lines()} for w in workers.workers.values()):
            await asyncio.sleep(0.1)


async def test_a_quota_that_one_worker_used_up_is_left_alone_by_all(
    kafka: Kafka, topic_prefix: str, tmp_path: Path
) -> None:
    limited = Behaviour(status=429, headers={"retry-after": "60"})
    async with FakeProvider(behaviour=limited) as used_up, FakeProvider() as spare:
        shared = {"name": "m", "endpoint": used_up.endpoint, "cost_per_token": 0.00001, "quota": "shared"}
        settings = {
            "models": [
                {**shared, "id": "a"},
                {**shared, "id": "b"},
                {"name": "spare", "endpoint": spare.endpoint, "cost_per_token": 0.00001},
            ]
        }
        async with fleet(tmp_path, kafka.bootstrap, topic_prefix, settings) as workers:
            workers.start("w0")
            workers.start("w1")
            await workers.whole()
            asked = [("default", "first")]
            await ask(kafka.bootstrap, topic_prefix, ["first"], model=["m", "spare"])
            await wait_for(kafka.bootstrap, topic_prefix, PARTITIONS, lambda: asked, within_s=30)
            await all_say(workers, "cooldown")
            refused = len(used_up.calls)
            names = [f"r-{n}" for n in range(40)]
            asked += [("default", name) for name in names]
            await ask(kafka.bootstrap, topic_prefix, names, model=["m", "spare"])
            await wait_for(kafka.bootstrap, topic_prefix, PARTITIONS, lambda: asked, within_s=30)
            progress = await read_until(
                kafka.bootstrap,
                f"{topic_prefix}prompt.progress",
                lambda events: len({e["request_id"] for e in events if e["type"] == SUCCEEDED}) == 41,
            )
            await workers.stop()

    assert refused == 1
    assert len(used_up.calls) == 1
    after = [e["routing"] for e in progress if e["request_id"] == "r-39" and e["type"] == SUCCEEDED]
    assert after[0]["chosen"] == "spare"
    assert [c["reason"] for c in after[0]["candidates"]] == ["cooldown", "cooldown", None]


SUCCEEDED = "prompt.attempt.succeeded.v1"


async def test_two_workers_together_keep_to_the_limit_of_a_deployment(
    kafka: Kafka, topic_prefix: str, tmp_path: Path
) -> None:
    takes_s = 0.1
    async with FakeProvider(behaviour=Behaviour(delay_s=takes_s)) as provider:
        settings = {
            "models": [
                {"name": "m", "endpoint": provider.endpoint, "cost_per_token": 0.00001, "max_concurrency": 4},
            ]
        }
        async with fleet(tmp_path, kafka.bootstrap, topic_prefix, settings) as workers:
            workers.start("w0")
            workers.start("w1")
            await workers.whole()
            names = [f"r-{n}" for n in range(60)]
            asked = [("default", name) for name in names]
            await ask(kafka.bootstrap, topic_prefix, names)
            await wait_for(kafka.bootstrap, topic_prefix, PARTITIONS, lambda: asked, within_s=30)
            await workers.stop()

    came = [call.at for call in provider.calls]
    assert len(came) == 60
    assert max(sum(at <= moment < at + takes_s for at in came) for moment in came) <= 4
