"""What a deployment's tokens cost: rates, and the exact integers that bills are computed with."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, Self

from schemas.usage import LineClass, Price

PriceSource = Literal["configuration", "genai-prices"]

NANO_DIGITS_PER_MILLION = 3  # USD per million tokens × 10³ = nano-USD per token
NANO_DIGITS = 9


@dataclass(frozen=True, slots=True)
class Rates:
    """US dollars per million tokens, by class, and per request.

    A class of None costs what the class that it is part of costs: cache reads, cache writes and audio are part of the
    input; reasoning and audio are part of the output. `one_rate` (the seed's `cost_per_token`): input and output totals
    at one rate, never divided further. `steps` are dearer price lists for long prompts: (n, rates) applies to the whole
    call once its input is above n tokens; ascending.

    Raises ValueError where a rate is negative or not finite. `scale` and `numerators` are exact: a token of a class
    costs numerators[class] / scale nano-USD; so does the request itself under `per_request`. `written` are the same
    rates as plain decimal strings, and `price` is what a bill says about them.
    """

    input: Decimal
    output: Decimal
    version: str
    source: PriceSource = "configuration"
    cache_read: Decimal | None = None
    cache_write: Decimal | None = None
    audio_input: Decimal | None = None
    reasoning: Decimal | None = None
    audio_output: Decimal | None = None
    per_request: Decimal = Decimal(0)
    one_rate: bool = False
    steps: tuple[tuple[int, "Rates"], ...] = ()

    scale: int = field(init=False, repr=False, compare=False)
    numerators: Mapping[LineClass, int] = field(init=False, repr=False, compare=False)
    written: Mapping[LineClass, str] = field(init=False, repr=False, compare=False)
    price: Price = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Work out once what every bill needs."""
        rates = self._by_class()
        for class_, rate in rates.items():
            if not rate.is_finite() or rate < 0:
                raise ValueError(f"the {class_} rate must be a finite amount of at least 0, not {rate}")
        digits = {c: NANO_DIGITS if c == "per_request" else NANO_DIGITS_PER_MILLION for c in rates}
        places = max(0, *(-_exponent(rate) - digits[c] for c, rate in rates.items()))
        written = {c: plain(rate) for c, rate in rates.items()}
        used = {c: text for c, text in written.items() if self._names(c)}
        object.__setattr__(self, "scale", 10**places)
        object.__setattr__(self, "numerators", {c: _shifted(rate, places + digits[c]) for c, rate in rates.items()})
        object.__setattr__(self, "written", written)
        object.__setattr__(self, "price", Price(source=self.source, version=self.version, rates=used))

    def _names(self, class_: LineClass) -> bool:
        """Whether a rate of its own was given for the class."""
        return self.per_request != 0 if class_ == "per_request" else getattr(self, class_) is not None

    def _by_class(self) -> dict[LineClass, Decimal]:
        def or_else(rate: Decimal | None, default: Decimal) -> Decimal:
            return default if rate is None else rate

        return {
            "input": self.input,
            "cache_read": or_else(self.cache_read, self.input),
            "cache_write": or_else(self.cache_write, self.input),
            "audio_input": or_else(self.audio_input, self.input),
            "output": self.output,
            "reasoning": or_else(self.reasoning, self.output),
            "audio_output": or_else(self.audio_output, self.output),
            "per_request": self.per_request,
        }

    @classmethod
    def flat(cls, cost_per_token: Decimal, version: str) -> Self:
        """Return rates of the seed's `cost_per_token`: USD for each token of input and output alike."""
        sign, digits, exponent = cost_per_token.as_tuple()
        if not isinstance(exponent, int):
            raise ValueError(f"cost_per_token must be a finite amount of at least 0, not {cost_per_token}")
        per_million = Decimal((sign, digits, exponent + 6))  # exact whatever the context's precision
        return cls(per_million, per_million, version, one_rate=True)

    @classmethod
    def of_price(cls, price: object, version: str, source: PriceSource = "configuration") -> Self:
        """Return rates from the keys or attributes of a configured `price` (CONTRACT §3): `input_usd_per_million` …

        Of cache writes of two lifetimes the dearer one counts. `tiers` (`above_input_tokens` and rates) become `steps`.
        Raises ValueError where input or output is missing or a rate is no decimal number.
        """

        def told(name: str) -> Any:
            return price.get(name) if isinstance(price, Mapping) else getattr(price, name, None)

        def rate_of(name: str) -> Decimal | None:
            given = told(name)
            return None if given is None else _decimal(name, given)

        input_rate, output_rate = rate_of("input_usd_per_million"), rate_of("output_usd_per_million")
        if input_rate is None or output_rate is None:
            raise ValueError("a price needs input_usd_per_million and output_usd_per_million")
        writes = (rate_of("cache_write_usd_per_million"), rate_of("cache_write_1h_usd_per_million"))
        return cls(
            input_rate,
            output_rate,
            version,
            source,
            cache_read=rate_of("cache_read_usd_per_million"),
            cache_write=max((rate for rate in writes if rate is not None), default=None),
            audio_input=rate_of("audio_input_usd_per_million"),
            reasoning=rate_of("reasoning_usd_per_million"),
            audio_output=rate_of("audio_output_usd_per_million"),
            per_request=rate_of("per_request_usd") or Decimal(0),
            steps=tuple((_start_of(tier), cls.of_price(tier, version, source)) for tier in told("tiers") or ()),
        )

    @classmethod
    def free(cls, version: str) -> Self:
        """Return rates of a deployment that costs nothing (`price: free`)."""
        return cls.flat(Decimal(0), version)

    def at(self, input_tokens: int) -> "Rates":
        """Return the price list that applies to a call with this much input."""
        found = self
        for above, rates in self.steps:
            if input_tokens > above:
                found = rates
        return found

    def reachable(self, input_tokens: int) -> tuple["Rates", ...]:
        """Return every price list that may apply to a call with at most this much input."""
        return (self, *(rates for above, rates in self.steps if input_tokens > above))

    @property
    def dearest_input_class(self) -> LineClass:
        """The dearest class that a token of input may be billed at, steps aside."""
        classes: tuple[LineClass, ...] = ("input", "cache_read", "cache_write", "audio_input")
        return max(classes, key=self.numerators.__getitem__)

    @property
    def dearest_output_class(self) -> LineClass:
        """The dearest class that a token of output may be billed at, steps aside."""
        classes: tuple[LineClass, ...] = ("output", "reasoning", "audio_output")
        return max(classes, key=self.numerators.__getitem__)

    @property
    def dearest_input(self) -> Decimal:
        """USD per million: no token of input of any call costs more."""
        return max(r._by_class()[r.dearest_input_class] for r in (self, *(rates for _, rates in self.steps)))

    @property
    def dearest_output(self) -> Decimal:
        """USD per million: no token of output of any call costs more."""
        return max(r._by_class()[r.dearest_output_class] for r in (self, *(rates for _, rates in self.steps)))


def plain(amount: Decimal) -> str:
    """Write an exact decimal without exponent and without trailing zeros: `30`, `0.15`."""
    text = format(amount.copy_abs(), "f")
    return (text.rstrip("0").rstrip(".") if "." in text else text.lstrip("0")) or "0"


def _exponent(rate: Decimal) -> int:
    exponent = rate.as_tuple().exponent
    return exponent if isinstance(exponent, int) else 0


def _shifted(rate: Decimal, places: int) -> int:
    """Return rate × 10^places, which the caller knows to be an integer; no context can round it."""
    _, digits, _ = rate.as_tuple()
    return int("".join(map(str, digits)) + "0" * (_exponent(rate) + places))


def _start_of(tier: object) -> int:
    start = tier.get("above_input_tokens") if isinstance(tier, Mapping) else getattr(tier, "above_input_tokens", None)
    if not isinstance(start, int):
        raise ValueError(f"above_input_tokens: {start!r} is no whole number")
    return start


def _decimal(name: str, given: object) -> Decimal:
    try:
        return Decimal(str(given))
    except ArithmeticError as error:
        raise ValueError(f"{name}: {given!r} is no decimal number") from error
