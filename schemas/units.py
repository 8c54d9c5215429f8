"""Units and identifiers, and how they are written."""

from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal
from functools import lru_cache
from typing import Annotated

from pydantic import Field, StringConstraints

NANO = 1_000_000_000

NanoUsd = Annotated[int, Field(strict=True)]
"""Money: an integer of 10⁻⁹ US dollars. Signed only in adjustments."""

MOST_NANO_USD = 10**17

BookedNanoUsd = Annotated[int, Field(strict=True, ge=-MOST_NANO_USD, le=MOST_NANO_USD)]
"""What one attempt costs: far below what a row can hold, so that no event can make an account unwritable."""

Milliseconds = Annotated[int, Field(strict=True, ge=0, le=253_402_300_799_999)]
"""A moment: milliseconds since the Unix epoch, UTC; what a Kafka record's timestamp is."""

Identifier = Annotated[str, StringConstraints(strict=True, pattern=r"^[!-~]{1,128}$")]
"""Printable ASCII without spaces: such an id can be part of a table key, a header and a log line (DESIGN §6)."""
RequestId = Identifier
Tenant = Identifier
DeploymentId = Identifier


@lru_cache(maxsize=4096)
def rfc3339(moment_ms: int) -> str:
    """Write a moment as RFC 3339 in UTC with milliseconds: `2026-11-23T02:00:00.000Z`."""
    seconds, millis = divmod(moment_ms, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{millis:03d}Z"


def usd(nano_usd: int) -> str:
    """Write an amount for people, exact: `0.000360000`."""
    sign = "-" if nano_usd < 0 else ""
    whole, fraction = divmod(abs(nano_usd), NANO)
    return f"{sign}{whole}.{fraction:09d}"


def nano_usd_ceiling(amount_usd: Decimal) -> int:
    """Round an amount of US dollars up to whole nano-dollars: the one rounding of an attempt (DESIGN §7)."""
    return int((amount_usd * NANO).to_integral_value(rounding=ROUND_CEILING))
