"""Records that could not be understood at all: why, and the event that keeps them findable."""

import hashlib
from base64 import b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Annotated, Any, Final, Literal

from pydantic import Field, NonNegativeInt

from schemas.envelope import Event
from schemas.units import RequestId, Tenant, rfc3339

DeadLetterReason = Literal[
    "tombstone",
    "too_large",
    "not_utf8",
    "bom",
    "not_json",
    "too_deep",
    "not_an_object",
    "misrouted",
    "unknown_event",
    "internal_error",
]
"""Closed, so that it can label a metric. The first seven are what `prompt.requests` can hold (CONTRACT §1);
`misrouted`: forwarded and still not at home (DESIGN §3); `unknown_event`: JSON on an internal topic, but no event;
`internal_error`: a bug of ours, logged with its traceback."""

KEPT_VALUE_BYTES: Final = 65_536
KEPT_HEADER_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Why a record has no better answer. `message` is one sentence for people, free of the record's content."""

    reason: DeadLetterReason
    message: str


class PromptDeadLettered(Event):
    """Topic `prompt.deadletters`, key: request id or none. The original stays readable at its coordinates.

    `value_base64` holds the first 64 KiB, null for a tombstone; `sha256` and `size` are those of the whole value.
    `headers`: pairs of name and base64. `headers_truncated`, `tenant`, `request_id` and `metadata` are there only where
    they say something.
    """

    type: Literal["prompt.dead_lettered.v1"] = "prompt.dead_lettered.v1"
    topic: str
    partition: NonNegativeInt
    offset: NonNegativeInt
    reason: DeadLetterReason
    message: str
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    size: NonNegativeInt
    value_base64: str | None
    headers: tuple[Annotated[tuple[str | None, ...], Field(min_length=2, max_length=2)], ...]
    headers_truncated: bool = False
    tenant: Tenant | None = None
    request_id: RequestId | None = None
    metadata: dict[str, str] | None = None


def dead_letter_event(
    dead_letter: DeadLetter,
    *,
    event_id: str,
    time_ms: int,
    topic: str,
    partition: int,
    offset: int,
    value: bytes | None,
    headers: Iterable[tuple[str, bytes | None]] = (),
    tenant: str | None = None,
    request_id: str | None = None,
    metadata: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the `prompt.dead_lettered.v1` event of one record (CONTRACT §2, §5).

    A pure function of its arguments: the same record under the same `event_id` gives the same event again.
    `value_base64` holds the first 64 KiB, null for a tombstone; `sha256` and `size` are those of the whole value.
    Headers beyond 64 KiB are left out and `headers_truncated` is set: a dead letter must always fit its topic.
    What is not known of `tenant`, `request_id` and `metadata` is not in the event.
    """
    original = b"" if value is None else value
    every_header = list(headers)
    kept_headers = _headers_that_fit(every_header)
    event: dict[str, Any] = {
        "id": event_id,
        "type": "prompt.dead_lettered.v1",
        "time": rfc3339(time_ms),
        "topic": topic,
        "partition": partition,
        "offset": offset,
        "reason": dead_letter.reason,
        "message": dead_letter.message,
        "sha256": hashlib.sha256(original).hexdigest(),
        "size": len(original),
        "value_base64": None if value is None else _base64(original[:KEPT_VALUE_BYTES]),
        "headers": [[name, None if content is None else _base64(content)] for name, content in kept_headers],
    }
    if len(kept_headers) < len(every_header):
        event["headers_truncated"] = True
    known = {"tenant": tenant, "request_id": request_id, "metadata": None if metadata is None else dict(metadata)}
    return event | {name: fact for name, fact in known.items() if fact is not None}


def _headers_that_fit(headers: list[tuple[str, bytes | None]]) -> list[tuple[str, bytes | None]]:
    """The longest prefix of `headers` whose names and contents together stay within `KEPT_HEADER_BYTES`."""
    sizes = accumulate(len(name.encode()) + len(content or b"") for name, content in headers)
    return headers[: sum(1 for size in sizes if size <= KEPT_HEADER_BYTES)]


def _base64(content: bytes) -> str:
    return b64encode(content).decode("ascii")
