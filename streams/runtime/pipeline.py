"""Everything of one worker that is not Kafka, Faust or HTTP: the stages, the journal, the lease, calls, timers,
redrive.

    prompt.requests ─▶ DECIDE ─▶ calls ─▶ prompt.progress ─▶ FINISH ─▶ responses, errors, costs, ledger

It decides nothing itself: `streams.core` does. It reads and writes rows, publishes what the core says, and remembers
which attempts this process runs.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import structlog
from pydantic import ValidationError

from schemas.configuration import Configuration
from schemas.deadletters import DeadLetter
from schemas.health import Observation
from schemas.lifts import BudgetLifted, lift_of
from schemas.progress import (
    AttemptDue,
    AttemptFailed,
    AttemptRedriven,
    AttemptSucceeded,
    Progress,
    RequestExpired,
    progress_of,
)
from schemas.requests import Limits, PromptRequest, WrongFields, understand, work_key
from streams.core import admission, lifting, outcome, publish, rows
from streams.core.account import Account
from streams.core.case import Case, Verdict
from streams.core.circuit import Circuit, health_of
from streams.core.circuit import evolve as evolve_circuit
from streams.core.facts import Answered, AttemptStarted, Decision, Failed
from streams.core.forgetting import Finished
from streams.core.forwarding import First, first_seen, forwarding_headers
from streams.core.homes import home_of
from streams.core.identity import default_request_id
from streams.core.publish import Channel, Output
from streams.core.registry import Registry
from streams.core.request import Request, start_of
from streams.core.tracing import traceparent_of
from streams.runtime.calls import Caller, Calls
from streams.runtime.counts import ANSWERED, OTHER, Counts
from streams.runtime.forgetting import Forgetting
from streams.runtime.journal import Journal, Late
from streams.runtime.lease import Lease
from streams.runtime.pace import Pace
from streams.runtime.ports import Clock, Log, Outgoing, Process, Record, Source, Store
from streams.runtime.timers import RequestKey, Timers
from streams.runtime.topics import Topics

ACCOUNTS = "accounts"
HEALTH = "health"

ConsumedTopic = Literal["prompt.requests", "prompt.progress", "model.observations"]

HOPELESS = 1

DEADLINE_GRACE_MS = 1_000
"""A call ends by itself at the deadline and says how; only where it does not, the request expires without its word."""

MOST_ROW_BYTES = 384 * 1024
"""Of the rows of one decision: with the rest of its group they must fit one record batch (`journal.MOST_BYTES`)."""

SWEEP_EVERY_MS = 10_000
SWEEP_GRACE_MS = 15_000
"""Past its deadline and the grace above, timers and FINISH have had more than enough time."""

P = TypeVar("P", AttemptRedriven, AttemptDue, RequestExpired)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """What this process remembers of a request that is not done: its newest row, so that it need not be read back, and
    its prompt where it passed through here."""

    row: Request
    state: str
    attempt: int
    not_before_ms: int
    deadline_ms: int
    offset: int
    prompt: PromptRequest | None


@dataclass(frozen=True, slots=True)
class Work:
    """One delivered record and the stage that plans on it."""

    source: Source
    topic: ConsumedTopic
    record: Record
    plan: Callable[[Record], None]


class Repeats:
    """What a partition delivers again after an assignment: records up to the last offsets that were decided on."""

    def __init__(self, home: rows.Home, requests_from: int, progress_from: int) -> None:
        """The stages read on from these offsets."""
        self._to = {"prompt.requests": home.requests_to, "prompt.progress": home.progress_to}
        self._next = {"prompt.requests": requests_from, "prompt.progress": progress_from}
        self.outputs: list[Output | Outgoing | Late] = []
        self.needed: list[RequestKey] = []
        self.repeated: list[Work] = []
        self.waiting: list[Work] = []

    def is_new(self, work: Work) -> bool:
        """Whether the record was not there yet when the last decision was made."""
        return work.record.offset > self._to[work.topic]

    def read(self, work: Work) -> None:
        """Count a record that was delivered again."""
        self._next[work.topic] = work.record.offset + 1
        self.repeated.append(work)

    @property
    def complete(self) -> bool:
        """Whether everything that was decided has been delivered again."""
        return all(self._next[topic] > to for topic, to in self._to.items())


class Pipeline:
    """One worker's part of the pipeline. An adapter (Faust, or the simulator) feeds it and tells it of rebalances."""

    def __init__(
        self,
        *,
        registry: Callable[[int], Registry],
        topics: Topics,
        log: Log,
        store: Store,
        clock: Clock,
        process: Process,
        caller: Caller,
    ) -> None:
        """`registry` returns the deployments as priced on the day of a moment (milliseconds)."""
        self._registry, self._topics = registry, topics
        self._configuration: Configuration = registry(clock.now_ms()).configuration
        bounds = self._configuration.limits
        self._limits = Limits(bounds.max_request_bytes, float(bounds.max_timeout_s))
        self._log, self._store, self._clock, self._process = log, store, clock, process
        self.counts = Counts()
        self._deployments = frozenset(model.id for model in self._configuration.models)
        self._lease = Lease()
        self._journal = Journal(log, store, process, self._lease)
        self._calls = Calls(
            caller, log, process, requests=topics.requests, progress=topics.progress, limits=self._limits
        )
        self._timers = Timers(clock, self._fire)
        self._open: dict[RequestKey, OpenRequest] = {}
        self._done = Forgetting(self._journal, ACCOUNTS, round(float(self._configuration.idempotency.horizon) * 1000))
        self._repeats: dict[int, Repeats] = {}
        self._captured: Repeats | None = None
        self._read_to: dict[int, int] = {}
        self._to_redrive: dict[int, int] = {}
        self._lost: list[tuple[RequestKey, int]] = []
        self._pace = Pace()
        self._redrive_wanted = asyncio.Event()
        self._channels: dict[Channel, str] = {
            "responses": topics.responses,
            "errors": topics.errors,
            "costs": topics.costs,
            "ledger": topics.ledger,
            "deadletters": topics.deadletters,
        }

    # --- figures

    @property
    def calls_in_flight(self) -> int:
        """How many calls run here."""
        return len(self._calls)

    @property
    def open_requests(self) -> int:
        """How many requests of the partitions held here are not done."""
        return len(self._open)

    @property
    def stored(self) -> tuple[int, int]:
        """How many groups of decisions were stored, and how many records they were made on."""
        return self._journal.groups, self._journal.records

    # --- the stages

    async def decide(self, source: Source) -> None:
        """Read `prompt.requests`: admit, refuse, forward or set aside each record. Runs for ever."""
        await self._stage(source, "prompt.requests", self._decide)

    async def finish(self, source: Source) -> None:
        """Read `prompt.progress`: answer, fail or try again. Runs for ever."""
        await self._stage(source, "prompt.progress", self._finish)

    async def observe(self, source: Source) -> None:
        """Read `model.observations`: fold each deployment's health and tell it. Runs for ever."""
        await self._stage(source, "model.observations", self._observe)

    async def _stage(self, source: Source, topic: ConsumedTopic, plan: Callable[[Record], None]) -> None:
        async for record in source:
            if not self._lease.admits(record):
                continue
            work = Work(source, topic, record, plan)
            repeats = None if topic == "model.observations" else self._repeats.get(record.partition)
            if repeats is None:
                self._plan(work)
                self._journal.add(source, record)
            else:
                self._repeat(repeats, work)
            if self._journal.full:
                self._journal.release()
                await self._journal.room()
            elif source.idle():
                self._journal.offer()

    def _plan(self, work: "Work") -> None:
        record = work.record
        try:
            work.plan(record)
        except Exception:
            log.exception("record failed", topic=work.topic, partition=record.partition, offset=record.offset)
            letter = DeadLetter("internal_error", "the orchestrator failed on this record")
            self._dead_letter(work.topic, record, letter)

    def _repeat(self, repeats: "Repeats", work: "Work") -> None:
        """Repeat what was decided before, then go on with what is new.

        Events of decisions that a crash kept from being published appear now for the first time, and the ledger's must
        appear in the order of their `seq`, whichever of the two topics is read first.
        """
        if repeats.is_new(work):
            repeats.waiting.append(work)
        else:
            self._captured = repeats
            try:
                self._plan(work)
            finally:
                self._captured = None
            repeats.read(work)
        if repeats.complete:
            del self._repeats[work.record.partition]
            for output in sorted(repeats.outputs, key=_seq):
                self._journal.publish(output if not isinstance(output, Output) else self._outgoing(output))
            for key in repeats.needed:
                self._done.need(key)
            for repeated in repeats.repeated:
                self._journal.add(repeated.source, repeated.record)
            for waiting in repeats.waiting:
                self._plan(waiting)
                self._journal.add(waiting.source, waiting.record)
                if self._journal.full:
                    self._journal.release()

    # --- DECIDE

    def _decide(self, record: Record) -> None:
        self._done.read_until(record.partition, record.time_ms)
        self._understand(record)
        if self._captured is None:
            self.counts.forgotten += self._done.forget(record.partition)

    def _understand(self, record: Record) -> None:
        first = first_seen(record.headers, record.partition, record.offset, record.time_ms)
        request_id = default_request_id(first.partition, first.offset)
        found = understand(record.value, default_request_id=request_id, limits=self._limits)
        match found:
            case DeadLetter():
                self._dead_letter("prompt.requests", record, found)
            case WrongFields():
                self._publish(
                    publish.wrong_fields(
                        found,
                        partition=record.partition,
                        offset=record.offset,
                        time_ms=record.time_ms,
                        traceparent=traceparent_of(record.headers, found.tenant, found.request_id),
                    )
                )
            case PromptRequest():
                self._decide_at_home(record, first, found)

    def _decide_at_home(self, record: Record, first: First, prompt: PromptRequest) -> None:
        home = home_of(
            prompt.tenant,
            work_key(prompt),
            limited=self._configuration.is_limited(prompt.tenant),
            partitions=self._configuration.kafka.partitions,
        )
        if home != record.partition:
            self._forward(record, first, home, prompt)
            return
        request = self._request(home, prompt.tenant, prompt.request_id)
        if request is None:
            if record.offset > self._home(home).requests_to:
                self._admit(record, first, prompt)
            return  # else it was decided on and answered, and is forgotten
        self._need(record, request)
        if request.intake.digest != prompt.digest.hex():
            traceparent = traceparent_of(record.headers, prompt.tenant, prompt.request_id)
            self._publish(publish.conflict(prompt, first, traceparent))
        else:
            self._repeat_request(record, request)

    def _forward(self, record: Record, first: First, home: int, prompt: PromptRequest) -> None:
        if first.forwarded:
            letter = DeadLetter(
                "misrouted", "forwarded once already, and still not at home: do all workers agree on P?"
            )
            self._dead_letter("prompt.requests", record, letter, prompt.tenant, prompt.request_id)
            return
        headers = forwarding_headers(record.headers, self._topics.requests, first)
        self._emit(Outgoing(self._topics.requests, record.key, record.value, home, headers))

    def _admit(self, record: Record, first: First, prompt: PromptRequest) -> None:
        now_ms = self._clock.now_ms()
        case = self._case("prompt.requests", record, prompt.tenant, now_ms)
        verdict = admission.decide(
            case,
            prompt,
            self._registry(case.time_ms),
            partition=record.partition,
            received_ms=first.time_ms,
            traceparent=traceparent_of(record.headers, prompt.tenant, prompt.request_id),
        )
        self._write(verdict, None, prompt)

    def _need(self, record: Record, request: Request) -> None:
        """Keep the row that answers a record until the record is acknowledged: it may be delivered again.

        Home remembers the record as decided on, so that nothing is forgotten before it was delivered again.
        """
        partition = record.partition
        key = (partition, request.intake.tenant, request.intake.request_id)
        if self._captured is not None:
            self._captured.needed.append(key)
            return
        self._done.need(key)
        home, to = self._home(partition), record.offset
        if record.topic == self._topics.progress:
            home = replace(home, progress_to=max(home.progress_to, to))
        else:
            home = replace(home, requests_to=max(home.requests_to, to))
        self._journal.put(ACCOUNTS, partition, rows.HOME_KEY, rows.encode_home(home), home)

    def _repeat_request(self, record: Record, request: Request) -> None:
        """The same record again repeats its own events; the same request again repeats its terminal event."""
        decided = request.decision_at("prompt.requests", record.offset)
        if decided is not None:
            self._publish_all(publish.outputs_of(request, decided, None))
        elif request.terminal is not None:
            self._repeat_terminal(request, request.terminal)

    def _repeat_terminal(self, request: Request, terminal: Decision) -> None:
        if not any(isinstance(fact, Answered) for fact in terminal.facts):
            output = publish.terminal_of(request, terminal, None)
            self._publish_all([] if output is None else [output])
            return

        async def read_back() -> Sequence[Outgoing]:
            record = await self._log.fetch(self._topics.progress, request.intake.partition, terminal.offset)
            if record is None or record.value is None:
                log.warning("answer is no longer in the log", request_id=request.intake.request_id)
                return ()
            output = publish.terminal_of(request, terminal, progress_of(record.value))
            return () if output is None else (self._outgoing(output),)

        self._emit(read_back)

    # --- FINISH

    def _finish(self, record: Record) -> None:
        self._read_to[record.partition] = record.offset + 1
        if self._to_redrive.get(record.partition, -1) <= record.offset + 1:
            self._redrive_wanted.set()
        try:
            event = progress_of(record.value or b"")
        except ValidationError as error:
            lift = lift_of(record.value or b"")
            if lift is not None:
                self._lift(record, lift)
                return
            message = f"no event of this topic: {error.error_count()} problems"
            self._dead_letter("prompt.progress", record, DeadLetter("unknown_event", message))
            return
        request = self._request(record.partition, event.tenant, event.request_id)
        if request is None or event.request_offset not in {None, request.intake.offset}:
            self._without_row(record, event)
            return
        if request.state == "done":
            self._need(record, request)
        decided = request.decision_at("prompt.progress", record.offset)
        if decided is not None:
            self._publish_all(publish.outputs_of(request, decided, event))
            return
        if isinstance(event, AttemptRedriven) and self._calls.knows(
            (record.partition, event.tenant, event.request_id, event.attempt)
        ):
            return
        case = self._case("prompt.progress", record, event.tenant, self._clock.now_ms())
        verdict = outcome.decide(case, request, event)
        if verdict is not None:
            self._write(verdict, event, None)
            self._count_attempt(event)

    def _count_attempt(self, event: Progress) -> None:
        if isinstance(event, AttemptSucceeded | AttemptFailed):
            known = event.deployment is not None and event.deployment in self._deployments
            deployment = event.deployment if known and event.deployment else OTHER
            reason = event.reason if isinstance(event, AttemptFailed) else ANSWERED
            self.counts.attempts[deployment, reason] += 1
            if reason == "server_error" and isinstance(event, AttemptFailed) and event.http_status is None:
                self.counts.unclassified += 1  # a server's own error has a status

    def _without_row(self, record: Record, event: Progress) -> None:
        """A call was made for a request that nobody knows: money may be missing from the books, so it must be seen."""
        if isinstance(event, AttemptSucceeded | AttemptFailed):
            letter = DeadLetter("unknown_event", "the outcome of a request that has no row here")
            self._dead_letter("prompt.progress", record, letter, event.tenant, event.request_id)

    def _lift(self, record: Record, event: BudgetLifted) -> None:
        """Decide on an operator's lift, once."""
        partition, tenant = record.partition, event.tenant
        key = rows.lift_key(tenant, event.lift_id)
        known = self._journal.read(ACCOUNTS, partition, key, rows.decode_request)
        if known is not None:
            decided = known.decision_at("prompt.progress", record.offset)
            if decided is not None:
                self._publish_all(publish.outputs_of(known, decided, None))
            return
        case = self._case("prompt.progress", record, tenant, self._clock.now_ms())
        traceparent = traceparent_of(record.headers, tenant, event.lift_id)
        verdict = lifting.decide(case, event, partition=partition, traceparent=traceparent)
        if verdict is None:
            return
        put, home, account = self._journal.put, verdict.home, verdict.account
        put(ACCOUNTS, partition, key, rows.encode_request(verdict.request), verdict.request)
        put(ACCOUNTS, partition, rows.account_key(tenant), rows.encode_account(account), account)
        put(ACCOUNTS, partition, rows.HOME_KEY, rows.encode_home(home), home)
        self._publish_all(publish.outputs_of(verdict.request, verdict.decision, None))

    # --- HEALTH

    def _observe(self, record: Record) -> None:
        try:
            seen = Observation.model_validate_json(record.value or b"")
        except ValidationError as error:
            message = f"no event of this topic: {error.error_count()} problems"
            self._dead_letter("model.observations", record, DeadLetter("unknown_event", message))
            return
        if seen.deployment not in self._deployments:
            letter = DeadLetter("unknown_event", "an observation of a deployment that is not configured here")
            self._dead_letter("model.observations", record, letter)
            return
        key = rows.deployment_key(seen.deployment)
        before = self._journal.read(HEALTH, record.partition, key, rows.decode_circuit) or Circuit(seen.deployment)
        max_failures = self._configuration.load_balancer.max_failures
        circuit = evolve_circuit(before, seen, offset=record.offset, max_failures=max_failures)
        self._journal.put(HEALTH, record.partition, key, rows.encode_circuit(circuit), circuit)
        health = health_of(circuit, partition=record.partition, time_ms=record.time_ms)
        headers = publish.headers_of({"id": health.id, "type": health.type, "time": health.time})
        body = health.model_dump_json().encode()
        self._journal.publish(Outgoing(self._topics.health, seen.deployment.encode(), body, headers=headers))

    # --- rows and outputs

    def _case(
        self, topic: Literal["prompt.requests", "prompt.progress"], record: Record, tenant: str, now_ms: int
    ) -> Case:
        partition = record.partition
        account = self._journal.read(ACCOUNTS, partition, rows.account_key(tenant), rows.decode_account)
        return Case(
            topic=topic,
            offset=record.offset,
            time_ms=record.time_ms,
            now_ms=now_ms,
            home=self._home(partition),
            account=account or Account(tenant),
            configuration=self._configuration,
        )

    def _home(self, partition: int) -> rows.Home:
        return self._journal.read(ACCOUNTS, partition, rows.HOME_KEY, rows.decode_home) or rows.Home()

    def _request(self, partition: int, tenant: str, request_id: str) -> Request | None:
        known = self._open.get((partition, tenant, request_id))
        if known is not None:
            return known.row
        return self._journal.read(ACCOUNTS, partition, rows.done_key(tenant, request_id), rows.decode_request)

    def _write(self, verdict: Verdict, event: Progress | None, prompt: PromptRequest | None) -> None:
        """Plan the rows and outputs of a decision, and what follows from it once it is stored.

        Everything is written out before anything is planned: a decision that cannot be written is not half made.
        """
        request, intake = verdict.request, verdict.request.intake
        partition, tenant, request_id = key = (intake.partition, intake.tenant, intake.request_id)
        row, account, home = rows.encode_request(request), rows.encode_account(verdict.account), verdict.home
        outputs = publish.outputs_of(request, verdict.decision, event)
        if len(row) + len(account) > MOST_ROW_BYTES:
            raise ValueError(f"the rows of a decision would have {len(row)} and {len(account)} bytes")
        put = self._journal.put
        if request.state == "done":
            if self._open.pop(key, None) is not None:
                put(ACCOUNTS, partition, rows.open_key(tenant, request_id), None, None)
            put(ACCOUNTS, partition, rows.done_key(tenant, request_id), row, request)
        else:
            known = self._open.get(key)
            self._remember(request, prompt or (known.prompt if known else None))
            put(ACCOUNTS, partition, rows.open_key(tenant, request_id), row, request)
        put(ACCOUNTS, partition, rows.account_key(tenant), account, verdict.account)
        put(ACCOUNTS, partition, rows.HOME_KEY, rows.encode_home(home), home)
        self._publish_all(outputs)
        self._count_outcome(verdict.decision)
        self._plan_effects(request, verdict.decision)
        if request.terminal is verdict.decision:
            self._done.finish(partition, Finished(intake.offset, verdict.home.clock_ms, tenant, request_id))

    def _count_outcome(self, decision: Decision) -> None:
        for fact in decision.facts:
            match fact:
                case Answered():
                    self.counts.decided[ANSWERED, ""] += 1
                case Failed():
                    self.counts.decided["failed", fact.code] += 1
                case _:
                    pass  # only how a request ends is counted here

    def _plan_effects(self, request: Request, decision: Decision) -> None:
        """Let a call go that this decision started: one that an earlier decision started is run, or redriven."""
        key = (request.intake.partition, request.intake.tenant, request.intake.request_id)
        if AttemptStarted(request.attempt) in decision.facts:
            start = start_of(request)
            self._calls.plan(start)
            self._journal.afterwards(
                key[0], lambda: self._calls.begin(start, lambda: self._prompt(key)), lambda: self._calls.unplan(start)
            )
        if request.state != "done":
            self._timers.set(_next_moment(self._open[key]), key)

    def _prompt(self, key: RequestKey) -> PromptRequest | None:
        known = self._open.get(key)
        return None if known is None else known.prompt

    def _remember(self, request: Request, prompt: PromptRequest | None) -> None:
        intake = request.intake
        self._open[intake.partition, intake.tenant, intake.request_id] = OpenRequest(
            request, request.state, request.attempt, request.not_before_ms, intake.deadline_ms, intake.offset, prompt
        )

    def _publish_all(self, outputs: Sequence[Output]) -> None:
        for output in outputs:
            self._publish(output)

    def _publish(self, output: Output) -> None:
        if self._captured is None:
            self._journal.publish(self._outgoing(output))
        else:
            self._captured.outputs.append(output)

    def _emit(self, output: Outgoing | Late) -> None:
        if self._captured is None:
            self._journal.publish(output)
        else:
            self._captured.outputs.append(output)

    def _outgoing(self, output: Output) -> Outgoing:
        return Outgoing(self._channels[output.channel], output.key, output.value, output.partition, output.headers)

    def _dead_letter(
        self,
        topic: ConsumedTopic,
        record: Record,
        letter: DeadLetter,
        tenant: str | None = None,
        request_id: str | None = None,
    ) -> None:
        self.counts.dead_letters[letter.reason] += 1
        self._publish(
            publish.dead_letter(
                letter,
                topic=topic,
                full_topic=record.topic,
                partition=record.partition,
                offset=record.offset,
                time_ms=record.time_ms,
                value=record.value,
                headers=record.headers,
                tenant=tenant,
                request_id=request_id,
            )
        )

    # --- rebalances

    def begin_rebalance(self) -> None:
        """LIMBO at once: nothing is planned or acknowledged any more. Callable from another thread."""
        self._lease.begin_rebalance()

    async def drain(self) -> None:
        """Before the group is rejoined: drop what is planned, wait for what is on its way."""
        self._lease.enter_limbo()
        await self._journal.drain()

    async def assigned(
        self,
        generation: int,
        partitions: frozenset[int],
        progress_from: Mapping[int, int],
        requests_from: Mapping[int, int],
    ) -> None:
        """Take up the partitions of a generation, after their tables are recovered and before their records come.

        `progress_from[p]` and `requests_from[p]` are the offsets that FINISH and DECIDE read next. What is open and
        not run here is redriven once FINISH has read everything that was in the log by now. Should another rebalance
        begin meanwhile, nothing is taken up: its assignment follows.
        """
        begun = self._lease.rebalances
        await self.drain()
        homes = {p: self._home(p) for p in sorted(partitions)}
        self._require_same_p(homes)
        ends = {p: await self._log.end_offset(self._topics.progress, p) for p in sorted(partitions)}
        self._calls.keep(partitions)
        self._recall(partitions)
        self._done.begin()
        self._repeats = {}
        for partition, home in homes.items():
            repeats = Repeats(home, requests_from.get(partition, 0), progress_from.get(partition, 0))
            if not repeats.complete:
                self._repeats[partition] = repeats
        self._read_to, self._to_redrive, self._lost = dict(progress_from), ends, []
        if self._lease.rebalances == begun:
            self._lease.renew(generation, partitions)
            self._journal.resume()
            self._redrive_wanted.set()

    def _require_same_p(self, homes: Mapping[int, rows.Home]) -> None:
        configured = self._configuration.kafka.partitions
        for home in homes.values():
            if home.partitions not in {0, configured}:
                why = f"kafka.partitions is {configured}, and was {home.partitions} when requests were decided"
                self._process.exit(HOPELESS, f"{why}: P never changes")

    def _recall(self, partitions: frozenset[int]) -> None:
        """Read what is open in the partitions held now; keep the prompts that are at hand."""
        prompts = {key: known.prompt for key, known in self._open.items()}
        self._open.clear()
        self._timers.clear()
        for partition in sorted(partitions):
            for _, value in self._store.scan(ACCOUNTS, partition, rows.OPEN_PREFIX):
                request = rows.decode_request(value)
                key = (partition, request.intake.tenant, request.intake.request_id)
                self._remember(request, prompts.get(key))
                self._timers.set(_next_moment(self._open[key]), key)

    async def stop(self, grace_s: float) -> None:
        """Stop deciding, store what is on its way, give running calls `grace_s` to publish their outcome."""
        await self.drain()
        late = await self._calls.finish(grace_s)
        if late:
            log.info("calls left to the next owner", calls=late)

    # --- what happens without a record: redrive and timers

    async def run(self) -> None:
        """Redrive what a gained partition holds open, watch deadlines, sweep up. Runs for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._timers.run())
            tasks.create_task(self._redrive_when_wanted())
            tasks.create_task(self._sweep())

    async def _redrive_when_wanted(self) -> None:
        while True:
            await self._redrive_wanted.wait()
            self._redrive_wanted.clear()
            self._note_lost()
            while self._lost:
                await self._redrive()
                if self._lost:
                    await self._clock.sleep_until(self._clock.now_ms() + 1000)
                    self._note_lost()

    def _note_lost(self) -> None:
        """See which attempts nobody runs, where FINISH has read all that was in the log at the assignment."""
        caught_up = {p for p, end in self._to_redrive.items() if self._read_to.get(p, 0) >= end}
        if not caught_up or not self._lease.active:
            return
        for partition in caught_up:
            del self._to_redrive[partition]
        lost = [
            (key, known.attempt)
            for key, known in self._open.items()
            if key[0] in caught_up and known.state == "pending" and not self._calls.knows((*key, known.attempt))
        ]
        if lost:
            log.info("redriving", attempts=len(lost), partitions=sorted(caught_up))
            self._lost += lost

    async def _redrive(self) -> None:
        """Say in the log which attempts nobody runs. Whoever reads it first decides; others find it decided.

        Those whose time is up call nobody; of the others, no more are started at once than the pace allows.
        """
        now_ms = self._clock.now_ms()
        lost = [(key, attempt, self._open[key]) for key, attempt in self._lost if self._is_lost(key, attempt)]
        over = [one for one in lost if one[2].deadline_ms <= now_ms]
        live = [one for one in lost if one[2].deadline_ms > now_ms]
        started = self._pace.take(len(live), now_ms)
        self._lost = [(key, attempt) for key, attempt, _ in live[started:]]
        told = [*over, *live[:started]]
        self.counts.redriven += len(told)
        await self._tell([(key, _event(AttemptRedriven, key, known, attempt=attempt)) for key, attempt, known in told])

    def _is_lost(self, key: RequestKey, attempt: int) -> bool:
        known = self._open.get(key)
        return known is not None and known.state == "pending" and known.attempt == attempt

    async def _fire(self, keys: list[RequestKey]) -> None:
        now_ms = self._clock.now_ms()
        facts: list[tuple[RequestKey, Progress]] = []
        for key in keys:
            known = self._open.get(key)
            if known is None or not self._lease.active or key[0] not in self._lease.partitions:
                continue
            if _next_moment(known) > now_ms:
                self._timers.set(_next_moment(known), key)
            elif known.state == "waiting" and now_ms < known.deadline_ms:
                if self._pace.take(1, now_ms):
                    facts.append((key, _event(AttemptDue, key, known, attempt=known.attempt)))
                    self._timers.set(known.deadline_ms + DEADLINE_GRACE_MS, key)
                else:
                    self._timers.set(min(now_ms + 1000, known.deadline_ms), key)
            else:
                facts.append((key, _event(RequestExpired, key, known)))
        await self._tell(facts)

    async def _sweep(self) -> None:
        """Close what is open past its deadline and that no timer has closed: the backstop of G1, which finds nothing.

        A request counts if it was overdue at the sweep before, and FINISH has read since all that was in the log then.
        """
        before: dict[RequestKey, int] = {}
        while True:
            await self._clock.sleep_until(self._clock.now_ms() + SWEEP_EVERY_MS)
            overdue = self._overdue()
            swept = [key for key, end in before.items() if key in overdue and self._read_to.get(key[0], 0) >= end]
            try:
                ends = {p: await self._log.end_offset(self._topics.progress, p) for p in {key[0] for key in overdue}}
            except Exception as error:  # noqa: BLE001 - the broker is away, and the next sweep asks again
                log.warning("cannot sweep now", reason=repr(error))
                continue
            before = {key: ends[key[0]] for key in overdue}
            if swept:
                self.counts.swept += len(swept)
                log.warning("swept up requests that no timer closed", requests=len(swept), first=swept[0][2])
                await self._tell([(key, _event(RequestExpired, key, overdue[key])) for key in swept])

    def _overdue(self) -> dict[RequestKey, OpenRequest]:
        if not self._lease.active:
            return {}
        latest_ms = self._clock.now_ms() - DEADLINE_GRACE_MS - SWEEP_GRACE_MS
        held = self._lease.partitions
        return {key: known for key, known in self._open.items() if known.deadline_ms < latest_ms and key[0] in held}

    async def _tell(self, facts: Sequence[tuple[RequestKey, Progress]]) -> None:
        if facts:
            await self._log.publish_progress(
                [
                    Outgoing(self._topics.progress, request_id.encode(), fact.model_dump_json().encode(), partition)
                    for (partition, _, request_id), fact in facts
                ]
            )


def _event(kind: type[P], key: RequestKey, known: OpenRequest, **more: int) -> P:
    return kind(tenant=key[1], request_id=key[2], request_offset=known.offset, **more)


def _next_moment(known: OpenRequest) -> int:
    """When something has to happen to an open request, if nothing else does before."""
    if known.state == "waiting":
        return min(known.not_before_ms, known.deadline_ms)
    return known.deadline_ms + DEADLINE_GRACE_MS


def _seq(output: Output | Outgoing | Late) -> int:
    return output.seq if isinstance(output, Output) else 0
