"""Where a request was first published, and the headers that tell its home so (CONTRACT §1, DESIGN §3 "Home").

A producer who forges these headers changes only that request's own derived id and deadline; a first time later than
the record's own is impossible and does not count.
"""

from collections.abc import Sequence
from dataclasses import dataclass

Headers = Sequence[tuple[str, bytes]]

TOPIC = "orchestrator-first-topic"
PARTITION = "orchestrator-first-partition"
OFFSET = "orchestrator-first-offset"
TIMESTAMP = "orchestrator-first-timestamp"
_NAMES = frozenset({TOPIC, PARTITION, OFFSET, TIMESTAMP})
_MOST_DIGITS = 18


@dataclass(frozen=True, slots=True)
class First:
    """The coordinates and broker time of a request as first published; `forwarded`: it has been sent home already."""

    partition: int
    offset: int
    time_ms: int
    forwarded: bool


def first_seen(headers: Headers, partition: int, offset: int, time_ms: int) -> First:
    """Return where the record with these headers and coordinates was first published. Odd headers count as absent."""
    found = {name: value for name, value in headers if name in _NAMES}
    if not found:
        return First(partition, offset, time_ms, forwarded=False)
    numbers = [_number(found.get(name)) for name in (PARTITION, OFFSET, TIMESTAMP)]
    first_partition, first_offset, first_time = numbers
    if first_partition is None or first_offset is None or first_time is None:
        return First(partition, offset, time_ms, forwarded=False)
    return First(first_partition, first_offset, min(first_time, time_ms), forwarded=True)


def forwarding_headers(headers: Headers, topic: str, first: First) -> tuple[tuple[str, bytes], ...]:
    """Return the record's headers with those that tell its first coordinates."""
    told = [(TOPIC, topic), (PARTITION, first.partition), (OFFSET, first.offset), (TIMESTAMP, first.time_ms)]
    return (*((n, v) for n, v in headers if n not in _NAMES), *((n, str(v).encode()) for n, v in told))


def _number(raw: bytes | None) -> int | None:
    if raw is None or not raw.isdigit() or len(raw) > _MOST_DIGITS:
        return None
    return int(raw)
