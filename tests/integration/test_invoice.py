"""The provider's own invoice against our bill: equal once every uncertain call is resolved, and never above it.

A rebalance hides calls that go on: their new owner books them at their bound and calls again, and the truth of both
arrives later. A kill hides calls for ever. Taken out once, the adjustment in `outcome._book` made it fail.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from tests.broker.kafka import Kafka
from tests.integration.books import Books, audit, read_books, wait_for
from tests.integration.fleet import fleet
from tests.integration.provider_process import Provider, provider_process

pytestmark = pytest.mark.broker

PARTITIONS = 6
NANO_PER_TOKEN = 10_000
DELAY_S = 8.0
BEFORE_REBALANCE, BEFORE_KILL = range(24), range(24, 48)


async def test_the_bill_is_the_providers_invoice_once_every_uncertain_call_is_resolved(
    kafka: Kafka, topic_prefix: str, tmp_path: Path
) -> None:
    with provider_process(tmp_path, {"delay_s": DELAY_S}) as provider:
        settings = {
            "orchestrator": {"timeout": 120},
            "models": [{"name": "m", "endpoint": provider.endpoint, "cost_per_token": 0.00001}],
            "load_balancer": {"max_failures": 1000},
            "tenants": [{"name": f"t{n}", "budgets": [{"usd": "1000", "window": "day"}]} for n in range(3)],
        }

        async def read() -> Books:
            return await read_books(kafka.bootstrap, topic_prefix, "orchestrator", PARTITIONS)

        async with fleet(tmp_path, kafka.bootstrap, topic_prefix, settings) as workers:
            workers.start("w0")
            await workers.whole()
            await ask(kafka.bootstrap, topic_prefix, BEFORE_REBALANCE)
            await called(provider, len(BEFORE_REBALANCE))
            workers.start("w1")
            async with asyncio.timeout(90):
                books = await read()
                while len(books.outcomes) < len(BEFORE_REBALANCE) or books.unresolved:
                    await asyncio.sleep(1)
                    books = await read()
            kinds = Counter(cost["type"] for cost in books.costs.values())
            assert kinds["cost.adjusted.v1"] == kinds["cost.uncertain.v1"] > 0
            assert books.billed == provider.charged(NANO_PER_TOKEN)

            seen = provider.calls()
            await ask(kafka.bootstrap, topic_prefix, BEFORE_KILL)
            await called(provider, seen + len(BEFORE_KILL))
            victim = workers.workers["w0"].process
            victim.kill()
            victim.wait()
            workers.start("w0")
            asked = [(f"t{n % 6}", f"r-{n}") for n in (*BEFORE_REBALANCE, *BEFORE_KILL)]
            await wait_for(kafka.bootstrap, topic_prefix, PARTITIONS, lambda: asked, within_s=90)
            await workers.whole()
            assert set((await workers.stop()).values()) == {0}
        invoice = provider.charged_by_marker(NANO_PER_TOKEN)
    books = await read()
    audit(books)
    assert not books.deadletters
    assert 0 < len(books.unresolved) < len(BEFORE_KILL), "some calls were lost with their worker, others were not"
    books.compare_with_invoice(invoice)


async def ask(bootstrap: str, prefix: str, numbers: Sequence[int]) -> None:
    """Publish requests of three tenants with a budget and three without; the provider finds their ids in the prompt."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    for n in numbers:
        body = {"request_id": f"r-{n}", "tenant": f"t{n % 6}", "prompt": f"marker:r-{n}", "max_tokens": 64}
        await producer.send(f"{prefix}prompt.requests", json.dumps(body | {"cache": {"mode": "off"}}).encode())
    await producer.stop()


async def called(provider: Provider, calls: int) -> None:
    """Wait until the provider has received so many calls."""
    async with asyncio.timeout(30):
        while provider.calls() < calls:
            await asyncio.sleep(0.05)
