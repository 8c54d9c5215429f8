"""A trace is continued where one was begun, else begun so that a repetition begins the same."""

import re

import pytest

from streams.core.tracing import traceparent_of

GIVEN = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"


def test_a_valid_traceparent_is_continued() -> None:
    assert traceparent_of((("x", b"1"), ("traceparent", GIVEN)), "acme", "r-1") == GIVEN.decode()


@pytest.mark.parametrize(
    "given",
    [
        b"",
        b"\xff",
        GIVEN + b"-1",
        GIVEN.upper(),
        b"ff" + GIVEN[2:],
        b"00-" + b"0" * 32 + b"-b7ad6b7169203331-01",
        b"00-0af7651916cd43dd8448eb211c80319c-" + b"0" * 16 + b"-01",
    ],
)
def test_an_invalid_traceparent_counts_as_absent(given: bytes) -> None:
    assert traceparent_of((("traceparent", given),), "acme", "r-1") == traceparent_of((), "acme", "r-1")


def test_a_request_without_one_gets_the_same_every_time_and_no_other_request_has_it() -> None:
    begun = traceparent_of((), "acme", "r-1")

    assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-01", begun)
    assert begun == traceparent_of((), "acme", "r-1")
    assert len({begun, traceparent_of((), "acme", "r-2"), traceparent_of((), "acm", "er-1")}) == 3
