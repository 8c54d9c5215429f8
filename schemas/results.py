"""Terminal events: what callers hear (CONTRACT §2). Exactly one per request."""

from typing import Any, Literal

from pydantic import NonNegativeFloat, NonNegativeInt

from schemas.envelope import RequestEvent
from schemas.errors import Error
from schemas.progress import FinishReason
from schemas.units import DeploymentId, NanoUsd
from schemas.usage import Usage, UsageSource


class PromptAnswered(RequestEvent):
    """Topic `prompt.responses`, key: request id. The cost is the sum of what is booked for the request so far.

    `logprobs` and `dropped_parameters` (asked for, and without words in the provider's dialect) are there only where
    they say something.
    """

    type: Literal["prompt.answered.v1"] = "prompt.answered.v1"
    model: str
    deployment: DeploymentId
    provider: str
    text: str
    tool_calls: tuple[dict[str, Any], ...]
    finish_reason: FinishReason
    finish_reason_raw: str | None
    response_id: str | None
    response_model: str | None
    logprobs: dict[str, Any] | None = None
    usage: Usage
    usage_source: UsageSource
    cost_nano_usd: NanoUsd
    cost_usd: str
    source: Literal["provider", "cache", "shared"]
    attempts: NonNegativeInt
    queued_s: NonNegativeFloat
    duration_s: NonNegativeFloat
    dropped_parameters: tuple[str, ...] = ()


class PromptFailed(RequestEvent):
    """Topic `prompt.errors`, key: request id."""

    type: Literal["prompt.failed.v1"] = "prompt.failed.v1"
    attempts: NonNegativeInt
    retryable: bool
    error: Error
    cost_nano_usd: NanoUsd
    cost_usd: str
