"""Rows of the tables: keys that no two things share, values that say the same after they were read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core import facts as f
from streams.core.account import Account, Window
from streams.core.request import Intake, Request, after
from streams.core.rows import (
    DONE_PREFIX,
    OPEN_PREFIX,
    Home,
    account_key,
    decode_account,
    decode_home,
    decode_request,
    done_key,
    encode_account,
    encode_home,
    encode_request,
    open_key,
)

ids = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=128)
numbers = st.integers(-(2**62), 2**62)
counts = st.integers(0, 1_000)
lines = st.lists(st.builds(f.LedgerLine, ids, numbers, numbers, st.none() | numbers, counts), max_size=3).map(tuple)
details = st.dictionaries(
    st.text(max_size=5),
    st.none() | st.text(max_size=5) | numbers | st.floats(allow_nan=False, allow_infinity=False),
    max_size=3,
)
facts = st.one_of(
    st.builds(f.HoldPlaced, counts, numbers, lines),
    st.builds(f.HoldSettled, counts, numbers, numbers, lines),
    st.builds(f.HoldReleased, counts, numbers, lines),
    st.builds(f.HoldRefused, numbers, lines),
    st.builds(f.BookingAdjusted, counts, numbers, lines),
    st.builds(f.BudgetSet, st.none() | numbers, lines),
    st.builds(f.Charged, st.sampled_from(["incurred", "uncertain", "adjusted"]), counts, numbers),
    st.builds(f.AttemptStarted, counts),
    st.builds(f.AttemptWaits, counts, numbers),
    st.builds(f.AttemptEnded, counts, st.none() | ids, st.booleans(), details),
    st.builds(f.Answered, counts, counts, numbers),
    st.builds(f.Failed, ids, st.text(max_size=5), details, counts, numbers),
)
decisions = st.builds(
    f.Decision,
    st.sampled_from(["prompt.requests", "prompt.progress"]),
    counts,
    numbers,
    numbers,
    st.lists(facts, max_size=4).map(tuple),
)
INTAKE = Intake(
    "acme", "r-1", 3, 42, "ab", 1, 2, "00-a", {"team": "é"}, "gpt-4", hold=5, candidates=("a", "b")
)  # fmt: skip


@given(st.lists(decisions, max_size=4))
def test_a_request_that_was_written_and_read_is_the_fold_of_its_decisions(history: list[f.Decision]) -> None:
    request = Request(INTAKE)
    for decision in history:
        request = after(request, decision)

    again = decode_request(encode_request(request))

    assert again == request
    assert encode_request(again) == encode_request(request)


def test_an_account_and_a_home_that_were_written_and_read_are_the_same() -> None:
    account = Account("acme", 7, 8, 9, (Window("total", None, 1, 2, 3, True, 4), Window("day:2026-11-23", 9)))
    home = Home(5, 6, 12, 41, 40)

    assert decode_account(encode_account(account)) == account
    assert decode_home(encode_home(home)) == home


@given(ids, ids, ids, ids)
def test_no_two_requests_share_a_key(tenant: str, request_id: str, tenant2: str, request_id2: str) -> None:
    same = (tenant, request_id) == (tenant2, request_id2)

    assert (open_key(tenant, request_id) == open_key(tenant2, request_id2)) is same
    assert (done_key(tenant, request_id) == done_key(tenant2, request_id2)) is same
    assert open_key(tenant, request_id).startswith(OPEN_PREFIX)
    assert done_key(tenant, request_id).startswith(DONE_PREFIX)


def test_keys_are_length_prefixed() -> None:
    assert open_key("acme", "r-1") == b"open/\x04acme\x03r-1"
    assert done_key("acme", "r-1") == b"request/\x04acme\x03r-1"
    assert account_key("a/b") == b"account/\x03a/b"
    assert open_key("a", "bc") != open_key("ab", "c")


def test_an_id_that_is_not_ascii_is_no_key() -> None:
    with pytest.raises(UnicodeEncodeError):
        account_key("é")
