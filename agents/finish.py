"""FINISH: turns what became of an attempt into an answer, an error or the next attempt."""

from typing import Any, Protocol

from streams.runtime.app import WorkerApp
from streams.runtime.ports import Source


class Finishes(Protocol):
    """The pipeline's second stage."""

    async def finish(self, source: Source) -> None:
        """Decide records of `prompt.progress` in offset order; runs for ever."""
        ...


def attach(app: WorkerApp, pipeline: Finishes) -> None:
    """Add the FINISH agent to `app`."""

    @app.agent(app.progress, name="finish")
    async def finish(stream: Any) -> None:
        await pipeline.finish(app.source_of(stream))
