"""What this worker knows of the deployments' health: what HEALTH published, and what it has just seen itself."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from logging import INFO, WARNING
from typing import Any, Literal

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from pydantic import ValidationError

from schemas.health import CircuitState, ModelHealth, Observation
from streams.core import cooldown
from streams.core.cooldown import Cooldown
from streams.core.homes import partition_of
from streams.runtime.ports import Clock, Outgoing
from streams.runtime.ports import Log as EventLog

OBSERVE_EVERY_S = 1.0
READ_TIMEOUT_MS = 1_000
NO_COOLDOWN = Cooldown()
_CIRCUIT_IS: Mapping[CircuitState, str] = {
    "open": "circuit open",
    "half_open": "circuit half-open",
    "closed": "circuit closed",
}

log = structlog.get_logger()


@dataclass(slots=True)
class Seen:
    """One deployment, as this worker sees it."""

    circuit: CircuitState = "closed"
    failures_in_a_row: int = 0
    suspected_until_ms: int = 0
    successes: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    untold_cooldown_ms: int | None = None
    may_probe: bool = False
    probing: bool = False


class HealthView:
    """Which deployments are out, for this worker's choices.

    A deployment is out while `model.health` says that its circuit is open, and at once when this worker has seen
    `max_failures` failures in a row; unless HEALTH confirms it, that suspicion ends after one `health_check_interval`.
    It is out as well while its quota scope cools down, whoever was refused there.
    """

    def __init__(
        self,
        clock: Clock,
        worker: str,
        *,
        max_failures: int,
        check_interval_s: float,
        scopes: Mapping[str, str] | None = None,
    ) -> None:
        """`worker` names this worker in its observations. `scopes`: quota scopes by deployment; without, its own."""
        self._clock, self._worker = clock, worker
        self._scopes = scopes or {}
        self._cooldowns: dict[str, Cooldown] = {}
        self._max_failures, self._suspicion_ms = max_failures, round(check_interval_s * 1000)
        self._seen: dict[str, Seen] = {}

    def why_out(self, deployment: str) -> Literal["circuit_open", "cooldown"] | None:
        """Return why no call should go there, None where one may."""
        if self.is_out(deployment):
            return "circuit_open"
        return "cooldown" if self.cooldown_s(deployment) > 0 else None

    def cooldown_s(self, deployment: str) -> float:
        """Return how many seconds its quota scope still cools down, 0 where it does not."""
        return self._cooldown(deployment).left_s(self._clock.now_ms())

    def _cooldown(self, deployment: str) -> Cooldown:
        return self._cooldowns.get(self._scope(deployment), NO_COOLDOWN)

    def _scope(self, deployment: str) -> str:
        return self._scopes.get(deployment, deployment)

    def is_out(self, deployment: str) -> bool:
        """Whether its circuit keeps calls away, whatever its quota scope does."""
        seen = self._seen.get(deployment)
        if seen is None:
            return False
        opened = seen.circuit == "open" or (seen.circuit == "half_open" and (seen.probing or not seen.may_probe))
        return opened or self._clock.now_ms() < seen.suspected_until_ms

    def circuit_open(self, deployment: str) -> bool:
        """Whether HEALTH has opened its circuit, and not closed it again."""
        seen = self._seen.get(deployment)
        return seen is not None and seen.circuit != "closed"

    @contextmanager
    def probe(self, deployment: str) -> Iterator[None]:
        """Keep other calls away while this one runs, where the circuit is half-open."""
        seen = self._seen.setdefault(deployment, Seen())
        probes = seen.circuit == "half_open"
        seen.probing |= probes
        try:
            yield
        finally:
            if probes:
                seen.probing = False

    def saw_success(self, deployment: str) -> None:
        """Count an answer."""
        seen = self._seen.setdefault(deployment, Seen())
        seen.successes += 1
        if seen.circuit == "half_open":
            seen.circuit = "closed"
        seen.failures_in_a_row = 0
        if self._cooldown(deployment).refusals:
            self._cooldowns[self._scope(deployment)] = cooldown.answered(self._cooldown(deployment))

    def saw_failure(self, deployment: str, reason: str) -> None:
        """Count a failure that the deployment is to blame for."""
        seen = self._seen.setdefault(deployment, Seen())
        seen.failures[reason] = seen.failures.get(reason, 0) + 1
        seen.failures_in_a_row += 1
        if seen.circuit == "half_open" and seen.probing:
            seen.circuit = "open"
        if seen.failures_in_a_row >= self._max_failures:
            seen.suspected_until_ms = self._clock.now_ms() + self._suspicion_ms
            seen.failures_in_a_row = 0

    def saw_rate_limit(self, deployment: str, told_s: float | None) -> None:
        """Let the deployment's quota scope cool down, as long as the provider told or else as long as is usual."""
        before, now_ms = self._cooldown(deployment), self._clock.now_ms()
        after = cooldown.refused(before, told_s, now_ms)
        if after.until_ms > before.until_ms:
            self._cooldowns[self._scope(deployment)] = after
            self._seen.setdefault(deployment, Seen()).untold_cooldown_ms = after.until_ms
            log.warning("cooldown", deployment=deployment, seconds=after.left_s(now_ms))

    def learn(self, health: ModelHealth) -> None:
        """Take over what HEALTH has concluded. A circuit that is no longer open ends a suspicion, too."""
        seen = self._seen.setdefault(health.deployment, Seen())
        if seen.circuit != health.circuit:
            if health.circuit != "open":
                seen.suspected_until_ms = seen.failures_in_a_row = 0
            level = WARNING if health.circuit == "open" else INFO
            log.log(level, _CIRCUIT_IS[health.circuit], deployment=health.deployment, reason=health.last_reason)
        seen.circuit, seen.may_probe = health.circuit, health.probe_by == self._worker
        if health.cooldown_until_ms is not None:
            before, now_ms = self._cooldown(health.deployment), self._clock.now_ms()
            after = cooldown.told(before, health.cooldown_until_ms, now_ms)
            self._cooldowns[self._scope(health.deployment)] = after
            if after.until_ms > max(before.until_ms, now_ms):
                log.info("cooldown", deployment=health.deployment, seconds=after.left_s(now_ms))

    def take_observations(self) -> list[Observation]:
        """Return what was seen since the last time, one observation per deployment that had calls."""
        now_ms = self._clock.now_ms()
        taken = []
        for deployment, seen in self._seen.items():
            if seen.successes or seen.failures or seen.untold_cooldown_ms is not None:
                taken.append(
                    Observation(
                        deployment=deployment,
                        worker=self._worker,
                        successes=seen.successes,
                        failures=seen.failures,
                        failures_in_a_row=seen.failures_in_a_row,
                        cooldown_until_ms=seen.untold_cooldown_ms,
                        at_ms=now_ms,
                    )
                )
                seen.successes, seen.failures, seen.untold_cooldown_ms = 0, {}, None
        return taken

    def checked(self, deployment: str, result: Literal["passed", "failed"]) -> Observation:
        """Return the observation that an active check makes."""
        return Observation(deployment=deployment, worker=self._worker, check=result, at_ms=self._clock.now_ms())


async def tell(seen: list[Observation], events: EventLog, topic: str, partitions: int) -> None:
    """Publish observations, each to its deployment's partition. Losing one loses counts, no decision."""
    if seen:
        await events.publish_progress(
            [
                Outgoing(
                    topic,
                    o.deployment.encode(),
                    o.model_dump_json().encode(),
                    partition_of(o.deployment.encode(), partitions),
                )
                for o in seen
            ]
        )


async def follow(view: HealthView, connection: Mapping[str, Any], topic: str, partitions: int) -> None:
    """Read `model.health` from its beginning into `view`, for ever, outside any group."""
    consumer = AIOKafkaConsumer(**connection, group_id=None, auto_offset_reset="earliest", enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, p) for p in range(partitions)])
        while True:
            batches = await consumer.getmany(timeout_ms=READ_TIMEOUT_MS)
            for records in batches.values():
                for record in records:
                    if record.value is not None:
                        _learn(view, record.value)
    finally:
        await consumer.stop()


def _learn(view: HealthView, value: bytes) -> None:
    try:
        view.learn(ModelHealth.model_validate_json(value))
    except ValidationError as error:
        log.warning("not understood on model.health", problems=error.error_count())
