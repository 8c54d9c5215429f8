"""Calls to providers that run in this process. A call never writes a table: its outcome is an event on
`prompt.progress`."""

import asyncio
from collections.abc import Callable
from typing import Literal, Protocol

import structlog

from schemas.progress import AttemptFailed, AttemptSucceeded
from schemas.requests import Limits, PromptRequest, understand
from schemas.usage import Charge, CostLine
from streams.core.request import Start
from streams.runtime.ports import Log, Outgoing, Process

TRY_AGAIN = 75

log = structlog.get_logger()

AttemptKey = tuple[int, str, str, int]
"""Home partition, tenant, request id, attempt."""


class Caller(Protocol):
    """Chooses a deployment and speaks to it."""

    async def call(self, start: Start, request: PromptRequest) -> AttemptSucceeded | AttemptFailed:
        """Make one attempt, within the request's deadline. Whatever happens is an outcome, not an exception."""
        ...


class Calls:
    """The attempts that this process has planned, holds ready or runs; what is not here, nobody here runs."""

    def __init__(
        self, caller: Caller, log: Log, process: Process, *, requests: str, progress: str, limits: Limits
    ) -> None:
        """`requests` and `progress` are topic names."""
        self._caller, self._log, self._process = caller, log, process
        self._requests, self._progress, self._limits = requests, progress, limits
        self._attempts: dict[AttemptKey, Literal["planned"] | asyncio.Task[None]] = {}

    def __len__(self) -> int:
        """How many calls run."""
        return sum(isinstance(state, asyncio.Task) for state in self._attempts.values())

    def knows(self, key: AttemptKey) -> bool:
        """Whether this process runs the attempt or is about to."""
        return key in self._attempts

    def plan(self, start: Start) -> None:
        """Remember that the attempt will run here once its decision is stored."""
        self._attempts[_key(start)] = "planned"

    def unplan(self, start: Start) -> None:
        """Its decision was dropped."""
        if self._attempts.get(_key(start)) == "planned":
            del self._attempts[_key(start)]

    def keep(self, partitions: frozenset[int]) -> None:
        """Forget what was planned for partitions that are gone. Running calls go on: their results count wherever they
        come from."""
        for key in [k for k, state in self._attempts.items() if state == "planned" and k[0] not in partitions]:
            del self._attempts[key]

    def begin(self, start: Start, content: Callable[[], PromptRequest | None]) -> None:
        """Run an attempt. `content` returns the prompt if it is at hand; otherwise it is read back from the log."""
        task = asyncio.get_running_loop().create_task(self._run(start, content()))
        self._attempts[_key(start)] = task

    async def finish(self, within_s: float) -> int:
        """Give running calls time to end and to publish; return how many did not."""
        running = [state for state in self._attempts.values() if isinstance(state, asyncio.Task)]
        if not running:
            return 0
        _, late = await asyncio.wait(running, timeout=within_s)
        return len(late)

    async def _run(self, start: Start, prompt: PromptRequest | None) -> None:
        outcome = (await self._outcome(start, prompt)).model_copy(update={"request_offset": start.offset})
        record = Outgoing(
            self._progress, start.request_id.encode(), outcome.model_dump_json().encode(), start.partition
        )
        try:
            await self._log.publish_progress([record])
        except Exception as error:  # noqa: BLE001 - an outcome that may be lost: a restart repairs it
            self._process.exit(TRY_AGAIN, f"cannot know whether an outcome was stored: {error!r}")
        self._attempts.pop(_key(start), None)

    async def _outcome(self, start: Start, prompt: PromptRequest | None) -> AttemptSucceeded | AttemptFailed:
        try:
            found = prompt or await self._read_back(start)
            if found is None:
                return _lost(start, "its prompt is no longer in the log", Charge(certainty="none"))
            return await self._caller.call(start, found)
        except Exception:
            log.exception("call failed in our own code", request_id=start.request_id, attempt=start.attempt)
            bound = CostLine(class_="bound", nano_usd=start.hold)
            charge = Charge(certainty="uncertain", nano_usd=start.hold, lines=(bound,), usage_source="estimated")
            return _lost(start, "the call failed in the orchestrator itself", charge)

    async def _read_back(self, start: Start) -> PromptRequest | None:
        record = await self._log.fetch(self._requests, start.partition, start.offset)
        if record is None:
            return None
        found = understand(record.value, default_request_id=start.request_id, limits=self._limits)
        return found if isinstance(found, PromptRequest) else None


def _key(start: Start) -> AttemptKey:
    return (start.partition, start.tenant, start.request_id, start.attempt)


def _lost(start: Start, message: str, charge: Charge) -> AttemptFailed:
    return AttemptFailed(
        tenant=start.tenant,
        request_id=start.request_id,
        attempt=start.attempt,
        code="MODEL_ERROR",
        reason="connection_lost",
        message=message,
        again=False,
        elsewhere=False,
        charge=charge,
    )
