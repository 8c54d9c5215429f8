"""Why an attempt went where it went: a part of its progress record."""

from typing import Literal

from schemas.envelope import Value
from schemas.units import DeploymentId

Strategy = Literal["round-robin", "weighted", "least-busy", "latency", "cost", "priority"]

LeftOut = Literal["circuit_open", "cooldown", "retry_budget", "full", "tried", "less_preferred"]
"""Its circuit is open; its quota scope cools down; too many of its calls were retries; no room, and others had some; it
failed this request, and others have not; the request prefers another model."""


class Considered(Value):
    """One deployment that may serve the request. `score`: what the strategy went by, where it looked at this one.

    That is: the turn it last had (`round-robin`), its weight, calls in flight (`least-busy`), seconds to expect
    (`latency`), nano-USD (`cost`), its priority.
    """

    deployment: DeploymentId
    verdict: Literal["considered", "excluded"]
    reason: LeftOut | None = None
    score: float | None = None


class Routing(Value):
    """What was chosen, None: nobody, among whom and why. `candidates` in the request's order of preference."""

    strategy: Strategy
    chosen: DeploymentId | None
    candidates: tuple[Considered, ...] = ()
