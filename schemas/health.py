"""How deployments do: `model.observations` (what workers see) and `model.health` (what HEALTH concludes)."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt

from schemas.envelope import Event, Value
from schemas.errors import Reason
from schemas.units import DeploymentId, Milliseconds

Count = Annotated[int, Field(ge=0, le=10**9)]


class Observation(Value):
    """Topic `model.observations`, key: deployment. One worker's outcomes of one deployment since its last observation.

    `failures_in_a_row` is the worker's own count at the end of the interval, 0 after a success. `check` is the result
    of an active check by the deployment's HEALTH owner, when this observation is one. `cooldown_until_ms`: the provider
    refused calls for its rate limit; until then, everybody leaves the deployment's whole quota scope alone.
    """

    type: Literal["model.observed.v1"] = "model.observed.v1"
    deployment: DeploymentId
    worker: Annotated[str, Field(max_length=256)]
    successes: Count = 0
    failures: dict[Reason, Count] = Field(default_factory=dict)
    failures_in_a_row: Count = 0
    check: Literal["passed", "failed"] | None = None
    cooldown_until_ms: Milliseconds | None = None
    at_ms: Milliseconds


CircuitState = Literal["closed", "open", "half_open"]


class ModelHealth(Event):
    """Topic `model.health`, compacted, key: deployment id; read whole by every worker.

    `probe_by`: while the circuit is half-open, the one worker that may call, one call at a time.
    """

    type: Literal["model.health.v1"] = "model.health.v1"
    deployment: DeploymentId
    status: Literal["available", "unavailable"]
    circuit: CircuitState
    failures_in_a_row: NonNegativeInt
    successes: NonNegativeInt
    failures: dict[str, NonNegativeInt]
    last_reason: str | None = None
    cooldown_until_ms: Milliseconds | None = None
    probe_by: str | None = None
