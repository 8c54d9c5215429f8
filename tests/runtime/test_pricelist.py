"""The price list: genai-prices' bundled data, never below what the provider charges."""

from datetime import UTC, date, datetime, time
from decimal import Decimal

import pytest
from genai_prices import Usage as TheirUsage
from genai_prices import __version__, calc_price
from genai_prices.data_snapshot import get_snapshot

from schemas.usage import Usage
from streams.core.costs import cost_of
from streams.core.prices import Rates
from streams.runtime.pricelist import rates_of

DAY = date(2026, 11, 23)


def known(provider: str, model: str, day: date = DAY, service_tier: str | None = None) -> Rates:
    rates = rates_of(provider, model, day, service_tier)
    assert rates is not None
    return rates


def test_a_known_model_has_its_rates_with_their_source_and_version() -> None:
    rates = known("openai", "gpt-4")

    assert (rates.input, rates.output) == (Decimal(30), Decimal(60))
    assert rates.price.model_dump() == {
        "source": "genai-prices",
        "version": __version__,
        "rates": {"input": "30", "output": "60"},
    }


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "no-such-model"),
        ("no-such-provider", "gpt-4"),
        ("openai", "text-embedding-3-small"),  # has no price for output
        ("openai", "whisper-1"),  # priced by the hour
    ],
)
def test_a_model_without_token_prices_is_unknown(provider: str, model: str) -> None:
    assert rates_of(provider, model, DAY) is None


def test_long_prompts_have_a_step() -> None:
    rates = known("google", "gemini-2.5-pro")

    assert (rates.input, rates.output) == (Decimal("1.25"), Decimal(10))
    assert [(above, step.input, step.output) for above, step in rates.steps] == [(200_000, Decimal("2.5"), Decimal(15))]


def test_cache_writes_of_unknown_lifetime_cost_the_dearer_one() -> None:
    rates = known("anthropic", "claude-sonnet-4-5")

    assert (rates.cache_read, rates.cache_write) == (Decimal("0.3"), Decimal(6))  # 3.75 for five minutes


def test_a_model_that_is_cheaper_at_night_costs_its_day_price() -> None:
    rates = known("deepseek", "deepseek-chat")

    assert (rates.input, rates.cache_read, rates.output) == (Decimal("0.27"), Decimal("0.07"), Decimal("1.1"))


def test_a_fee_per_request_is_part_of_the_rates() -> None:
    assert known("perplexity", "sonar").per_request == Decimal("0.012")


def test_a_dearer_service_tier_is_billed_and_a_cheaper_one_is_no_discount() -> None:
    assert known("openai", "gpt-4o", service_tier="priority").output == Decimal(17)
    assert known("openai", "gpt-4o", service_tier="flex").output == Decimal(10)
    assert known("openai", "gpt-4o", service_tier="auto").output == Decimal(10)


@pytest.mark.parametrize("input_tokens", [1000, 200_000, 200_001, 900_000])
@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "gpt-4"),
        ("openai", "gpt-4o"),
        ("anthropic", "claude-sonnet-4-5"),
        ("google", "gemini-2.5-pro"),
        ("google", "gemini-2.5-flash"),
        ("mistral", "mistral-large-latest"),
        ("deepseek", "deepseek-chat"),
        ("perplexity", "sonar"),
    ],
)
def test_a_bill_without_cache_is_theirs_to_the_nano_dollar(provider: str, model: str, input_tokens: int) -> None:
    theirs = calc_price(
        TheirUsage(input_tokens=input_tokens, output_tokens=321),
        model,
        provider_id=provider,
        genai_request_timestamp=datetime.combine(DAY, time(12, tzinfo=UTC)),
    )

    amount, _ = cost_of(Usage(input_tokens=input_tokens, output_tokens=321), known(provider, model))

    assert Decimal(amount).scaleb(-9) == theirs.total_price


@pytest.mark.parametrize("hour", [1, 12, 20])
def test_no_model_of_the_list_is_ever_billed_below_its_price(hour: int) -> None:
    usage = Usage(
        input_tokens=210_000,
        cache_read_input_tokens=70_000,
        cache_creation_input_tokens=30_000,
        output_tokens=9000,
        reasoning_tokens=4000,
    )
    theirs = TheirUsage(
        input_tokens=210_000,
        cache_read_tokens=70_000,
        cache_write_tokens=30_000,
        cache_write_1h_tokens=30_000,
        output_tokens=9000,
        output_reasoning_tokens=4000,
    )
    moment = datetime.combine(DAY, time(hour, tzinfo=UTC))
    compared, below = 0, []
    for provider in get_snapshot().providers:
        for model in provider.models:
            if (rates := rates_of(provider.id, model.id, DAY)) is None:
                continue
            price = calc_price(theirs, model.id, provider_id=provider.id, genai_request_timestamp=moment).total_price
            compared += 1
            if Decimal(cost_of(usage, rates)[0]).scaleb(-9) < price:
                below.append((provider.id, model.id))

    assert compared > 1000
    assert below == []
