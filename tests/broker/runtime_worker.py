"""A worker process for `test_runtime_worker.py`: the real runtime around a pipeline that only copies.

    python -m tests.broker.runtime_worker SETTINGS_JSON

DECIDE stores one row per request (`r/<offset>`: who stored it, and its value) and `last`, and publishes a progress
record; FINISH does the same for progress (`p/<offset>`). One group at a time. When stopped it writes all rows that its
store holds to `<state>/rows.json`.
"""

import asyncio
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agents import decide, finish
from streams.runtime.app import WorkerApp, WorkerSettings, build_app, serve
from streams.runtime.ports import Outgoing, Record, Source
from streams.runtime.process import SystemProcess

GROUP = 200


class CopyingPipeline:
    """Copies records into rows, in groups: rows, then outputs, then the ack."""

    def __init__(self, app: WorkerApp, settings: WorkerSettings) -> None:
        self._app = app
        self._settings = settings
        self._generation = -1
        self._partitions: frozenset[int] = frozenset()
        self._limbo = True
        self._busy = asyncio.Lock()

    async def decide(self, source: Source) -> None:
        await self._copy(source, b"r/")

    async def finish(self, source: Source) -> None:
        await self._copy(source, b"p/")

    async def run(self) -> None:
        await asyncio.Event().wait()

    def begin_rebalance(self) -> None:
        self._limbo = True

    async def drain(self) -> None:
        async with asyncio.timeout(5), self._busy:
            pass

    async def assigned(
        self,
        generation: int,
        partitions: frozenset[int],
        progress_from: Mapping[int, int],
        requests_from: Mapping[int, int],
    ) -> None:
        assert set(progress_from) == partitions
        self._generation, self._partitions, self._limbo = generation, partitions, False

    async def stop(self, grace_s: float) -> None:
        self._limbo = True
        async with asyncio.timeout(grace_s), self._busy:
            rows = {
                partition: {
                    key.decode(): value.decode() for key, value in self._app.store.scan("accounts", partition, b"")
                }
                for partition in self._partitions
            }
        (self._settings.state / "rows.json").write_text(json.dumps(rows))

    async def _copy(self, source: Source, prefix: bytes) -> None:
        group: list[Record] = []
        async for record in source:
            group.append(record)
            if source.idle() or len(group) >= GROUP:
                async with self._busy:
                    await self._store(source, prefix, [one for one in group if self._is_current(one)])
                group = []

    def _is_current(self, record: Record) -> bool:
        return not self._limbo and record.generation == self._generation

    async def _store(self, source: Source, prefix: bytes, group: list[Record]) -> None:
        for partition in {record.partition for record in group}:
            records = [record for record in group if record.partition == partition]
            who = self._settings.worker.encode()
            rows = [(b"%s%09d" % (prefix, one.offset), who + b" " + (one.value or b"")) for one in records]
            rows.append((prefix + b"last", b"%d" % records[-1].offset))
            offset = await (await self._app.kafka.append_rows("accounts", partition, rows))
            self._app.store.write("accounts", partition, rows, offset)
            if prefix == b"r/":
                facts = [Outgoing(self._settings.progress, one.key, one.value, partition) for one in records]
                await self._app.kafka.publish(facts[:1])
                await self._app.kafka.publish_progress(facts[1:])
        if group and self._is_current(group[-1]):
            source.ack(group)


async def main() -> None:
    """Run the worker that the first argument describes."""
    given = json.loads(sys.argv[1])
    given["bootstrap_servers"] = tuple(given["bootstrap_servers"])
    given["state"] = Path(given["state"])
    settings = WorkerSettings(**given)
    app = build_app(settings, SystemProcess())
    pipeline = CopyingPipeline(app, settings)
    decide.attach(app, pipeline)
    finish.attach(app, pipeline)

    @app.agent(app.observations, name="health")
    async def observe(stream: Any) -> None:
        source = app.source_of(stream)
        async for record in source:
            source.ack([record])

    app.host(pipeline, ready=lambda partitions: print(json.dumps({"ready": partitions}), flush=True))
    await serve(app, grace_s=3)


if __name__ == "__main__":
    asyncio.run(main())
