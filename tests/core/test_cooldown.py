"""How long a quota scope is left alone."""

import pytest

from streams.core.cooldown import Cooldown, answered, refused, told

NOW = 1_795_399_200_000


def test_a_scope_cools_as_long_as_its_provider_asks_for() -> None:
    assert refused(Cooldown(), 2.5, NOW) == Cooldown(NOW + 2_500, 1)


@pytest.mark.parametrize(("asked_s", "waits_ms"), [(3600.0, 3_600_000), (3600.1, 3_600_000), (1e9, 3_600_000)])
def test_nobody_is_left_alone_for_more_than_an_hour(asked_s: float, waits_ms: int) -> None:
    assert refused(Cooldown(), asked_s, NOW).until_ms == NOW + waits_ms


def test_without_a_word_it_takes_twice_as_long_after_each_refusal_up_to_a_minute() -> None:
    cooldown, now_ms, waits = Cooldown(), NOW, []
    for _ in range(8):
        cooldown = refused(cooldown, None, now_ms)
        waits.append(cooldown.until_ms - now_ms)
        now_ms = cooldown.until_ms

    assert waits == [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]


def test_an_answer_makes_the_next_refusal_a_first_one() -> None:
    twice = refused(refused(Cooldown(), None, NOW), None, NOW + 1_000)

    assert refused(answered(twice), None, NOW + 3_000).until_ms == NOW + 4_000


def test_refusals_of_calls_that_were_under_way_count_once() -> None:
    first = refused(Cooldown(), None, NOW)

    assert refused(first, None, NOW + 999) == first


def test_a_cooldown_never_gets_shorter() -> None:
    assert refused(Cooldown(NOW + 9_000, 1), 2.0, NOW) == Cooldown(NOW + 9_000, 1)
    assert told(Cooldown(NOW + 9_000, 1), NOW + 2_000, NOW) == Cooldown(NOW + 9_000, 1)


def test_it_may_get_longer_while_it_lasts() -> None:
    assert refused(Cooldown(NOW + 1_000, 1), 5.0, NOW) == Cooldown(NOW + 5_000, 1)


def test_another_workers_word_counts_up_to_an_hour() -> None:
    assert told(Cooldown(), NOW + 4_000, NOW) == Cooldown(NOW + 4_000, 0)
    assert told(Cooldown(), NOW + 99_000_000, NOW) == Cooldown(NOW + 3_600_000, 0)


def test_what_is_left_is_never_below_zero() -> None:
    assert (Cooldown(NOW + 1_500).left_s(NOW), Cooldown(NOW).left_s(NOW + 1)) == (1.5, 0.0)
