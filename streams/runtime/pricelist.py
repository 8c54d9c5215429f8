"""Prices that the configuration does not give: the bundled, dated data of genai-prices. Nothing is fetched.

Importing it costs a quarter of a second and some 20 MB, so it happens at the first question.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING

from streams.core.prices import Rates

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice

# Our usage does not tell these apart, so the dearest that a model has is taken for all of them.
_INPUT = ("input_mtok", "input_text_mtok", "input_image_mtok", "input_video_mtok", "input_tool_mtok")
_OUTPUT = ("output_mtok", "output_text_mtok", "output_image_mtok", "output_video_mtok", "output_citation_mtok")
_CACHE_READ = ("cache_read_mtok", "cache_text_read_mtok", "cache_image_read_mtok", "cache_video_read_mtok")
_CACHE_WRITE = ("cache_write_mtok", "cache_write_5m_mtok", "cache_write_1h_mtok")
_AUDIO_INPUT = ("input_audio_mtok",)
_AUDIO_OUTPUT = ("output_audio_mtok",)
_REASONING = ("output_reasoning_mtok",)
_THOUSAND_REQUESTS = ("requests_kcount",)


@lru_cache(maxsize=4096)
def rates_of(provider: str, model: str, day: date, service_tier: str | None = None) -> Rates | None:
    """Return the rates that `provider` charges for `model` on a UTC day, or None where they are unknown.

    Never below the provider's: where its price depends on the time of day or on the service tier asked for, or where
    one of our classes has several prices (cache writes by lifetime, input by medium), the dearest one is taken. Long
    prompts are exact: they are `steps`. Models without a price for both input and output tokens are unknown, and so are
    those of no known provider. Fees for tools that a provider runs itself (web search) are not in the rates.
    """
    from genai_prices import __version__, data_snapshot  # noqa: PLC0415 - slow to import, and not needed by all

    try:
        _, found = data_snapshot.get_snapshot().find_provider_model(model, None, provider, None)
    except LookupError:
        return None
    lists = list(_price_lists(found, day, service_tier))
    if not all(_dearest((list_,), names, 0) is not None for list_ in lists for names in (_INPUT, _OUTPUT)):
        return None
    starts = sorted({start for list_ in lists for start in _starts(list_)})
    steps = tuple((start, _rates(lists, start + 1, __version__)) for start in starts)
    return _rates(lists, 0, __version__, steps)


def _price_lists(model: "ModelInfo", day: date, service_tier: str | None) -> Iterator["ModelPrice"]:
    """Yield each price list that may apply at some time of the day."""
    from genai_prices.types import ModelPrice, TimeOfDateConstraint  # noqa: PLC0415 - as above

    moments = {time(0)}
    if not isinstance(model.prices, ModelPrice):
        for conditional in model.prices:
            if isinstance(conditional.constraint, TimeOfDateConstraint):
                moments |= {conditional.constraint.start_time, conditional.constraint.end_time}
    contexts = [None] if service_tier is None else [None, {"service_tier": service_tier}]
    for moment in moments:
        at = datetime.combine(day, moment.replace(tzinfo=moment.tzinfo or UTC))
        for context in contexts:
            yield model.get_prices(at, context)


def _starts(price: "ModelPrice") -> Iterator[int]:
    from genai_prices.types import TieredPrices  # noqa: PLC0415 - as above

    for value in vars(price).values():
        if isinstance(value, TieredPrices):
            yield from (tier.start for tier in value.tiers)


def _rates(
    lists: Iterable["ModelPrice"], input_tokens: int, version: str, steps: tuple[tuple[int, Rates], ...] = ()
) -> Rates:
    def dearest(names: tuple[str, ...]) -> Decimal | None:
        return _dearest(lists, names, input_tokens)

    return Rates(
        dearest(_INPUT) or Decimal(0),
        dearest(_OUTPUT) or Decimal(0),
        version,
        "genai-prices",
        cache_read=dearest(_CACHE_READ),
        cache_write=dearest(_CACHE_WRITE),
        audio_input=dearest(_AUDIO_INPUT),
        reasoning=dearest(_REASONING),
        audio_output=dearest(_AUDIO_OUTPUT),
        per_request=(dearest(_THOUSAND_REQUESTS) or Decimal(0)) / 1000,
        steps=steps,
    )


def _dearest(lists: Iterable["ModelPrice"], names: tuple[str, ...], input_tokens: int) -> Decimal | None:
    from genai_prices.types import TieredPrices  # noqa: PLC0415 - as above

    found = []
    for price in lists:
        for name in names:
            match vars(price).get(name):
                case Decimal() as rate:
                    found.append(rate)
                case TieredPrices(base=base, tiers=tiers):
                    found.append(([base] + [tier.price for tier in tiers if input_tokens > tier.start])[-1])
                case _:
                    pass
    return max(found, default=None)
