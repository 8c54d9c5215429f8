"""What an operator tells a tenant's home: topic `prompt.progress`, beside what becomes of requests."""

from typing import Literal

from pydantic import ValidationError

from schemas.envelope import Value
from schemas.units import RequestId, Tenant


class BudgetLifted(Value):
    """The tenant may go on although a provider has billed more than a hold.

    `lift_id` names this one act: the same one again changes nothing, nor does one where nothing is stopped.
    """

    type: Literal["budget.lifted.v1"] = "budget.lifted.v1"
    tenant: Tenant
    lift_id: RequestId


def lift_of(value: bytes) -> BudgetLifted | None:
    """Read one record; None: it is something else."""
    try:
        return BudgetLifted.model_validate_json(value)
    except ValidationError:
        return None
