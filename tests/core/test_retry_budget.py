"""How many retries a deployment gets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core.request import start_of
from streams.core.retry_budget import RetryBudget, called
from tests.core.build import Desk, configuration, failed, prompt

NOW = 1_795_399_200_000


def after(calls: int, retries: int, *, at_ms: int = NOW, before: RetryBudget | None = None) -> RetryBudget:
    budget = before or RetryBudget()
    for n in range(calls):
        budget = called(budget, at_ms, retry=n < retries)
    return budget


@pytest.mark.parametrize(
    ("calls", "retries", "allowed"),
    [(0, 0, True), (3, 2, True), (3, 3, False), (30, 3, False), (31, 3, True), (100, 9, True), (100, 10, False)],
)
def test_a_tenth_of_the_calls_may_be_retries_and_three_always(calls: int, retries: int, allowed: bool) -> None:
    assert after(calls, retries).allows(NOW) is allowed


@pytest.mark.parametrize(("later_ms", "allowed"), [(119_999, False), (120_000, True)])
def test_calls_count_for_two_minutes(later_ms: int, allowed: bool) -> None:
    assert after(3, 3).allows(NOW + later_ms) is allowed


def test_what_is_older_than_two_minutes_is_forgotten() -> None:
    budget = RetryBudget()
    for second in range(600):
        budget = called(budget, NOW + second * 1000, retry=False)

    assert len(budget.slices) == 12
    assert sum(s.calls for s in budget.slices) == 120


@given(st.lists(st.tuples(st.integers(0, 5_000), st.booleans()), max_size=200))
def test_no_two_minutes_have_more_retries_than_allowed_when_they_are_asked_for(calls: list[tuple[int, bool]]) -> None:
    budget, now_ms, made = RetryBudget(), NOW, [(0, False)]
    for later_ms, wants_retry in calls:
        now_ms += later_ms
        retry = wants_retry and budget.allows(now_ms)
        if retry or not wants_retry:
            budget = called(budget, now_ms, retry=retry)
            made.append((now_ms, retry))
        recent = [was_retry for at_ms, was_retry in made if at_ms > now_ms - 110_000]
        most = [was_retry for at_ms, was_retry in made if at_ms > now_ms - 130_000]
        assert not retry or sum(recent) <= max(3, len(most) / 10 + 1)


def test_the_call_of_a_retry_knows_how_the_one_before_failed() -> None:
    desk = Desk(configuration())
    desk.ask(prompt())
    desk.must_hear(failed(reason="rate_limit", retry_after_s=0))
    start = start_of(desk.requests["r-1"])

    assert (start.attempt, start.tried, start.last_reason) == (2, ("gpt-4",), "rate_limit")
