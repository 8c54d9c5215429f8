"""The simulator itself: what it promises to the histories that run in it, shown on a pipeline that only counts."""

import asyncio
from collections.abc import Mapping
from random import Random

import pytest

from streams.runtime.ports import Outgoing, Record, Source
from tests.simulation.group import Group
from tests.simulation.loop import SimLoop
from tests.simulation.owner import ACCOUNTS, PROGRESS, REQUESTS, Fleet, Ports
from tests.simulation.world import DeliveryUnknown, SimLog, SimStore, Weather, World, fold_rows

ECHO = "echo"


class CountingPipeline:
    """Writes one row pair and one output per record, one record at a time."""

    def __init__(self, ports: Ports) -> None:
        self.ports = ports
        self.generation = -1
        self.lock = asyncio.Lock()

    async def decide(self, source: Source) -> None:
        async for record in source:
            await self._count(source, record)

    async def finish(self, source: Source) -> None:
        async for record in source:
            source.ack([record])

    async def run(self) -> None:
        await asyncio.Event().wait()

    def begin_rebalance(self) -> None:
        self.generation = -1

    async def drain(self) -> None:
        async with self.lock:
            return

    async def assigned(
        self,
        generation: int,
        partitions: frozenset[int],
        progress_from: Mapping[int, int],
        requests_from: Mapping[int, int],
    ) -> None:
        self.generation = generation

    async def stop(self, grace_s: float) -> None:
        await self.drain()

    async def _count(self, source: Source, record: Record) -> None:
        async with self.lock:
            if record.generation != self.generation:
                return
            ports, partition = self.ports, record.partition
            seen = b"seen/%d" % record.offset
            if ports.store.get(ACCOUNTS, partition, seen) is None:
                count = int(ports.store.get(ACCOUNTS, partition, b"count") or b"0") + 1
                rows = [(seen, b"%d" % count), (b"count", b"%d" % count)]
                try:
                    stored = await (await ports.log.append_rows(ACCOUNTS, partition, rows))
                except DeliveryUnknown as unknown:
                    ports.process.exit(75, repr(unknown))
                ports.store.write(ACCOUNTS, partition, rows, stored)
            value = ports.store.get(ACCOUNTS, partition, seen)
            await ports.log.publish([Outgoing(ECHO, record.key, value, partition)])
            if record.generation == self.generation:
                source.ack([record])


def run_history(seed: int, *, crashes: int = 3, pauses: int = 1) -> tuple[World, Group, Fleet, SimLoop]:
    """Run 30 requests through two counting workers under crashes and pauses, to rest."""
    random = Random(seed)
    loop = SimLoop(random)
    world = World(loop, random, Weather())
    group = Group(world)
    fleet = Fleet(world, group, CountingPipeline)
    for worker in ("w1", "w2"):
        loop.at_world(random.random(), fleet.start, worker)
    for n in range(30):
        request = Outgoing(REQUESTS, None, b"%d" % n)
        loop.at_world(random.random() * 60, lambda out: world.append(out, world.partition_of(out), "tenant"), request)
    for _ in range(crashes):
        loop.at_world(random.random() * 60, crash, fleet, random)
    for _ in range(pauses):
        loop.at_world(random.random() * 60, pause, fleet, random)
    loop.drive(until_s=240)
    assert loop.shut() == []
    return world, group, fleet, loop


def crash(fleet: Fleet, random: Random) -> None:
    if fleet.owners:
        fleet.owners[random.choice(list(fleet.owners))].process.steps_left = random.randint(1, 60)


def pause(fleet: Fleet, random: Random) -> None:
    if fleet.owners:
        process = fleet.owners[random.choice(list(fleet.owners))].process
        fleet.world.loop.pause(process)
        fleet.world.loop.at_world(15, fleet.world.loop.resume, process)


@pytest.mark.parametrize("seed", range(40))
def test_a_counting_pipeline_counts_every_request_once_through_crashes_and_pauses(seed: int) -> None:
    world, group, _, _ = run_history(seed)
    assert world.violations == []
    for partition in range(3):
        requests = world.records(REQUESTS, partition)
        table = fold_rows(world.rows_of(ACCOUNTS, partition))
        assert table.get(b"count", b"0") == b"%d" % len(requests)
        assert {r.value for r in world.records(ECHO, partition)} == {b"%d" % (n + 1) for n in range(len(requests))}
        assert group.committed.get((REQUESTS, partition), 0) == len(requests)


def test_one_seed_is_one_history() -> None:
    first, second = run_history(7)[0], run_history(7)[0]
    assert first.timeline == second.timeline
    assert first.log == second.log
    assert first.changelog == second.changelog


def test_time_jumps_and_a_paused_process_is_held_back_while_it_goes_on() -> None:
    loop = SimLoop(Random(1))
    told: list[tuple[str, float]] = []

    async def tick(name: str) -> None:
        for _ in range(3):
            await asyncio.sleep(10)
            told.append((name, loop.time()))

    left, right = loop.process("left"), loop.process("right")
    loop.spawn(left, tick("left"), "left")
    loop.spawn(right, tick("right"), "right")
    loop.at_world(15, loop.pause, left)
    loop.at_world(100, loop.resume, left)
    loop.drive(until_s=1000)
    assert [t for t in told if t[0] == "left"] == [("left", 10.0), ("left", 100.0), ("left", 110.0)]
    assert [t for t in told if t[0] == "right"] == [("right", 10.0), ("right", 20.0), ("right", 30.0)]
    assert loop.shut() == []


def test_a_killed_process_runs_no_further_step() -> None:
    loop = SimLoop(Random(1))
    told: list[str] = []
    process = loop.process("p")

    async def work() -> None:
        for n in range(100):
            await asyncio.sleep(0)
            process.checkpoint()
            told.append(str(n))

    loop.spawn(process, work(), "work")
    process.steps_left = 10
    loop.drive(until_s=1)
    assert 0 < len(told) < 10
    assert not process.alive
    assert loop.shut() == []


def log_of(seed: int, weather: Weather | None = None, fence: str | None = None) -> tuple[SimLoop, World, SimLog]:
    random = Random(seed)
    loop = SimLoop(random)
    world = World(loop, random, weather or Weather())
    process = loop.process("p")
    log = SimLog(world, process, lambda: fence)
    process.on_end = lambda code, why: log.crashed()
    return loop, world, log


def changelog_after_a_crash(seed: int, weather: Weather) -> list[tuple[bytes, bytes | None]]:
    loop, world, log = log_of(seed, weather)
    process = log._process

    async def write() -> None:
        for n in range(20):
            await log.append_rows("t", 0, [(b"%d-%d" % (n, i), b"") for i in range(3)])
            await asyncio.sleep(0.002)

    loop.spawn(process, write(), "write")
    loop.at_world(0.03, loop.kill, process, -9, "crash")
    loop.drive(until_s=10)
    loop.shut()
    return world.rows_of("t", 0)


def test_what_survives_a_crash_is_a_prefix_of_whole_batches_unless_batches_may_tear() -> None:
    everything = [(b"%d-%d" % (n, i), b"") for n in range(20) for i in range(3)]
    whole = [changelog_after_a_crash(seed, Weather()) for seed in range(60)]
    torn = [changelog_after_a_crash(seed, Weather(row_by_row=True)) for seed in range(60)]
    assert all(rows == everything[: len(rows)] for rows in whole + torn)
    assert all(len(rows) % 3 == 0 for rows in whole)
    assert len({len(rows) for rows in whole}) > 5
    assert any(len(rows) % 3 for rows in torn)


def test_a_fenced_process_ends_before_it_sends_rows_and_may_still_publish_progress() -> None:
    loop, world, log = log_of(1, fence="silent for 9.0 s")
    process = log._process

    async def work() -> None:
        await log.publish_progress([Outgoing(PROGRESS, b"r", b"fact", 1)])
        await log.append_rows("t", 0, [(b"k", b"v")])

    loop.spawn(process, work(), "work")
    loop.drive(until_s=10)
    assert [r.value for r in world.records(PROGRESS, 1)] == [b"fact"]
    assert world.rows_of("t", 0) == []
    assert not process.alive
    assert loop.shut() == []


def test_a_store_that_runs_ahead_of_its_changelog_is_noticed() -> None:
    loop, world, log = log_of(1)
    store = SimStore(world, log._process, "w1")
    world.rows_of("t", 0).append((b"k", b"1"))
    store.write("t", 0, [(b"k", b"1")], 0)
    assert world.violations == []
    store.write("t", 0, [(b"k", b"2")], 1)
    assert len(world.violations) == 1
    loop.shut()


def test_a_producer_that_hears_nothing_cannot_know_whether_the_broker_has_it() -> None:
    outcomes = set()
    for seed in range(30):
        loop, world, log = log_of(seed, Weather(unknown_delivery=1.0))
        raised: list[str] = []
        loop.spawn(log._process, publish_once(log, raised), "work")
        loop.drive(until_s=10)
        assert loop.shut() == []
        assert raised == ["unknown"]
        outcomes.add(len(world.records("t", 0)))
    assert outcomes == {0, 1}


async def publish_once(log: SimLog, raised: list[str]) -> None:
    try:
        await log.publish([Outgoing("t", None, b"v", 0)])
    except DeliveryUnknown:
        raised.append("unknown")
