"""`orchestrator verify` and `bill` on what real workers left behind: right as it is, wrong after any of five changes.

`acme` asks of a provider that charges 30,000 nano-USD a token; its bound is booked where a connection is dropped.
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.structs import ConsumerRecord

from streams.core import rows
from streams.runtime.topics import Topics
from tests.broker.kafka import Kafka
from tests.integration.books import wait_for
from tests.integration.fleet import Fleet, fleet
from tests.providers.fake import FakeProvider

pytestmark = pytest.mark.broker

PARTITIONS = 3
ANSWERED, RETRIED, DROPPED, REFUSED = 30, 4, 3, 5
DROP = json.dumps({"fake": {"drop": True, "times": 1}})
FAIL = json.dumps({"fake": {"status": 500, "times": 1}})


def asked() -> list[dict[str, Any]]:
    """`acme` has budgets, `free` has none, `poor` has too little for any call."""
    prompts = {"a": ("hello", ANSWERED), "e": (FAIL, RETRIED), "d": (DROP, DROPPED)}
    made = [
        {"request_id": f"{tenant}-{kind}-{n}", "tenant": tenant, "prompt": text.replace("}}", f', "answer": "{n}"}}}}')}
        for tenant in ("acme", "free")
        for kind, (text, many) in prompts.items()
        for n in range(many)
    ]
    made += [{"request_id": f"poor-{n}", "tenant": "poor", "prompt": "hello"} for n in range(REFUSED)]
    return [
        {**request, "model": "m", "max_tokens": 32, "metadata": {"team": request["request_id"][-1]}} for request in made
    ]


async def publish(bootstrap: str, prefix: str, requests: list[dict[str, Any]]) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True)
    await producer.start()
    for request in requests:
        await producer.send(f"{prefix}prompt.requests", json.dumps(request).encode(), key=b"any")
    await producer.stop()


async def verified(workers: Fleet) -> tuple[int, dict[str, Any]]:
    ended = await asyncio.to_thread(workers.run, "verify", "--json")
    assert ended.stdout, ended.stderr
    return ended.returncode, json.loads(ended.stdout)


async def test_the_books_of_real_workers_hold_and_every_planted_change_is_found(
    kafka: Kafka, topic_prefix: str, tmp_path: Path
) -> None:
    async with FakeProvider() as provider:
        settings = {
            "kafka": {"partitions": PARTITIONS},
            "models": [{"name": "m", "endpoint": provider.endpoint, "max_tokens": 4096, "cost_per_token": 0.00003}],
            "load_balancer": {"max_failures": 1000},
            "rate_limit": {"enabled": False},
            "tenants": [
                {"name": "acme", "budgets": [{"usd": "100", "window": "total"}, {"usd": "50", "window": "day"}]},
                {"name": "poor", "budgets": [{"usd": "0.000000001", "window": "month"}]},
            ],
        }
        async with fleet(tmp_path, kafka.bootstrap, topic_prefix, settings) as workers:
            code, empty = await verified(workers)
            assert (code, empty["ok"], empty["entries"], empty["accounts"]) == (0, True, 0, [])
            for name in ("w0", "w1"):
                workers.start(name)
            await workers.whole()
            requests = asked()
            loading = asyncio.create_task(publish(kafka.bootstrap, topic_prefix, requests))
            code, during = await verified(workers)
            assert (code, during["differences"]) == (0, [])
            await loading
            wanted = [(request["tenant"], request["request_id"]) for request in requests]
            await wait_for(kafka.bootstrap, topic_prefix, PARTITIONS, lambda: wanted, within_s=60)
            code, running = await verified(workers)
            assert (code, running["differences"]) == (0, [])
            workers.workers["w0"].process.kill()
            more = [{**r, "request_id": "more-" + r["request_id"]} for r in requests]
            await publish(kafka.bootstrap, topic_prefix, more)
            workers.workers["w1"].process.kill()
            for name in ("w0", "w1"):
                workers.workers[name].process.wait()
            code, killed = await verified(workers)
            print(f"\nafter the kills: {killed['unpublished']} not published yet, {killed['entries']} entries")
            assert (code, killed["differences"]) == (0, [])
            workers.start("w0")
            wanted += [(request["tenant"], request["request_id"]) for request in more]
            await wait_for(kafka.bootstrap, topic_prefix, PARTITIONS, lambda: wanted, within_s=90)
            await workers.stop()
            code, stopped = await verified(workers)
            assert (code, stopped["ok"], stopped["differences"], stopped["unpublished"]) == (0, True, [], 0)
            await _bills_agree(workers, stopped)
        await _corruptions_are_found(workers, kafka.bootstrap, topic_prefix)
        await _only_a_dead_worker_leaves_something_unpublished(workers, kafka.bootstrap, topic_prefix)


async def _bills_agree(workers: Fleet, found: dict[str, Any]) -> None:
    spent = {(line["tenant"], line["window"]): line["spent_nano_usd"] for line in found["accounts"]}
    for by in ("model", "day", "metadata.team"):
        ended = await asyncio.to_thread(workers.run, "bill", "--by", by, "--json")
        bill = json.loads(ended.stdout)
        of = {t: sum(r["cost_nano_usd"] for r in bill["rows"] if r["tenant"] == t) for t in ("acme", "free")}
        assert of == {"acme": spent["acme", "total"], "free": spent["free", "none"]}
        assert bill["total"]["cost_nano_usd"] == spent["acme", "total"] + spent["free", "none"]
        assert bill["total"]["uncertain_nano_usd"] > 0
    people = await asyncio.to_thread(workers.run, "verify")
    print(people.stdout)
    assert people.returncode == 0, people
    assert people.stdout.splitlines()[-1] == "all accounts are right"
    assert "ledger.entries: " in people.stderr


# --- corruption -------------------------------------------------------------------------------------------------------

Records = dict[str, list[ConsumerRecord]]


def _entry(record: ConsumerRecord) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(record.value)
    return found


def _some_settled(records: Records) -> int:
    """Return where the entry of an answered request of `acme` stands."""
    return next(
        at for at, r in enumerate(records["ledger"]) if _entry(r)["type"] == "hold.settled.v1" and r.key == b"acme"
    )


def _with(record: ConsumerRecord, **fields: Any) -> ConsumerRecord:
    return replace(record, value=json.dumps(_entry(record) | fields).encode())


def missing_entry(records: Records) -> None:
    del records["ledger"][_some_settled(records)]


def doubled_entry(records: Records) -> None:
    at = _some_settled(records)
    partition = records["ledger"][at].partition
    last = max(_entry(r)["seq"] for r in records["ledger"] if r.partition == partition)
    records["ledger"].append(_with(records["ledger"][at], id="11111111-1111-4111-8111-111111111111", seq=last + 1))


def changed_amount(records: Records) -> None:
    at = _some_settled(records)
    amount = _entry(records["ledger"][at])["amount_nano_usd"]
    records["ledger"][at] = _with(records["ledger"][at], amount_nano_usd=amount - 1)


def changed_account_row(records: Records) -> None:
    row = next(r for r in reversed(records["changelog"]) if r.key == rows.account_key("acme"))
    account = json.loads(row.value)
    account[3][0][2] -= 1
    records["changelog"].append(replace(row, value=json.dumps(account).encode()))


def reordered_window(records: Records) -> None:
    at = _some_settled(records)
    records["ledger"][at : at + 2] = reversed(records["ledger"][at : at + 2])


async def _corruptions_are_found(workers: Fleet, bootstrap: str, prefix: str) -> None:
    records = {name: await _read(bootstrap, topic) for name, topic in _topics(prefix).items()}
    corruptions: list[tuple[Callable[[Records], None], str]] = [
        (lambda _records: None, ""),
        (missing_entry, "is missing before it"),
        (doubled_entry, "no decision made this entry"),
        (changed_amount, "the entries up to it make"),
        (changed_account_row, "in its row and"),
        (reordered_window, "is missing before it"),
    ]
    for number, (corrupt, problem) in enumerate(corruptions):
        copy, copied = f"{prefix}{number}.", {name: list(found) for name, found in records.items()}
        corrupt(copied)
        await _write(bootstrap, copy, copied)
        _use(workers, copy)
        ended = await asyncio.to_thread(workers.run, "verify")
        assert ended.returncode == (1 if problem else 0), (corrupt, ended)
        if problem:
            told = next(line for line in ended.stdout.splitlines() if "differences; the first:" in line)
            assert problem in told, told


async def _only_a_dead_worker_leaves_something_unpublished(workers: Fleet, bootstrap: str, prefix: str) -> None:
    """The last entries and cost events of `acme` are cut off: right as long as their records were not acknowledged."""
    records = {name: await _read(bootstrap, topic) for name, topic in _topics(prefix).items()}
    home = records["ledger"][_some_settled(records)].partition
    for name, last in (("ledger", 5), ("costs", 1)):
        key = b"acme"
        mine = [r for r in records[name] if r.key == key][-last:]
        records[name] = [r for r in records[name] if r not in mine and (name == "costs" or _before(r, mine, home))]
    await _write(bootstrap, prefix + "cut.", records)
    _use(workers, prefix + "cut.")
    code, found = await verified(workers)
    assert code == 0, found["differences"]
    assert found["unpublished"] >= 6
    acknowledged = {TopicPartition(f"{prefix}cut.prompt.{name}", home): 1_000_000 for name in ("requests", "progress")}
    group = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=f"{prefix}cut.orchestrator")
    group.assign(list(acknowledged))
    await group.start()
    await group.commit(acknowledged)
    await group.stop()
    code, found = await verified(workers)
    assert code == 1
    assert "is missing; a row has it" in found["differences"][0]["problem"]
    assert any("has no cost event" in difference["problem"] for difference in found["differences"])


def _before(record: ConsumerRecord, cut: list[ConsumerRecord], partition: int) -> bool:
    return record.partition != partition or bool(_entry(record)["seq"] < _entry(cut[0])["seq"])


def _use(workers: Fleet, prefix: str) -> None:
    settings = {**workers.settings, "kafka": {**workers.settings["kafka"], "topic_prefix": prefix}}
    workers.file.write_text(yaml.safe_dump(settings))


def _topics(prefix: str) -> dict[str, str]:
    topics = Topics(prefix, "orchestrator")
    return {"ledger": topics.ledger, "costs": topics.costs, "changelog": topics.accounts_changelog}


async def _read(bootstrap: str, topic: str) -> list[ConsumerRecord]:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    tps = [TopicPartition(topic, partition) for partition in range(PARTITIONS)]
    consumer.assign(tps)
    await consumer.start()
    found: list[ConsumerRecord] = []
    try:
        ends = await consumer.end_offsets(tps)
        async with asyncio.timeout(60):
            while any([await consumer.position(tp) < end for tp, end in ends.items()]):
                for records in (await consumer.getmany(timeout_ms=300)).values():
                    found += records
    finally:
        await consumer.stop()
    return found


async def _write(bootstrap: str, prefix: str, records: Records) -> None:
    names = (*_topics(prefix).values(), f"{prefix}prompt.requests", f"{prefix}prompt.progress")
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(topic, PARTITIONS, 1) for topic in names])
    await admin.close()
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True)
    await producer.start()
    for name, topic in _topics(prefix).items():
        for record in records[name]:
            await producer.send(topic, record.value, key=record.key, partition=record.partition)
    await producer.stop()


async def test_verify_is_right_on_a_system_that_is_busy_killed_and_dead(
    kafka: Kafka, topic_prefix: str, tmp_path: Path
) -> None:
    async with FakeProvider() as provider:
        settings = {
            "kafka": {"partitions": PARTITIONS},
            "orchestrator": {"timeout": 60},
            "models": [{"name": "m", "endpoint": provider.endpoint, "max_tokens": 4096, "cost_per_token": 0.00003}],
            "load_balancer": {"max_failures": 1000},
            "rate_limit": {"enabled": False},
            "tenants": [
                {"name": "acme", "budgets": [{"usd": "100", "window": "total"}, {"usd": "50", "window": "minute"}]}
            ],
        }
        async with fleet(tmp_path, kafka.bootstrap, topic_prefix, settings) as workers:
            for name in ("w0", "w1"):
                workers.start(name)
            await workers.whole()
            loading = asyncio.create_task(_load(kafka.bootstrap, topic_prefix))
            try:
                entries = [await _right(workers) for _ in range(2)]
                workers.workers["w0"].process.kill()
                entries.append(await _right(workers))
                workers.start("w0")
                entries.append(await _right(workers))
                for worker in workers.workers.values():
                    worker.process.kill()
                    worker.process.wait()
                entries.append(await _right(workers))
            finally:
                loading.cancel()
            assert entries == sorted(entries)
            assert entries[0] < entries[1]


async def _right(workers: Fleet) -> int:
    """Verify; return how many entries there were."""
    code, found = await verified(workers)
    assert code == 0, found["differences"][:5]
    print(f"\n{found['entries']} entries, {found['repeated']} repeated, {found['unpublished']} not published yet")
    return int(found["entries"])


async def _load(bootstrap: str, prefix: str) -> None:
    """Publish a hundred requests a second until cancelled; some lose their connection once."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True)
    await producer.start()
    try:
        for n in count():
            text = DROP.replace("}}", f', "answer": "{n}"}}}}') if n % 37 == 0 else "hello"
            body = {"request_id": f"r-{n}", "tenant": ("acme", "free")[n % 2], "prompt": text, "model": "m"}
            await producer.send(f"{prefix}prompt.requests", json.dumps({**body, "max_tokens": 16}).encode(), key=b"any")
            await asyncio.sleep(0.01)
    finally:
        await producer.stop()
