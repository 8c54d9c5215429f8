"""The sections `tenants` and `rate_limit`: who may spend how much, how fast, on what."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import Field, StrictBool

from schemas.configuration.kinds import IDENTIFIER, Integer, Usd
from schemas.configuration.section import Section
from schemas.units import nano_usd_ceiling

_MOST_USD = 9_000_000_000  # in nano-dollars it fits a signed 64-bit integer


class RateLimit(Section):
    """A tenant's rate: a bucket of `burst_size` that fills at `requests_per_minute`."""

    enabled: StrictBool = Field(default=True, description="Whether the limit counts; `false` means no limit.")
    requests_per_minute: Annotated[int, Integer(1, 1_000_000_000)] = Field(
        default=100, description="Requests per minute that a tenant may have admitted."
    )
    burst_size: Annotated[int, Integer(1, 1_000_000_000)] = Field(
        default=10, description="Requests that a full bucket passes at one instant."
    )
    mode: Literal["refuse", "wait"] = Field(
        default="refuse", description="What becomes of a request above the limit: refused, or waiting its turn."
    )
    tokens_per_minute: Annotated[int, Integer(1)] | None = Field(
        default=None, description="Tokens per minute that a tenant may use. Default: none, no such limit."
    )


class Budget(Section):
    """Money that a tenant may spend in one window of the UTC calendar."""

    usd: Annotated[Decimal, Usd(_MOST_USD, 9)] = Field(description="US dollars, with at most nine decimals.")
    window: Literal["minute", "hour", "day", "month", "total"] = Field(
        description="The UTC calendar window that the money is for; `total` never ends."
    )

    @property
    def limit_nano_usd(self) -> int:
        """The limit in nano-dollars: exact, since nine decimals are the most."""
        return nano_usd_ceiling(self.usd)


class Tenant(Section):
    """One tenant."""

    name: Annotated[str, IDENTIFIER] = Field(description="The tenant's name, unique.")
    budgets: tuple[Budget, ...] = Field(
        default=(), description="Money per window, one for each kind of window. Default: none, no budget."
    )
    rate_limit: RateLimit | None = Field(
        default=None, description="The tenant's own rate limit, instead of the global one. Default: the global one."
    )
    models: tuple[Annotated[str, IDENTIFIER], ...] | None = Field(
        default=None, description="Names of the models that the tenant may use. Default: all."
    )


@dataclass(frozen=True, slots=True)
class TenantRules:
    """What counts for one tenant, defaults applied."""

    name: str
    budgets: tuple[Budget, ...] = ()
    rate_limit: RateLimit | None = None
    models: frozenset[str] | None = None  # None: all

    @property
    def limited(self) -> bool:
        """Whether the tenant has a budget or a rate limit, and so one home for all its requests (DESIGN §3)."""
        return bool(self.budgets) or self.rate_limit is not None
