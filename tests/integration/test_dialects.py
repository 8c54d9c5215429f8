"""Requests in OpenAI's words, through workers, to a provider that speaks Anthropic's alone."""

import json
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from tests.broker.kafka import Kafka
from tests.integration.books import Books, audit, read_books, wait_for
from tests.integration.fleet import fleet
from tests.providers.fake import FakeProvider

pytestmark = pytest.mark.broker

PARTITIONS = 6
EACH = 8
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}


def asked(request_id: str, model: str, **changes: Any) -> dict[str, Any]:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": f"marker:{request_id}"}]
    request = {"request_id": request_id, "tenant": "acme", "model": model, "messages": messages, "max_tokens": 32}
    return request | changes


REQUESTS = [
    *(asked(f"plain-{n}", "claude") for n in range(EACH)),
    *(asked(f"rich-{n}", "claude", temperature=1, stop="END", tools=[WEATHER], seed=n, user="u") for n in range(EACH)),
    *(asked(f"biased-{n}", "claude", logit_bias={"1": 5}) for n in range(EACH)),
    *(asked(f"either-{n}", "either", logit_bias={"1": 5}) for n in range(EACH)),
]


async def publish(kafka: Kafka, topic: str) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap)
    await producer.start()
    for request in REQUESTS:
        await producer.send(topic, json.dumps(request).encode())
    await producer.stop()


def model(name: str, fake: FakeProvider, **changes: Any) -> dict[str, Any]:
    price = {"input_usd_per_million": "3", "output_usd_per_million": "15", "cache_read_usd_per_million": "0.3"}
    return {"name": name, "endpoint": fake.endpoint, "max_tokens": 4096, "price": price, **changes}


def settings(anthropic: FakeProvider, openai: FakeProvider) -> dict[str, Any]:
    speaks = {"provider": "anthropic", "provider_model": "claude-x", "api_key_env": "CLAUDE_KEY"}
    return {
        "models": [
            model("claude", anthropic, **speaks),
            model("either", anthropic, id="either-anthropic", **speaks),
            model("either", openai, id="either-openai"),
        ],
        "tenants": [{"name": "acme", "budgets": [{"usd": "5", "window": "day"}]}],
    }


async def test_another_dialect_is_answered_billed_and_refused_like_the_first(
    kafka: Kafka, topic_prefix: str, tmp_path: Path
) -> None:
    async with (
        FakeProvider(api_key="sk-ant-1") as anthropic,
        FakeProvider() as openai,
        fleet(tmp_path, kafka.bootstrap, topic_prefix, settings(anthropic, openai)) as workers,
    ):
        workers.environ = {"CLAUDE_KEY": "sk-ant-1"}
        workers.start("w0")
        await workers.whole()
        await publish(kafka, f"{topic_prefix}prompt.requests")
        wanted = [("acme", request["request_id"]) for request in REQUESTS]
        await wait_for(kafka.bootstrap, topic_prefix, PARTITIONS, lambda: wanted, within_s=60)
        assert set((await workers.stop()).values()) == {0}
    books = await read_books(kafka.bootstrap, topic_prefix, "orchestrator", PARTITIONS)
    audit(books)
    assert not books.deadletters
    check_answers(books, anthropic)
    check_refusals(books, anthropic, openai)
    inputs, outputs = (a + o for a, o in zip(anthropic.invoice, openai.invoice, strict=True))
    assert books.billed == inputs * 3_000 + outputs * 15_000
    assert books.uncertain == 0


def check_answers(books: Books, anthropic: FakeProvider) -> None:
    calls = {call.marker: call for call in anthropic.calls}
    for kind, dropped in (("plain", None), ("rich", ["seed"])):
        for n in range(EACH):
            event = books.terminal("acme", f"{kind}-{n}")
            call = calls[f"{kind}-{n}"]
            assert event["type"] == "prompt.answered.v1", event
            assert (event["model"], event["provider"], event["response_model"]) == ("claude", "anthropic", "claude-x")
            assert event["response_id"].startswith("msg_")
            assert event["finish_reason_raw"] in {"end_turn", "max_tokens"}
            assert event["usage"]["input_tokens"] == call.prompt_tokens
            assert event["usage"]["output_tokens"] == call.completion_tokens
            assert event["usage_source"] == "provider"
            assert event["cost_nano_usd"] == call.prompt_tokens * 3_000 + call.completion_tokens * 15_000
            assert event.get("dropped_parameters") == dropped
            assert call.authorized
    rich = next(body for body in anthropic.requests if "tools" in body)
    assert rich["stop_sequences"] == ["END"]
    assert rich["system"] == "Be brief."
    assert rich["metadata"] == {"user_id": "u"}


def check_refusals(books: Books, anthropic: FakeProvider, openai: FakeProvider) -> None:
    for n in range(EACH):
        event = books.terminal("acme", f"biased-{n}")
        assert event["type"] == "prompt.failed.v1"
        assert (event["error"]["code"], event["error"]["details"]["reason"]) == ("INVALID_REQUEST", "provider_rejected")
        assert "logit_bias" in event["error"]["message"]
        assert (event["attempts"], event["retryable"], event["cost_nano_usd"]) == (1, False, 0)
        event = books.terminal("acme", f"either-{n}")
        assert event["type"] == "prompt.answered.v1", event
        assert (event["deployment"], event["provider"]) == ("either-openai", "openai")
        assert event["attempts"] in (1, 2)
    assert {call.marker.split("-")[0] for call in anthropic.calls if call.marker} == {"plain", "rich"}
    assert sorted(call.marker or "" for call in openai.calls) == [f"either-{n}" for n in range(EACH)]
