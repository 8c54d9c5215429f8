"""Rates: exact, whatever way they are written."""

from decimal import Decimal, localcontext
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.configuration import parse
from schemas.usage import Usage
from streams.core.costs import bound_of, cost_of
from streams.core.prices import Rates, plain

CONTRACT_PRICE = {
    "input_usd_per_million": "30",
    "output_usd_per_million": "60",
    "cache_read_usd_per_million": "15",
    "cache_write_usd_per_million": "37.5",
    "per_request_usd": "0",
}


@pytest.mark.parametrize("price", [CONTRACT_PRICE, SimpleNamespace(**CONTRACT_PRICE)])
def test_a_configured_price_is_read_from_keys_or_attributes(price: object) -> None:
    rates = Rates.of_price(price, "v7")

    assert (rates.input, rates.output, rates.cache_read, rates.cache_write, rates.per_request) == (
        Decimal(30),
        Decimal(60),
        Decimal(15),
        Decimal("37.5"),
        Decimal(0),
    )
    assert rates.reasoning is None
    assert rates.price.rates == {"input": "30", "output": "60", "cache_read": "15", "cache_write": "37.5"}


def test_what_is_not_given_costs_what_it_is_part_of() -> None:
    rates = Rates.of_price({"input_usd_per_million": 2, "output_usd_per_million": 8}, "v1")

    assert rates.written == {
        "input": "2",
        "cache_read": "2",
        "cache_write": "2",
        "audio_input": "2",
        "output": "8",
        "reasoning": "8",
        "audio_output": "8",
        "per_request": "0",
    }


def test_of_two_lifetimes_of_cache_writes_the_dearer_one_counts() -> None:
    price = {"input_usd_per_million": "3", "output_usd_per_million": "15", "cache_write_1h_usd_per_million": "6"}

    assert Rates.of_price(price, "v1").cache_write == Decimal(6)
    assert Rates.of_price(price | {"cache_write_usd_per_million": "3.75"}, "v1").cache_write == Decimal(6)
    assert Rates.of_price(price | {"cache_write_usd_per_million": "7"}, "v1").cache_write == Decimal(7)


def test_configured_tiers_bill_a_long_prompt_as_a_whole_and_bound_it() -> None:
    (model,) = parse("""
models:
  - name: m
    endpoint: http://127.0.0.1:1/v1
    price:
      input_usd_per_million: 1
      output_usd_per_million: 10
      tiers: [{above_input_tokens: 200000, input_usd_per_million: 2, output_usd_per_million: 15}]
""").models
    rates = Rates.of_price(model.price, "v1")

    assert cost_of(Usage(input_tokens=200_000, output_tokens=100), rates)[0] == 200_000_000 + 1_000_000
    assert cost_of(Usage(input_tokens=200_001, output_tokens=100), rates)[0] == 400_002_000 + 1_500_000
    assert bound_of(200_000, 100, rates) == 201_000_000
    assert bound_of(200_001, 100, rates) == 401_502_000


def test_a_free_class_is_not_an_absent_one() -> None:
    rates = Rates(Decimal(2), Decimal(8), "v1", cache_read=Decimal(0))

    assert rates.numerators["cache_read"] == 0
    assert rates.price.rates == {"input": "2", "output": "8", "cache_read": "0"}


@pytest.mark.parametrize("missing", ["input_usd_per_million", "output_usd_per_million"])
def test_a_price_without_both_directions_is_refused(missing: str) -> None:
    with pytest.raises(ValueError, match="needs input_usd_per_million and output_usd_per_million"):
        Rates.of_price({**CONTRACT_PRICE, missing: None}, "v1")


def test_a_price_that_is_no_number_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="cache_read_usd_per_million: 'cheap'"):
        Rates.of_price({**CONTRACT_PRICE, "cache_read_usd_per_million": "cheap"}, "v1")


@pytest.mark.parametrize("rate", [Decimal("-0.1"), Decimal("NaN"), Decimal("Infinity")])
def test_a_rate_below_zero_or_not_finite_is_refused(rate: Decimal) -> None:
    with pytest.raises(ValueError, match="finite amount of at least 0"):
        Rates.flat(rate, "v1")
    with pytest.raises(ValueError, match="finite amount of at least 0"):
        Rates(rate, Decimal(1), "v1")


def test_the_dearest_rates_cover_every_class_and_step() -> None:
    long_prompts = Rates(Decimal(4), Decimal(15), "v1")
    rates = Rates(
        Decimal(2),
        Decimal(10),
        "v1",
        cache_read=Decimal(1),
        cache_write=Decimal("3.75"),
        reasoning=Decimal(12),
        steps=((1000, long_prompts),),
    )

    assert (rates.dearest_input_class, rates.dearest_output_class) == ("cache_write", "reasoning")
    assert (rates.dearest_input, rates.dearest_output) == (Decimal(4), Decimal(15))
    assert rates.reachable(1000) == (rates,)
    assert rates.reachable(1001) == (rates, long_prompts)


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("3E+1", "30"),
        ("30.00", "30"),
        ("100", "100"),
        ("0.150", "0.15"),
        ("1E-7", "0.0000001"),
        ("0", "0"),
        ("0E+5", "0"),
        ("-0.0", "0"),
    ],
)
def test_rates_are_written_plainly(amount: str, text: str) -> None:
    assert plain(Decimal(amount)) == text


@given(st.decimals(min_value=0, max_value=1000, allow_nan=False, allow_infinity=False))
def test_a_plain_rate_is_the_same_number(amount: Decimal) -> None:
    assert Decimal(plain(amount)) == amount
    assert "E" not in plain(amount)


def test_a_rate_with_more_digits_than_the_decimal_context_stays_exact() -> None:
    with localcontext(prec=3):
        rates = Rates.flat(Decimal("0.00001234567890123456789"), "v1")

    assert rates.price.rates["input"] == "12.34567890123456789"
    assert rates.numerators["input"] == 1234567890123456789
    assert rates.scale == 10**14
