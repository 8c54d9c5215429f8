"""One simulated worker process: the adapter between the world and a pipeline, and the supervisor that starts it again.

Does what the Faust adapter does: membership, recovery, reading with contiguity, commits, the fence (DESIGN §3, §4).
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Never, Protocol

from streams.runtime.ports import Record, Source
from tests.simulation.group import Assignment, Fenced, Group, HeartbeatAnswer
from tests.simulation.loop import ProcessEnded, SimProcess
from tests.simulation.world import LOCKED_S, DeliveryUnknown, SimClock, SimLog, SimStore, World

REQUESTS = "prompt.requests"
PROGRESS = "prompt.progress"
ACCOUNTS = "accounts"


class Pipeline(Protocol):
    """What the adapter asks of `streams.runtime.pipeline.Pipeline`, or of a stand-in for it."""

    async def decide(self, source: Source) -> None: ...
    async def finish(self, source: Source) -> None: ...
    async def run(self) -> None: ...
    def begin_rebalance(self) -> None: ...
    async def drain(self) -> None: ...
    async def assigned(
        self,
        generation: int,
        partitions: frozenset[int],
        progress_from: Mapping[int, int],
        requests_from: Mapping[int, int],
    ) -> None: ...
    async def stop(self, grace_s: float) -> None: ...


@dataclass(frozen=True, slots=True)
class Ports:
    """What a pipeline is built on."""

    world: World
    process: SimProcess
    log: SimLog
    store: SimStore
    clock: SimClock
    worker: str


Build = Callable[[Ports], Pipeline]


@dataclass(frozen=True, slots=True)
class Assigned:
    """Observed: when a partition came to a process, and where its progress log ended then."""

    worker: str
    process: str
    generation: int
    partition: int
    progress_end: int
    at_s: float


class SimSource:
    """The `Source` port: one topic as one process reads it."""

    def __init__(self, owner: "Owner", topic: str) -> None:
        self.topic = topic
        self.waiting: deque[Record] = deque()
        self._owner = owner
        self._wakes: asyncio.Future[None] | None = None

    def put(self, records: Sequence[Record]) -> None:
        """Hand fetched records over."""
        self.waiting.extend(records)
        if self._wakes is not None and not self._wakes.done():
            self._wakes.set_result(None)

    def __aiter__(self) -> AsyncIterator[Record]:
        """See `Source`."""
        return self

    async def __anext__(self) -> Record:
        """Return the next record, of whatever generation."""
        self._owner.process.checkpoint()
        while not self.waiting:
            self._wakes = self._owner.world.loop.create_future()
            await self._wakes
        self._owner.perhaps_interrupted()
        record = self.waiting.popleft()
        if self._owner.world.random.random() < self._owner.world.weather.handover:
            await asyncio.sleep(self._owner.world.random.random() * 0.01)
            self._owner.process.checkpoint()
        return record

    def idle(self) -> bool:
        """See `Source`."""
        return not self.waiting

    def ack(self, records: Sequence[Record]) -> None:
        """See `Source`."""
        self._owner.process.checkpoint()
        for record in records:
            self._owner.acknowledge(record)


class Owner:
    """One process of one worker id, from its start to its end."""

    def __init__(
        self, world: World, group: Group, *, worker: str, number: int, build: Build, seen: list[Assigned]
    ) -> None:
        self.world = world
        self.group = group
        self.worker = worker
        self.process = world.loop.process(f"{worker}#{number}")
        self.pipeline: Pipeline | None = None
        self._token = number
        self._build = build
        self._seen = seen
        self._random = world.random
        self.log = SimLog(world, self.process, self._fence)
        self.store = SimStore(world, self.process, worker)
        self._sources = {topic: SimSource(self, topic) for topic in (REQUESTS, PROGRESS)}
        self._generation = -1
        self._partitions: frozenset[int] = frozenset()
        self._active = False
        self._joining = True
        self._proved_at = -1e9
        self._acked: dict[tuple[str, int], int] = {}
        self._uncommitted: dict[tuple[str, int], int] = {}
        self._commit_lands_at = 0.0
        self._rebalance = asyncio.Event()
        self._stopping = False

    def start(self) -> None:
        """Let the process run."""
        self.world.loop.spawn(self.process, self._live(), f"{self.process.name} live")

    def stop(self) -> None:
        """SIGTERM."""
        if self.process.alive and not self._stopping:
            self._stopping = True
            self.world.loop.spawn(self.process, self._stop(), f"{self.process.name} stop")

    def acknowledge(self, record: Record) -> None:
        """Take one ack; it must be of this generation, while active, the next in its partition."""
        place = (record.topic, record.partition)
        if not self._active or record.generation != self._generation or record.partition not in self._partitions:
            self.world.violation(self.process.name, f"acked {place} {record.offset} of generation {record.generation}")
            return
        if self._acked[place] != record.offset:
            self.world.violation(self.process.name, f"acked {place} {record.offset}, not {self._acked[place]}")
        if not self._uncommitted:
            self._watch(self._commit_soon(), "commit")
        self._acked[place] = self._uncommitted[place] = record.offset + 1

    def _fence(self) -> str | None:
        """Say why nothing may be sent now (DESIGN §4, "Fencing")."""
        if self._joining:
            self.world.violation(self.process.name, "sent rows or outputs while joining")
            return None
        self.perhaps_interrupted()
        silent_s = self.world.loop.time() - self._proved_at
        return None if silent_s <= 0.8 * self.world.weather.session_s else f"fenced: silent for {silent_s:.1f} s"

    async def _live(self) -> None:
        ports = Ports(self.world, self.process, self.log, self.store, SimClock(self.world.loop), self.worker)
        self.pipeline = pipeline = self._build(ports)
        self._watch(pipeline.run(), "run", for_ever=True)
        self._watch(pipeline.decide(self._sources[REQUESTS]), "decide", for_ever=True)
        self._watch(pipeline.finish(self._sources[PROGRESS]), "finish", for_ever=True)
        self._watch(self._belong(pipeline), "membership")

    def _watch(self, work: Any, name: str, *, for_ever: bool = False) -> None:
        task = self.world.loop.create_task(work, name=name)
        task.add_done_callback(lambda task: self._ended(task, for_ever=for_ever))

    def _ended(self, task: "asyncio.Task[None]", *, for_ever: bool) -> None:
        if task.cancelled() or self._stopping:
            return
        failure = task.exception()
        if isinstance(failure, ProcessEnded) or (failure is None and not for_ever):
            return
        if not _forgivable(failure):
            self.world.violation(self.process.name, f"{task.get_name()} ended: {failure!r}")
        self._exit(75, f"{task.get_name()}: {failure!r}")

    def _exit(self, code: int, why: str) -> Never:
        self.process.exit(code, why)

    async def _belong(self, pipeline: Pipeline) -> None:
        """Join, recover, read; again after each rebalance."""
        while True:
            assignment = await self._join()
            self.world.loop.call_later(self.world.weather.heartbeat_s, self._beat, assignment.generation)
            if await self._recovered(assignment):
                await self._take_over(pipeline, assignment)
            await self._rebalance.wait()
            await pipeline.drain()
            if self._random.random() < 0.7:
                self._commit()

    async def _join(self) -> Assignment:
        self._joining = True
        self._rebalance.clear()
        assignment = await self._synced()
        self._joining = False
        self._generation = assignment.generation
        self._partitions = assignment.partitions
        self._uncommitted.clear()
        if self._random.random() < 0.5:
            for source in self._sources.values():
                source.waiting.clear()
        return assignment

    async def _synced(self) -> Assignment:
        """JoinGroup, then SyncGroup, which proves the membership; again if the next rebalance has begun meanwhile."""
        while True:
            await asyncio.sleep(self.world.trip_s())
            assignment = await self.group.join(self.worker, self._token)
            await asyncio.sleep(self.world.trip_s())
            sent_at = self._now()
            await asyncio.sleep(self.world.trip_s())
            answer = self.group.heartbeat(self.worker, self._token, assignment.generation)
            await asyncio.sleep(self.world.trip_s())
            if answer == "unknown":
                self._exit(75, "the group does not know this member")
            if answer == "ok":
                self._proved_at = sent_at
                return assignment

    async def _recovered(self, assignment: Assignment) -> bool:
        """Replay the changelogs; False if a rebalance comes first."""
        for partition in sorted(assignment.partitions):
            if self._rebalance.is_set():
                return False
            await asyncio.sleep(self._random.random() * self.world.weather.recovery_s)
            await self.store.recover(ACCOUNTS, partition)
        return not self._rebalance.is_set()

    async def _take_over(self, pipeline: Pipeline, assignment: Assignment) -> None:
        await asyncio.sleep(self.world.trip_s())
        start = {
            (topic, partition): self.group.committed.get((topic, partition), 0)
            for topic in (REQUESTS, PROGRESS)
            for partition in sorted(assignment.partitions)
        }
        self._seen.extend(
            Assigned(self.worker, self.process.name, assignment.generation, p, self._end_of_progress(p), self._now())
            for p in sorted(assignment.partitions)
        )
        if self._rebalance.is_set():
            return
        progress_from = {p: start[PROGRESS, p] for p in sorted(assignment.partitions)}
        requests_from = {p: start[REQUESTS, p] for p in sorted(assignment.partitions)}
        await pipeline.assigned(assignment.generation, assignment.partitions, progress_from, requests_from)
        if self._rebalance.is_set():
            return
        self._acked = dict(start)
        self._active = True
        self.world.note(self.process.name, f"active {sorted(assignment.partitions)} from {start}")
        for topic in (REQUESTS, PROGRESS):
            if assignment.partitions:
                positions = {p: start[topic, p] for p in sorted(assignment.partitions)}
                self._watch(self._fetch(topic, assignment.generation, positions), f"fetch {topic}")

    def _now(self) -> float:
        return self.world.loop.time()

    def _end_of_progress(self, partition: int) -> int:
        return len(self.world.records(PROGRESS, partition))

    def _beat(self, generation: int) -> None:
        """Send a heartbeat, and the next one later, until the generation is over."""
        if self._generation == generation and not self._joining:
            loop, sent_at = self.world.loop, self._now()
            loop.at_world(self.world.trip_s(), self._at_group, generation, sent_at)
            loop.call_later(self.world.weather.heartbeat_s, self._beat, generation)

    def _at_group(self, generation: int, sent_at: float) -> None:
        answer = self.group.heartbeat(self.worker, self._token, generation)
        context = self.process.context.copy()
        self.world.loop.call_later(self.world.trip_s(), self._heard, generation, sent_at, answer, context=context)

    def _heard(self, generation: int, sent_at: float, answer: HeartbeatAnswer) -> None:
        if self._generation != generation or self._joining:
            return
        if answer == "unknown":
            self._exit(75, "the group does not know this member")
        self._proved_at = max(self._proved_at, sent_at)
        if answer == "rebalance" and not self._rebalance.is_set():
            self._enter_limbo()

    def perhaps_interrupted(self) -> None:
        """Hear of a rebalance in the midst of things: the consumer's thread may tell of it at any moment."""
        if self._active and self.group.preparing and self._random.random() < 0.4:
            self._enter_limbo()

    def _enter_limbo(self) -> None:
        self.world.note(self.process.name, "limbo")
        self._active = False
        if self.pipeline is not None:
            self.pipeline.begin_rebalance()  # at once
        self._rebalance.set()

    async def _fetch(self, topic: str, generation: int, positions: dict[int, int]) -> None:
        """Read until the generation is over; what arrives later is stale, and may still be delivered."""
        source = self._sources[topic]
        lazy = self._random.choice((1.0, 1.0, 5.0, 40.0))
        most = self._random.choice((1, 3, 20))
        while True:
            behind = [p for p in positions if positions[p] < len(self.world.records(topic, p))]
            if not behind or len(source.waiting) > 2 * most:
                await self._something_to_read(topic, bool(behind))
                continue
            partition = self._random.choice(behind)
            await asyncio.sleep(min(self.world.trip_s() * lazy, 2.0))
            log, at = self.world.records(topic, partition), positions[partition]
            found = [stamped(r, generation) for r in log[at : at + self._random.randint(1, most)]]
            await asyncio.sleep(self.world.trip_s())
            fresh = self._generation == generation and not self._joining
            if fresh or self._random.random() < self.world.weather.stale_delivery:
                source.put(found)
            if not fresh:
                return
            positions[partition] = at + len(found)

    async def _something_to_read(self, topic: str, full: bool) -> None:
        if full:
            await asyncio.sleep(0.05)
        else:
            await self.world.next_append(topic)

    async def _commit_soon(self) -> None:
        await asyncio.sleep(self.world.weather.commit_s * (0.2 + self._random.random() * 0.8))
        self._commit()

    def _commit(self) -> None:
        """Send the offsets; the request arrives behind earlier ones, whatever becomes of this process."""
        offsets, self._uncommitted = self._uncommitted, {}
        if offsets:
            self._commit_lands_at = max(self._commit_lands_at, self._now() + self.world.trip_s())
            self.world.loop.at_world(
                self._commit_lands_at - self._now(),
                self.group.commit,
                self.worker,
                self._token,
                self._generation,
                offsets,
            )

    async def _stop(self) -> None:
        if self.pipeline is not None:
            await self.pipeline.stop(5.0)
            self._commit()
        await asyncio.sleep(max(0.0, self._commit_lands_at - self._now()) + self.world.trip_s())
        self.group.leave(self.worker, self._token)
        self._exit(0, "stopped")


def stamped(record: Record, generation: int) -> Record:
    """Return the record as fetched in a generation."""
    return Record(
        record.topic,
        record.partition,
        record.offset,
        record.time_ms,
        record.key,
        record.value,
        record.headers,
        generation,
    )


def _forgivable(failure: BaseException | None) -> bool:
    if isinstance(failure, BaseExceptionGroup):
        return all(_forgivable(one) for one in failure.exceptions)
    return isinstance(failure, DeliveryUnknown | Fenced | ProcessEnded)


class Fleet:
    """The worker ids and their current processes. A process that ends is started again, unless it was stopped."""

    def __init__(self, world: World, group: Group, build: Build) -> None:
        self.world = world
        self.group = group
        self.owners: dict[str, Owner] = {}
        self.assigned: list[Assigned] = []
        self.restarts = 0
        self.ended_at: dict[str, float] = {}
        self.at_crash: dict[str, str] = {}
        self._build = build
        self._numbered = 0

    def start(self, worker: str) -> None:
        """Start a process for this worker id."""
        self._numbered += 1
        owner = Owner(
            self.world,
            self.group,
            worker=worker,
            number=self._numbered,
            build=self._build,
            seen=self.assigned,
        )
        owner.process.on_end = lambda code, why: self._ended(owner, code, why)
        self.owners[worker] = owner
        self.world.note(owner.process.name, "starts")
        owner.start()

    def _ended(self, owner: Owner, code: int, why: str) -> None:
        self.world.note(owner.process.name, f"ends with {code}: {why}")
        self.ended_at[owner.process.name] = self.world.loop.time()
        owner.log.crashed()
        if code == 0:
            del self.owners[owner.worker]
            return
        if code not in (75, -9):
            self.world.violation(owner.process.name, f"exit {code}: {why}")
        match self.at_crash.pop(owner.worker, "crash"):
            case "lose disk":
                self.world.lose_disk(owner.worker)
            case "set disk back":
                self.world.set_disk_back(owner.worker)
            case _:
                pass  # a volume survives its process
        self.restarts += 1
        delay_s = LOCKED_S + self.world.random.random() * self.world.random.choice((0.5, 3.0, 15.0))
        self.world.loop.at_world(delay_s, self.start, owner.worker)
