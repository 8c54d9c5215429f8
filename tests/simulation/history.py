"""One seeded history: what tenants ask, what goes wrong and when, run through the real pipeline until it is at rest."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from random import Random
from typing import Any, cast

from structlog.testing import capture_logs

from schemas.configuration import parse
from schemas.requests import Limits, PromptRequest, understand, work_key
from streams.core.homes import home_of
from streams.core.prices import Rates
from streams.core.registry import Deployment, Registry
from streams.runtime.pipeline import Pipeline
from streams.runtime.ports import Outgoing, Record
from streams.runtime.topics import Topics
from tests.simulation.group import Group
from tests.simulation.loop import Livelock, SimLoop
from tests.simulation.owner import PROGRESS, REQUESTS, Fleet, Owner, Ports
from tests.simulation.provider import Provider
from tests.simulation.world import Weather, World

TOPICS = Topics("", "orchestrator")
PARTITIONS = 3
LIMITS = Limits(524_288, 3600.0)
ASKING_S = 40.0
"""Requests come and faults happen within this time, or within a part of it."""
LONG_HORIZON_S = 86_400
LONGEST_S = 400.0
"""A history that is not at rest by then never will be."""

CONFIGURATION = """
orchestrator: {{timeout: {timeout}, max_retries: {retries}}}
models:
  - {{name: model, id: model-a, endpoint: "http://127.0.0.1:1/v1", max_tokens: 4096, cost_per_token: 0.000001}}
  - {{name: model, id: model-b, endpoint: "http://127.0.0.1:2/v1", max_tokens: 4096, cost_per_token: 0.000002}}
kafka: {{partitions: 3}}
idempotency: {{horizon: {horizon}}}
tenants:
  - {{name: rich, budgets: [{{usd: "100", window: day}}]}}
  - {{name: poor, budgets: [{{usd: "{poor}", window: total}}, {{usd: "1", window: day}}]}}
  - {{name: minutely, budgets: [{{usd: "{poor}", window: minute}}]}}
  - {{name: hasty, rate_limit: {{requests_per_minute: 20, burst_size: 2, mode: {mode}}}}}
"""

HOSTILE = (
    b"",
    None,
    b"\xff\xfe",
    b"[1, 2]",
    b'"text"',
    b"{",
    b'{"messages": NaN}',
    b"\xef\xbb\xbf{}",
    b"[" * 100,
    b'{"request_id": "odd", "tenant": "rich"}',
    b'{"prompt": "x", "n": 2, "tenant": "poor"}',
    b'{"prompt": "x", "model": "nobody", "request_id": "lost"}',
    b'{"prompt": 5, "request_id": "a b", "tenant": 7, "metadata": [1]}',
)


@lru_cache(maxsize=64)
def registry_of(timeout: int, retries: int, poor: str, mode: str, horizon: int) -> Registry:
    """Return two deployments and five kinds of tenants."""
    text = CONFIGURATION.format(timeout=timeout, retries=retries, poor=poor, mode=mode, horizon=horizon)
    configuration = parse(text)
    return Registry(
        configuration,
        tuple(
            Deployment(
                id=model.id,
                name=model.name,
                endpoint=str(model.endpoint),
                provider="fake",
                provider_model=model.name,
                dialect="openai",
                api_key_env=None,
                capabilities=frozenset(),
                context_window=4096,
                max_output_tokens=None,
                template_tokens=64,
                timeout_s=None,
                paid_health_checks=False,
                rates=Rates.flat(model.cost_per_token, "1") if model.cost_per_token is not None else None,
            )
            for model in configuration.models
        ),
    )


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong."""

    at_s: float
    kind: str
    worker: str
    number: float


@dataclass(frozen=True, slots=True)
class Plan:
    """All of a history that is drawn before it runs."""

    seed: int
    weather: Weather
    registry: Registry
    asks: tuple[tuple[float, Outgoing], ...]
    faults: tuple[Fault, ...]
    overruns: float
    patience: float


@dataclass(slots=True)
class Observed:
    """Everything that a history showed."""

    plan: Plan
    world: World
    group: Group
    fleet: Fleet
    provider: Provider
    republished: set[tuple[int, int]] = field(default_factory=set)
    complaints: list[str] = field(default_factory=list)
    at_rest: bool = False

    @property
    def forgets(self) -> bool:
        """Whether requests are forgotten before the history ends."""
        return self.horizon_ms < LONG_HORIZON_S * 1000

    @property
    def horizon_ms(self) -> int:
        """How long a request that is done is known."""
        return round(self.plan.registry.configuration.idempotency.horizon * 1000)

    def home_of(self, prompt: PromptRequest) -> int:
        """Return the home partition of a request."""
        configuration = self.plan.registry.configuration
        limited = configuration.is_limited(prompt.tenant)
        return home_of(prompt.tenant, work_key(prompt), limited=limited, partitions=PARTITIONS)


def plan_of(seed: int) -> Plan:
    """Draw a history."""
    random = Random(seed)
    weather = Weather(
        heartbeat_s=random.choice((0.2, 3.0)),
        trip_s=random.choice((0.002, 0.005, 0.03, 0.1)),
        slow=random.choice((0.0, 0.02, 0.1)),
        requests_in_flight=random.choice((1, 2, 5)),
        unknown_delivery=random.choice((0.0, 0.0, 0.003, 0.01)),
        stale_delivery=random.choice((0.0, 0.5, 1.0)),
        handover=random.choice((0.0, 0.3, 1.0)),
        recovery_s=random.choice((0.0, 0.0, 1.5)),
        commit_s=random.choice((0.3, 1.0)),
    )
    poor = random.choice(("0.0005", "0.001", "0.003"))
    mode = random.choice(("refuse", "wait"))
    horizon = Random(seed * 3 + 2).choice((LONG_HORIZON_S,) * 3 + (20, 6))
    registry = registry_of(random.choice((8, 30)), random.choice((0, 1, 3)), poor, mode, horizon)
    within_s = random.choice((ASKING_S, ASKING_S, 10.0, 4.0))
    faults = _faults(random, within_s)
    overruns = random.choice((0.0,) * 7 + (0.1,))
    return Plan(
        seed, weather, registry, _asks(random, within_s, faults), faults, overruns, random.choice((0.3, 1.0, 2.5))
    )


def _asks(random: Random, within_s: float, faults: tuple[Fault, ...]) -> tuple[tuple[float, Outgoing], ...]:
    tenants = random.sample(("rich", "poor", "minutely", "hasty", "free", "free2"), random.randint(1, 4))
    asks: list[tuple[float, Outgoing]] = []
    bodies: list[dict[str, Any]] = []
    together = random.choice((0.0, 0.5, 0.9))
    for number in range(random.randint(5, 25)):
        at_s = random.random() * within_s
        if faults and random.random() < together:
            at_s = random.choice(faults).at_s + random.random() * 0.5
        draw = random.random()
        if draw < 0.06:
            asks.append((at_s, Outgoing(REQUESTS, None, random.choice(HOSTILE), random.randrange(PARTITIONS))))
            continue
        body = _body(random, random.choice(tenants), number)
        if bodies and draw < 0.3:
            body = dict(random.choice(bodies))
            if draw < 0.13:
                body["prompt"] = f"other {number}"
            elif draw < 0.18:
                body["metadata"] = {"again": str(number)}
        bodies.append(body)
        asks.append((at_s, _published(random, body)))
    return tuple(asks)


def _body(random: Random, tenant: str, number: int) -> dict[str, Any]:
    body: dict[str, Any] = {
        "tenant": tenant,
        "prompt": f"what is {number}?",
        "max_tokens": random.choice((10, 50, 200)),
        "metadata": {"number": str(number)},
    }
    if random.random() < 0.9:
        body["request_id"] = f"r{number}"
    if random.random() < 0.2:
        body["timeout_s"] = random.choice((0.05, 0.5, 2, 60))
    if random.random() < 0.3:
        body["temperature"] = 0
    return body


def _published(random: Random, body: dict[str, Any]) -> Outgoing:
    """A request where our own clients put it, or anywhere."""
    value = json.dumps(body).encode()
    partition: int | None = None
    if random.random() < 0.4:
        partition = random.randrange(PARTITIONS)
    key = cast("str", body["tenant"]).encode() if random.random() < 0.7 else None
    return Outgoing(REQUESTS, key, value, partition)


FAULTS = (
    "crash",
    "crash",
    "crash",
    "crash everybody",
    "pause",
    "short pause",
    "join",
    "stop",
    "lose disk",
    "set disk back",
    "nudge",
    "nudge",
    "republish",
    "republish",
    "odd progress",
)

ODD_PROGRESS = (
    b"",
    None,
    b"\xff",
    b'{"type": "prompt.attempt.paused.v1"}',
    b'{"type": "prompt.attempt.succeeded.v1", "tenant": "rich"}',
    b'{"type": "prompt.attempt.redriven.v1", "tenant": "rich", "request_id": "nobody", "attempt": 1}',
    b'{"type": "prompt.request.expired.v1", "tenant": "rich", "request_id": "nobody"}',
    b'{"type": "prompt.attempt.failed.v1", "tenant": "rich", "request_id": "nobody", "attempt": 1, "again": false,'
    b' "code": "MODEL_ERROR", "reason": "gateway", "message": "", "elsewhere": false}',
)
"""Records of `prompt.progress` that no call wrote; all but the redriven and the expired one become dead letters."""


def _faults(random: Random, within_s: float) -> tuple[Fault, ...]:
    many = random.choice((0, 1, 2, 3, 5, 8))
    return tuple(
        Fault(
            1 + random.random() * within_s,
            random.choice(FAULTS),
            random.choice(("w1", "w2")),
            random.random(),
        )
        for _ in range(many)
    )


Make = Callable[..., Pipeline]


def run(plan: Plan, make: Make = Pipeline) -> Observed:
    """Run a history to rest. `make` builds the pipeline: the real one, or one with a planted bug."""
    random = Random(plan.seed * 2 + 1)
    loop = SimLoop(random)
    world = World(loop, random, plan.weather)
    group = Group(world)
    provider = Provider(world, random, overruns=plan.overruns, patience=plan.patience)

    def build(ports: Ports) -> Pipeline:
        return make(
            registry=lambda _moment_ms: plan.registry,
            topics=TOPICS,
            log=ports.log,
            store=ports.store,
            clock=ports.clock,
            process=ports.process,
            caller=provider.caller(ports.process, ports.clock),
        )

    fleet = Fleet(world, group, build)
    observed = Observed(plan, world, group, fleet, provider)
    for worker in ("w1", "w2"):
        loop.at_world(random.random(), fleet.start, worker)
    for at_s, out in plan.asks:
        loop.at_world(at_s, _ask, world, out)
    for fault in plan.faults:
        loop.at_world(fault.at_s, _strike, observed, fault)
    with capture_logs() as logs:
        _run_to_rest(loop, observed)
    observed.complaints += [
        str(entry)
        for entry in logs
        if entry["log_level"] in {"error", "critical"} or entry["event"].startswith("swept")
    ]
    observed.complaints += world.violations
    observed.complaints += loop.shut()
    return observed


def _run_to_rest(loop: SimLoop, observed: Observed) -> None:
    """Rest: everything asked is decided, no call runs, and nothing happens for a while after."""
    plan = observed.plan
    ends_s = max(at_s for at_s in [*(at_s for at_s, _ in plan.asks), *(f.at_s for f in plan.faults)]) + 1
    try:
        loop.drive(until_s=ends_s)
        while loop.time() < max(LONGEST_S, 2 * ends_s):
            before = len(observed.world.appended)
            loop.drive(until_s=loop.time() + 4)
            if len(observed.world.appended) == before and _all_read(observed) and not _open_rows(observed):
                observed.at_rest = True
                break
        loop.drive(until_s=loop.time() + 15)
    except Livelock as livelock:
        observed.complaints.append(f"livelock: {livelock}")


def _all_read(observed: Observed) -> bool:
    world, committed = observed.world, observed.group.committed
    return all(
        committed.get((topic, p), 0) >= len(world.records(topic, p))
        for topic in (REQUESTS, PROGRESS)
        for p in range(PARTITIONS)
    )


def _open_rows(observed: Observed) -> bool:
    """Whether some row of an open request was written and not deleted, in any changelog."""
    for partition in range(PARTITIONS):
        last = dict(observed.world.rows_of("accounts", partition))
        if any(value is not None for key, value in last.items() if key.startswith(b"open/")):
            return True
    return False


def _ask(world: World, out: Outgoing) -> None:
    world.append(out, world.partition_of(out), "tenant")


def _strike(observed: Observed, fault: Fault) -> None:
    """Let a fault happen."""
    observed.world.note("fault", f"{fault.kind} {fault.worker}")
    owner = observed.fleet.owners.get(fault.worker)
    if fault.kind in {"crash", "lose disk", "set disk back", "pause", "short pause"}:
        if owner is not None:
            _strike_one(observed, fault, owner)
    else:
        _strike_all(observed, fault)


def _strike_one(observed: Observed, fault: Fault, owner: Owner) -> None:
    loop = observed.world.loop
    match fault.kind:
        case "pause":
            loop.pause(owner.process)
            loop.at_world(8.5 + fault.number * 20, loop.resume, owner.process)
        case "short pause":
            loop.pause(owner.process)
            loop.at_world(fault.number * 9, loop.resume, owner.process)
        case _:
            observed.fleet.at_crash[fault.worker] = fault.kind
            owner.process.steps_left = 1 + int(fault.number * fault.number * 400)


def _strike_all(observed: Observed, fault: Fault) -> None:
    world, fleet = observed.world, observed.fleet
    match fault.kind:
        case "crash everybody":
            for one in list(fleet.owners.values()):
                one.process.steps_left = 1 + int(fault.number * 100)
        case "join":
            if "w3" not in fleet.owners:
                fleet.start("w3")
        case "stop":
            third = fleet.owners.get("w3" if "w3" in fleet.owners else "w2")
            if third is not None:
                third.stop()
        case "nudge":
            observed.group.nudge()
            if fault.number < 0.5:
                world.loop.at_world(fault.number * 6, observed.group.nudge)
        case "republish":
            _republish(observed, fault)
        case _:
            odd = ODD_PROGRESS[int(fault.number * len(ODD_PROGRESS))]
            world.append(Outgoing(PROGRESS, None, odd), int(fault.number * 100) % PARTITIONS, "odd")


def _republish(observed: Observed, fault: Fault) -> None:
    """Append a progress record again, as a producer does that did not hear the first time."""
    world = observed.world
    there = world.all_records(PROGRESS)
    if there:
        old = there[int(fault.number * len(there))]
        new = world.append(Outgoing(PROGRESS, old.key, old.value, None, old.headers), old.partition, "again")
        observed.republished.add((new.partition, new.offset))


def rendered(observed: Observed) -> str:
    """Tell a history line by line: time, who, what."""
    lines = [(at_s, 0, who, what) for at_s, who, what in observed.world.timeline]
    lines += [(at_s, 1, who, shown(record)) for at_s, who, record in observed.world.appended]
    lines.sort(key=lambda line: line[0])
    return "\n".join(f"{at_s:9.3f}  {who:7} {what}" for at_s, _, who, what in lines)


def shown(record: Record) -> str:
    """Write a record in one line."""
    place = f"{record.topic}[{record.partition}]@{record.offset}"
    try:
        body = json.loads(record.value or b"null")
    except ValueError:
        return f"{place} {record.value!r:.60}"
    if not isinstance(body, dict) or "type" not in body:
        return f"{place} {(record.value or b'')[:160].decode(errors='replace')}"
    told = [str(body["type"]), f"{body.get('tenant')}/{body.get('request_id')}"]
    told += [f"{name}={body[name]}" for name in _TOLD if body.get(name) is not None]
    if isinstance(body.get("error"), dict):
        told.append(f"{body['error']['code']}/{body['error']['details'].get('reason')}")
    if isinstance(body.get("charge"), dict):
        told.append(f"{body['charge']['certainty']} {body['charge']['nano_usd']}")
    return f"{place} {' '.join(told)} id={str(body.get('id'))[:8]}"


_TOLD = (
    "attempt",
    "reason",
    "window",
    "hold_nano_usd",
    "amount_nano_usd",
    "cost_nano_usd",
    "spent_after_nano_usd",
    "reserved_after_nano_usd",
    "limit_nano_usd",
    "seq",
)


def understood(record: Record) -> object:
    """Return what the pipeline understands of a record of `prompt.requests` that was not forwarded."""
    return understand(record.value, default_request_id=f"p{record.partition}-{record.offset}", limits=LIMITS)


def without(plan: Plan, faults: tuple[Fault, ...]) -> Plan:
    """Return the history with other faults: to find out which one matters."""
    return replace(plan, faults=faults)
