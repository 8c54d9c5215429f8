"""One of two workers is killed again and again. Nothing is lost, nothing is told twice, and the books are exact.

It failed before partitions repeated what was decided in `seq` order (`Pipeline._repeat`, decision 0002). The
simulator's planted bugs (`tests/simulation/test_planted_bugs.py`) take out the other mechanisms.
"""

import asyncio
import json
import random
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from tests.broker.kafka import Kafka
from tests.integration.books import audit, read_books, wait_for
from tests.integration.fleet import Fleet, fleet
from tests.integration.provider_process import Provider, provider_process

pytestmark = pytest.mark.broker

REQUESTS = 2_000
KILLS = 20
PER_SECOND = 60
TENANTS = 10
NANO_PER_TOKEN = 30_000
PARTITIONS = 6


async def test_twenty_kills_lose_nothing_and_tell_nothing_twice(
    kafka: Kafka, topic_prefix: str, tmp_path: Path
) -> None:
    with provider_process(tmp_path, {"delay_s": 0.5}) as provider:
        await kill_twenty_times(kafka, topic_prefix, tmp_path, provider)


async def kill_twenty_times(kafka: Kafka, topic_prefix: str, tmp_path: Path, provider: Provider) -> None:
    settings = {
        "orchestrator": {"timeout": 120},
        "models": [
            {"name": "m", "endpoint": provider.endpoint, "max_tokens": 4096, "cost_per_token": 0.00003},
        ],
        "load_balancer": {"max_failures": 1000},
        "tenants": [
            {"name": f"t{n}", "budgets": [{"usd": "1000", "window": "total"}, {"usd": "1000", "window": "day"}]}
            for n in range(TENANTS // 2)
        ],
    }
    async with fleet(tmp_path, kafka.bootstrap, topic_prefix, settings) as workers:
        for name in ("w0", "w1"):
            workers.start(name)
        await workers.whole()
        sent: list[tuple[str, str]] = []
        loading = asyncio.create_task(_load(kafka.bootstrap, topic_prefix, sent))
        kills = await _kill(workers, loading)
        await loading
        await wait_for(kafka.bootstrap, topic_prefix, PARTITIONS, lambda: sent, within_s=150)
        await workers.whole()
        codes = await workers.stop()
    books = await read_books(kafka.bootstrap, topic_prefix, "orchestrator", PARTITIONS)
    assert kills == KILLS
    assert set(codes.values()) == {0}
    assert len(books.outcomes) == REQUESTS
    audit(books)
    assert not books.deadletters
    charged = provider.charged(NANO_PER_TOKEN)
    told = sum(len(values) > 1 for values in books.outcomes.values())
    redriven = books.attempts["prompt.attempt.redriven.v1"]
    print(
        f"\n{REQUESTS} requests, {KILLS} kills: {provider.calls()} calls, {redriven} "
        f"redriven, {told} outcomes repeated with the same bytes, billed {books.billed}, charged {charged}, "
        f"uncertain {books.uncertain}"
    )
    assert charged <= books.billed <= charged + books.uncertain
    books.compare_with_invoice(provider.charged_by_marker(NANO_PER_TOKEN))


async def _load(bootstrap: str, prefix: str, sent: list[tuple[str, str]]) -> None:
    """Publish at a steady rate; every tenant's requests come with keys that say nothing about their home."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True, linger_ms=2)
    await producer.start()
    loop = asyncio.get_running_loop()
    begun = loop.time()
    for n in range(REQUESTS):
        await asyncio.sleep(max(0.0, begun + n / PER_SECOND - loop.time()))
        tenant, request_id = f"t{n % TENANTS}", f"r-{n}"
        body = {"request_id": request_id, "tenant": tenant, "model": "m", "prompt": f"marker:r-{n}", "max_tokens": 64}
        await producer.send(f"{prefix}prompt.requests", json.dumps(body).encode(), key=str(n % 7).encode())
        sent.append((tenant, request_id))
    await producer.stop()


async def _kill(workers: Fleet, loading: asyncio.Task[None]) -> int:
    """Kill one of the two at random moments of the load, and start it again."""
    draw = random.Random(20)
    pause = REQUESTS / PER_SECOND / KILLS
    for _ in range(KILLS):
        await asyncio.sleep(pause * draw.uniform(0.5, 1.4))
        name = draw.choice(("w0", "w1"))
        workers.workers[name].process.kill()
        workers.workers[name].process.wait()
        await asyncio.sleep(draw.uniform(0, 0.5))
        workers.start(name)
    return KILLS
