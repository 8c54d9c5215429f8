"""What counts as a count where it is not OpenAI who counts."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.usage import Usage
from streams.core.usage import usage_of_anthropic, usage_of_gemini, usage_of_openai

WRONG = [-1, 3.0, True, "3", 1_000_000_001, 10**18, [3], {}, float("nan")]
MESSAGE = {"input_tokens": 9, "output_tokens": 3}
CONTENT = {"promptTokenCount": 9, "candidatesTokenCount": 3}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize(
    "field", ["input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"]
)
def test_a_wrong_count_of_anthropic_s_is_no_usage(field: str, wrong: object) -> None:
    assert usage_of_anthropic(MESSAGE | {field: wrong}) is None


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize(
    "field",
    [
        "promptTokenCount",
        "candidatesTokenCount",
        "cachedContentTokenCount",
        "thoughtsTokenCount",
        "toolUsePromptTokenCount",
        "totalTokenCount",
    ],
)
def test_a_wrong_count_of_gemini_s_is_no_usage(field: str, wrong: object) -> None:
    assert usage_of_gemini(CONTENT | {field: wrong}) is None


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize(
    "field",
    [
        "cached_tokens",
        "prompt_cache_hit_tokens",
        "prompt_cache_miss_tokens",
        "cache_read_input_tokens",
        "cache_creation_input_tokens",
        "reasoning_tokens",
    ],
)
def test_a_wrong_count_of_a_compatible_server_s_is_no_usage(field: str, wrong: object) -> None:
    assert usage_of_openai({"prompt_tokens": 9, "completion_tokens": 3} | {field: wrong}) is None


@pytest.mark.parametrize(
    "contradiction",
    [
        {"input_tokens": 0},
        {"input_tokens": None},
        {"output_tokens": None},
        {"input_tokens": 600_000_000, "cache_read_input_tokens": 600_000_000},
        {"output_tokens_details": {"thinking_tokens": 4}},
        {"output_tokens_details": [3]},
        {"cache_creation": {"ephemeral_5m_input_tokens": 5, "ephemeral_1h_input_tokens": -5}},
        {"cache_creation": {"ephemeral_5m_input_tokens": 5}, "cache_creation_input_tokens": 6},
        {"cache_creation": 5},
    ],
)
def test_a_contradiction_of_anthropic_s_is_no_usage(contradiction: dict[str, Any]) -> None:
    assert usage_of_anthropic(MESSAGE | contradiction) is None


@pytest.mark.parametrize(
    "contradiction",
    [
        {"promptTokenCount": 0},
        {"promptTokenCount": None},
        {"cachedContentTokenCount": 10},
        {"cachedContentTokenCount": 10, "toolUsePromptTokenCount": 5},
        {"totalTokenCount": 11},
        {"totalTokenCount": 13},
        {"totalTokenCount": 12, "thoughtsTokenCount": 4},
        {"candidatesTokenCount": 600_000_000, "thoughtsTokenCount": 600_000_000},
    ],
)
def test_a_contradiction_of_gemini_s_is_no_usage(contradiction: dict[str, Any]) -> None:
    assert usage_of_gemini(CONTENT | contradiction) is None


@pytest.mark.parametrize("other", [None, [], "usage", 12, {}])
def test_anything_else_is_no_usage(other: object) -> None:
    assert usage_of_anthropic(other) is None
    assert usage_of_gemini(other) is None


def test_a_zero_beside_a_number_is_a_field_that_the_server_does_not_know() -> None:
    told = {
        "prompt_tokens": 9,
        "completion_tokens": 3,
        "prompt_tokens_details": {"cached_tokens": 0},
        "cached_tokens": 8,
    }
    assert usage_of_openai(told) == Usage(input_tokens=9, cache_read_input_tokens=8, output_tokens=3)


NUMBERS = st.one_of(st.none(), st.integers(), st.integers(0, 40), st.floats(), st.booleans(), st.text(max_size=3))


def blocks(*names: str, nested: tuple[str, ...] = ()) -> st.SearchStrategy[dict[str, Any]]:
    """Any JSON object with any of these fields; those of `nested` may be objects of numbers."""
    inner = st.dictionaries(
        st.sampled_from(["thinking_tokens", "ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens", "cached_tokens"]),
        NUMBERS,
    )
    return st.fixed_dictionaries({}, optional=dict.fromkeys(names, NUMBERS) | dict.fromkeys(nested, NUMBERS | inner))


@given(
    blocks(
        "input_tokens",
        "output_tokens",
        "cache_read_input_tokens",
        "cache_creation_input_tokens",
        nested=("cache_creation", "output_tokens_details"),
    )
    | st.builds(
        lambda a, b, c, d: {"input_tokens": a, "output_tokens": b, "cache_read_input_tokens": c, **d},
        st.integers(0, 9),
        st.integers(0, 9),
        st.integers(0, 9),
        blocks("cache_creation_input_tokens"),
    ),
)
def test_whatever_anthropic_tells_a_usage_is_consistent_and_the_total_the_sum(body: dict[str, Any]) -> None:
    usage = usage_of_anthropic(body)
    if usage is not None:
        fresh = usage.input_tokens - usage.cache_read_input_tokens - usage.cache_creation_input_tokens
        assert fresh == body["input_tokens"]
        assert usage.input_tokens > 0
        assert usage.output_tokens == body["output_tokens"] >= usage.reasoning_tokens


@given(
    blocks(
        "promptTokenCount",
        "candidatesTokenCount",
        "cachedContentTokenCount",
        "thoughtsTokenCount",
        "toolUsePromptTokenCount",
        "totalTokenCount",
    )
    | st.fixed_dictionaries(
        {"promptTokenCount": st.integers(1, 9), "candidatesTokenCount": st.integers(0, 9)},
        optional={"thoughtsTokenCount": st.integers(0, 9), "totalTokenCount": st.integers(0, 30)},
    )
)
def test_whatever_gemini_tells_a_usage_is_consistent_and_adds_up_to_its_total(body: dict[str, Any]) -> None:
    usage = usage_of_gemini(body)
    if usage is not None:
        assert usage.input_tokens >= max(1, usage.cache_read_input_tokens)
        assert usage.output_tokens >= usage.reasoning_tokens
        assert body.get("totalTokenCount") in (None, usage.input_tokens + usage.output_tokens)
