"""Facts about a request on its way: topic `prompt.progress`, internal, produced to the request's home partition.

FINISH reads them in offset order. Each may be repeated at a new offset after a failure; a repetition changes nothing.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, TypeAdapter

from schemas.envelope import Value
from schemas.errors import ErrorCode, Reason
from schemas.routing import Routing
from schemas.units import DeploymentId, RequestId, Tenant
from schemas.usage import NO_CHARGE, Charge

Short = Annotated[str, AfterValidator(lambda text: text[:512])]
Message = Annotated[str, AfterValidator(lambda text: text[:4096])]
"""Kept in the request's row: cut, so that no event can make the row unwritable."""

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False), AfterValidator(lambda seconds: min(seconds, 1e9))]
Number = Annotated[int, Field(ge=1, le=2**31)]
Offset = Annotated[int, Field(ge=0, lt=2**63)]

FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "other"]


class Answer(Value):
    """What a provider answered, in our words, with the provider's own beside them."""

    text: str
    tool_calls: tuple[dict[str, Any], ...] = ()
    finish_reason: FinishReason
    finish_reason_raw: str | None = None
    response_id: str | None = None
    response_model: str | None = None
    logprobs: dict[str, Any] | None = None


class _OfRequest(Value):
    """`request_offset`: where the request's record stands at home, since an id that is forgotten may be used again."""

    tenant: Tenant
    request_id: RequestId
    request_offset: Offset | None = None


class _Attempt(_OfRequest):
    attempt: Number


class AttemptSucceeded(_Attempt):
    """A provider answered one attempt. `duration_s`: first byte sent to last byte received.

    `dropped_parameters`: what the request asked for and the provider's dialect has no words for (by OpenAI's names).
    """

    type: Literal["prompt.attempt.succeeded.v1"] = "prompt.attempt.succeeded.v1"
    model: Short
    deployment: DeploymentId
    provider: Short
    answer: Answer
    charge: Charge
    duration_s: Seconds
    queued_s: Seconds = 0.0
    provider_request_id: Short | None = None
    dropped_parameters: tuple[str, ...] = ()
    routing: Routing | None = None


class AttemptFailed(_Attempt):
    """One attempt brought no answer.

    `again`: the same deployment may be tried again. `elsewhere`: another deployment may do better. Both false: the
    request itself is at fault or nothing is left to try. `deployment` is absent when none could be chosen.
    """

    type: Literal["prompt.attempt.failed.v1"] = "prompt.attempt.failed.v1"
    model: Short | None = None
    deployment: DeploymentId | None = None
    provider: Short | None = None
    code: ErrorCode
    reason: Reason
    message: Message
    again: bool
    elsewhere: bool
    blames_model: bool = False
    charge: Charge = NO_CHARGE
    retry_after_s: Seconds | None = None
    http_status: Annotated[int, Field(ge=0, le=999)] | None = None
    provider_request_id: Short | None = None
    duration_s: Seconds = 0.0
    routing: Routing | None = None


class AttemptRedriven(_Attempt):
    """The owner of the partition found this attempt open and runs it nowhere: its outcome is unknown."""

    type: Literal["prompt.attempt.redriven.v1"] = "prompt.attempt.redriven.v1"


class AttemptDue(_Attempt):
    """The moment that a waiting attempt had to wait for has come."""

    type: Literal["prompt.attempt.due.v1"] = "prompt.attempt.due.v1"


class RequestExpired(_OfRequest):
    """The request's deadline has passed."""

    type: Literal["prompt.request.expired.v1"] = "prompt.request.expired.v1"


Progress = Annotated[
    AttemptSucceeded | AttemptFailed | AttemptRedriven | AttemptDue | RequestExpired, Field(discriminator="type")
]

_PROGRESS: TypeAdapter[Progress] = TypeAdapter(Progress)


def progress_of(value: bytes) -> Progress:
    """Read one record of `prompt.progress`. Raises `pydantic.ValidationError` where it is not one."""
    return _PROGRESS.validate_json(value)
