"""When a finished request is forgotten, and what its account waits for then."""

from dataclasses import replace

from streams.core.account import Account, Window
from streams.core.forgetting import Finished, decode_finished, encode_finished, finished_key, without_doubts
from streams.core.request import Booking, Intake, Request

FINISHED = Finished(offset=258, finished_ms=1_000_000, tenant="acme", request_id="r-1")
REQUEST = Request(
    Intake("acme", "r-1", 3, 258, "", 0, 0, "", {}, "gpt-4"),
    windows={1: ("day:2026-11-23", "total"), 2: ("day:2026-11-24", "total")},
    bookings=(Booking(1, 500, certain=False), Booking(2, 700, certain=True)),
)


def test_a_request_is_known_until_the_horizon_has_passed() -> None:
    assert not FINISHED.is_over(1_059_999, 60_000)
    assert FINISHED.is_over(1_060_000, 60_000)


def test_the_index_is_in_the_order_of_offsets_and_reads_back() -> None:
    assert finished_key(258) == b"done/\x00\x00\x00\x00\x00\x00\x01\x02"
    assert sorted([finished_key(256), finished_key(255), finished_key(70_000)]) == [
        finished_key(255),
        finished_key(256),
        finished_key(70_000),
    ]
    assert decode_finished(finished_key(258), encode_finished(FINISHED)) == FINISHED


def test_a_forgotten_request_is_not_waited_for_and_its_booking_stays() -> None:
    day, total = Window("day:2026-11-23", 900, spent=500, uncertain=1), Window("total", None, spent=1_200, uncertain=3)
    account = Account("acme", windows=(day, total, Window("day:2026-11-24", 900, spent=700, uncertain=2)))
    assert without_doubts(account, REQUEST).windows == (
        replace(day, uncertain=0),
        replace(total, uncertain=2),
        Window("day:2026-11-24", 900, spent=700, uncertain=2),
    )
