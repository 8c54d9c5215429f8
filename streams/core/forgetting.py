"""What becomes of requests that are done: they are forgotten, in the order of their records, once `prompt.requests` is
read up to `idempotency.horizon` after they were done (DESIGN §3, step 5).

An index row `done/<offset>` is written with a request's terminal decision and deleted with the request's row. The
offset is that of the request's record in its home partition of `prompt.requests`: 8 bytes, big-endian.
"""

from dataclasses import dataclass, replace

import orjson

from streams.core.account import Account
from streams.core.request import Request

FINISHED_PREFIX = b"done/"
UNCERTAIN = b'"uncertain"'
"""In the bytes of every row with an uncertain booking, and rarely elsewhere."""


@dataclass(frozen=True, slots=True, order=True)
class Finished:
    """A request that is done, by the offset of its record; `finished_ms`: its partition's event time by then."""

    offset: int
    finished_ms: int
    tenant: str
    request_id: str

    def is_over(self, clock_ms: int, horizon_ms: int) -> bool:
        """Whether its id need not be known any more."""
        return clock_ms - self.finished_ms >= horizon_ms


def finished_key(offset: int) -> bytes:
    """Return the key of an index row."""
    return FINISHED_PREFIX + offset.to_bytes(8, "big")


def encode_finished(finished: Finished) -> bytes:
    """Write an index row."""
    return orjson.dumps([finished.finished_ms, finished.tenant, finished.request_id])


def decode_finished(key: bytes, value: bytes) -> Finished:
    """Read an index row."""
    return Finished(int.from_bytes(key[len(FINISHED_PREFIX) :], "big"), *orjson.loads(value))


def without_doubts(account: Account, request: Request) -> Account:
    """Return the account when a request is forgotten: the truth about its uncertain bookings is not waited for any
    longer, so that windows that are over can go. What is booked stays booked."""
    waits = [name for b in request.bookings if not b.certain for name in request.windows.get(b.attempt, ())]
    return replace(
        account, windows=tuple(replace(w, uncertain=w.uncertain - waits.count(w.id)) for w in account.windows)
    )
