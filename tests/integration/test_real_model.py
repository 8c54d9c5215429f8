"""Prompts through two workers to a real language model: every answer, cost, ledger entry and account row is checked
against the model's own token counts."""

import json
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from agents.commands.demo_prompts import TEXTS
from tests.broker.kafka import Kafka
from tests.integration.books import audit, read_books, wait_for
from tests.integration.fleet import fleet
from tests.providers.local_model import MODEL

pytestmark = pytest.mark.broker

PARTITIONS = 6
INPUT_USD_PER_MILLION, OUTPUT_USD_PER_MILLION = 3, 15
NANO_PER_INPUT_TOKEN, NANO_PER_OUTPUT_TOKEN = 3_000, 15_000

MT_BENCH = Path(__file__).parents[3] / "shared" / "data" / "mt_bench_questions.jsonl"


def prompts() -> list[str]:
    """Return the first turns of MT-bench where the file is found, the project's own otherwise."""
    if MT_BENCH.is_file():
        return [json.loads(line)["turns"][0] for line in MT_BENCH.read_text().splitlines()]
    return list(TEXTS)


@pytest.mark.timeout(600)
async def test_the_books_agree_with_a_real_models_own_usage(
    kafka: Kafka, topic_prefix: str, tmp_path: Path, local_model: str
) -> None:
    price = {"input_usd_per_million": str(INPUT_USD_PER_MILLION), "output_usd_per_million": str(OUTPUT_USD_PER_MILLION)}
    settings = {
        "orchestrator": {"timeout": 500},
        "models": [{"name": MODEL, "endpoint": local_model, "max_tokens": 2048, "template_tokens": 96, "price": price}],
        "tenants": [{"name": "acme", "budgets": [{"usd": "10", "window": "day"}, {"usd": "100", "window": "month"}]}],
    }
    asked = prompts()
    async with fleet(tmp_path, kafka.bootstrap, topic_prefix, settings) as workers:
        workers.start("w0")
        workers.start("w1")
        await workers.whole()
        producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap)
        await producer.start()
        wanted = []
        for n, prompt in enumerate(asked):
            tenant = "acme" if n % 2 else "visitor"
            request = {"request_id": f"q-{n}", "tenant": tenant, "model": MODEL, "prompt": prompt, "max_tokens": 12}
            request |= {"temperature": 0, "metadata": {"n": str(n)}}
            await producer.send(f"{topic_prefix}prompt.requests", json.dumps(request).encode())
            wanted.append((tenant, f"q-{n}"))
        await producer.stop()
        await wait_for(kafka.bootstrap, topic_prefix, PARTITIONS, lambda: wanted, within_s=500)
        assert set((await workers.stop()).values()) == {0}
    books = await read_books(kafka.bootstrap, topic_prefix, "orchestrator", PARTITIONS)
    audit(books)
    assert not books.deadletters
    costs = {(c["tenant"], c["request_id"]): c for c in books.costs.values()}
    assert len(costs) == len(books.costs) == len(wanted)
    for n, key in enumerate(wanted):
        event, cost = books.terminal(*key), costs[key]
        assert event["type"] == "prompt.answered.v1", event
        usage = event["usage"]
        assert usage == cost["usage"]
        assert 0 < usage["output_tokens"] <= 12
        assert usage["input_tokens"] > 0
        assert event["usage_source"] == cost["usage_source"] == "provider"
        amount = usage["input_tokens"] * NANO_PER_INPUT_TOKEN + usage["output_tokens"] * NANO_PER_OUTPUT_TOKEN
        assert event["cost_nano_usd"] == cost["cost_nano_usd"] == amount
        assert sum(line["nano_usd"] for line in cost["lines"]) == amount
        assert event["metadata"] == cost["metadata"] == {"n": str(n)}
        assert (event["model"], event["response_model"], event["attempts"]) == (MODEL, MODEL, 1)
        entries = [e for of in books.ledger.values() for e in of if (e["tenant"], e["request_id"]) == key]
        windows = 2 if key[0] == "acme" else 1
        placed = {e["id"]: e for e in entries if e["type"] == "hold.placed.v1"}
        settled = {e["id"]: e for e in entries if e["type"] == "hold.settled.v1"}
        assert len(placed) == len(settled) == windows
        assert all(e["amount_nano_usd"] == amount <= e["hold_nano_usd"] for e in settled.values())
    total = sum(cost["cost_nano_usd"] for cost in costs.values())
    print(f"\n{len(wanted)} prompts to a real model: {total} nano-USD, Σ ledger = Σ cost events = account rows")
