"""What counts as a count."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.usage import Usage
from streams.core.usage import usage_of_openai


def told(**changes: Any) -> dict[str, Any]:
    return {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12} | changes


def test_a_plain_count_is_taken_as_it_is() -> None:
    assert usage_of_openai(told()) == Usage(input_tokens=9, output_tokens=3)


def test_finer_classes_are_part_of_the_totals() -> None:
    details = told(
        prompt_tokens_details={"cached_tokens": 8, "audio_tokens": 0}, completion_tokens_details={"reasoning_tokens": 2}
    )
    assert usage_of_openai(details) == Usage(
        input_tokens=9, cache_read_input_tokens=8, output_tokens=3, reasoning_tokens=2
    )


@pytest.mark.parametrize(
    "absent", [{"prompt_tokens_details": None}, {"completion_tokens_details": {}}, {"total_tokens": None}]
)
def test_absent_details_count_as_none_used(absent: dict[str, Any]) -> None:
    assert usage_of_openai(told(**absent)) == Usage(input_tokens=9, output_tokens=3)


def test_reasoning_that_only_the_total_includes_is_added_to_the_output() -> None:
    excluded = told(total_tokens=112, completion_tokens_details={"reasoning_tokens": 100})
    assert usage_of_openai(excluded) == Usage(input_tokens=9, output_tokens=103, reasoning_tokens=100)


@pytest.mark.parametrize("count", [1_000_000_000, 999_999_999])
def test_an_overrun_is_told_in_full(count: int) -> None:
    assert usage_of_openai({"prompt_tokens": 9, "completion_tokens": count}) == Usage(
        input_tokens=9, output_tokens=count
    )


@pytest.mark.parametrize("wrong", [-1, 3.0, True, "3", None, 1_000_000_001, 10**18, [3], float("nan")])
@pytest.mark.parametrize("field", ["prompt_tokens", "completion_tokens"])
def test_a_wrong_count_is_no_usage(field: str, wrong: object) -> None:
    assert usage_of_openai({"prompt_tokens": 9, "completion_tokens": 3} | {field: wrong}) is None


@pytest.mark.parametrize(
    "contradiction",
    [
        {"total_tokens": 11},
        {"total_tokens": 13},
        {"total_tokens": "12"},
        {"prompt_tokens_details": {"cached_tokens": 10}},
        {"prompt_tokens_details": {"cached_tokens": -1}},
        {"prompt_tokens_details": [8]},
        {"completion_tokens_details": {"reasoning_tokens": 4}},
        {"completion_tokens_details": {"reasoning_tokens": 2.5}},
        {"prompt_tokens": 0, "total_tokens": 3},
    ],
)
def test_a_contradiction_is_no_usage(contradiction: dict[str, Any]) -> None:
    assert usage_of_openai(told(**contradiction)) is None


@pytest.mark.parametrize("other", [None, [], "usage", 12, {}])
def test_anything_else_is_no_usage(other: object) -> None:
    assert usage_of_openai(other) is None


NUMBERS = st.one_of(st.none(), st.integers(), st.integers(0, 40), st.floats(), st.booleans(), st.text(max_size=3))


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "prompt_tokens": NUMBERS,
            "completion_tokens": NUMBERS,
            "total_tokens": NUMBERS,
            "prompt_tokens_details": st.one_of(NUMBERS, st.dictionaries(st.just("cached_tokens"), NUMBERS)),
            "completion_tokens_details": st.one_of(NUMBERS, st.dictionaries(st.just("reasoning_tokens"), NUMBERS)),
        },
    )
)
def test_whatever_is_told_a_usage_is_consistent_or_absent(body: dict[str, Any]) -> None:
    usage = usage_of_openai(body)
    if usage is not None:
        assert usage.input_tokens >= max(1, usage.cache_read_input_tokens)
        assert usage.output_tokens >= usage.reasoning_tokens >= 0
