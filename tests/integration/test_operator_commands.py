"""`explain`, `models` and `deadletters` on what real workers leave behind: whole stories, and records that get a second
chance."""

import asyncio
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.records_to_delete import RecordsToDelete

from streams.core.forwarding import first_seen
from streams.core.homes import home_of
from tests.broker.kafka import Kafka
from tests.integration.books import read_books, wait_for
from tests.integration.fleet import COMMAND, Fleet, fleet
from tests.providers.fake import Behaviour, FakeProvider

pytestmark = pytest.mark.broker

PARTITIONS = 6
NANO_PER_TOKEN = 10_000
FAIL = json.dumps({"fake": {"status": 500, "times": 1, "answer": "secret-answer"}, "more": "secret-prompt"})
DROP = json.dumps({"fake": {"drop": True, "times": 1, "answer": "secret-answer"}, "more": "secret-prompt"})


def settings(provider: FakeProvider, dead: FakeProvider, **changes: Any) -> dict[str, Any]:
    return {
        "models": [
            {"name": "m", "endpoint": provider.endpoint, "max_tokens": 4096, "cost_per_token": 0.00001},
            {"name": "n", "endpoint": dead.endpoint, "max_tokens": 4096, "price": "free"},
        ],
        "orchestrator": {"max_retries": 1},
        "load_balancer": {"max_failures": 3, "health_check_interval": 300},
        "tenants": [{"name": "acme", "budgets": [{"usd": "1", "window": "total"}, {"usd": "1", "window": "day"}]}],
        **changes,
    }


class Publisher:
    """Puts requests where the test wants them, and knows their coordinates."""

    def __init__(self, kafka: Kafka, prefix: str) -> None:
        self._bootstrap, self._topic = kafka.bootstrap, f"{prefix}prompt.requests"

    async def __call__(
        self, value: bytes | dict[str, Any] | None, partition: int, headers: list[tuple[str, bytes]] | None = None
    ) -> int:
        producer = AIOKafkaProducer(bootstrap_servers=self._bootstrap)
        await producer.start()
        try:
            raw = json.dumps(value).encode() if isinstance(value, dict) else value
            stored = await producer.send_and_wait(self._topic, raw, key=b"k", partition=partition, headers=headers)
            return int(stored.offset)
        finally:
            await producer.stop()


def elsewhere(home: int) -> int:
    return (home + 1) % PARTITIONS


HOME_OF_ACME = home_of("acme", "", limited=True, partitions=PARTITIONS)


async def command(workers: Fleet, *arguments: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(workers.run, *arguments)


async def explained(workers: Fleet, *arguments: str) -> dict[str, Any]:
    ended = await command(workers, "explain", "--json", *arguments)
    assert ended.returncode == 0, ended.stderr
    told: dict[str, Any] = json.loads(ended.stdout)
    return told


def whats(told: dict[str, Any]) -> list[str]:
    return [moment["what"] for moment in told["timeline"]]


async def test_a_story_tells_everything_but_the_words(kafka: Kafka, topic_prefix: str, tmp_path: Path) -> None:
    async with (
        FakeProvider(behaviour=Behaviour(answer="secret-answer")) as provider,
        FakeProvider(behaviour=Behaviour(status=500)) as dead,
        fleet(tmp_path, kafka.bootstrap, topic_prefix, settings(provider, dead)) as workers,
    ):
        workers.start("w0")
        await workers.whole()
        publish = Publisher(kafka, topic_prefix)
        of_acme = {"tenant": "acme", "model": "m", "max_tokens": 16, "prompt": "secret-prompt"}
        await publish({**of_acme, "request_id": "r-1"}, elsewhere(HOME_OF_ACME))
        await publish({**of_acme, "request_id": "failing", "prompt": FAIL}, HOME_OF_ACME)
        await publish({**of_acme, "request_id": "dropped", "prompt": DROP}, HOME_OF_ACME)
        offset = await publish({**of_acme, "tenant": "free", "temperature": 0}, 2)
        anonymous = f"p2-{offset}"
        wrong = await publish({**of_acme, "request_id": "wrong", "max_tokens": 0}, elsewhere(HOME_OF_ACME))
        both = [("acme", "r-1"), ("acme", "failing"), ("acme", "dropped"), ("free", anonymous), ("acme", "wrong")]
        await wait_for(kafka.bootstrap, topic_prefix, PARTITIONS, lambda: both, within_s=40)
        await publish({**of_acme, "request_id": "r-1", "prompt": "another"}, HOME_OF_ACME)
        garbage = await publish(b"{not json", 4)
        await publish({**of_acme, "tenant": "free", "model": "n", "request_id": "r-1"}, 3)
        both += [("free", "r-1")]
        await wait_for(kafka.bootstrap, topic_prefix, PARTITIONS, lambda: both, within_s=40)
        await letters(workers, 1)

        await _each_is_explained(workers, anonymous, wrong, garbage)
        await _mistakes_are_told(workers)
        await _words_are_shown_only_when_asked_for(workers)
        await _models_are_told(workers)


async def _each_is_explained(workers: Fleet, anonymous: str, wrong: int, garbage: int) -> None:
    told = await explained(workers, "r-1", "--tenant", "acme")
    assert whats(told) == [
        *("published", "forwarded", "hold placed", "attempt succeeded"),
        *("hold settled", "cost incurred", "answered", "published", "conflict"),
    ]
    assert (told["state"], told["attempts"], told["tenant"]) == ("answered", 1, "acme")
    first, home = told["timeline"][:2]
    assert (first["partition"], home["partition"]) == (elsewhere(HOME_OF_ACME), HOME_OF_ACME)
    hold, _, settled, cost, answer = told["timeline"][2:7]
    assert hold["nano_usd"] > settled["nano_usd"] == cost["nano_usd"] == told["booked_nano_usd"] > 0
    assert "day:" in hold["details"]
    assert "total:" in hold["details"]
    assert (cost["deployment"], answer["deployment"]) == ("m", "m")

    told = await explained(workers, "failing")
    assert whats(told) == [
        *("published", "hold placed", "attempt failed", "hold released", "hold placed", "attempt due"),
        *("attempt succeeded", "hold settled", "cost incurred", "answered"),
    ]
    assert (told["state"], told["attempts"]) == ("answered", 2)
    assert [m["attempt"] for m in told["timeline"]][1:-1] == [1, 1, 1, 2, 2, 2, 2, 2]
    assert "server_error" in told["timeline"][2]["details"]

    told = await explained(workers, "dropped")
    costs = [(m["what"], m["attempt"]) for m in told["timeline"] if "cost" in m["what"]]
    assert costs == [("cost uncertain", 1), ("cost incurred", 2)]
    assert told["timeline"][-1]["event"]["cost_nano_usd"] == told["booked_nano_usd"]

    told = await explained(workers, anonymous)
    assert (told["tenant"], told["state"]) == ("free", "answered")
    assert whats(told)[-2:] == ["cost incurred", "answered"]

    told = await explained(workers, "wrong")
    assert (whats(told), told["state"]) == (["published", "failed"], "failed")
    assert told["timeline"][0]["offset"] == wrong
    told = await explained(workers, f"p4-{garbage}")
    assert (whats(told), told["state"], told["tenant"]) == (["published", "dead letter"], "set aside", None)


async def _mistakes_are_told(workers: Fleet) -> None:
    ended = await command(workers, "explain", "r-1")
    assert (ended.returncode, ended.stderr.splitlines()[-1]) == (
        2,
        "r-1: is a request of acme, free; choose one with --tenant",
    )
    ended = await command(workers, "explain", "nobody")
    assert (ended.returncode, ended.stderr.splitlines()[-1]) == (
        1,
        "nobody: no record that is still kept tells of it",
    )


async def _words_are_shown_only_when_asked_for(workers: Fleet) -> None:
    for request, form in (("r-1", []), ("failing", ["--json"])):
        ended = await command(workers, "explain", request, "--tenant", "acme", *form)
        assert ended.returncode == 0, ended.stderr
        assert "secret" not in ended.stdout
        ended = await command(workers, "explain", request, "--tenant", "acme", "--content", *form)
        assert "secret-prompt" in ended.stdout
        assert "secret-answer" in ended.stdout


async def _models_are_told(workers: Fleet) -> None:
    good, bad = await _health_of_all_calls(workers, [6, 2])
    assert (good["deployment"], good["model"], good["provider"]) == ("m", "m", "openai")
    assert (good["status"], good["circuit"], good["failures_in_a_row"]) == ("available", "closed", 0)
    assert good["successes"] == 4
    assert good["failures"] == {"server_error": 1, "connection_lost": 1}
    assert good["price"]["rates"] == {"input": "10", "output": "10"}
    assert (bad["deployment"], bad["failures"]) == ("n", {"server_error": 2})
    table = await command(workers, "models")
    assert "connection_lost 1, server_error 1" in table.stdout
    assert await asyncio.to_thread(_first_of_live, workers, [6, 2]) == [good, bad]


def _calls_told(states: list[dict[str, Any]]) -> list[int]:
    return [sum(state["failures"].values()) + state["successes"] for state in states]


async def _health_of_all_calls(workers: Fleet, calls: list[int]) -> list[dict[str, Any]]:
    """Observations are published once a second."""
    states: list[dict[str, Any]] = []
    for _ in range(20):
        states = json.loads((await command(workers, "models", "--json")).stdout)
        if _calls_told(states) == calls:
            break
    assert _calls_told(states) == calls
    return states


def _first_of_live(workers: Fleet, calls: list[int]) -> list[dict[str, Any]]:
    """Follow the live view until it tells of all calls; Ctrl-C ends it."""
    process = subprocess.Popen(
        [COMMAND, "models", "--live", "--json", "-c", workers.file], stdout=subprocess.PIPE, env=os.environ
    )
    try:
        assert process.stdout is not None
        told = (json.loads(line) for line in process.stdout)
        states: list[dict[str, Any]] = next(states for states in told if _calls_told(states) == calls)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        return states
    finally:
        process.kill()
        process.wait()


async def letters(workers: Fleet, count: int) -> list[dict[str, Any]]:
    """Return the dead letters once there are so many."""
    async with asyncio.timeout(30):
        while True:
            ended = await command(workers, "deadletters", "list", "--json")
            assert ended.returncode == 0, ended.stderr
            found: list[dict[str, Any]] = json.loads(ended.stdout)
            if len(found) >= count:
                return found


async def redriven(workers: Fleet, code: int, *options: str) -> dict[str, dict[str, Any]]:
    """Redrive and return what became of each record, by where the record stands."""
    ended = await command(workers, "deadletters", "redrive", "--json", *options)
    assert ended.returncode == code, ended.stderr
    lines = [json.loads(line) for line in ended.stdout.splitlines()]
    return {line["original"].split("prompt.requests/")[1]: line for line in lines}


def _answer_no(workers: Fleet) -> str:
    ended = subprocess.run(
        [COMMAND, "deadletters", "redrive", "-c", workers.file],
        input="n\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (0, "")
    return ended.stderr


async def ends_of(bootstrap: str, topic: str) -> dict[int, int]:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await consumer.start()
    try:
        ends = await consumer.end_offsets([TopicPartition(topic, p) for p in range(PARTITIONS)])
        return {tp.partition: end for tp, end in ends.items()}
    finally:
        await consumer.stop()


async def record_at(bootstrap: str, topic: str, partition: int, offset: int) -> Any:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, partition)])
        consumer.seek(TopicPartition(topic, partition), offset)
        return await consumer.getone()
    finally:
        await consumer.stop()


async def delete_before(bootstrap: str, topic: str, partition: int, offset: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.delete_records({TopicPartition(topic, partition): RecordsToDelete(before_offset=offset)})
    finally:
        await admin.close()


async def _letters_are_listed_and_shown(
    workers: Fleet, requests: str, away: int, at: dict[str, int], longer: str
) -> None:
    found = await letters(workers, 5)
    assert sorted(letter["reason"] for letter in found) == [
        *("misrouted", "tombstone", "too_large", "too_large", "too_large"),
    ]
    ended = await command(workers, "deadletters", "list", "--reason", "too_large", "--limit", "1", "--json")
    assert [letter["original"] for letter in json.loads(ended.stdout)] == [f"{requests}/{HOME_OF_ACME}/{at['kept']}"]
    ended = await command(workers, "deadletters", "list", "--since", "1h", "--topic", "prompt.progress")
    assert requests not in ended.stdout
    shown = await command(workers, "deadletters", "show", f"prompt.requests/{away}/{at['anonymous']}", "--json")
    told = json.loads(shown.stdout)
    assert (told["whole"], json.loads(told["value"])["prompt"], told["key"]) == ("original", longer, "k")
    shown = await command(workers, "deadletters", "show", found[0]["dead_letter"])
    assert "tombstone" in shown.stdout or "too_large" in shown.stdout or "misrouted" in shown.stdout
    assert (await command(workers, "deadletters", "show", f"{requests}/0/999")).returncode == 1


async def _a_redriven_record_is_recognised(
    bootstrap: str, workers: Fleet, done: dict[str, dict[str, Any]], first_at: tuple[int, int], prompt: str
) -> None:
    away, offset_first = first_at
    to = done[f"{away}/{offset_first}"]["to"]
    partition, offset = (int(part) for part in to.split("/")[1:])
    assert partition == HOME_OF_ACME
    record = await record_at(bootstrap, to.split("/")[0], partition, offset)
    headers = dict(record.headers)
    assert headers["orchestrator-redriven-from"].decode() == done[f"{away}/{offset_first}"]["dead_letter"]
    first = first_seen(record.headers, partition, offset, record.timestamp)
    assert (first.partition, first.offset, first.time_ms) == (away, offset_first, record.timestamp)
    assert (record.key, json.loads(record.value)["prompt"]) == (b"k", prompt)

    told = await explained(workers, f"p{away}-{offset_first}")
    assert whats(told) == [
        *("published", "dead letter", "redriven", "hold placed"),
        *("attempt succeeded", "hold settled", "cost incurred", "answered"),
    ]
    assert told["state"] == "answered"


async def test_what_was_set_aside_is_answered_once_its_cause_is_gone(
    kafka: Kafka, topic_prefix: str, tmp_path: Path
) -> None:
    requests = f"{topic_prefix}prompt.requests"
    async with FakeProvider() as provider, FakeProvider() as other:
        small = settings(provider, other, limits={"max_request_bytes": 4096})
        async with fleet(tmp_path, kafka.bootstrap, topic_prefix, small) as workers:
            workers.start("w0")
            await workers.whole()
            publish = Publisher(kafka, topic_prefix)
            of_acme = {"tenant": "acme", "model": "m", "max_tokens": 16, "timeout_s": 60}
            long, longer = "word " * 2_000, "word " * 20_000
            away = elsewhere(HOME_OF_ACME)
            at = {
                "anonymous": await publish({**of_acme, "prompt": longer}, away),
                "tombstone": await publish(None, away),
                "gone": await publish({**of_acme, "request_id": "gone", "prompt": longer}, HOME_OF_ACME),
                "kept": await publish({**of_acme, "request_id": "kept", "prompt": long}, HOME_OF_ACME),
            }
            forged = [("orchestrator-first-partition", b"5"), ("orchestrator-first-offset", b"77")]
            forged += [("orchestrator-first-timestamp", b"1700000000000"), ("orchestrator-first-topic", b"t")]
            at["misrouted"] = await publish({**of_acme, "prompt": "hi"}, away, forged)
            await _letters_are_listed_and_shown(workers, requests, away, at, longer)

            await workers.stop()
            workers.file.write_text(yaml.safe_dump({**workers.settings, "limits": {"max_request_bytes": 400_000}}))
            await delete_before(kafka.bootstrap, requests, HOME_OF_ACME, at["kept"] + 1)
            workers.start("w0")
            await workers.whole()
            before = await ends_of(kafka.bootstrap, requests)
            planned = await redriven(workers, 1, "--dry-run")
            assert {where: line["status"] for where, line in planned.items()} == {
                f"{away}/{at['anonymous']}": "would redrive",
                f"{away}/{at['tombstone']}": "would redrive",
                f"{away}/{at['misrouted']}": "would redrive",
                f"{HOME_OF_ACME}/{at['gone']}": "refused",
                f"{HOME_OF_ACME}/{at['kept']}": "refused",
            }
            asked = await asyncio.to_thread(_answer_no, workers)
            assert "Publish 3 records again (2 are refused or skipped)?" in asked
            assert await ends_of(kafka.bootstrap, requests) == before

            done = await redriven(workers, 1, "--yes", "--rate", "20/s")
            assert {where: line["status"] for where, line in done.items()} == {
                f"{away}/{at['anonymous']}": "redriven",
                f"{away}/{at['tombstone']}": "redriven",
                f"{away}/{at['misrouted']}": "redriven",
                f"{HOME_OF_ACME}/{at['gone']}": "refused",
                f"{HOME_OF_ACME}/{at['kept']}": "refused",
            }
            again = await redriven(workers, 1, "--yes", "--kept-copies", "--reason", "too_large", "--limit", "5")
            assert again[f"{away}/{at['anonymous']}"]["status"] == "skipped"
            assert again[f"{HOME_OF_ACME}/{at['gone']}"]["status"] == "refused"
            wanted = [("acme", f"p{away}-{at['anonymous']}"), ("acme", "p5-77"), ("acme", "kept")]
            await wait_for(kafka.bootstrap, topic_prefix, PARTITIONS, lambda: wanted, within_s=40)

            await _a_redriven_record_is_recognised(kafka.bootstrap, workers, done, (away, at["anonymous"]), longer)
            second = [letter for letter in await letters(workers, 6) if letter["redriven_from"] is not None]
            assert [letter["reason"] for letter in second] == ["tombstone"]
            assert second[0]["redriven_from"] == done[f"{away}/{at['tombstone']}"]["dead_letter"]
            await workers.stop()
    books = await read_books(kafka.bootstrap, topic_prefix, "orchestrator", PARTITIONS)
    assert {books.terminal(*key)["type"] for key in wanted} == {"prompt.answered.v1"}
    assert len(books.outcomes) == 3
