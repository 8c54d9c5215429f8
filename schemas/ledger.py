"""Ledger entries: topic `ledger.entries`, key: tenant, produced to the request's home partition, kept for ever."""

from typing import Literal

from pydantic import NonNegativeInt, PositiveInt

from schemas.envelope import Event
from schemas.units import NanoUsd, RequestId, Tenant

LedgerType = Literal[
    "hold.placed.v1", "hold.settled.v1", "hold.released.v1", "hold.refused.v1", "booking.adjusted.v1", "budget.set.v1"
]


class LedgerEntry(Event):
    """One window of one account, touched by one decision.

    `hold_nano_usd`: placed, or closed; `amount_nano_usd`: booked as spent (signed in an adjustment). `seq` starts at 1
    and has no gaps per partition; the log order of first appearances is `seq` order. `window` is `none` for a tenant
    without budget, whose `limit_nano_usd` is null.
    """

    type: LedgerType
    tenant: Tenant
    request_id: RequestId | None = None
    attempt: NonNegativeInt | None = None
    window: str
    hold_nano_usd: NanoUsd = 0
    amount_nano_usd: NanoUsd = 0
    spent_after_nano_usd: NanoUsd
    reserved_after_nano_usd: NanoUsd
    limit_nano_usd: NanoUsd | None
    limit_before_nano_usd: NanoUsd | None = None
    partition: NonNegativeInt
    seq: PositiveInt
