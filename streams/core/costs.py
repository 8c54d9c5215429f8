"""What an attempt costs: the bill of its usage, its bound, and what is booked where the usage is not to be had.

Integer arithmetic only; the one rounding of an attempt is upwards (CONTRACT §2 "Exactly how much").
"""

from collections.abc import Iterable

from schemas.units import NanoUsd
from schemas.usage import Charge, CostLine, LineClass, Usage
from streams.core.prices import Rates

Part = tuple[LineClass, int, LineClass]
"""Tokens of one line: its class, how many, and the class whose rate they are billed at."""


def cost_of(
    usage: Usage, rates: Rates, *, audio_input_tokens: int = 0, audio_output_tokens: int = 0
) -> tuple[NanoUsd, tuple[CostLine, ...]]:
    """Return the amount and its lines: disjoint, adding up to it; `input` and `output` always, others where not zero.

    A usage whose finer classes exceed their total is billed for all of the finer ones: never below the provider's bill.
    Audio tokens are part of the totals; they get lines of their own where their rate is known.
    """
    applied = rates.at(_input_tokens(usage))
    return _bill(applied, _parts(usage, applied, audio_input_tokens, audio_output_tokens))


def bound_of(input_bound_tokens: int, output_bound_tokens: int, rates: Rates) -> NanoUsd:
    """Return an amount that no attempt within these bounds exceeds: every token at the dearest rate it may have."""
    return max(
        _ceiling_at_bound(list_, input_bound_tokens, output_bound_tokens)
        for list_ in rates.reachable(input_bound_tokens)
    )


def charge_incurred(
    usage: Usage | None,
    rates: Rates,
    input_bound_tokens: int,
    output_bound_tokens: int,
    *,
    most_possible_tokens: int | None = None,
    audio_input_tokens: int = 0,
    audio_output_tokens: int = 0,
) -> Charge:
    """Return what an attempt with a known outcome is booked at.

    Missing usage, or usage above `most_possible_tokens` (the model's context plus its output limit, CONTRACT §5
    "Overrun"; None: any is possible), is booked at the bound and called `estimated`. An overrun below that is booked in
    full.
    """
    if usage is None or (most_possible_tokens is not None and _billed_tokens(usage) > most_possible_tokens):
        return _charge_bound(rates, input_bound_tokens, output_bound_tokens)
    amount, lines = cost_of(
        usage, rates, audio_input_tokens=audio_input_tokens, audio_output_tokens=audio_output_tokens
    )
    price = rates.at(_input_tokens(usage)).price
    return Charge(certainty="incurred", nano_usd=amount, lines=lines, usage=usage, price=price)


def charge_uncertain(bound_nano_usd: NanoUsd, rates: Rates | None) -> Charge:
    """Return what an attempt with an unknown outcome is booked at; `rates` None where a crash hid its deployment."""
    return Charge(
        certainty="uncertain",
        nano_usd=bound_nano_usd,
        lines=(CostLine(class_="bound", nano_usd=bound_nano_usd),),
        usage_source="estimated",
        price=None if rates is None else rates.price,
    )


def adjustment_line(delta_nano_usd: NanoUsd) -> CostLine:
    """Return the one line of a `cost.adjusted`: truth minus what was booked, signed."""
    return CostLine(class_="adjustment", nano_usd=delta_nano_usd)


def _parts(usage: Usage, rates: Rates, audio_input: int, audio_output: int) -> list[Part]:
    if rates.one_rate:
        return [("input", usage.input_tokens, "input"), ("output", usage.output_tokens, "output")]
    finer_input: list[Part] = [
        ("cache_read", usage.cache_read_input_tokens, "cache_read"),
        ("cache_write", usage.cache_creation_input_tokens, "cache_write"),
        ("audio_input", audio_input if rates.audio_input is not None else 0, "audio_input"),
    ]
    finer_output: list[Part] = [
        ("reasoning", usage.reasoning_tokens if rates.reasoning is not None else 0, "reasoning"),
        ("audio_output", audio_output if rates.audio_output is not None else 0, "audio_output"),
    ]
    return [*_divided("input", usage.input_tokens, finer_input), *_divided("output", usage.output_tokens, finer_output)]


def _divided(class_: LineClass, total: int, finer: list[Part]) -> list[Part]:
    rest = max(0, total - sum(tokens for _, tokens, _ in finer))
    return [(class_, rest, class_), *(part for part in finer if part[1])]


def _bill(rates: Rates, parts: Iterable[Part]) -> tuple[NanoUsd, tuple[CostLine, ...]]:
    """Line i = ⌈Σ first i⌉ − ⌈Σ first i−1⌉."""
    numerators, scale = rates.numerators, rates.scale
    exact = billed = 0
    lines = []
    for class_, tokens, rate_class in parts:
        exact += tokens * numerators[rate_class]
        upto = -(-exact // scale)
        lines.append(
            CostLine(class_=class_, tokens=tokens, usd_per_million=rates.written[rate_class], nano_usd=upto - billed)
        )
        billed = upto
    if per_request := numerators["per_request"]:
        upto = -(-(exact + per_request) // scale)
        lines.append(CostLine(class_="per_request", nano_usd=upto - billed))
        billed = upto
    return billed, tuple(lines)


def _ceiling_at_bound(rates: Rates, input_bound: int, output_bound: int) -> NanoUsd:
    exact = (
        input_bound * rates.numerators[rates.dearest_input_class]
        + output_bound * rates.numerators[rates.dearest_output_class]
        + rates.numerators["per_request"]
    )
    return -(-exact // rates.scale)


def _charge_bound(rates: Rates, input_bound: int, output_bound: int) -> Charge:
    dearest = max(rates.reachable(input_bound), key=lambda list_: _ceiling_at_bound(list_, input_bound, output_bound))
    amount, lines = _bill(
        dearest,
        (("input", input_bound, dearest.dearest_input_class), ("output", output_bound, dearest.dearest_output_class)),
    )
    return Charge(
        certainty="incurred",
        nano_usd=amount,
        lines=lines,
        usage=Usage(input_tokens=input_bound, output_tokens=output_bound),
        usage_source="estimated",
        price=dearest.price,
    )


def _billed_tokens(usage: Usage) -> int:
    """Count input and output, or their finer classes where a provider's totals do not cover them."""
    return _input_tokens(usage) + max(usage.output_tokens, usage.reasoning_tokens)


def _input_tokens(usage: Usage) -> int:
    return max(usage.input_tokens, usage.cache_read_input_tokens + usage.cache_creation_input_tokens)
