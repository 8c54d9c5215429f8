"""Ids: the same for the same, different for the different."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from streams.core.identity import default_request_id, event_id, netstrings


def test_an_events_id_never_changes_between_releases() -> None:
    assert event_id("acme", "r-1", "prompt.requests", 3, 41, "prompt.answered.v1") == (
        "df07e2b7-af9d-5d34-a7a8-4c2149b2e186"
    )


def test_an_events_id_is_a_uuid_of_version_5() -> None:
    assert UUID(event_id("acme", "r-1", "prompt.requests", 3, 41, "prompt.answered.v1")).version == 5


@given(
    st.tuples(st.text(), st.text(), st.text(), st.integers(0), st.integers(0), st.text()),
    st.tuples(st.text(), st.text(), st.text(), st.integers(0), st.integers(0), st.text()),
)
def test_two_events_share_an_id_only_if_all_parts_are_equal(
    one: tuple[str, str, str, int, int, str], other: tuple[str, str, str, int, int, str]
) -> None:
    assert (event_id(*one) == event_id(*other)) == (one == other)


def test_parts_do_not_run_into_one_another() -> None:
    assert event_id("ab", "c", "t", 1, 23, "w") != event_id("a", "bc", "t", 1, 23, "w")
    assert event_id("ab", "c", "t", 1, 23, "w") != event_id("ab", "c", "t", 12, 3, "w")


def test_joined_parts_are_netstrings() -> None:
    assert netstrings("acme", "", "r-1") == "4:acme0:3:r-1"


@given(st.lists(st.text(alphabet="01:a")), st.lists(st.text(alphabet="01:a")))
def test_no_two_lists_of_parts_look_alike(one: list[str], other: list[str]) -> None:
    assert (netstrings(*one) == netstrings(*other)) == (one == other)


def test_a_request_without_an_id_is_named_by_its_coordinates() -> None:
    assert default_request_id(3, 41) == "p3-41"
