"""However a request is published, it is found at its home and counted once."""

import json
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from confluent_kafka import Producer as ConfluentProducer

from tests.broker.kafka import Kafka
from tests.integration.books import audit, read_books, wait_for
from tests.integration.fleet import fleet
from tests.providers.fake import FakeProvider

pytestmark = pytest.mark.broker

PARTITIONS = 6
EACH = 30


def body(tenant: str, request_id: str) -> bytes:
    return json.dumps(
        {"request_id": request_id, "tenant": tenant, "prompt": f"{request_id}?", "max_tokens": 32}
    ).encode()


async def test_requests_of_every_producer_are_decided_at_home_once(
    kafka: Kafka, topic_prefix: str, tmp_path: Path
) -> None:
    topic = f"{topic_prefix}prompt.requests"
    async with FakeProvider() as provider:
        settings = {
            "models": [{"name": "m", "endpoint": provider.endpoint, "max_tokens": 4096, "cost_per_token": 0.00001}],
            "tenants": [{"name": f"limited-{n}", "budgets": [{"usd": "5", "window": "day"}]} for n in range(3)],
        }
        async with fleet(tmp_path, kafka.bootstrap, topic_prefix, settings) as workers:
            workers.start("w0")
            workers.start("w1")
            await workers.whole()
            keys = {"murmur2": b"user-%d", "none": None, "random": b"\xff\x00%d"}
            wanted = []
            producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap)
            await producer.start()
            for how, key in keys.items():
                for n in range(EACH):
                    tenant = f"limited-{n % 3}" if n % 2 else f"free-{n % 5}"
                    request_id = f"{how}-{n}"
                    await producer.send(topic, body(tenant, request_id), key=None if key is None else key % n)
                    wanted.append((tenant, request_id))
            await producer.stop()
            crc32 = ConfluentProducer({"bootstrap.servers": kafka.bootstrap})
            for n in range(EACH):
                tenant = f"limited-{n % 3}" if n % 2 else f"free-{n % 5}"
                crc32.produce(topic, body(tenant, f"crc32-{n}"), key=tenant)
                wanted.append((tenant, f"crc32-{n}"))
            assert crc32.flush(30) == 0
            await wait_for(kafka.bootstrap, topic_prefix, PARTITIONS, lambda: wanted, within_s=60)
            assert set((await workers.stop()).values()) == {0}
        calls = len(provider.calls)
    books = await read_books(kafka.bootstrap, topic_prefix, "orchestrator", PARTITIONS)
    audit(books)
    assert not books.deadletters
    assert calls == len(wanted) == 4 * EACH
    assert {key: books.terminal(*key)["type"] for key in wanted} == dict.fromkeys(wanted, "prompt.answered.v1")
    assert all(len(homes) == 1 for homes in books.homes.values())
    for n in range(3):
        homes = {home for (tenant, _), found in books.homes.items() for home in found if tenant == f"limited-{n}"}
        assert len(homes) == 1, f"limited-{n} has more than one home: {homes}"
    free = {home for (tenant, _), found in books.homes.items() for home in found if tenant.startswith("free-")}
    assert len(free) == PARTITIONS
