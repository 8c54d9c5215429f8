"""A worker of `runtime_worker` that begins to hang, in the way that its second argument names, once it is ready."""

import asyncio
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from agents import decide, finish
from streams.runtime.app import WorkerApp, WorkerSettings, build_app, serve
from streams.runtime.process import SystemProcess
from streams.runtime.watchdog import Limits
from tests.broker.runtime_worker import CopyingPipeline

LIMITS = Limits(still_s=7, stall_s=3, disk_s=2)


async def for_ever(*_: Any) -> Any:
    """Return never."""
    await asyncio.Event().wait()


async def no(*_: Any, **__: Any) -> bool:
    """Commit nothing."""
    return False


def hang(kind: str, app: WorkerApp, pipeline: CopyingPipeline, settings: WorkerSettings) -> None:
    """Begin to hang."""
    anything: Any = app
    match kind:
        case "loop":
            asyncio.get_running_loop().call_later(0.1, time.sleep, 60)
        case "commits":
            anything.consumer.force_commit = no
        case "fetching":
            anything.consumer._drain_once = for_ever
        case "rejoin":
            pipeline.drain = for_ever  # type: ignore[method-assign]  # it hangs
        case _:
            shutil.rmtree(settings.state)


async def main() -> None:
    """Run the worker that the first argument describes."""
    given = json.loads(sys.argv[1])
    given["bootstrap_servers"] = tuple(given["bootstrap_servers"])
    given["state"] = Path(given["state"])
    settings = WorkerSettings(**given)
    app = build_app(settings, SystemProcess())
    app.limits = LIMITS
    pipeline = CopyingPipeline(app, settings)
    decide.attach(app, pipeline)
    finish.attach(app, pipeline)

    @app.agent(app.observations, name="health")
    async def observe(stream: Any) -> None:
        source = app.source_of(stream)
        async for record in source:
            source.ack([record])

    def ready(partitions: list[int]) -> None:
        print(json.dumps({"ready": partitions}), flush=True)
        hang(sys.argv[2], app, pipeline, settings)

    app.host(pipeline, ready=ready)
    await serve(app, grace_s=3)


if __name__ == "__main__":
    asyncio.run(main())
