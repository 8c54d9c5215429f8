"""Windows of an account: their names, their turns, and what keeps one alive that is over."""

from datetime import UTC, datetime

import pytest

from streams.core.account import Account, Window, adjust, place, settle, stopped, turned_to, window_id, with_window
from tests.core.build import NOW


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("minute", "minute:2026-11-23T04:56"),
        ("hour", "hour:2026-11-23T04"),
        ("day", "day:2026-11-23"),
        ("month", "month:2026-11"),
        ("total", "total"),
        ("none", "none"),
    ],
)
def test_a_window_is_named_by_the_utc_calendar(kind: str, expected: str) -> None:
    assert window_id(kind, ms("2026-11-23T04:56:59.999")) == expected


def test_a_window_ends_with_its_last_millisecond() -> None:
    assert window_id("day", ms("2026-11-23T23:59:59.999")) == "day:2026-11-23"
    assert window_id("day", ms("2026-11-24T00:00:00")) == "day:2026-11-24"


def test_what_fits_is_what_the_limit_leaves_beside_spent_and_reserved() -> None:
    window = Window("total", 100, spent=60, reserved=30)

    assert window.fits(10)
    assert not window.fits(11)
    assert Window("none", None, spent=10**18).fits(10**18)


def test_settling_books_the_amount_and_gives_the_rest_back() -> None:
    held = place(Window("total", 100), 40)

    assert held == Window("total", 100, reserved=40, holds=1)
    assert settle(held, 40, 25, certain=True) == Window("total", 100, spent=25)
    assert settle(held, 40, 40, certain=False) == Window("total", 100, spent=40, uncertain=1)
    assert settle(held, 40, 41, certain=True) == Window("total", 100, spent=41, overrun=True)


def test_a_correction_downwards_is_no_overrun_and_one_upwards_is() -> None:
    booked = Window("total", 100, spent=40, uncertain=1)

    assert adjust(booked, -15) == Window("total", 100, spent=25)
    assert adjust(booked, 0) == Window("total", 100, spent=40)
    assert adjust(booked, 1) == Window("total", 100, spent=41, overrun=True)


def test_a_window_without_limit_has_no_overrun() -> None:
    assert settle(Window("none", None, reserved=40, holds=1), 40, 41, certain=True) == Window("none", None, spent=41)
    assert stopped(Account("acme", windows=(Window("none", None),)), ["none"]).windows == (Window("none", None),)


@pytest.mark.parametrize(
    "yesterday",
    [
        Window("day:2026-11-22", 100, spent=7, reserved=5, holds=1),
        Window("day:2026-11-22", 100, spent=7, holds=1),
        Window("day:2026-11-22", 100, spent=7, uncertain=1),
    ],
)
def test_a_window_that_is_over_stays_while_something_depends_on_it(yesterday: Window) -> None:
    account = Account("acme", windows=(yesterday,))

    turned, current = turned_to(account, [("day", 100), ("total", 900)], NOW)

    assert current == ("day:2026-11-23", "total")
    assert turned.windows == (Window("day:2026-11-23", 100), Window("total", 900), yesterday)
    assert turned.clock_ms == NOW


def test_a_window_that_is_over_and_done_with_goes() -> None:
    account = Account("acme", windows=(Window("day:2026-11-22", 100, spent=7),))

    assert turned_to(account, [("day", 100)], NOW)[0].windows == (Window("day:2026-11-23", 100),)


def test_event_time_never_runs_backwards() -> None:
    account, _ = turned_to(Account("acme"), [("day", 100)], NOW)

    assert turned_to(account, [("day", 100)], NOW - 86_400_000) == (account, ("day:2026-11-23",))


def test_a_window_outlives_its_budget_until_it_turns() -> None:
    day, total = ("day", 100), ("total", 1_000)
    account, _ = turned_to(Account("acme"), (day, total), NOW)
    for window in account.windows:
        account = with_window(account, settle(place(window, 60), 60, 50, certain=True))

    without, current = turned_to(account, (day,), NOW + 1)
    again, _ = turned_to(without, (day, total), NOW + 2)
    next_day, _ = turned_to(without, (day,), NOW + 86_400_000)

    assert current == ("day:2026-11-23",)
    assert {w.id: w.spent for w in again.windows} == {"day:2026-11-23": 50, "total": 50}
    assert {w.id: w.spent for w in next_day.windows} == {"day:2026-11-24": 0, "total": 50}
