"""This worker's share of the calls that a deployment may have at a time (`max_concurrency`), and who waits for it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from schemas.requests import Priority
from streams.core.registry import Deployment
from streams.core.waiting import Line, Waiting, share_of
from streams.runtime.ports import Clock

MOST_WAITING = 10_000
"""At one deployment and worker; more are refused."""

Place = asyncio.Future[None]


class QueueFullError(Exception):
    """Too many calls wait for a place, and this one has the lowest priority."""


class TooLateError(Exception):
    """The deadline came before a place did."""


@dataclass(slots=True)
class _Gate:
    most: int
    line: Line[Place]
    held: Counter[str] = field(default_factory=Counter)
    running: int = 0

    def take(self, tenant: str) -> None:
        self.held[tenant] += 1
        self.running += 1

    def give_back(self, tenant: str) -> None:
        self.running -= 1
        self.held[tenant] -= 1
        if not self.held[tenant]:
            del self.held[tenant]


class Places:
    """The places at all deployments that have a limit. A call that waits is one future and one timer."""

    def __init__(
        self, clock: Clock, owned: Callable[[], int], partitions: int, *, most_waiting: int = MOST_WAITING
    ) -> None:
        """`owned`: how many of the `partitions` are this worker's now."""
        self._clock, self._owned, self._partitions, self._most_waiting = clock, owned, partitions, most_waiting
        self._gates: dict[str, _Gate] = {}

    def full(self, deployment: Deployment) -> bool:
        """Whether a call there would have to wait."""
        gate = self._gates.get(deployment.id)
        return gate is not None and (len(gate.line) > 0 or not self._has_room(gate))

    @asynccontextmanager
    async def place(
        self, deployment: Deployment, *, tenant: str, priority: Priority, deadline_ms: int
    ) -> AsyncIterator[bool]:
        """Hold a place while the block runs; yields whether it had to be waited for.

        Raises `TooLateError` at the deadline, `QueueFullError` at once or when one of higher priority comes.
        """
        if deployment.max_concurrency is None:
            yield False
            return
        gate = self._gate(deployment.id, deployment.max_concurrency)
        waited = len(gate.line) > 0 or not self._has_room(gate)
        if waited:
            await self._wait(gate, tenant, priority, deadline_ms)
        else:
            gate.take(tenant)
        try:
            yield waited
        finally:
            self._give_back(gate, tenant)

    def admit(self) -> None:
        """Let in those for whom there is room, after the worker's share has changed."""
        for gate in self._gates.values():
            self._admit(gate)

    async def _wait(self, gate: _Gate, tenant: str, priority: Priority, deadline_ms: int) -> None:
        place: Place = asyncio.get_running_loop().create_future()
        now_ms = self._clock.now_ms()
        mine, refused = gate.line.join(place, tenant=tenant, priority=priority, now_ms=now_ms)
        if refused is mine:
            raise QueueFullError
        if refused is not None:
            refused.handle.set_exception(QueueFullError())
        self._admit(gate)
        try:
            async with asyncio.timeout((deadline_ms - now_ms) / 1000):
                await place
        except TimeoutError:
            self._give_up(gate, mine)
            raise TooLateError from None
        except BaseException:
            self._give_up(gate, mine)
            raise

    def _give_up(self, gate: _Gate, mine: Waiting[Place]) -> None:
        """Leave the line, or give back a place that came at the very moment of giving up."""
        gate.line.leave(mine)
        place = mine.handle
        if place.done() and not place.cancelled() and place.exception() is None:
            self._give_back(gate, mine.tenant)

    def _give_back(self, gate: _Gate, tenant: str) -> None:
        gate.give_back(tenant)
        self._admit(gate)

    def _admit(self, gate: _Gate) -> None:
        while self._has_room(gate) and (following := gate.line.next(gate.held, self._share(gate))) is not None:
            if not following.handle.done():
                gate.take(following.tenant)
                following.handle.set_result(None)

    def _has_room(self, gate: _Gate) -> bool:
        return gate.running < self._share(gate)

    def _share(self, gate: _Gate) -> int:
        return share_of(gate.most, self._owned(), self._partitions)

    def _gate(self, deployment: str, most: int) -> _Gate:
        if deployment not in self._gates:
            self._gates[deployment] = _Gate(most, Line(self._most_waiting))
        return self._gates[deployment]
