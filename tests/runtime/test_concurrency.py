"""Places at a deployment: how many, who waits, who is refused, and that none is ever lost."""

import asyncio
from contextlib import suppress

import pytest

from schemas.requests import Priority
from streams.runtime.concurrency import Places, QueueFullError, TooLateError
from tests.agents.calling import Clock
from tests.core.build import NOW, deployment

LONG = NOW + 60_000


class Yard:
    """Calls that hold a place until they are told to end."""

    def __init__(self, most: int = 2, *, owned: int = 12, most_waiting: int = 100) -> None:
        self.owned = owned
        self.places = Places(Clock(), lambda: self.owned, 12, most_waiting=most_waiting)
        self.deployment = deployment(max_concurrency=most)
        self.running: list[str] = []
        self.ends: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def call(
        self, name: str, tenant: str = "acme", priority: Priority = "normal", deadline_ms: int = LONG
    ) -> None:
        """Start a call and let it come as far as it can."""
        self.ends[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._call(name, tenant, priority, deadline_ms))
        await settled()

    async def _call(self, name: str, tenant: str, priority: Priority, deadline_ms: int) -> None:
        place = self.places.place(self.deployment, tenant=tenant, priority=priority, deadline_ms=deadline_ms)
        async with place:
            self.running.append(name)
            try:
                await self.ends[name].wait()
            finally:
                self.running.remove(name)

    async def end(self, name: str) -> None:
        self.ends[name].set()
        await settled()


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_no_more_calls_run_than_there_are_places_and_the_next_follows_when_one_ends() -> None:
    yard = Yard(2)
    for name in ("1", "2", "3", "4"):
        await yard.call(name)
    assert yard.running == ["1", "2"]

    await yard.end("1")
    assert yard.running == ["2", "3"]


async def test_without_a_limit_nobody_waits() -> None:
    yard = Yard()
    yard.deployment = deployment(max_concurrency=None)
    for n in range(50):
        await yard.call(str(n))

    assert len(yard.running) == 50
    assert not yard.places.full(yard.deployment)


async def test_the_higher_priority_goes_first() -> None:
    yard = Yard(1)
    await yard.call("first")
    await yard.call("low", priority="low")
    await yard.call("high", priority="high")
    await yard.end("first")

    assert yard.running == ["high"]


async def test_a_worker_takes_its_share_and_more_when_it_gets_more_partitions() -> None:
    yard = Yard(4, owned=3)
    for name in ("1", "2", "3", "4", "5"):
        await yard.call(name)
    assert yard.running == ["1"]

    yard.owned = 12
    yard.places.admit()
    await settled()
    assert yard.running == ["1", "2", "3", "4"]


async def test_who_waits_until_its_deadline_leaves() -> None:
    yard = Yard(1)
    await yard.call("first")
    await yard.call("late", deadline_ms=NOW)
    with pytest.raises(TooLateError):
        await yard.tasks["late"]
    await yard.end("first")
    await yard.call("next")

    assert yard.running == ["next"]


async def test_too_many_are_refused_from_the_lowest_priority_up() -> None:
    yard = Yard(1, most_waiting=1)
    await yard.call("first")
    await yard.call("normal")
    await yard.call("low", priority="low")
    await yard.call("high", priority="high")

    for name in ("low", "normal"):
        with pytest.raises(QueueFullError):
            await yard.tasks[name]
    await yard.end("first")
    assert yard.running == ["high"]


async def test_a_place_that_came_when_its_call_was_cancelled_goes_to_the_next() -> None:
    yard = Yard(1)
    await yard.call("first")
    await yard.call("cancelled")
    await yard.call("next")
    yard.ends["first"].set()
    await asyncio.sleep(0)  # the place is given, and its call does not know yet
    yard.tasks["cancelled"].cancel()
    with suppress(asyncio.CancelledError):
        await yard.tasks["cancelled"]
    await settled()

    assert yard.running == ["next"]


async def test_a_call_that_fails_gives_its_place_back() -> None:
    yard = Yard(1)
    await yard.call("first")
    await yard.call("next")
    yard.tasks["first"].cancel()
    await settled()

    assert yard.running == ["next"]


async def test_one_tenant_with_most_of_the_calls_leaves_the_others_their_places() -> None:
    yard = Yard(10)
    for n in range(90):
        await yard.call(f"loud-{n}", tenant="loud")
    for n in range(9):
        await yard.call(f"quiet-{n}", tenant=f"quiet-{n}")
    for n in range(9):
        await yard.end(f"loud-{n}")

    assert sorted(yard.running) == ["loud-9", *(f"quiet-{n}" for n in range(9))]


async def test_ten_thousand_wait_and_all_get_their_turn() -> None:
    yard = Yard(1, most_waiting=10_000)
    await yard.call("first")
    calls = [asyncio.create_task(yard._call(str(n), "acme", "normal", LONG)) for n in range(10_000)]
    yard.ends.update({str(n): asyncio.Event() for n in range(10_000)})
    await settled()
    assert yard.running == ["first"]
    for end in yard.ends.values():
        end.set()
    await asyncio.wait(calls)

    assert not yard.running
    assert not yard.places.full(yard.deployment)
