"""Whatever stands on a consumed topic: one bounded answer each, and the next record is processed."""

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from streams.runtime.records import tolerate_header_names
from tests.broker.kafka import Kafka
from tests.integration.books import wait_for
from tests.integration.fleet import Fleet, fleet
from tests.providers.fake import FakeProvider

pytestmark = pytest.mark.broker

PARTITIONS = 2
DEEP = 100_000
HUGE = 10**400

NOT_JSON: tuple[tuple[bytes | None, str], ...] = (
    (b"", "not_json"),
    (None, "tombstone"),
    (b'{"prompt": "cut of', "not_json"),
    (b"[" * DEEP, "too_deep"),
    (b'{"prompt": "x", "metadata": ' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"}", "too_deep"),
    (b'{"prompt": "x", "max_tokens": %d}' % HUGE, "not_json"),
    (b'{"prompt": "x", "temperature": -%d}' % HUGE, "not_json"),
    (b'{"prompt": NaN}', "not_json"),
    (b'{"prompt": "x", "max_tokens": 1e999}', "not_json"),
    (b'{"prompt": "\\ud800"}', "not_json"),
    (b"\x00", "not_json"),
    (b"\xff\xfe{}", "not_utf8"),
    (b"\xef\xbb\xbf{}", "bom"),
    (b'"text"', "not_an_object"),
    (b'{"prompt": "' + b"x" * 600_000 + b'"}', "too_large"),
)
WRONG: tuple[dict[str, Any], ...] = (
    {"prompt": "x", "max_tokens": 10**30},
    {"prompt": "x", "seed": "\x00"},
    {"prompt": "x", "model": ["m" * 500 + str(n) for n in range(700)]},
    {"prompt": "x", "model": "m" * 400_000},
    {"prompt": "x", "request_id": "a\x00b", "tenant": "\n"},
    {"prompt": "x", "metadata": {"k" * 65: "v"}},
)
KEYS = ("home", "open/", "done/", "account/", "request/", "__faust\\0offset__", "..", "%00", "{}", "null", "-1")


def good(number: int, tenant: str = "acme", **more: Any) -> dict[str, Any]:
    return {"prompt": f"{number}?", "request_id": f"good-{number}", "tenant": tenant, "max_tokens": 16, **more}


def progress(kind: str, **fields: Any) -> bytes:
    given = {"type": f"prompt.{kind}.v1", "tenant": "acme", "request_id": "good-0", "attempt": 1, **fields}
    return json.dumps(given).encode()


def failure(**fields: Any) -> bytes:
    told = {"code": "MODEL_ERROR", "reason": "gateway", "message": "", "again": False, "elsewhere": False}
    return progress("attempt.failed", **{**told, **fields})


ODD_PROGRESS: tuple[bytes | None, ...] = (
    *(value for value, _ in NOT_JSON if value is None or len(value) < 500_000),
    b'{"type": "prompt.attempt.due.v1"}',
    progress("attempt.redriven", request_id="ü"),
    progress("attempt.redriven", request_id="r" * 129),
    progress("attempt.redriven", attempt=HUGE),
    progress("attempt.redriven", request_offset=HUGE),
    failure(charge={"certainty": "incurred", "nano_usd": 10**30}),
    failure(charge={"certainty": "incurred", "nano_usd": -(10**30)}),
    failure(charge={"certainty": "incurred", "usage": {"input_tokens": 10**30}}),
    failure(http_status=10**30),
    failure(retry_after_s=float("nan")),
    failure(retry_after_s=float("inf")),
    failure(surprise=1),
)
"""No events: each becomes a dead letter."""
ODD_OUTCOMES = (
    failure(request_id="nobody"),
    failure(request_id="home", tenant="open/"),
    failure(request_id="nobody", message="m" * 500_000),
    failure(request_id="nobody", retry_after_s=1e300),
)
"""Outcomes of requests that nobody knows: dead letters, too."""
STALE = (
    progress("attempt.redriven", request_id="nobody"),
    progress("attempt.due", request_id="nobody"),
    b'{"type": "prompt.request.expired.v1", "tenant": "acme", "request_id": "nobody"}',
)
"""Events that come to nothing."""

ODD_OBSERVATIONS: tuple[bytes | None, ...] = (
    *(value for value, _ in NOT_JSON if value is None or len(value) < 500_000),
    *(
        json.dumps({"type": "model.observed.v1", "deployment": "m", "worker": "w", "at_ms": 1, **fields}).encode()
        for fields in (
            {"failures": {"gateway": 10**30}},
            {"failures": {f"reason-{n}": 1 for n in range(20_000)}},
            {"successes": -1},
            {"deployment": "nobody's"},
            {"deployment": "d" * 129},
            {"at_ms": 10**30},
            {"cooldown_until_ms": 10**30},
        )
    ),
)


class _Odd(str):
    """A header name that is no UTF-8."""

    __slots__ = ()

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return b"\xff\xfe" + super().encode()


async def send_with_odd_header(producer: AIOKafkaProducer, topic: str, value: bytes) -> None:
    batch = producer.create_batch()
    batch._builder = _DefaultRecordBatchBuilderPy(2, 0, 0, -1, -1, 0, 1 << 20)
    batch.append(key=b"k", value=value, timestamp=None, headers=[(_Odd("name"), b"\xff")])
    batch.close()
    await (await producer.send_batch(batch, topic, partition=0))


SETTINGS: dict[str, Any] = {
    "kafka": {"partitions": PARTITIONS},
    "orchestrator": {"timeout": 30},
    "tenants": [{"name": "acme", "budgets": [{"usd": "5", "window": "day"}]}],
}


async def send_all(producer: AIOKafkaProducer, topic: str, values: list[bytes | None], **more: Any) -> None:
    sent = [
        await producer.send(topic, value, key=b"k", partition=n % PARTITIONS, **more) for n, value in enumerate(values)
    ]
    await asyncio.gather(*sent)


async def told_on(kafka: Kafka, *topics: str, times: dict[str, int] | None = None) -> list[dict[str, Any]]:
    """Return the distinct events of topics; `times` is filled with the broker time of each."""
    times = {} if times is None else times
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        tps = [TopicPartition(topic, p) for topic in topics for p in range(PARTITIONS)]
        consumer.assign(tps)
        ends = await consumer.end_offsets(tps)
        found: dict[str, dict[str, Any]] = {}
        while any([await consumer.position(tp) < end for tp, end in ends.items()]):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                for record in records:
                    event = json.loads(record.value)
                    times.setdefault(event["id"], record.timestamp)
                    assert found.setdefault(event["id"], event) == event
        return list(found.values())
    finally:
        await consumer.stop()


async def until(kafka: Kafka, prefix: str, letters: int, workers: Fleet, within_s: float = 60) -> list[dict[str, Any]]:
    """Wait until there are so many dead letters."""
    async with asyncio.timeout(within_s):
        while True:
            told = await told_on(kafka, f"{prefix}prompt.deadletters")
            if len(told) >= letters:
                return told
            assert all(w.process.poll() is None for w in workers.workers.values()), "a worker has ended"
            await asyncio.sleep(0.5)


async def test_hostile_bytes_on_every_topic_stop_nobody(kafka: Kafka, topic_prefix: str, tmp_path: Path) -> None:
    tolerate_header_names()
    requests = f"{topic_prefix}prompt.requests"
    async with FakeProvider() as provider:
        models = [{"name": "m", "endpoint": provider.endpoint, "max_tokens": 4096, "cost_per_token": 0.00001}]
        async with fleet(tmp_path, kafka.bootstrap, topic_prefix, {**SETTINGS, "models": models}) as workers:
            workers.start("w0")
            await workers.whole()
            producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, max_request_size=2 * 1024 * 1024)
            await producer.start()
            await producer.send_and_wait(requests, json.dumps(good(0)).encode())
            await wait_for(kafka.bootstrap, topic_prefix, PARTITIONS, lambda: [("acme", "good-0")], within_s=30)

            forged = [("orchestrator-first-offset", b"9" * 30), ("traceparent", b"\xff"), ("", b""), ("x", None)]
            await send_all(producer, requests, [value for value, _ in NOT_JSON], headers=forged)
            await send_all(producer, requests, [json.dumps(body).encode() for body in WRONG])
            await send_all(producer, f"{topic_prefix}prompt.progress", [*ODD_PROGRESS, *ODD_OUTCOMES, *STALE])
            await send_all(producer, f"{topic_prefix}model.observations", list(ODD_OBSERVATIONS))
            await send_all(producer, f"{topic_prefix}model.health", list(ODD_OBSERVATIONS))
            for topic in ("prompt.requests", "prompt.progress", "model.observations", "model.health"):
                await send_with_odd_header(producer, topic_prefix + topic, b"{")
            ids = [{**good(n, tenant), "request_id": key} for n, key in enumerate(KEYS) for tenant in ("acme", "home")]
            bodies = [*ids, good(1), {**good(2), "cache": {"mode": "off"}}]
            twice = json.dumps(good(3)).replace('"max_tokens": 16', '"max_tokens": "no", "max_tokens": 16')
            await send_all(producer, requests, [*(json.dumps(body).encode() for body in bodies), twice.encode()])
            wanted = (
                [("acme", "good-0")] + [(body["tenant"], body["request_id"]) for body in bodies] + [("acme", "good-3")]
            )
            await wait_for(kafka.bootstrap, topic_prefix, PARTITIONS, lambda: wanted, within_s=60)
            letters = len(NOT_JSON) + len(ODD_PROGRESS) + len(ODD_OUTCOMES) + len(ODD_OBSERVATIONS) + 3
            told = await until(kafka, topic_prefix, letters, workers)
            await producer.stop()
            logged = [line for line in workers.workers["w0"].lines() if line["level"] in {"ERROR", "CRITICAL"}]
            assert set((await workers.stop()).values()) == {0}
            verified = workers.run("verify")
            assert verified.returncode == 0, verified.stdout + verified.stderr
    answers = await told_on(kafka, f"{topic_prefix}prompt.responses")
    errors = await told_on(kafka, f"{topic_prefix}prompt.errors")
    reasons = Counter((letter["topic"].removeprefix(topic_prefix), letter["reason"]) for letter in told)
    assert not [line for line in logged if "model.health" not in str(line)]
    assert reasons == Counter(("prompt.requests", reason) for _, reason in NOT_JSON) + Counter(
        {
            ("prompt.requests", "not_json"): 1,
            ("prompt.progress", "unknown_event"): len(ODD_PROGRESS) + len(ODD_OUTCOMES) + 1,
            ("model.observations", "unknown_event"): len(ODD_OBSERVATIONS) + 1,
        }
    )
    assert max(len(json.dumps(letter)) for letter in told) < 400_000
    assert Counter((e["tenant"], e["request_id"]) for e in answers) == Counter(wanted)
    assert len(errors) == len(WRONG)
    assert max(len(json.dumps(error)) for error in errors) < 900_000


async def test_a_thousand_hostile_records_in_a_row_do_not_keep_the_next_one_waiting(
    kafka: Kafka, topic_prefix: str, tmp_path: Path
) -> None:
    requests = f"{topic_prefix}prompt.requests"
    small = [value for value, _ in NOT_JSON if value is None or len(value) < 1_000]
    async with FakeProvider() as provider:
        models = [{"name": "m", "endpoint": provider.endpoint, "max_tokens": 4096, "cost_per_token": 0.00001}]
        async with fleet(tmp_path, kafka.bootstrap, topic_prefix, {**SETTINGS, "models": models}) as workers:
            workers.start("w0")
            await workers.whole()
            producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap)
            await producer.start()
            hostile = [small[n % len(small)] for n in range(1_000)]
            for name in ("prompt.requests", "prompt.progress", "model.observations"):
                sent = [
                    await producer.send(topic_prefix + name, value, key=b"k", partition=n % 2)
                    for n, value in enumerate(hostile)
                ]
                await asyncio.gather(*sent)
            asked = await producer.send_and_wait(requests, json.dumps(good(1)).encode())
            await wait_for(kafka.bootstrap, topic_prefix, PARTITIONS, lambda: [("acme", "good-1")], within_s=30)
            told = await until(kafka, topic_prefix, 3_000, workers)
            await producer.stop()
            assert set((await workers.stop()).values()) == {0}
    assert len(told) == 3_000
    times: dict[str, int] = {}
    await told_on(kafka, f"{topic_prefix}prompt.responses", times=times)
    (answered_ms,) = times.values()
    print(f"answered {(answered_ms - asked.timestamp) / 1000:.2f} s after three thousand hostile records")
