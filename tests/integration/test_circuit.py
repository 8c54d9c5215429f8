"""A deployment that fails `max_failures` times in a row is out until active checks succeed."""

import json
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from tests.broker.kafka import Kafka
from tests.integration.books import read_books, wait_for
from tests.integration.fleet import fleet
from tests.providers.fake import Behaviour, FakeProvider

pytestmark = pytest.mark.broker

PARTITIONS = 6


async def test_a_failing_deployment_is_out_until_checks_succeed(
    kafka: Kafka, topic_prefix: str, tmp_path: Path
) -> None:
    async with FakeProvider() as provider:
        settings = {
            "orchestrator": {"max_retries": 0},
            "models": [{"name": "m", "endpoint": provider.endpoint, "cost_per_token": 0.00001}],
            "load_balancer": {"max_failures": 3, "health_check_interval": 2, "timeout": 1},
        }
        async with fleet(tmp_path, kafka.bootstrap, topic_prefix, settings) as workers:
            workers.start("w0")
            await workers.whole()
            asked: list[tuple[str, str]] = []

            async def ask(*names: str) -> None:
                producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap)
                await producer.start()
                for name in names:
                    body = {"request_id": name, "prompt": name, "max_tokens": 8}
                    await producer.send(f"{topic_prefix}prompt.requests", json.dumps(body).encode())
                    asked.append(("default", name))
                await producer.stop()
                await wait_for(kafka.bootstrap, topic_prefix, PARTITIONS, lambda: asked, within_s=30)

            provider.behaviour = Behaviour(status=500)
            for n in range(3):
                await ask(f"failing-{n}")
            await ask("refused-0", "refused-1")
            called = len(provider.calls)
            provider.behaviour = Behaviour(answer="well again")
            health = await told(kafka.bootstrap, f"{topic_prefix}model.health", until="closed")
            await ask("answered")
            await workers.stop()
    books = await read_books(kafka.bootstrap, topic_prefix, "orchestrator", PARTITIONS)
    reasons = [books.terminal("default", f"failing-{n}")["error"]["details"]["reason"] for n in range(3)]
    assert reasons == ["server_error"] * 3
    assert called == 3
    for n in range(2):
        error = books.terminal("default", f"refused-{n}")["error"]
        assert (error["code"], error["details"]["reason"]) == ("MODEL_UNAVAILABLE", "circuit_open")
    assert books.terminal("default", "answered")["text"] == "well again"
    assert [event["circuit"] for event in health][-3:] == ["open", "half_open", "closed"]
    assert {event["deployment"] for event in health} == {"m"}


async def told(bootstrap: str, topic: str, *, until: str) -> list[dict[str, Any]]:
    """Follow `model.health` until a circuit is in this state after it was in another; return all events."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    consumer.assign([TopicPartition(topic, p) for p in range(PARTITIONS)])
    await consumer.start()
    events: list[dict[str, Any]] = []
    try:
        while len({e["circuit"] for e in events}) < 2 or events[-1]["circuit"] != until:
            for records in (await consumer.getmany(timeout_ms=300)).values():
                events += [json.loads(record.value) for record in records]
        return events
    finally:
        await consumer.stop()
