"""A tenant's rate limit: the generic cell rate algorithm (ITU-T I.371), which keeps one number per tenant.

The number is the theoretical arrival time `tat_ns`: when the bucket will be full again, in nanoseconds since the epoch;
0 to begin with. Only admitted requests move it. The caller's time never runs backwards.
"""

from dataclasses import dataclass
from typing import assert_never

NS_PER_MS = 1_000_000
NS_PER_MINUTE = 60_000 * NS_PER_MS


@dataclass(frozen=True, slots=True)
class Rate:
    """`burst` requests at one instant from a full bucket, `per_minute` in the long run. Both at least 1."""

    per_minute: int
    burst: int

    def __post_init__(self) -> None:
        """Refuse a rate that would admit nothing."""
        if self.per_minute < 1 or self.burst < 1:
            raise ValueError(f"a rate needs at least 1 per minute and a burst of at least 1, not {self}")

    @property
    def interval_ns(self) -> int:
        """Time that one request uses up; rounded up by less than 1 ns, so that the limit is never exceeded."""
        return -(-NS_PER_MINUTE // self.per_minute)


@dataclass(frozen=True, slots=True)
class Admitted:
    """The request passes, and this is the new state."""

    tat_ns: int


@dataclass(frozen=True, slots=True)
class Refused:
    """The state stays as it was. The same request would pass `retry_after_ms` later and not a millisecond earlier."""

    retry_after_ms: int


def admit(tat_ns: int, now_ms: int, rate: Rate) -> Admitted | Refused:
    """Decide whether a request passes at `now_ms`."""
    now_ns = now_ms * NS_PER_MS
    interval_ns = rate.interval_ns
    earliest_ns = tat_ns - (rate.burst - 1) * interval_ns
    if now_ns >= earliest_ns:
        return Admitted(max(tat_ns, now_ns) + interval_ns)
    return Refused(-(-(earliest_ns - now_ns) // NS_PER_MS))


def start_for(amount: int, tat_ns: int, now_ms: int, rate: Rate) -> int | None:
    """Return when (ms) something may start that counts `amount` times, such as a request's tokens.

    None where it counts for more than a full bucket: then no wait helps.
    """
    if amount > rate.burst:
        return None
    earliest_ms = -(-(tat_ns - (rate.burst - amount) * rate.interval_ns) // NS_PER_MS)
    return max(now_ms, earliest_ms)


def turn(tat_ns: int, now_ms: int, rate: Rate) -> tuple[int, int]:
    """Return (new state, start in ms): let a request wait for its turn; others are then behind it (mode `wait`)."""
    match admit(tat_ns, now_ms, rate):
        case Admitted(tat_ns=new_tat_ns):
            return new_tat_ns, now_ms
        case Refused(retry_after_ms=wait_ms):
            start_ms = now_ms + wait_ms
            return max(tat_ns, start_ms * NS_PER_MS) + rate.interval_ns, start_ms
        case never:
            assert_never(never)
