"""The rate limit: a burst at one instant, then one request per interval, never more."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core.gcra import Admitted, Rate, Refused, admit, start_for, turn

START = 1_795_399_200_000
SEED_RATE = Rate(per_minute=100, burst=10)  # the seed's defaults: one request per 600 ms

rates = st.builds(Rate, per_minute=st.integers(1, 100_000), burst=st.integers(1, 50))
gaps = st.lists(st.integers(0, 90_000) | st.integers(0, 20), max_size=60)


def admitted_at(gaps_ms: list[int], rate: Rate) -> list[int]:
    """Offer one request after each gap; return when those that pass did."""
    tat_ns, now_ms, passed = 0, START, []
    for gap_ms in gaps_ms:
        now_ms += gap_ms
        match admit(tat_ns, now_ms, rate):
            case Admitted(tat_ns=tat_ns):
                passed.append(now_ms)
            case Refused():
                pass
    return passed


@pytest.mark.parametrize("burst", [1, 2, 10])
def test_a_full_bucket_passes_exactly_its_burst_at_one_instant(burst: int) -> None:
    assert len(admitted_at([0] * (burst + 5), Rate(per_minute=100, burst=burst))) == burst


def test_the_eleventh_request_waits_600_ms() -> None:
    tat_ns = 0
    for _ in range(10):
        outcome = admit(tat_ns, START, SEED_RATE)
        assert isinstance(outcome, Admitted)
        tat_ns = outcome.tat_ns

    assert admit(tat_ns, START, SEED_RATE) == Refused(retry_after_ms=600)
    assert admit(tat_ns, START + 599, SEED_RATE) == Refused(retry_after_ms=1)
    assert isinstance(admit(tat_ns, START + 600, SEED_RATE), Admitted)


def test_a_bucket_is_full_again_after_burst_intervals_and_no_fuller_ever() -> None:
    drained = [0] * 10

    assert len(admitted_at([*drained, 6000, *[0] * 20], SEED_RATE)) == 20
    assert len(admitted_at([*drained, 5999, *[0] * 20], SEED_RATE)) == 19
    assert len(admitted_at([*drained, 86_400_000, *[0] * 20], SEED_RATE)) == 20


@given(gaps, rates)
def test_no_window_passes_more_than_the_burst_and_what_its_length_earns(gaps_ms: list[int], rate: Rate) -> None:
    passed = admitted_at(gaps_ms, rate)

    for first, start_ms in enumerate(passed):
        for last in range(first, len(passed)):
            window_ms = passed[last] - start_ms
            assert (last - first + 1 - rate.burst) * 60_000 <= window_ms * rate.per_minute


@given(gaps, rates)
def test_a_refusal_says_exactly_when_the_request_would_pass(gaps_ms: list[int], rate: Rate) -> None:
    tat_ns, now_ms = 0, START
    for gap_ms in gaps_ms:
        now_ms += gap_ms
        match admit(tat_ns, now_ms, rate):
            case Admitted(tat_ns=tat_ns):
                pass
            case Refused(retry_after_ms=wait_ms):
                assert wait_ms >= 1
                assert isinstance(admit(tat_ns, now_ms + wait_ms, rate), Admitted)
                assert isinstance(admit(tat_ns, now_ms + wait_ms - 1, rate), Refused)


def test_refused_requests_do_not_count() -> None:
    hammered = [*[0] * 10, *[1] * 599, 1]

    assert admitted_at(hammered, SEED_RATE)[-1] == START + 600


def test_waiting_requests_take_their_turns_in_order() -> None:
    tat_ns, starts = 0, []
    for _ in range(13):
        tat_ns, start_ms = turn(tat_ns, START, SEED_RATE)
        starts.append(start_ms - START)

    assert starts == [0] * 10 + [600, 1200, 1800]


@given(gaps, rates)
def test_a_turn_is_what_would_be_admitted_at_its_start(gaps_ms: list[int], rate: Rate) -> None:
    tat_ns, now_ms = 0, START
    for gap_ms in gaps_ms:
        now_ms += gap_ms
        new_tat_ns, start_ms = turn(tat_ns, now_ms, rate)
        assert start_ms >= now_ms
        assert admit(tat_ns, start_ms, rate) == Admitted(new_tat_ns)
        tat_ns = new_tat_ns


@pytest.mark.parametrize(("per_minute", "burst"), [(0, 1), (1, 0), (-1, 5)])
def test_a_rate_that_admits_nothing_is_refused(per_minute: int, burst: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Rate(per_minute, burst)


def test_what_counts_for_more_than_a_full_bucket_never_starts() -> None:
    rate = Rate(per_minute=600, burst=600)
    assert start_for(601, 0, 1_000, rate) is None
    assert start_for(600, 0, 1_000, rate) == 1_000


def test_something_large_starts_when_the_bucket_holds_enough_and_not_a_millisecond_earlier() -> None:
    rate = Rate(per_minute=600, burst=600)  # one each 100 ms
    full_again_ns = 61_000 * 1_000_000  # at 1,000 ms the bucket is empty
    assert start_for(10, full_again_ns, 1_000, rate) == 2_000
    assert start_for(600, full_again_ns, 1_000, rate) == 61_000
