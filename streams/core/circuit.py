"""A deployment's circuit breaker, folded by HEALTH from what workers observe, in the order of the log.

It opens after `max_failures` failures in a row. An active check that passes makes it half-open: one worker, the last
that had calls there, may probe it with real ones. Its answer closes the circuit, its failure opens it again. Where that
worker has no call until the next check, and this one passes too, the circuit closes without.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import assert_never

from schemas.health import CircuitState, ModelHealth, Observation
from schemas.units import rfc3339
from streams.core.identity import event_id


@dataclass(frozen=True, slots=True)
class Circuit:
    """The row `deployment/<id>` of the table `health`. Counts are totals since the row began.

    `last_worker`: the last one that had calls there, while it is half-open the one that may probe. `applied`: the
    offset of the last observation folded in; a redelivered one changes nothing.
    """

    deployment: str
    state: CircuitState = "closed"
    failures_in_a_row: int = 0
    successes: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    last_reason: str | None = None
    applied: int = -1
    cooldown_until_ms: int | None = None
    last_worker: str | None = None


def evolve(circuit: Circuit, seen: Observation, *, offset: int, max_failures: int) -> Circuit:
    """Return the circuit after one observation. Total: never raises, never reads a clock."""
    if offset <= circuit.applied:
        return circuit
    if seen.cooldown_until_ms is not None:
        circuit = replace(circuit, cooldown_until_ms=max(circuit.cooldown_until_ms or 0, seen.cooldown_until_ms))
    match seen.check:
        case "passed":
            state = _BETTER[circuit.state] if circuit.last_worker is not None else "closed"
            return replace(circuit, state=state, failures_in_a_row=0, applied=offset)
        case "failed":
            opens = circuit.state == "half_open"
            return replace(circuit, state="open" if opens else circuit.state, applied=offset)
        case None:
            return _counted(_after_calls(circuit, seen, max_failures), seen, offset)


_BETTER: Mapping[CircuitState, CircuitState] = {"open": "half_open", "half_open": "closed", "closed": "closed"}


def _after_calls(circuit: Circuit, seen: Observation, max_failures: int) -> Circuit:
    """Return the circuit with the state that a worker's calls leave it in."""
    failed = sum(seen.failures.values())
    in_a_row = seen.failures_in_a_row if seen.successes else circuit.failures_in_a_row + failed
    match circuit.state:
        case "open":  # what comes now was under way when it opened
            state: CircuitState = "open"
        case "half_open" if seen.worker != circuit.last_worker or not (failed or seen.successes):
            return circuit
        case "half_open":
            state = "open" if failed else "closed"
        case "closed":
            state = "open" if in_a_row >= max_failures else "closed"
        case _:
            assert_never(circuit.state)
    worker = seen.worker if failed or seen.successes else circuit.last_worker
    return replace(circuit, state=state, failures_in_a_row=in_a_row, last_worker=worker)


def _counted(circuit: Circuit, seen: Observation, offset: int) -> Circuit:
    totals = dict(circuit.failures)
    for reason, count in seen.failures.items():
        totals[reason] = totals.get(reason, 0) + count
    return replace(
        circuit,
        successes=circuit.successes + seen.successes,
        failures=totals,
        last_reason=next(reversed(seen.failures), circuit.last_reason),
        applied=offset,
    )


def health_of(circuit: Circuit, *, partition: int, time_ms: int) -> ModelHealth:
    """Return the event that tells every worker how the deployment does. A redelivery gives the same bytes."""
    return ModelHealth(
        id=event_id("", circuit.deployment, "model.observations", partition, circuit.applied, "health"),
        type="model.health.v1",
        time=rfc3339(time_ms),
        deployment=circuit.deployment,
        status="available" if circuit.state == "closed" else "unavailable",
        circuit=circuit.state,
        failures_in_a_row=circuit.failures_in_a_row,
        successes=circuit.successes,
        failures=circuit.failures,
        last_reason=circuit.last_reason,
        cooldown_until_ms=circuit.cooldown_until_ms,
        probe_by=circuit.last_worker if circuit.state == "half_open" else None,
    )
