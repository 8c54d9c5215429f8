"""What every event has in common."""

from pydantic import BaseModel, ConfigDict, Field

from schemas.units import RequestId, Tenant


class Value(BaseModel):
    """An immutable part of an event. Unknown fields are refused, so that a misspelt one is found at once."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Event(Value):
    """An immutable record of something that happened (CONTRACT §2).

    `id` is the same whenever the event is repeated after a failure: consumers deduplicate on it. `time` is RFC 3339 in
    UTC with milliseconds, the broker's time of the record whose decision this event tells.
    """

    id: str
    type: str
    time: str


class RequestEvent(Event):
    """An event about one prompt request; `metadata` is the request's own, echoed."""

    tenant: Tenant
    request_id: RequestId
    metadata: dict[str, str] = Field(default_factory=dict)
