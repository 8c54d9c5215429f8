"""Tokens of one call and what they cost."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from schemas.envelope import Value
from schemas.units import BookedNanoUsd

Tokens = Annotated[int, Field(ge=0, le=10**15)]


class Usage(Value):
    """Token counts of one call. `input_tokens` and `output_tokens` are totals that include the finer classes.

    Counts as OpenAI and OpenTelemetry do (CONTRACT §2): cache reads and writes are part of the input, reasoning is part
    of the output.
    """

    input_tokens: Tokens = 0
    cache_read_input_tokens: Tokens = 0
    cache_creation_input_tokens: Tokens = 0
    output_tokens: Tokens = 0
    reasoning_tokens: Tokens = 0


LineClass = Literal[
    "input",
    "cache_read",
    "cache_write",
    "output",
    "reasoning",
    "audio_input",
    "audio_output",
    "per_request",
    "bound",
    "adjustment",
]


class CostLine(Value):
    """One line of a bill. Lines are disjoint and add up to the event's amount; `usd_per_million` is an exact decimal.

    `tokens` and `usd_per_million` are absent where they say nothing: `per_request`, `bound`, `adjustment`.
    """

    model_config = ConfigDict(serialize_by_alias=True, validate_by_name=True, validate_by_alias=True)

    class_: LineClass = Field(alias="class")
    tokens: Tokens | None = None
    usd_per_million: str | None = None
    nano_usd: BookedNanoUsd


class Price(Value):
    """Where the rates of a bill come from: `configuration` or `genai-prices`, its version, and the rates used."""

    source: str
    version: str
    rates: dict[str, str] = Field(default_factory=dict)


UsageSource = Literal["provider", "estimated"]


class Charge(Value):
    """What one attempt cost, worked out once, where its outcome was seen, with everything that the bill needs.

    `certainty`: `none` (nothing can have been billed), `incurred` (booked from the usage, or from the bound where usage
    is missing: then `usage_source` is `estimated`), `uncertain` (may have been billed: booked at the bound until the
    truth arrives).
    """

    certainty: Literal["none", "incurred", "uncertain"]
    nano_usd: BookedNanoUsd = 0
    lines: tuple[CostLine, ...] = ()
    usage: Usage | None = None
    usage_source: UsageSource = "provider"
    price: Price | None = None


NO_CHARGE = Charge(certainty="none")
