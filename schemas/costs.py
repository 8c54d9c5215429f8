"""Cost events: topic `prompt.costs`, key: tenant. Σ `cost_nano_usd` over distinct ids is the bill, at any moment."""

from typing import Literal

from pydantic import PositiveInt

from schemas.envelope import RequestEvent
from schemas.units import DeploymentId, NanoUsd
from schemas.usage import CostLine, Price, Usage, UsageSource

CostType = Literal["cost.incurred.v1", "cost.uncertain.v1", "cost.adjusted.v1"]


class CostEvent(RequestEvent):
    """`cost.incurred.v1`, `cost.uncertain.v1` or `cost.adjusted.v1`: one physical call that may have been billed.

    `uncertain` books the upper bound; `adjusted` carries the signed difference once the truth is known, without
    `usage`. `model` and `deployment` are absent where a crash hid which deployment the attempt had reached.
    """

    type: CostType
    attempt: PositiveInt
    model: str | None = None
    deployment: DeploymentId | None = None
    provider: str | None = None
    usage: Usage | None = None
    usage_source: UsageSource
    cost_nano_usd: NanoUsd
    cost_usd: str
    lines: tuple[CostLine, ...]
    price: Price | None = None
