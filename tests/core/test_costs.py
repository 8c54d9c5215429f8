"""Bills: exact, rounded upwards once, and in lines that add up."""

from decimal import Decimal
from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.usage import CostLine, Usage
from streams.core.costs import adjustment_line, bound_of, charge_incurred, charge_uncertain, cost_of
from streams.core.prices import Rates

SEED_MODEL = Rates.flat(Decimal("0.00003"), "v1")
DIVIDED = Rates(
    Decimal("2.5"),
    Decimal(10),
    "v1",
    cache_read=Decimal("1.25"),
    cache_write=Decimal("3.125"),
    reasoning=Decimal(12),
    per_request=Decimal("0.012"),
)
LONG_PROMPTS = Rates(Decimal("1.25"), Decimal(10), "v1", steps=((200_000, Rates(Decimal("2.5"), Decimal(15), "v1")),))

amounts = st.decimals(min_value=0, max_value=1000, places=7)
optional_amounts = st.none() | amounts
divided_rates = st.builds(
    Rates,
    input=amounts,
    output=amounts,
    version=st.just("v1"),
    cache_read=optional_amounts,
    cache_write=optional_amounts,
    reasoning=optional_amounts,
    per_request=st.decimals(min_value=0, max_value=1, places=12),
)
any_rates = divided_rates | st.builds(
    Rates.flat, st.decimals(min_value=0, max_value=1, places=15), version=st.just("v1")
)
tokens = st.integers(min_value=0, max_value=300_000)


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    read, write, rest, reasoning, spoken = (draw(tokens) for _ in range(5))
    return Usage(
        input_tokens=read + write + rest,
        cache_read_input_tokens=read,
        cache_creation_input_tokens=write,
        output_tokens=reasoning + spoken,
        reasoning_tokens=reasoning,
    )


def exact_cost(usage: Usage, rates: Rates) -> Fraction:
    """Nano-USD, written the slow way: each class at its own rate or at that of its total."""

    def rate(own: Decimal | None, total: Decimal) -> Fraction:
        return Fraction(total if own is None else own)

    uncached = usage.input_tokens - usage.cache_read_input_tokens - usage.cache_creation_input_tokens
    usd = (
        uncached * Fraction(rates.input)
        + usage.cache_read_input_tokens * rate(rates.cache_read, rates.input)
        + usage.cache_creation_input_tokens * rate(rates.cache_write, rates.input)
        + (usage.output_tokens - usage.reasoning_tokens) * Fraction(rates.output)
        + usage.reasoning_tokens * rate(rates.reasoning, rates.output)
    ) / 1_000_000 + Fraction(rates.per_request)
    return usd * 1_000_000_000


def written(lines: tuple[CostLine, ...]) -> list[tuple[str, int | None, str | None, int]]:
    return [(line.class_, line.tokens, line.usd_per_million, line.nano_usd) for line in lines]


def test_the_contracts_example_costs_360000_nano_usd() -> None:
    amount, lines = cost_of(Usage(input_tokens=9, output_tokens=3), SEED_MODEL)

    assert amount == 360_000
    assert [line.model_dump(exclude_none=True) for line in lines] == [
        {"class": "input", "tokens": 9, "usd_per_million": "30", "nano_usd": 270_000},
        {"class": "output", "tokens": 3, "usd_per_million": "30", "nano_usd": 90_000},
    ]


def test_every_class_with_a_price_of_its_own_has_a_line() -> None:
    usage = Usage(
        input_tokens=1000,
        cache_read_input_tokens=600,
        cache_creation_input_tokens=100,
        output_tokens=50,
        reasoning_tokens=20,
    )

    amount, lines = cost_of(usage, DIVIDED)

    assert written(lines) == [
        ("input", 300, "2.5", 750_000),
        ("cache_read", 600, "1.25", 750_000),
        ("cache_write", 100, "3.125", 312_500),
        ("output", 30, "10", 300_000),
        ("reasoning", 20, "12", 240_000),
        ("per_request", None, None, 12_000_000),
    ]
    assert amount == 14_352_500


def test_reasoning_stays_in_the_output_where_it_has_no_price_of_its_own() -> None:
    _, lines = cost_of(Usage(output_tokens=5, reasoning_tokens=4), Rates(Decimal(1), Decimal(2), "v1"))

    assert written(lines) == [("input", 0, "1", 0), ("output", 5, "2", 10_000)]


def test_one_rate_for_all_tokens_is_never_divided() -> None:
    usage = Usage(input_tokens=9, cache_read_input_tokens=8, output_tokens=3, reasoning_tokens=2)

    assert cost_of(usage, SEED_MODEL) == cost_of(Usage(input_tokens=9, output_tokens=3), SEED_MODEL)


def test_nothing_used_still_has_its_two_lines() -> None:
    assert written(cost_of(Usage(), SEED_MODEL)[1]) == [("input", 0, "30", 0), ("output", 0, "30", 0)]


def test_a_free_model_costs_nothing() -> None:
    amount, lines = cost_of(Usage(input_tokens=10**9, output_tokens=10**9), Rates.free("v1"))

    assert amount == 0
    assert written(lines) == [("input", 10**9, "0", 0), ("output", 10**9, "0", 0)]


def test_fractions_of_a_nano_dollar_are_rounded_up_once_and_not_per_line() -> None:
    rates = Rates.flat(Decimal("0.0000000003"), "v1")  # 0.3 nano-USD a token

    amount, lines = cost_of(Usage(input_tokens=1, output_tokens=1), rates)

    assert amount == 1  # ⌈0.6⌉, not ⌈0.3⌉ + ⌈0.3⌉
    assert written(lines) == [("input", 1, "0.0003", 1), ("output", 1, "0.0003", 0)]


def test_audio_has_lines_where_its_rate_is_known() -> None:
    rates = Rates(Decimal("2.5"), Decimal(10), "v1", audio_input=Decimal(40), audio_output=Decimal(80))
    usage = Usage(input_tokens=100, output_tokens=30)

    amount, lines = cost_of(usage, rates, audio_input_tokens=60, audio_output_tokens=20)

    assert written(lines) == [
        ("input", 40, "2.5", 100_000),
        ("audio_input", 60, "40", 2_400_000),
        ("output", 10, "10", 100_000),
        ("audio_output", 20, "80", 1_600_000),
    ]
    assert amount == 4_200_000


def test_finer_counts_above_their_total_are_billed_as_they_are() -> None:
    usage = Usage(input_tokens=10, cache_read_input_tokens=100, output_tokens=1)

    amount, lines = cost_of(usage, DIVIDED)

    assert written(lines)[:2] == [("input", 0, "2.5", 0), ("cache_read", 100, "1.25", 125_000)]
    assert amount == 125_000 + 10_000 + 12_000_000


@pytest.mark.parametrize(
    ("input_tokens", "expected"),
    [(200_000, 250_000_000 + 10_000), (200_001, 500_002_500 + 15_000)],
)
def test_a_long_prompt_is_billed_at_its_step_as_a_whole(input_tokens: int, expected: int) -> None:
    amount, _ = cost_of(Usage(input_tokens=input_tokens, output_tokens=1), LONG_PROMPTS)

    assert amount == expected


@given(usages(), any_rates)
def test_the_amount_is_the_exact_cost_rounded_up(usage: Usage, rates: Rates) -> None:
    amount, _ = cost_of(usage, rates)

    assert amount == ceil(exact_cost(usage, rates))


@given(usages(), any_rates)
def test_lines_are_disjoint_and_add_up(usage: Usage, rates: Rates) -> None:
    amount, lines = cost_of(usage, rates)

    assert sum(line.nano_usd for line in lines) == amount
    assert sum(line.tokens or 0 for line in lines) == usage.input_tokens + usage.output_tokens
    assert len({line.class_ for line in lines}) == len(lines)
    assert all(line.nano_usd >= 0 for line in lines)


@given(usages(), any_rates, tokens, tokens)
def test_no_usage_within_the_bounds_costs_more_than_the_bound(
    usage: Usage, rates: Rates, slack_in: int, slack_out: int
) -> None:
    amount, _ = cost_of(usage, rates)

    assert amount <= bound_of(usage.input_tokens + slack_in, usage.output_tokens + slack_out, rates)


@given(st.integers(0, 400_000), st.integers(0, 400_000), st.integers(0, 10))
def test_a_bound_covers_the_steps_below_it(used: int, slack: int, output: int) -> None:
    amount, _ = cost_of(Usage(input_tokens=used, output_tokens=output), LONG_PROMPTS)

    assert amount <= bound_of(used + slack, output, LONG_PROMPTS)


def test_the_bound_takes_the_dearest_class_of_each_side_and_the_fee() -> None:
    assert bound_of(100, 10, DIVIDED) == 100 * 3_125 + 10 * 12_000 + 12_000_000


def test_the_bound_of_the_seeds_model_is_all_tokens_at_its_rate() -> None:
    assert bound_of(151, 256, SEED_MODEL) == 12_210_000


def test_a_known_usage_is_booked_as_the_providers() -> None:
    charge = charge_incurred(Usage(input_tokens=9, output_tokens=3), SEED_MODEL, 151, 256)

    assert (charge.certainty, charge.nano_usd, charge.usage_source) == ("incurred", 360_000, "provider")
    assert charge.price is not None
    assert charge.price.model_dump() == {
        "source": "configuration",
        "version": "v1",
        "rates": {"input": "30", "output": "30"},
    }


def test_a_missing_usage_is_booked_at_the_bound() -> None:
    charge = charge_incurred(None, DIVIDED, 100, 10)

    assert (charge.certainty, charge.usage_source) == ("incurred", "estimated")
    assert charge.usage == Usage(input_tokens=100, output_tokens=10)
    assert written(charge.lines) == [
        ("input", 100, "3.125", 312_500),
        ("output", 10, "12", 120_000),
        ("per_request", None, None, 12_000_000),
    ]
    assert charge.nano_usd == 12_432_500 == bound_of(100, 10, DIVIDED)


def test_a_missing_usage_of_a_long_prompt_is_booked_at_the_dearer_step() -> None:
    charge = charge_incurred(None, LONG_PROMPTS, 200_001, 1)

    assert charge.nano_usd == 500_002_500 + 15_000 == bound_of(200_001, 1, LONG_PROMPTS)
    assert charge.price is not None
    assert charge.price.rates == {"input": "2.5", "output": "15"}


def test_an_overrun_is_booked_in_full_up_to_what_the_model_can_do() -> None:
    charge = charge_incurred(
        Usage(input_tokens=8000, output_tokens=4000), SEED_MODEL, 100, 10, most_possible_tokens=12_000
    )

    assert (charge.nano_usd, charge.usage_source) == (360_000_000, "provider")


@pytest.mark.parametrize(
    "usage",
    [
        Usage(input_tokens=8001, output_tokens=4000),
        Usage(input_tokens=0, cache_read_input_tokens=8001, output_tokens=4000),
        Usage(input_tokens=8000, output_tokens=0, reasoning_tokens=4001),
    ],
)
def test_a_usage_beyond_what_the_model_can_do_is_booked_at_the_bound(usage: Usage) -> None:
    charge = charge_incurred(usage, SEED_MODEL, 100, 10, most_possible_tokens=12_000)

    assert (charge.nano_usd, charge.usage_source) == (3_300_000, "estimated")
    assert charge.usage == Usage(input_tokens=100, output_tokens=10)


def test_an_unknown_outcome_is_one_line_at_the_bound() -> None:
    charge = charge_uncertain(12_210_000, SEED_MODEL)

    assert (charge.certainty, charge.nano_usd, charge.usage, charge.usage_source) == (
        "uncertain",
        12_210_000,
        None,
        "estimated",
    )
    assert written(charge.lines) == [("bound", None, None, 12_210_000)]
    assert charge.price == SEED_MODEL.price


def test_an_unknown_outcome_of_an_unknown_deployment_names_no_price() -> None:
    assert charge_uncertain(5, None).price is None


def test_an_adjustment_is_signed() -> None:
    assert written((adjustment_line(-11_850_000),)) == [("adjustment", None, None, -11_850_000)]
