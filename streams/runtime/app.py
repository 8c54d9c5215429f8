"""One worker: Faust's app around a pipeline, with everything that Kafka and Faust need to hear or must not do.

app = build_app(settings, process)               # in a running event loop
pipeline = Pipeline(log=app.log, store=app.store, …)
decide.attach(app, pipeline); finish.attach(app, pipeline)
app.host(pipeline, ready=…)
await serve(app)                                 # never returns
"""

import asyncio
import logging
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, Protocol, cast
from urllib.parse import quote

import faust
from faust import streams as faust_streams
from faust.app.base import BootStrategy
from faust.exceptions import ConsistencyError
from faust.tables.manager import TableManager
from faust.transport import conductor as faust_conductor
from faust.types import TP

from streams.runtime.consumer import Consumer, ConsumerThread, Transport
from streams.runtime.fence import Fence
from streams.runtime.log import KafkaLog
from streams.runtime.ports import Process
from streams.runtime.probes import Report
from streams.runtime.process import HOPELESS, STOPPED, TRY_AGAIN
from streams.runtime.records import tolerate_header_names
from streams.runtime.source import FaustSource
from streams.runtime.tables import RawTable, TableStore
from streams.runtime.watchdog import Limits, Still, Watch, require_writable

REBALANCE_TIMEOUT_S = 20.0
"""How long members may take to join again: 8 s of draining, a heartbeat, and reserve. Less than the watchdog's limit:
those who wait for one that hangs must not end with it."""
REQUEST_TIMEOUT_S = 40.0
"""Above the rebalance timeout: the broker may hold a JoinGroup for so long."""
TELL_S = 5.0
"""After so long without progress, liveness mentions it."""
LIMBO_S = 10.0
"""How long a rebalance may take until this worker no longer counts as ready."""
STOP_S = 9.0
"""How long all of a stop may take (CONTRACT §4: 10 s)."""


class Hosted(Protocol):
    """What the app needs from the pipeline, beside its stages."""

    async def run(self) -> None:
        """Do the background work of the worker; runs for ever."""
        ...

    def begin_rebalance(self) -> None:
        """Go into limbo at once. Called in the consumer's thread."""
        ...

    async def drain(self) -> None:
        """Finish what is in flight before the group rejoins."""
        ...

    async def assigned(
        self,
        generation: int,
        partitions: frozenset[int],
        progress_from: Mapping[int, int],
        requests_from: Mapping[int, int],
    ) -> None:
        """Take over partitions whose tables are recovered, before records of `generation` are delivered."""
        ...

    async def stop(self, grace_s: float) -> None:
        """Plan nothing more; finish what is in flight; give running calls `grace_s` to publish."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """One worker of one group. Topic and group names are complete (prefixed); `security` are aiokafka's own arguments.

    `state` is this worker's own directory; `worker` is unique in the group and stays over restarts.
    """

    bootstrap_servers: tuple[str, ...]
    group: str
    worker: str
    requests: str
    progress: str
    observations: str
    tables: Mapping[str, str]  # name: changelog topic
    partitions: int
    state: Path
    session_timeout_s: float = 10.0
    commit_interval_s: float = 0.5
    client_id: str = "orchestrator"
    security: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sources(self) -> tuple[str, str, str]:
        """The topics that the stages read."""
        return (self.requests, self.progress, self.observations)


class ConsumerOnly(BootStrategy):
    """Faust without its producer: whatever it would send would be neither fenced nor awaited."""

    enable_kafka_producer = False


class WorkerApp(faust.App):
    """A Faust app that hosts one pipeline. A crashed service ends the process: only a restart repairs it."""

    BootStrategy = ConsumerOnly
    logger = logging.getLogger("mode")  # what mode logs of its services, with its level

    def wire(self, settings: WorkerSettings, process: Process) -> None:
        """Give the app what its parts share; once, before anything else."""
        self.settings = settings
        self.process = process
        self.connection: dict[str, Any] = {
            "bootstrap_servers": list(settings.bootstrap_servers),
            "client_id": f"{settings.client_id}-{settings.worker}",
            **settings.security,
        }
        self.fence = Fence(settings.session_timeout_s, process)
        self.kafka = KafkaLog(self.connection, process, tables=settings.tables, fence=self.fence)
        self.transport = Transport(self.conf.broker_consumer, self)
        self.requests = self._raw_topic(settings.requests)
        self.progress = self._raw_topic(settings.progress)
        self.observations = self._raw_topic(settings.observations)
        self.store = TableStore({name: self._raw_table(name, topic) for name, topic in settings.tables.items()})
        self.stopping = False
        self.limits = Limits()
        self._watch = Watch()
        self._watched: dict[str, Callable[[], object]] = {}
        self._still: list[Still] = []
        self._held: frozenset[int] | None = None
        self._left_at: float | None = None
        self.rebalances = 0
        self._background: set[asyncio.Task[None]] = set()
        self._before_joining: list[Callable[[], Awaitable[None]]] = []
        self._beside: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {}

    def host(self, pipeline: Hosted, ready: Callable[[list[int]], None]) -> None:
        """Serve this pipeline; `ready` hears the sorted partitions each time that records begin to flow."""
        self._pipeline = pipeline
        self._ready = ready

    def before_joining(self, check: Callable[[], Awaitable[None]]) -> None:
        """Run this once the cluster is reached, before the group is joined; it may end the process."""
        self._before_joining.append(check)

    def beside(self, what: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do this as long as the worker runs; should it end, the process does."""
        self._beside[what] = work

    def source_of(self, stream: Any) -> FaustSource:
        """Return an agent's stream as a stage reads it."""
        return FaustSource(stream, cast(Consumer, self.consumer))

    async def _on_agent_error(self, agent: Any, exc: BaseException) -> None:
        if not self.stopping:  # a stage that raised has lost its place; Faust would start it again
            self.process.exit(TRY_AGAIN, f"agent {agent.name} failed: {exc!r}")

    # -- starting and stopping

    async def on_start(self) -> None:
        """Connect, check the topics, start the pipeline's background work; then Faust starts the rest."""
        await self.kafka.start()
        await self._require_topics()
        for check in self._before_joining:
            await check()
        for what, work in self._beside.items():
            self._keep(work(), what)
        self._keep(self._pipeline.run(), "the pipeline's background work")
        self._keep(self._look(), "the watch")
        self._keep(require_writable(self.settings.state, self.process, self.limits), "the watch of the state directory")
        await super().on_start()

    def on_init_dependencies(self) -> Iterable[Any]:
        """Leave out Faust's monitor: it looks at every event, and nobody looks at it."""
        services = super().on_init_dependencies()
        self.sensors.remove(self.monitor)
        return services

    async def shut_down(self, grace_s: float) -> NoReturn:
        """Stop planning, finish, commit, leave the group so that the others take over at once, and end with 0."""
        self.stopping = True
        try:
            async with asyncio.timeout(STOP_S):
                await self._pipeline.stop(grace_s)
                await self._leave()
                await self.kafka.stop()
        except TimeoutError:
            self.process.exit(STOPPED, f"stopped without waiting longer than {STOP_S:.0f} s; the rest is redelivered")
        self.store.close()
        self.process.exit(STOPPED, "stopped")

    async def _leave(self) -> None:
        if self._consumer is None or not self._consumer.started:
            return
        consumer = cast(Consumer, self._consumer)
        await consumer.commit()
        consumer.stop_flow()
        thread = cast(ConsumerThread, consumer._thread)
        await thread.call_thread(thread.leave)

    def _crash(self, reason: BaseException) -> None:
        if self.stopping:
            return
        if isinstance(reason, ConsistencyError):
            self.process.exit(HOPELESS, f"local state is ahead of its changelog; delete {self.conf.datadir}: {reason}")
        self.process.exit(TRY_AGAIN, f"a service of the worker failed: {reason!r}")

    def _keep(self, work: Any, what: str) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            if not self.stopping and not task.cancelled():
                self.process.exit(TRY_AGAIN, f"{what} ended: {task.exception()!r}")

        task.add_done_callback(ended)

    # -- topics and tables

    def _raw_topic(self, name: str) -> Any:
        return self.topic(name, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")

    def _raw_table(self, name: str, changelog: str) -> RawTable:
        return cast(
            RawTable,
            self.Table(
                name,
                key_type=bytes,
                value_type=bytes,
                partitions=self.settings.partitions,
                changelog_topic=self._raw_topic(changelog),
            ),
        )

    async def _require_topics(self) -> None:
        settings = self.settings
        found = await self.kafka.partitions([*settings.sources, *settings.tables.values()])
        for topic, count in found.items():
            if count == 0:
                self.process.exit(HOPELESS, f"topic {topic} does not exist: run `orchestrator topics apply`")
            if count != settings.partitions:
                self.process.exit(
                    HOPELESS,
                    f"topic {topic} has {count} partitions, kafka.partitions is {settings.partitions}; P never changes",
                )

    # -- rebalancing

    def on_rebalance_start(self) -> None:
        """Limbo first. Called in the consumer's thread, before anything else hears of the rebalance."""
        if self._held is not None:
            self._left_at = time.monotonic()
        self._held = None
        self.rebalances += 1
        self._pipeline.begin_rebalance()
        super().on_rebalance_start()

    async def _on_partitions_revoked(self, revoked: set[TP]) -> None:
        await super()._on_partitions_revoked(revoked)
        await self._pipeline.drain()  # the group rejoins after this

    async def _on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        await super()._on_partitions_assigned(assigned, generation_id)
        if not assigned:
            await self.recovered(generation_id, {})  # there is nothing to recover, and nothing will be delivered

    async def recovered(self, generation: int, starts: Mapping[TP, int]) -> None:
        """Let the pipeline take over. The tables are complete; `starts` says where each source partition reads on.

        A rebalance that begins meanwhile puts the pipeline into limbo, and taking over takes it out: so back again.
        """
        partitions = self._same_everywhere()
        progress_from = {tp.partition: offset for tp, offset in starts.items() if tp.topic == self.settings.progress}
        requests_from = {tp.partition: offset for tp, offset in starts.items() if tp.topic == self.settings.requests}
        await self._pipeline.assigned(generation, partitions, progress_from, requests_from)
        if generation == self.consumer_generation_id:
            self._held = partitions
        else:
            self._pipeline.begin_rebalance()

    def _same_everywhere(self) -> frozenset[int]:
        settings, assignment = self.settings, self.consumer.assignment()
        held = {
            topic: frozenset(tp.partition for tp in assignment if tp.topic == topic)
            for topic in (*settings.sources, *settings.tables.values())
        }
        if len(set(held.values())) != 1:
            told = ", ".join(f"{topic}: {sorted(partitions)}" for topic, partitions in held.items())
            self.process.exit(TRY_AGAIN, f"topics that belong together were assigned apart ({told})")
        return held[settings.requests]

    def on_rebalance_end(self) -> None:
        """Records flow from here on."""
        super().on_rebalance_end()
        if self._held is not None:
            self._ready(sorted(self._held))

    # -- watching itself

    def watching(self, what: str, state: Callable[[], object]) -> None:
        """End the process when this state, unless it is None, stays the same for too long."""
        self._watched[what] = state

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(1)
            self._still = self._watch.look(self._states(), time.monotonic())
            for still in self._still:
                if still.for_s >= self.limits.still_s:
                    self.process.exit(TRY_AGAIN, str(still))

    def _states(self) -> dict[str, object]:
        """Describe what has to move on; None where nothing has to."""
        if self.stopping:
            return {}
        states: dict[str, object] = dict.fromkeys(("taking up partitions", "committing", "fetching", *self._watched))
        if self._held is None:
            missing = cast(TableManager, self.tables).recovery.active_remaining_total() if self.in_recovery else 0
            recovering = f"generation {self.consumer_generation_id} not taken up, {missing} rows to recover"
            return {**states, "taking up partitions": recovering}
        consumer = cast(Consumer, self.consumer)
        states |= {"committing": consumer.uncommitted() or None, "fetching": consumer.unfetched() or None}
        return states | {what: state() for what, state in self._watched.items()}

    def liveness(self) -> Report:
        """Say whether this process should go on. One that should not ends by itself, too."""
        stuck = any(still.for_s >= self.limits.still_s for still in self._still)
        return Report(not stuck, tuple(str(still) for still in self._still if still.for_s >= TELL_S))

    def commit_age_s(self) -> float:
        """Return for how long delivered records have waited for a commit without progress."""
        return next((still.for_s for still in self._still if still.what == "committing"), 0.0)

    def lag(self) -> dict[str, int]:
        """Return how many records of each source wait, as far as is known."""
        return cast(Consumer, self.consumer).lag() if self._consumer is not None else {}

    @property
    def partitions_held(self) -> int:
        """How many home partitions are decided on here."""
        return len(self._held or ())

    def readiness(self) -> Report:
        """Say whether its partitions are processed; a rebalance does not count at once."""
        if self.stopping:
            return Report(False, ("stopping",))
        if self._held is not None:
            return Report(True)
        if self._left_at is None:
            return Report(False, ("no partitions have been taken up yet",))
        for_s = time.monotonic() - self._left_at
        return Report(for_s < LIMBO_S, (f"in a rebalance for {for_s:.0f} s",))


def build_app(settings: WorkerSettings, process: Process) -> WorkerApp:
    """Build the app of one worker. Needs a running event loop; connects to nothing yet."""
    _require_compiled_faust()
    tolerate_header_names()
    for name in ("aiokafka", "faust", "mode"):
        logging.getLogger(name).setLevel(logging.WARNING)  # at DEBUG they cost 13 % even when nothing is printed
    settings.state.mkdir(parents=True, exist_ok=True)
    app = WorkerApp(
        settings.group,
        broker=f"kafka://{settings.bootstrap_servers[0]}",
        store="rocksdb://",
        datadir=str(settings.state),
        Table=RawTable,
        canonical_url=f"http://worker.invalid/{quote(settings.worker, safe='')}",
        consumer_group_instance_id=settings.worker,
        broker_session_timeout=settings.session_timeout_s,
        broker_heartbeat_interval=settings.session_timeout_s / 4,
        broker_rebalance_timeout=REBALANCE_TIMEOUT_S,
        broker_request_timeout=REQUEST_TIMEOUT_S,
        broker_commit_interval=settings.commit_interval_s,
        topic_partitions=settings.partitions,
        topic_allow_declare=False,
        topic_disable_leader=True,
        table_standby_replicas=0,
        stream_wait_empty=False,
        web_enabled=False,
    )
    app.wire(settings, process)
    return app


async def serve(app: WorkerApp, grace_s: float = 5.0) -> NoReturn:
    """Run the worker until SIGTERM or SIGINT, then stop in order; calls in flight get `grace_s`. Ends the process."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    starting = asyncio.create_task(app.start())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
    if starting.done() and (error := starting.exception()) is not None:
        app.process.exit(TRY_AGAIN, f"the worker did not start: {error!r}")
    await stopping
    await app.shut_down(grace_s)


def _require_compiled_faust() -> None:
    """Faust's pure Python streams ack skipped messages, its compiled ones do not (and are faster)."""
    if getattr(faust_streams, "_CStreamIterator", None) is None or not hasattr(faust_conductor, "ConductorHandler"):
        raise RuntimeError("Faust's compiled extensions are not loaded; is NO_CYTHON set?")
