"""In which order those who wait get a place, and who is refused."""

import heapq
from collections import Counter
from math import inf
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.requests import Priority
from streams.core.waiting import Line, Waiting, share_of

NOW = 1_795_399_200_000


def line(*waiting: tuple[str, Priority, int], most: int = 100) -> tuple[Line[str], list[str]]:
    """Return a line of calls named by `tenant-priority-second`, and who was refused."""
    made: Line[str] = Line(most)
    refused = []
    for tenant, priority, second in waiting:
        name = f"{tenant}-{priority}-{second}"
        _, other = made.join(name, tenant=tenant, priority=priority, now_ms=NOW + second * 1000)
        if other is not None:
            refused.append(other.handle)
    return made, refused


def order(made: Line[str], *, places: int = 1_000) -> list[str]:
    got = []
    while (following := made.next({}, places)) is not None:
        got.append(following.handle)
    return got


def test_the_higher_priority_goes_first_and_equals_as_they_came() -> None:
    made, _ = line(("a", "low", 0), ("a", "normal", 1), ("a", "high", 2), ("a", "normal", 3), ("a", "high", 4))

    assert order(made) == ["a-high-2", "a-high-4", "a-normal-1", "a-normal-3", "a-low-0"]


def test_a_low_one_passes_a_high_one_that_came_more_than_twenty_seconds_later() -> None:
    made, _ = line(("a", "low", 0), ("b", "high", 19), ("c", "high", 21))

    assert order(made) == ["b-high-19", "a-low-0", "c-high-21"]


def test_a_normal_one_passes_a_high_one_that_came_more_than_ten_seconds_later() -> None:
    made, _ = line(("a", "normal", 0), ("a", "high", 9), ("a", "high", 11))

    assert order(made) == ["a-high-9", "a-normal-0", "a-high-11"]


def test_the_lowest_is_refused_where_too_many_wait() -> None:
    made, refused = line(("a", "low", 0), ("a", "normal", 1), ("a", "high", 2), most=2)

    assert refused == ["a-low-0"]
    assert order(made) == ["a-high-2", "a-normal-1"]


def test_of_equals_the_newest_is_refused() -> None:
    _, refused = line(("a", "normal", 0), ("a", "normal", 1), ("a", "normal", 2), most=2)

    assert refused == ["a-normal-2"]


def test_of_equals_the_tenant_is_refused_of_whom_most_wait() -> None:
    _, refused = line(("a", "normal", 0), ("a", "normal", 1), ("b", "normal", 2), most=2)

    assert refused == ["a-normal-1"]


def test_one_who_has_left_gets_no_place() -> None:
    made: Line[str] = Line(10)
    first, _ = made.join("first", tenant="a", priority="normal", now_ms=NOW)
    made.join("second", tenant="a", priority="normal", now_ms=NOW)
    made.leave(first)
    made.leave(first)

    assert len(made) == 1
    assert order(made) == ["second"]


def test_a_tenant_with_its_fair_share_lets_others_go_first() -> None:
    # two tenants and four places: two each
    made, _ = line(("a", "high", 0), ("b", "low", 1))

    following = made.next({"a": 2, "b": 1}, 4)

    assert following is not None
    assert following.handle == "b-low-1"
    assert order(made) == ["a-high-0"]


def test_places_that_nobody_else_wants_may_be_had_beyond_the_fair_share() -> None:
    made, _ = line(("a", "normal", 0), ("a", "normal", 1))
    following = made.next({"a": 3, "b": 0}, 4)

    assert following is not None
    assert following.handle == "a-normal-0"


@pytest.mark.parametrize(
    ("most", "owned", "partitions", "share"),
    [(10, 12, 12, 10), (10, 3, 12, 2), (8, 3, 12, 2), (4, 3, 12, 1), (1, 3, 12, 1), (64, 0, 12, 1), (10, 7, 12, 5)],
)
def test_a_worker_has_the_places_of_its_partitions_and_at_least_one(
    most: int, owned: int, partitions: int, share: int
) -> None:
    assert share_of(most, owned, partitions) == share


@given(st.integers(1, 12).flatmap(lambda workers: st.tuples(st.just(workers), st.integers(workers, 100))))
def test_workers_with_equal_parts_never_have_more_places_than_there_are(given_: tuple[int, int]) -> None:
    workers, most = given_

    assert workers * share_of(most, 12 // workers, 12) <= most


@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from("abc"), st.sampled_from(["high", "normal", "low"])),
            st.just("next"),
            st.integers(0, 50),
        ),
        max_size=80,
    ),
    st.integers(1, 6),
)
def test_everybody_who_joined_gets_a_place_or_is_refused_or_left_exactly_once(steps: list[object], most: int) -> None:
    made: Line[int] = Line(most)
    joined: list[Waiting[int]] = []
    ended: Counter[int] = Counter()
    for second, step in enumerate(steps):
        match step:
            case (str(tenant), ("high" | "normal" | "low") as priority):
                mine, refused = made.join(len(joined), tenant=tenant, priority=priority, now_ms=NOW + second * 1000)
                joined.append(mine)
                if refused is not None:
                    ended[refused.handle] += 1
            case int(which) if which < len(joined):
                ended[which] += not joined[which].gone
                made.leave(joined[which])
            case "next":
                following = made.next({"a": 2}, 2)
                assert (following is None) == (len(joined) == ended.total())
                if following is not None:
                    ended[following.handle] += 1
            case _:
                pass
        assert len(made) == len(joined) - ended.total() <= most
    while (following := made.next({}, 9)) is not None:
        ended[following.handle] += 1

    assert ended == Counter(range(len(joined)))


def p99_of_the_quiet(loud_per_s: float) -> float:
    """Return the 99th percentile, in seconds, of how long calls of nine quiet tenants take beside a loud one.

    Ten places, calls take 0.05 to 0.15 s, so that 100 a second go through; the nine make 10 a second. A minute, in
    virtual time.
    """
    chance = Random(7)
    arrivals: list[tuple[float, str]] = []
    for tenant, per_s in [("loud", loud_per_s), *((f"quiet-{n}", 10 / 9) for n in range(9))]:
        at_s = 0.0
        while per_s and at_s < 60:
            at_s += chance.expovariate(per_s)
            arrivals.append((at_s, tenant))
    made: Line[float] = Line(10_000)
    held: Counter[str] = Counter()
    ends: list[tuple[float, str]] = []
    took: list[float] = []

    def let_in(now_s: float) -> None:
        while held.total() < 10 and (following := made.next(+held, 10)) is not None:
            held[following.tenant] += 1
            ends_s = now_s + chance.uniform(0.05, 0.15)
            heapq.heappush(ends, (ends_s, following.tenant))
            if following.tenant != "loud":
                took.append(ends_s - following.handle)

    def end_calls(until_s: float) -> None:
        while ends and ends[0][0] <= until_s:
            ended_s, tenant = heapq.heappop(ends)
            held[tenant] -= 1
            let_in(ended_s)

    for at_s, tenant in sorted(arrivals):
        end_calls(at_s)
        made.join(at_s, tenant=tenant, priority="normal", now_ms=NOW + round(at_s * 1000))
        let_in(at_s)
    end_calls(inf)
    return sorted(took)[len(took) * 99 // 100]


def test_nine_tenants_hardly_notice_one_that_asks_for_more_than_there_is() -> None:
    alone, beside_it = p99_of_the_quiet(0), p99_of_the_quiet(135)

    assert alone == pytest.approx(0.149, abs=0.001)
    assert beside_it <= 1.5 * alone
