"""A deployment's circuit breaker, folded by HEALTH from what workers observe, in the order of the log.

It opens after `max_failures` failures in a row and closes when an active check succeeds (issue 5 of 6 adds half-open).
"""

from dataclasses import dataclass, field, replace

from schemas.health import CircuitState, ModelHealth, Observation
from schemas.units import rfc3339
from streams.core.identity import event_id


@dataclass(frozen=True, slots=True)
class Circuit:
    """The row `deployment/<id>` of the table `health`. Counts are totals since the row began.

    `applied`: the offset of the last observation folded in; a redelivered one changes nothing.
    """

    deployment: str
    state: CircuitState = "closed"
    failures_in_a_row: int = 0
    successes: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    last_reason: str | None = None
    applied: int = -1
    cooldown_until_ms: int | None = None


def evolve(circuit: Circuit, seen: Observation, *, offset: int, max_failures: int) -> Circuit:
    """Return the circuit after one observation. Total: never raises, never reads a clock."""
    if offset <= circuit.applied:
        return circuit
    if seen.cooldown_until_ms is not None:
        circuit = replace(circuit, cooldown_until_ms=max(circuit.cooldown_until_ms or 0, seen.cooldown_until_ms))
    if seen.check == "passed":
        return replace(circuit, state="closed", failures_in_a_row=0, applied=offset)
    failed = sum(seen.failures.values())
    in_a_row = seen.failures_in_a_row if seen.successes else circuit.failures_in_a_row + failed
    totals = dict(circuit.failures)
    for reason, count in seen.failures.items():
        totals[reason] = totals.get(reason, 0) + count
    opens = circuit.state == "open" or in_a_row >= max_failures
    return replace(
        circuit,
        state="open" if opens else "closed",
        failures_in_a_row=in_a_row,
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
    )
