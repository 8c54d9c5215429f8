"""An auditor of its own: reads the topics of a run and says what became of every request and every nano-dollar.

It shares no code with the pipeline, but for the codec of the account rows that it compares with.
"""

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import ConsumerRecord

from streams.core.rows import ACCOUNT_PREFIX, OPEN_PREFIX, decode_account

Key = tuple[str, str]
Amounts = dict[Key, int]
"""Nano-USD per (tenant, window)."""


@dataclass
class Books:
    """Everything that the topics of one run say. Keys are (tenant, request id)."""

    outcomes: dict[Key, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    costs: dict[str, dict[str, Any]] = field(default_factory=dict)
    cost_bytes: dict[str, set[bytes]] = field(default_factory=lambda: defaultdict(set))
    ledger: dict[int, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    deadletters: list[dict[str, Any]] = field(default_factory=list)
    attempts: Counter[str] = field(default_factory=Counter)
    accounts: list[Any] = field(default_factory=list)
    open_rows: list[bytes] = field(default_factory=list)
    homes: dict[Key, set[int]] = field(default_factory=lambda: defaultdict(set))

    @property
    def billed(self) -> int:
        """Σ of distinct cost events, in nano-USD."""
        return sum(cost["cost_nano_usd"] for cost in self.costs.values())

    @property
    def uncertain(self) -> int:
        """What of the bill is booked at a bound and has not been corrected."""
        open_bounds: dict[tuple[str, str, int], int] = {}
        for cost in self.costs.values():
            key = (cost["tenant"], cost["request_id"], cost["attempt"])
            if cost["type"] == "cost.uncertain.v1":
                open_bounds.setdefault(key, cost["cost_nano_usd"])
        adjusted = {
            (c["tenant"], c["request_id"], c["attempt"]) for c in self.costs.values() if c["type"] == "cost.adjusted.v1"
        }
        return sum(amount for key, amount in open_bounds.items() if key not in adjusted)

    @property
    def unresolved(self) -> set[str]:
        """Requests of which an attempt is booked at its bound, and its truth unknown."""
        attempts: dict[str, set[tuple[str, int]]] = defaultdict(set)
        for cost in self.costs.values():
            attempts[cost["type"]].add((cost["request_id"], cost["attempt"]))
        return {request_id for request_id, _ in attempts["cost.uncertain.v1"] - attempts["cost.adjusted.v1"]}

    @property
    def billed_by_request(self) -> Counter[str]:
        """What is billed for each request id, in nano-USD."""
        billed: Counter[str] = Counter()
        for cost in self.costs.values():
            billed[cost["request_id"]] += cost["cost_nano_usd"]
        return billed

    def compare_with_invoice(self, charged: Counter[str]) -> None:
        """Check request by request: what is billed is what was charged, never less where a call was lost."""
        billed, unresolved = self.billed_by_request, self.unresolved
        assert billed.keys() >= charged.keys()
        for request_id, amount in billed.items():
            if request_id in unresolved:
                assert amount >= charged[request_id], request_id
            else:
                assert amount == charged[request_id], request_id

    def terminal(self, tenant: str, request_id: str) -> dict[str, Any]:
        """Return the one outcome of a request; fails where there is none or more than one."""
        (value,) = set(self.outcomes[tenant, request_id])
        event: dict[str, Any] = json.loads(value)
        return event


async def read_books(bootstrap: str, prefix: str, group: str, partitions: int) -> Books:
    """Read all topics from their beginning to where they end now."""
    books = Books()
    read = _Reader(bootstrap, partitions)
    for topic in ("prompt.responses", "prompt.errors"):
        for record in await read(prefix + topic):
            event = json.loads(record.value)
            books.outcomes[event["tenant"], event["request_id"]].append(record.value)
    for record in await read(prefix + "prompt.costs"):
        event = json.loads(record.value)
        books.costs[event["id"]] = event
        books.cost_bytes[event["id"]].add(record.value)
    for record in await read(prefix + "ledger.entries"):
        entry = json.loads(record.value)
        assert entry["partition"] == record.partition
        books.ledger[record.partition].append(entry)
        if "request_id" in entry:  # not of a change of a budget
            books.homes[entry["tenant"], entry["request_id"]].add(record.partition)
    books.deadletters = [json.loads(record.value) for record in await read(prefix + "prompt.deadletters")]
    for record in await read(prefix + "prompt.progress"):
        books.attempts[json.loads(record.value)["type"]] += 1
    rows: dict[tuple[int, bytes], bytes] = {}
    for record in await read(f"{prefix}{group}-accounts-changelog"):
        rows[record.partition, record.key] = record.value
    for (_, key), value in rows.items():
        if value is not None and key.startswith(ACCOUNT_PREFIX):
            books.accounts.append(decode_account(value))
        elif value is not None and key.startswith(OPEN_PREFIX):
            books.open_rows.append(value)
    return books


class _Reader:
    def __init__(self, bootstrap: str, partitions: int) -> None:
        self._bootstrap, self._partitions = bootstrap, partitions

    async def __call__(self, topic: str) -> list[ConsumerRecord]:
        consumer = AIOKafkaConsumer(bootstrap_servers=self._bootstrap, auto_offset_reset="earliest")
        tps = [TopicPartition(topic, p) for p in range(self._partitions)]
        consumer.assign(tps)
        await consumer.start()
        try:
            ends = await consumer.end_offsets(tps)
            found: list[ConsumerRecord] = []
            async with asyncio.timeout(60):
                while any([await consumer.position(tp) < end for tp, end in ends.items()]):
                    for records in (await consumer.getmany(timeout_ms=300)).values():
                        found += records
            return found
        finally:
            await consumer.stop()


async def wait_for(
    bootstrap: str, prefix: str, partitions: int, wanted: Callable[[], Iterable[Key]], within_s: float
) -> None:
    """Follow responses and errors until every wanted request has an outcome; fails naming those that have none."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    topics = (prefix + "prompt.responses", prefix + "prompt.errors")
    consumer.assign([TopicPartition(topic, p) for topic in topics for p in range(partitions)])
    await consumer.start()
    seen: set[Key] = set()
    try:
        async with asyncio.timeout(within_s):
            while not seen.issuperset(wanted()):
                for records in (await consumer.getmany(timeout_ms=300)).values():
                    for record in records:
                        event = json.loads(record.value)
                        seen.add((event["tenant"], event["request_id"]))
    except TimeoutError:
        missing = [key for key in wanted() if key not in seen]
        raise AssertionError(f"{len(missing)} requests without an outcome, such as {missing[:5]}") from None
    finally:
        await consumer.stop()


def audit(books: Books) -> None:
    """Check what must be true of any run at rest: G2, G3 and G4 of the design."""
    for key, values in books.outcomes.items():
        assert len(set(values)) == 1, f"{key} was told two different outcomes: {set(values)}"
    for event_id, contents in books.cost_bytes.items():
        assert len(contents) == 1, f"cost event {event_id} has two contents"
    assert not books.open_rows, f"{len(books.open_rows)} requests are still open"
    spent: Amounts = defaultdict(int)
    for partition, entries in books.ledger.items():
        for key, (spent_here, reserved_here) in _folded(partition, entries).items():
            assert reserved_here == 0, f"partition {partition}: holds of {key} left open"
            spent[key] += spent_here
    assert spent == _spent_by_rows(books, spent), "the account rows do not hold what the ledger says"
    billed: dict[str, int] = defaultdict(int)
    for cost in books.costs.values():
        billed[cost["tenant"]] += cost["cost_nano_usd"]
    for tenant, amount in billed.items():
        kinds: dict[str, int] = defaultdict(int)
        for (_, window), total in ((key, total) for key, total in spent.items() if key[0] == tenant):
            kinds[window.partition(":")[0]] += total
        assert set(kinds.values()) == {amount}, f"{tenant}: ledger {dict(kinds)}, cost events {amount}"


def _folded(partition: int, entries: list[dict[str, Any]]) -> dict[Key, list[int]]:
    """Fold a partition: seq without gaps in order of first appearance, every entry adds up, no limit is passed."""
    distinct = {entry["id"]: entry for entry in entries}
    seqs = [entry["seq"] for entry in distinct.values()]
    assert seqs == list(range(1, len(seqs) + 1)), f"partition {partition}: gaps or disorder in {seqs[:20]}…"
    windows: dict[Key, list[int]] = defaultdict(lambda: [0, 0])
    for entry in distinct.values():
        window = windows[entry["tenant"], entry["window"]]
        match entry["type"]:
            case "hold.placed.v1":
                window[1] += entry["hold_nano_usd"]
            case "hold.settled.v1" | "hold.released.v1":
                window[1] -= entry["hold_nano_usd"]
                window[0] += entry["amount_nano_usd"]
            case "booking.adjusted.v1":
                window[0] += entry["amount_nano_usd"]
        assert window == [entry["spent_after_nano_usd"], entry["reserved_after_nano_usd"]], entry
        assert entry["limit_nano_usd"] is None or sum(window) <= entry["limit_nano_usd"], entry
    return windows


def _spent_by_rows(books: Books, windows: Iterable[Key]) -> Amounts:
    rows: Amounts = defaultdict(int)
    for account in books.accounts:
        for window in account.windows:
            assert window.reserved == 0, account
            rows[account.tenant, window.id] += window.spent
    return {key: rows[key] for key in windows}
