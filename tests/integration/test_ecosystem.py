"""Programs in other languages and with other Kafka clients ask and hear, and find what docs/ says."""

import asyncio
import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Message, Producer, TopicPartition
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it has no types

from tests.broker.kafka import Kafka, KafkaUnavailableError, fetch_jars
from tests.integration.fleet import fleet
from tests.providers.fake import FakeProvider

pytestmark = pytest.mark.broker

ROOT = Path(__file__).parents[2]
PARTITIONS = 6
HEARD = ("prompt.responses", "prompt.errors", "prompt.costs", "ledger.entries", "prompt.deadletters", "model.health")
DAY = {"budgets": [{"usd": "5", "window": "day"}]}


@asynccontextmanager
async def answering(kafka: Kafka, prefix: str, directory: Path) -> AsyncIterator[None]:
    """Run one worker with the fake provider, for the tenants `acme` (with a budget) and any other."""
    async with FakeProvider() as provider:
        model = {"name": "m", "endpoint": provider.endpoint, "max_tokens": 4096, "cost_per_token": 0.00001}
        settings = {"models": [model], "tenants": [{"name": "acme", **DAY}], "load_balancer": {"max_failures": 2}}
        async with fleet(directory, kafka.bootstrap, prefix, settings) as workers:
            workers.start("w0")
            await workers.whole()
            yield
            assert set((await workers.stop()).values()) == {0}


def check(value: bytes) -> dict[str, Any]:
    """Return an event, checked against its schema under docs/."""
    event: dict[str, Any] = json.loads(value)
    schema = json.loads((ROOT / "docs" / "schemas" / f"{event['type']}.json").read_text())
    Draft202012Validator({**schema, "additionalProperties": False}).validate(event)
    return event


# --- librdkafka


def asked_with_librdkafka(bootstrap: str, prefix: str) -> None:
    """Publish requests that are answered, refused, wrong or fail, and what is no request; keyed by nothing or users."""
    values = [json.dumps({"request_id": f"r-{n}", "tenant": "acme", "prompt": "Hi", "max_tokens": 8}) for n in range(6)]
    values += [
        json.dumps({"request_id": "dear", "tenant": "acme", "prompt": "Hi", "needs": {"max_cost_usd": "0.00001"}}),
        json.dumps({"request_id": "wrong", "prompt": "Hi", "n": 2}),
        json.dumps({"request_id": "lost", "prompt": json.dumps({"fake": {"cut": True}}), "max_tokens": 8}),
        "no json",
    ]
    producer = Producer({"bootstrap.servers": bootstrap})
    for n, value in enumerate(values):
        producer.produce(f"{prefix}prompt.requests", value, key=None if n % 2 else f"user-{n}")
    assert producer.flush(30) == 0


def heard_with_librdkafka(bootstrap: str, prefix: str, wanted: Mapping[str, int]) -> list[Message]:
    """Read all topics from their beginning until so many outcomes of each kind have come, and the health with them."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": f"{prefix}hears", "auto.offset.reset": "earliest"})
    consumer.assign([TopicPartition(prefix + topic, p, 0) for topic in HEARD for p in range(PARTITIONS)])
    found: list[Message] = []
    seen: Counter[str] = Counter()
    try:
        while any(seen[topic] < count for topic, count in wanted.items()):
            message = consumer.poll(30)
            assert message is not None, f"nothing more after {dict(seen)}"
            assert message.error() is None, message.error()
            found.append(message)
            seen[str(message.topic()).removeprefix(prefix)] += 1
    finally:
        consumer.close()
    return found


async def test_librdkafka_hears_what_the_documents_say(kafka: Kafka, topic_prefix: str, tmp_path: Path) -> None:
    async with answering(kafka, topic_prefix, tmp_path):
        await asyncio.to_thread(asked_with_librdkafka, kafka.bootstrap, topic_prefix)
        wanted = {"prompt.responses": 6, "prompt.errors": 3, "prompt.deadletters": 1, "model.health": 1}
        found = await asyncio.to_thread(heard_with_librdkafka, kafka.bootstrap, topic_prefix, wanted)
    types: Counter[str] = Counter()
    for message in found:
        topic, event = str(message.topic()).removeprefix(topic_prefix), check(message.value() or b"")
        types[event["type"]] += 1
        key = {"prompt.costs": "tenant", "ledger.entries": "tenant", "model.health": "deployment"}.get(
            topic, "request_id"
        )
        assert (message.key() or b"").decode() == event.get(key, "")
        if topic != "model.health":
            headers = dict(message.headers() or [])
            assert headers["ce_id"] == event["id"].encode()
            assert headers["ce_type"] == event["type"].encode()
    assert {kind: types[kind] for kind in ("prompt.answered.v1", "prompt.failed.v1", "prompt.dead_lettered.v1")} == {
        "prompt.answered.v1": 6,
        "prompt.failed.v1": 3,
        "prompt.dead_lettered.v1": 1,
    }
    assert types["cost.uncertain.v1"] >= 1
    assert types["hold.refused.v1"] == 1


# --- Java


def java(*arguments: str) -> list[str]:
    """Run examples/Ask.java, compiled on the way, and return its lines."""
    if shutil.which("javac") is None:
        pytest.skip("no javac: a JDK is needed")
    try:
        jars = fetch_jars()
    except KafkaUnavailableError as unavailable:
        pytest.skip(f"no kafka-clients: {unavailable}")
    quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=error"
    run = ["java", quiet, "-cp", f"{jars}/*", str(ROOT / "examples" / "Ask.java"), *arguments]
    done = subprocess.run(run, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("tenant", ["acme", "anybody"])
async def test_java_asks_and_hears(kafka: Kafka, topic_prefix: str, tmp_path: Path, tenant: str) -> None:
    prompts = [f'Say "{n}"\nand a backslash: \\' for n in range(8)]
    async with answering(kafka, topic_prefix, tmp_path):
        lines = await asyncio.to_thread(java, kafka.bootstrap, topic_prefix, tenant, *prompts)
    assert len(lines) == len(prompts)
    for line in lines:
        type_, where_java_puts_the_key, where_it_was, value = line.split(" ", 3)
        event = check(value.encode())
        assert (type_, event["type"], event["tenant"]) == ("prompt.answered.v1", "prompt.answered.v1", tenant)
        assert where_it_was == where_java_puts_the_key, "an answer is not where Java's partitioner puts its key"


# --- Python


async def test_the_python_example_asks_and_hears(kafka: Kafka, topic_prefix: str, tmp_path: Path) -> None:
    run = [sys.executable, str(ROOT / "examples" / "ask.py"), kafka.bootstrap, topic_prefix, "acme", "Hi", "Bye"]
    async with answering(kafka, topic_prefix, tmp_path):
        done = await asyncio.to_thread(
            subprocess.run, run, capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path
        )
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["prompt.answered.v1"] * 2
