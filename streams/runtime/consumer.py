"""Reading the source topics through Faust: contiguous, of one generation, committed as far as acknowledged.

Replaces three parts of Faust's consumer (DESIGN §4 "Reading", §10): the drain loop, the ack tracking, the seek after a
rebalance. Table changelogs come through the same loop, when recovery asks for them, and go straight into RocksDB.
"""

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import aiokafka
from aiokafka.errors import ConsumerStoppedError, IllegalStateError
from aiokafka.protocol.group import LeaveGroupRequest
from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.transport.consumer import ensure_TPset
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from streams.runtime.process import HOPELESS, TRY_AGAIN
from streams.runtime.tables import PartitionStore

FETCH_WAIT_S = 0.25
"""How long one look for records waits; a rebalance waits for the look to end before it seeks."""
LOOK_EVERY_S = 0.004
FEW = 256
"""After a look that brought only so many records the next one waits a moment: each costs a round trip to the other
thread and one to the broker, however little it brings."""
LONG_POLL_MS = 500
"""How long the broker may hold a fetch: also the worst wait of a partition that the fetch does not name."""
LEAVE_S = 3
NEVER_MS = 365 * 24 * 3600 * 1000
"""aiokafka makes a member that owns nothing leave after `max_poll_interval`, for ever; this process watches itself."""


@dataclass(frozen=True, slots=True)
class Extent:
    """One partition as a new owner finds it. `committed` is None where nothing has been committed yet."""

    committed: int | None
    first: int
    end: int

    @property
    def start(self) -> int:
        """The offset to read next: what was committed, or the first one where that is gone (observations only)."""
        return self.first if self.committed is None else max(self.first, min(self.committed, self.end))


class Contiguity:
    """Which of the records handed over by the broker is the next one of its partition.

    Below the expected offset: drop. Above it: seek back; a real hole (a transaction's marker, an aborted transaction)
    only if the seek brings the same jump again (aiokafka throws away what it had fetched before a seek). Once a topic
    has shown markers, a jump of one needs no second look.
    """

    def __init__(self) -> None:
        self._expected: dict[TP, int] = {}
        self._jumps: dict[TP, tuple[int, int]] = {}
        self._marked: set[str] = set()

    def begin(self, starts: Mapping[TP, int]) -> None:
        """Read these partitions from these offsets, and no other ones."""
        self._expected = dict(starts)
        self._jumps.clear()

    def expects(self, tp: TP) -> int | None:
        """Return the next offset of a partition; None where reading has not begun."""
        return self._expected.get(tp)

    def admits(self, tp: TP, offset: int) -> bool:
        """Whether this record, which does not lie below the expected offset, is the next; if not, seek back."""
        expected = self._expected[tp]
        if offset == expected:
            return True
        one_missing = offset == expected + 1
        if one_missing and tp.topic in self._marked:
            return True
        if self._jumps.get(tp) != (expected, offset):
            self._jumps[tp] = (expected, offset)
            return False
        if one_missing:
            self._marked.add(tp.topic)
        return True

    def delivered(self, tp: TP, offset: int) -> None:
        """Expect what follows this record."""
        self._expected[tp] = offset + 1
        self._jumps.pop(tp, None)


class RebalanceListener(driver.ConsumerRebalanceListener):
    """Counts generations in this process instead of taking the group's number.

    A member that joins a stable group again gets the same number back, and what was fetched before must not pass for
    current. A revocation counts too, so that what is on the way then is stale at once. Runs in the consumer's thread.
    """

    def on_partitions_revoked(self, revoked: Iterable[Any]) -> Any:
        """Start the rebalance: what is on the way is stale, and the pipeline in limbo, before anything else."""
        self._thread.app.consumer_generation_id += 1
        return super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
        """Hand the new assignment to the main thread, under the next number."""
        self._thread.app.consumer_generation_id += 1
        await self._thread.on_partitions_assigned(ensure_TPset(assigned), self._thread.app.consumer_generation_id)


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """aiokafka's consumer in its thread: read committed, watched by the fence."""

    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        conf, app = self.app.conf, cast(Any, self.app)
        self._assignor = self.app.assignor
        return aiokafka.AIOKafkaConsumer(
            **app.connection,
            group_id=conf.id,
            group_instance_id=conf.consumer_group_instance_id,
            partition_assignment_strategy=[self._assignor],
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            max_poll_interval_ms=NEVER_MS,
            fetch_max_wait_ms=LONG_POLL_MS,
            max_partition_fetch_bytes=conf.consumer_max_fetch_size,
            request_timeout_ms=int(conf.broker_request_timeout * 1000),
            session_timeout_ms=int(conf.broker_session_timeout * 1000),
            rebalance_timeout_ms=int(conf.broker_rebalance_timeout * 1000),
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1000),
        )

    async def on_start(self) -> None:
        """Connect; the group is joined later, when Faust subscribes."""
        await super().on_start()
        cast(Any, self.app).fence.watch(self._ensure_consumer()._coordinator)
        self.add_future(self._watch_main_loop())

    async def _watch_main_loop(self) -> None:
        """End the process when its main loop hangs: heartbeats from here would keep its partitions from others."""
        answered = threading.Event()
        unanswered, limit_s = 0, cast(Any, self.app).limits.stall_s
        main = threading.main_thread().ident or 0
        while not self.should_stop:
            answered.clear()
            self.parent_loop.call_soon_threadsafe(answered.set)
            await self.sleep(1)
            unanswered = 0 if answered.is_set() else unanswered + 1  # counted, so that a suspension does not matter
            if unanswered >= limit_s:
                where = "".join(traceback.format_stack(sys._current_frames().get(main), limit=4))
                self._end(f"the event loop has not answered for {limit_s:g} s; it is at\n{where}")

    def _end(self, why: str) -> None:
        cast(Any, self.app).process.exit(TRY_AGAIN, why)

    def reach(self) -> dict[TP, tuple[int, int]]:
        """Return position and known end of every assigned partition, where both are known. From any thread."""
        subscription = None if self._consumer is None else self._consumer._subscription.subscription
        assignment = None if subscription is None else subscription.assignment
        found: dict[TP, tuple[int, int]] = {}
        if assignment is None:
            return found
        for tp in tuple(assignment.tps):
            state = assignment.state_value(tp)
            if state is not None and state._position is not None and state.lso is not None:
                found[TP(tp.topic, tp.partition)] = (state._position, state.lso)
        return found

    async def extents(self, tps: list[TP]) -> dict[TP, Extent]:
        """Look up what is committed of these partitions and what the log has of them."""
        consumer = self._ensure_consumer()
        partitions = [driver.ensure_aiokafka_TP(tp) for tp in tps]
        committed = await consumer._coordinator.fetch_committed_offsets(partitions)
        first = await consumer.beginning_offsets(partitions)
        end = await consumer.end_offsets(partitions)
        return {tp: Extent(committed[tp].offset if tp in committed else None, first[tp], end[tp]) for tp in partitions}

    async def seek_all(self, positions: Mapping[TP, int]) -> None:
        """Read on from these positions."""
        for tp, offset in positions.items():
            self.seek(tp, offset)

    async def leave(self) -> None:
        """Leave the group, static member or not, so that the others take over at once."""
        cast(Any, self.app).fence.leave()
        consumer = self._ensure_consumer()
        coordinator = consumer._coordinator
        coordinator._group_instance_id = None  # aiokafka sends no LeaveGroup for a static member
        try:
            async with asyncio.timeout(LEAVE_S):
                await consumer.stop()
        except TimeoutError:  # it waits in a join, which keeps its connection busy
            request = LeaveGroupRequest(coordinator.group_id, coordinator.member_id)
            await consumer._client.send(coordinator.coordinator_id, request)


class Consumer(driver.Consumer):
    """Faust's consumer with our reading and committing. Lives on the main thread."""

    RebalanceListener = RebalanceListener

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._contiguity = Contiguity()
        self._acknowledged: dict[TP, int] = {}
        self._stored: dict[TP, int] = {}
        self._looked = asyncio.Event()
        self._looked.set()

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    # -- committing

    def acknowledge(self, tp: TP, offset: int, generation: int) -> None:
        """Let `offset` and all before it be committed, unless it comes from a generation that is over."""
        if generation == self.app.consumer_generation_id:
            self._acknowledged[tp] = offset + 1

    async def force_commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Commit what was acknowledged and is not committed yet; keep it for the next time when that fails.

        Acknowledged offsets come in order, so all before them are done; what was never delivered (a hole) never counts.
        """
        due = {tp: offset for tp, offset in self._acknowledged.items() if offset > self._stored.get(tp, 0)}
        generation = self.app.consumer_generation_id
        if not due or not await self._commit(due):
            return False
        if generation == self.app.consumer_generation_id:
            self._stored.update(due)
        return True

    def uncommitted(self) -> list[tuple[str, int, int]]:
        """Return topic, partition and committed offset wherever more was delivered."""
        return sorted(
            (tp.topic, tp.partition, stored)
            for tp, stored in self._stored.items()
            if (self._contiguity.expects(tp) or 0) > stored
        )

    def unfetched(self) -> list[tuple[str, int, int]]:
        """Return topic, partition and position of sources of which the broker is known to have more."""
        reach = cast(ConsumerThread, self._thread).reach()
        return sorted(
            (tp.topic, tp.partition, at) for tp, (at, end) in reach.items() if tp in self._stored and at < end
        )

    def lag(self) -> dict[str, int]:
        """Return how many records of each source are in the log and not yet acknowledged, as far as is known."""
        reach = cast(ConsumerThread, self._thread).reach()
        lag: dict[str, int] = {}
        for tp, stored in self._stored.items():
            _, end = reach.get(tp, (0, 0))
            lag[tp.topic] = lag.get(tp.topic, 0) + max(0, end - self._acknowledged.get(tp, stored))
        return lag

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Forget the offsets of the generation that is over, then let Faust and the pipeline drain."""
        self._contiguity.begin({})
        self._acknowledged.clear()
        self._stored.clear()
        await super().on_partitions_revoked(revoked)

    # -- seeking

    async def perform_seek(self) -> None:
        """Start a generation: find where to read on, let the pipeline take over, then admit records.

        Recovery calls this when the tables are complete and resumes the flow afterwards. The flow is stopped here
        because Faust has resumed the partitions already, and nothing may be fetched while positions change.
        """
        generation = self.app.consumer_generation_id
        if self._recovery.need_recovery():
            missing = +self._recovery.active_remaining()
            cast(Any, self.app).process.exit(TRY_AGAIN, f"recovery ended before the tables were complete: {missing}")
        self.stop_flow()
        await self._looked.wait()
        sources = [tp for tp in self.assignment() if not self._is_changelog_tp(tp)]
        extents = await self._thread.call_thread(cast(ConsumerThread, self._thread).extents, sources)
        losable = cast(Any, self.app).settings.observations
        for tp, extent in extents.items():
            if tp.topic != losable:
                self._require_complete(tp, extent)
        starts = {TP(tp.topic, tp.partition): extent.start for tp, extent in extents.items()}
        await self._thread.call_thread(cast(ConsumerThread, self._thread).seek_all, starts)
        await cast(Any, self.app).recovered(generation, starts)
        if generation == self.app.consumer_generation_id:
            self._stored = dict(starts)
            self._contiguity.begin(starts)

    def _require_complete(self, tp: TP, extent: Extent) -> None:
        if extent.committed is None or extent.first <= extent.committed <= extent.end:
            return
        if extent.committed < extent.first:
            why = f"retention removed records {extent.committed} to {extent.first - 1} before they were processed"
        else:
            why = f"the log ends at {extent.end}, yet {extent.committed} was committed: was the topic created anew?"
        cast(Any, self.app).process.exit(HOPELESS, f"records lost: {tp.topic} partition {tp.partition}: {why}")

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        """Seek changelogs for recovery, when no fetch of before is on the way any more.

        The end of the recovery before may still be signalled: Faust clears it at leisure, and this one would be over
        before it began.
        """
        await self._looked.wait()
        self._recovery.signal_recovery_end.clear()
        await super().seek_wait(partitions)

    @property
    def _recovery(self) -> Recovery:
        return cast(TableManager, self.app.tables).recovery

    async def _seek_back(self, tp: TP, offset: int) -> None:
        try:
            await self._thread.call_thread(cast(ConsumerThread, self._thread).seek_all, {tp: offset})
        except IllegalStateError:
            return  # a rebalance took the partition meanwhile; it seeks anyway

    # -- draining

    async def _drain_messages(self, fetcher: Any) -> None:
        try:
            while not (self.should_stop or fetcher.should_stop):
                if 0 < await self._drain_once() < FEW:
                    await asyncio.sleep(LOOK_EVERY_S)
        except (ConsumerStoppedError, asyncio.CancelledError):
            if not self.app.should_stop:
                raise

    async def _drain_once(self) -> int:
        """Deliver what one look brings; return how many records of the sources it brought."""
        if not self.flow_active:
            await self.wait(cast(Any, self.can_resume_flow))
        generation = self.app.consumer_generation_id
        records = await self._look()
        skipped: set[TP] = set()
        if self._flows(generation):
            self._restore({tp: found for tp, found in records.items() if self._is_changelog_tp(tp)})
        sources = {tp: found for tp, found in records.items() if not self._is_changelog_tp(tp)}
        for count, (tp, record) in enumerate(self.scheduler.iterate(sources)):
            if count % 100 == 0:
                await asyncio.sleep(0)
            if not self._flows(generation):
                return 0  # stale: whoever ended the generation or stopped the flow seeks before it goes on
            if tp not in skipped and not await self._deliver(tp, record, generation):
                skipped.add(tp)
        return sum(map(len, sources.values()))

    def _flows(self, generation: int) -> bool:
        return self.flow_active and generation == self.app.consumer_generation_id and self.app.flow_control.is_active()

    async def _look(self) -> Mapping[TP, list[Any]]:
        self._looked.clear()
        try:
            active = frozenset(self._get_active_partitions())  # a copy: the fetch reads it in the other thread
            if not active:  # to aiokafka an empty set would mean all
                await self.sleep(FETCH_WAIT_S / 2)
                return {}
            return await self._getmany(cast(Any, active), timeout=FETCH_WAIT_S)
        finally:
            self._looked.set()

    async def _deliver(self, tp: TP, record: Any, generation: int) -> bool:
        """Hand over one source record if it is the next; return False to leave out the rest of its partition."""
        expected = self._contiguity.expects(tp)
        if expected is None:
            return False
        if record.offset < expected:
            return True
        if not self._contiguity.admits(tp, record.offset):
            await self._seek_back(tp, expected)
            return False
        await self.callback(self._to_message(tp, record))
        if self._flows(generation):  # else it was held back across a rebalance and nobody has taken it
            self._contiguity.delivered(tp, record.offset)
        return True

    def _restore(self, changelogs: Mapping[TP, list[Any]]) -> None:
        """Write what recovery has asked for straight into the stores: Faust's way there, through a queue, takes a
        hundred times as long per row and can lose the rows of a queue that is cleared."""
        recovery = self._recovery
        for tp, found in changelogs.items():
            if self.app.in_recovery and tp in recovery.active_tps:
                seen = recovery.active_offsets[tp]
                fresh = [record for record in found if seen is None or record.offset > seen]
                if fresh:
                    cast(PartitionStore, cast(Any, recovery.tp_to_table[tp]).data).restore(tp.partition, fresh)
                    recovery.active_offsets[tp] = fresh[-1].offset
                recovery._active_events_received_at[tp] = recovery._last_flush_at = time.monotonic()
        if changelogs and recovery.in_recovery and not recovery.need_recovery():
            recovery._set_recovery_ended()
            recovery.signal_recovery_end.set()


class Transport(driver.Transport):
    """Faust's transport with our consumer."""

    Consumer = Consumer
