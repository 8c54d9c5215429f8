"""DECIDE: admits requests, holds money for them, and starts their first attempt."""

from typing import Any, Protocol

from streams.runtime.app import WorkerApp
from streams.runtime.ports import Source


class Decides(Protocol):
    """The pipeline's first stage."""

    async def decide(self, source: Source) -> None:
        """Decide records of `prompt.requests` in offset order; runs for ever."""
        ...


def attach(app: WorkerApp, pipeline: Decides) -> None:
    """Add the DECIDE agent to `app`."""

    @app.agent(app.requests, name="decide")
    async def decide(stream: Any) -> None:
        await pipeline.decide(app.source_of(stream))
