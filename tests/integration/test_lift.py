"""A provider bills more than a hold: the tenant is stopped, and goes on when an operator says so, and not before."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.broker.kafka import Kafka
from tests.integration.books import Books, read_books
from tests.integration.fleet import Fleet, fleet
from tests.integration.provider_process import provider_process

pytestmark = pytest.mark.broker

PARTITIONS = 6
OVERRUN = {"prompt_tokens": 500, "completion_tokens": 500}
"""The hold is for 104 tokens in and 64 out."""


def ask(workers: Fleet, request_id: str) -> dict[str, Any]:
    """Submit a request and return its outcome."""
    file = workers.directory / f"{request_id}.jsonl"
    file.write_text(json.dumps({"request_id": request_id, "tenant": "acme", "prompt": "Hi", "max_tokens": 64}))
    ended = workers.run("submit", "--wait", "--file", str(file))
    event: dict[str, Any] = json.loads(ended.stdout)
    return event


async def test_an_operator_lifts_what_an_overrun_has_stopped(kafka: Kafka, topic_prefix: str, tmp_path: Path) -> None:
    with provider_process(tmp_path, {"usage": OVERRUN}) as provider:
        settings = {
            "orchestrator": {"timeout": 60},
            "models": [
                {"name": "m", "endpoint": provider.endpoint, "max_tokens": 4096, "cost_per_token": 0.00001},
            ],
            "tenants": [
                {"name": "acme", "budgets": [{"usd": "5", "window": "total"}, {"usd": "1", "window": "month"}]},
                {"name": "free"},
            ],
        }
        async with fleet(tmp_path, kafka.bootstrap, topic_prefix, settings) as workers:
            workers.start("w0")
            await workers.whole()

            async def read() -> Books:
                return await read_books(kafka.bootstrap, topic_prefix, "orchestrator", PARTITIONS)

            first = await asyncio.to_thread(ask, workers, "r-1")
            second = await asyncio.to_thread(ask, workers, "r-2")
            assert first["cost_nano_usd"] == 1000 * 10_000
            assert second["error"]["details"]["reason"] == "overrun"

            workers.workers["w0"].process.kill()
            workers.workers["w0"].process.wait()
            refused = await asyncio.to_thread(workers.run, "budgets", "lift", "free")
            lifts = [await asyncio.to_thread(workers.run, "budgets", "lift", "acme") for _ in range(2)]
            assert (refused.returncode, [lift.returncode for lift in lifts]) == (2, [0, 0])
            assert refused.stderr.splitlines() == ["free: has no budget here, so no overrun can stop it"]

            workers.start("w1")
            await workers.whole()
            async with asyncio.timeout(60):
                while not told_lifted(await read()):
                    await asyncio.sleep(0.3)
            third = await asyncio.to_thread(ask, workers, "r-3")
            fourth = await asyncio.to_thread(ask, workers, "r-4")
            assert third["type"] == "prompt.answered.v1"
            assert fourth["error"]["details"]["reason"] == "overrun", "the next overrun stops the tenant again"
            verified = await asyncio.to_thread(workers.run, "verify")
            assert set((await workers.stop()).values()) == {0}
    books = await read()
    assert verified.returncode == 0, verified.stdout
    assert not books.deadletters
    assert told_lifted(books) == [
        ("total", 5_000_000_000, 5_000_000_000, 10_000_000),
        (books.accounts[0].windows[1].id, 1_000_000_000, 1_000_000_000, 10_000_000),
    ]


def told_lifted(books: Books) -> list[tuple[str, int, int, int]]:
    """Return what distinct ledger entries say of limits."""
    entries = {e["id"]: e for told in books.ledger.values() for e in told if e["type"] == "budget.set.v1"}
    return [
        (e["window"], e["limit_before_nano_usd"], e["limit_nano_usd"], e["spent_after_nano_usd"])
        for e in sorted(entries.values(), key=lambda e: e["seq"])
    ]
