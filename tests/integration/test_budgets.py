"""A thousand requests at once against budgets for exactly so many of them, on three workers, some of which are killed.

The provider's usage equals the bound that a hold is made of: one hold too many would be an overspend at once. Taken
out once, `Pen.room_for` in `admission._admit` made it fail.
"""

import asyncio
import json
import random
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from tests.broker.kafka import Kafka
from tests.integration.books import audit, read_books, wait_for
from tests.integration.fleet import fleet
from tests.integration.provider_process import provider_process

pytestmark = pytest.mark.broker

PARTITIONS = 6
NANO_PER_TOKEN = 10_000
OUTPUT_TOKENS = 50
PROMPT = "0123456789"
INPUT_TOKENS = len('[{"role":"user","content":"0123456789"}]') + 8
HOLD = (INPUT_TOKENS + OUTPUT_TOKENS) * NANO_PER_TOKEN
AFFORDABLE = {"none": 0, "one": 1, "ten": 10, "many": 137}
EACH = 250


def usd(nano: int) -> str:
    return f"{nano / 1_000_000_000:.9f}"


async def test_a_thousand_requests_at_once_overspend_nothing(kafka: Kafka, topic_prefix: str, tmp_path: Path) -> None:
    usage = {"prompt_tokens": INPUT_TOKENS, "completion_tokens": OUTPUT_TOKENS}
    with provider_process(tmp_path, {"delay_s": 0.4, "usage": usage}) as provider:
        settings = {
            "orchestrator": {"timeout": 120},
            "models": [
                {"name": "m", "endpoint": provider.endpoint, "cost_per_token": 0.00001, "template_tokens": 0},
            ],
            "load_balancer": {"max_failures": 1000},
            "tenants": [
                {
                    "name": name,
                    "budgets": [{"usd": usd(count * HOLD), "window": "total"}, {"usd": "1000", "window": "month"}],
                }
                for name, count in AFFORDABLE.items()
            ],
        }
        async with fleet(tmp_path, kafka.bootstrap, topic_prefix, settings) as workers:
            for name in ("w0", "w1", "w2"):
                workers.start(name)
            await workers.whole()
            wanted = [(tenant, f"{tenant}-{n}") for n in range(EACH) for tenant in AFFORDABLE]
            producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, linger_ms=5)
            await producer.start()
            for tenant, request_id in wanted:
                body = {"request_id": request_id, "tenant": tenant, "prompt": PROMPT, "max_tokens": OUTPUT_TOKENS}
                body |= {"cache": {"mode": "off"}}
                await producer.send(f"{topic_prefix}prompt.requests", json.dumps(body).encode())
            await producer.stop()
            draw = random.Random(137)
            for _ in range(3):
                await asyncio.sleep(draw.uniform(0.2, 1.0))
                victim = workers.workers[draw.choice(("w0", "w1", "w2"))]
                victim.process.kill()
                victim.process.wait()
                workers.start(victim.name)
            await wait_for(kafka.bootstrap, topic_prefix, PARTITIONS, lambda: wanted, within_s=120)
            await workers.whole()
            assert set((await workers.stop()).values()) == {0}
        charged = provider.charged(NANO_PER_TOKEN)
    books = await read_books(kafka.bootstrap, topic_prefix, "orchestrator", PARTITIONS)
    audit(books)
    assert not books.deadletters
    spent = {
        account.tenant: window.spent for account in books.accounts for window in account.windows if window.id == "total"
    }
    for tenant, count in AFFORDABLE.items():
        assert spent.get(tenant, 0) <= count * HOLD
        assert spent.get(tenant, 0) >= 0.95 * count * HOLD, f"{tenant} was refused what its budget allowed"
    refused = [json.loads(value) for values in books.outcomes.values() for value in set(values)]
    reasons = {e["error"]["details"]["reason"] for e in refused if e["type"] == "prompt.failed.v1"}
    assert reasons <= {"budget", "connection_lost"}
    assert charged <= books.billed <= charged + books.uncertain
