"""The pipeline's ports in memory, counting what goes through them: no broker, no RocksDB, no HTTP."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from typing import NoReturn

import orjson

from schemas.configuration import parse
from schemas.progress import Answer, AttemptFailed, AttemptSucceeded
from schemas.requests import PromptRequest
from schemas.usage import Charge, CostLine, Usage
from streams.core.request import Start
from streams.runtime.pipeline import Pipeline
from streams.runtime.ports import Outgoing, Record, Rows
from streams.runtime.registry import registry_of
from streams.runtime.topics import Topics

TOPICS = Topics("", "bench")
NOW_MS = 1_795_000_000_000


class Ended(Exception):
    """The process would have ended."""


class MemorySource:
    """One partition of one topic, fed by `feed`."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._queue: asyncio.Queue[Record] = asyncio.Queue()
        self._end = 0
        self.acknowledged = 0

    def feed(self, value: bytes, key: bytes | None = None) -> None:
        """Append a record."""
        self._queue.put_nowait(Record(self._topic, 0, self._end, NOW_MS, key, value, generation=1))
        self._end += 1

    async def __aiter__(self) -> AsyncIterator[Record]:
        """Deliver what was fed, for ever."""
        while True:
            yield await self._queue.get()

    def idle(self) -> bool:
        """Whether nothing is at hand."""
        return self._queue.empty()

    def ack(self, records: Sequence[Record]) -> None:
        """Count."""
        self.acknowledged += len(records)


class MemoryLog:
    """Stores nothing but the counts: `produced` records by topic, `batches` of rows, `publishes` of outputs."""

    def __init__(self, progress: MemorySource) -> None:
        """What is published as progress is read by `progress`."""
        self._progress = progress
        self._changelog: Counter[tuple[str, int]] = Counter()
        self.produced: Counter[str] = Counter()
        self.batches = 0
        self.publishes = 0

    async def append_rows(self, table: str, partition: int, rows: Rows) -> Awaitable[int]:
        """Count one batch."""
        self.batches += 1
        self.produced[table] += len(rows)
        self._changelog[table, partition] += len(rows)
        stored: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(stored.set_result, self._changelog[table, partition] - 1)
        return stored

    async def publish(self, records: Sequence[Outgoing]) -> None:
        """Count them."""
        self.publishes += 1
        self.produced.update(record.topic for record in records)
        await asyncio.sleep(0)

    async def publish_progress(self, records: Sequence[Outgoing]) -> None:
        """Count them and let FINISH read them."""
        self.produced.update(record.topic for record in records)
        for record in records:
            self._progress.feed(record.value or b"", record.key)

    async def fetch(self, topic: str, partition: int, offset: int) -> Record | None:
        """Nothing is kept."""
        return None

    async def end_offset(self, topic: str, partition: int) -> int:
        """Return 0: it begins empty."""
        return 0


class MemoryStore:
    """Rows in a dictionary; `writes` counts atomic batches."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, int], dict[bytes, bytes]] = defaultdict(dict)
        self.writes = 0

    def get(self, table: str, partition: int, key: bytes) -> bytes | None:
        """Return a row."""
        return self._rows[table, partition].get(key)

    def write(self, table: str, partition: int, rows: Rows, changelog_offset: int) -> None:
        """Write a batch."""
        self.writes += 1
        held = self._rows[table, partition]
        for key, value in rows:
            if value is None:
                held.pop(key, None)
            else:
                held[key] = value

    def scan(self, table: str, partition: int, prefix: bytes, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Yield rows in key order."""
        found = [row for row in self._rows[table, partition].items() if row[0].startswith(prefix) and row[0] >= start]
        return iter(sorted(found))


class StoppedClock:
    """It is always the same moment."""

    def now_ms(self) -> int:
        """Return the time of the records, so that no deadline is over."""
        return NOW_MS

    async def sleep_until(self, moment_ms: int) -> None:
        """Wait for ever: no moment comes."""
        await asyncio.Event().wait()


class LoudProcess:
    """Raises where the process would end."""

    def exit(self, code: int, why: str) -> NoReturn:
        """Raise `Ended`."""
        raise Ended(f"{code}: {why}")


ANSWER = Answer(text="A short note about numbers. " * 8, finish_reason="stop", finish_reason_raw="stop")
CHARGE = Charge(
    certainty="incurred",
    nano_usd=3_840_000,
    usage=Usage(input_tokens=72, output_tokens=56),
    usage_source="provider",
    lines=(
        CostLine(class_="input", tokens=72, nano_usd=2_160_000),
        CostLine(class_="output", tokens=56, nano_usd=1_680_000),
    ),
)


class InstantCaller:
    """Every call is answered at once."""

    async def call(self, start: Start, request: PromptRequest) -> AttemptSucceeded | AttemptFailed:
        """Return the answer."""
        return AttemptSucceeded(
            tenant=start.tenant,
            request_id=start.request_id,
            attempt=start.attempt,
            model="m",
            deployment="m",
            provider="custom",
            answer=ANSWER,
            charge=CHARGE,
            duration_s=0.2,
        )


CONFIGURATION = """
orchestrator: {timeout: 600}
kafka: {partitions: 1}
models: [{name: m, endpoint: "http://127.0.0.1:1/v1", max_tokens: 8192, cost_per_token: 0.00003}]
tenants: [{name: acme, budgets: [{usd: "100000", window: day}]}]
"""


class Bench:
    """One worker's pipeline on these ports."""

    def __init__(self) -> None:
        """Starts nothing."""
        self.requests, self.progress = MemorySource(TOPICS.requests), MemorySource(TOPICS.progress)
        self.log, self.store = MemoryLog(self.progress), MemoryStore()
        self._pipeline = Pipeline(
            registry=registry_of(parse(CONFIGURATION)),
            topics=TOPICS,
            log=self.log,
            store=self.store,
            clock=StoppedClock(),
            process=LoudProcess(),
            caller=InstantCaller(),
        )

    async def answer(self, values: Sequence[bytes]) -> None:
        """Let the pipeline answer these requests, all of them at hand from the beginning."""
        await self._pipeline.assigned(1, frozenset({0}), {0: 0}, {0: 0})
        for value in values:
            self.requests.feed(value, b"acme")
        stages = [
            asyncio.ensure_future(self._pipeline.decide(self.requests)),
            asyncio.ensure_future(self._pipeline.finish(self.progress)),
        ]
        while self.progress.acknowledged < len(values):
            await asyncio.sleep(0)
            for stage in stages:
                if stage.done():
                    stage.result()
        for stage in stages:
            stage.cancel()
        await asyncio.gather(*stages, return_exceptions=True)


def request(number: int) -> bytes:
    """Return 500 bytes of a request."""
    text = f"Write a note about number {number}. " + "lorem ipsum " * 30
    return orjson.dumps(
        {
            "request_id": f"r{number}",
            "tenant": "acme",
            "model": "m",
            "messages": [{"role": "user", "content": text}],
            "max_tokens": 160,
        }
    )
