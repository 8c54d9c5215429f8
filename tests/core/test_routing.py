"""Which deployment is chosen, and why the others are not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.routing import LeftOut, Routing, Strategy
from streams.core.routing import Latency, Option, View, choose_route, heard

A, B, C = Option("a"), Option("b"), Option("c")
STRATEGIES: list[Strategy] = ["round-robin", "weighted", "least-busy", "latency", "cost", "priority"]
ANYHOW = pytest.mark.parametrize("strategy", STRATEGIES)


def route(
    *groups: list[Option],
    strategy: Strategy = "round-robin",
    view: View | None = None,
    draw: float = 0.0,
    tried: str = "",
) -> Routing:
    return choose_route(groups, strategy=strategy, view=view or View(), tried=tried.split(), draw=draw)


def reasons(routing: Routing) -> dict[str, LeftOut | None]:
    return {c.deployment: c.reason for c in routing.candidates}


@ANYHOW
def test_the_model_preferred_most_goes_first(strategy: Strategy) -> None:
    routing = route([A], [B, C], strategy=strategy, draw=0.9)

    assert routing.chosen == "a"
    assert reasons(routing) == {"a": None, "b": "less_preferred", "c": "less_preferred"}


@ANYHOW
def test_one_that_failed_this_request_comes_after_all_others(strategy: Strategy) -> None:
    routing = route([A], [B], strategy=strategy, tried="a")

    assert (routing.chosen, reasons(routing)) == ("b", {"a": "tried", "b": None})


@ANYHOW
def test_where_all_failed_this_request_the_most_preferred_is_tried_again(strategy: Strategy) -> None:
    routing = route([A], [B], strategy=strategy, tried="a b", draw=0.9)

    assert (routing.chosen, reasons(routing)) == ("a", {"a": None, "b": "less_preferred"})


@ANYHOW
def test_one_that_is_out_is_never_chosen_and_the_reason_is_told(strategy: Strategy) -> None:
    view = View(out={"a": "circuit_open", "b": "cooldown"})

    routing = route([A, B, C], strategy=strategy, view=view)

    assert (routing.chosen, reasons(routing)) == ("c", {"a": "circuit_open", "b": "cooldown", "c": None})


@ANYHOW
def test_where_all_are_out_nobody_is_chosen(strategy: Strategy) -> None:
    routing = route([A, B], strategy=strategy, view=View(out={"a": "circuit_open", "b": "cooldown"}))

    assert (routing.chosen, reasons(routing)) == (None, {"a": "circuit_open", "b": "cooldown"})


@ANYHOW
def test_without_candidates_nobody_is_chosen(strategy: Strategy) -> None:
    assert route(strategy=strategy) == Routing(strategy=strategy, chosen=None)


@ANYHOW
def test_one_without_room_gives_way_to_another_of_its_model(strategy: Strategy) -> None:
    routing = route([A, B], [C], strategy=strategy, view=View(full={"a"}))

    assert (routing.chosen, reasons(routing)) == ("b", {"a": "full", "b": None, "c": "less_preferred"})


@ANYHOW
def test_where_nobody_has_room_one_is_chosen_to_wait_for(strategy: Strategy) -> None:
    assert route([A], [B], strategy=strategy, view=View(full={"a", "b"})).chosen == "a"


@ANYHOW
@given(
    names=st.lists(st.sampled_from("abcdef"), min_size=1, max_size=6, unique=True),
    out=st.sets(st.sampled_from("abcdef")),
    tried=st.sets(st.sampled_from("abcdef")),
    full=st.sets(st.sampled_from("abcdef")),
    split=st.integers(0, 6),
    draw=st.floats(0, 1, exclude_max=True),
)
def test_somebody_is_chosen_exactly_where_somebody_is_in(
    *,
    strategy: Strategy,
    names: list[str],
    out: set[str],
    tried: set[str],
    full: set[str],
    split: int,
    draw: float,
) -> None:
    options = [Option(name, weight=ord(name) % 3, priority=ord(name) % 2) for name in names]
    view = View(out=dict.fromkeys(out, "cooldown"), full=full, in_flight={"a": 2}, latency_s={"b": 0.5})

    routing = choose_route([options[:split], options[split:]], strategy=strategy, view=view, tried=tried, draw=draw)

    assert (routing.chosen is None) == (set(names) <= out)
    assert routing.chosen not in out
    assert [c.deployment for c in routing.candidates] == names
    assert all((c.reason is None) == (c.verdict == "considered") for c in routing.candidates)


def test_round_robin_takes_whose_turn_is_longest_ago() -> None:
    routing = route([A, B, C], view=View(turns={"a": 7, "b": 5, "c": 6}))

    assert routing.chosen == "b"
    assert [c.score for c in routing.candidates] == [7, 5, 6]


def test_one_that_had_no_turn_yet_is_next() -> None:
    assert route([A, B], view=View(turns={"a": 7})).chosen == "b"


@pytest.mark.parametrize(
    ("draw", "chosen"), [(0.0, "a"), (0.49, "a"), (0.5, "b"), (0.79, "b"), (0.81, "c"), (0.99, "c")]
)
def test_the_draw_falls_into_the_weights(draw: float, chosen: str) -> None:
    options = [Option("a", weight=5), Option("b", weight=3), Option("c", weight=2)]

    assert route(options, strategy="weighted", draw=draw).chosen == chosen


@pytest.mark.parametrize("draw", [0.0, 0.5, 0.999])
def test_weight_zero_gets_nothing_while_others_have_weight(draw: float) -> None:
    options = [Option("a", weight=0), Option("b", weight=1), Option("c", weight=0)]

    assert route(options, strategy="weighted", draw=draw).chosen == "b"


@pytest.mark.parametrize(("draw", "chosen"), [(0.1, "a"), (0.6, "b")])
def test_where_all_weights_are_zero_all_get_the_same(draw: float, chosen: str) -> None:
    assert route([Option("a", weight=0), Option("b", weight=0)], strategy="weighted", draw=draw).chosen == chosen


def test_least_busy_takes_the_fewest_calls_in_flight() -> None:
    assert route([A, B, C], strategy="least-busy", view=View(in_flight={"a": 2, "b": 1, "c": 3})).chosen == "b"


@pytest.mark.parametrize(("draw", "chosen"), [(0.1, "b"), (0.9, "c")])
def test_the_draw_decides_between_equally_busy_ones(draw: float, chosen: str) -> None:
    assert route([A, B, C], strategy="least-busy", view=View(in_flight={"a": 1}), draw=draw).chosen == chosen


@pytest.mark.parametrize(
    ("in_flight", "chosen"),
    [({}, "a"), ({"a": 1}, "a"), ({"a": 3}, "b"), ({"a": 3, "b": 2}, "a")],  # 0.1 s each against 0.3 s each
)
def test_latency_counts_for_every_call_that_is_there_already(in_flight: dict[str, int], chosen: str) -> None:
    view = View(in_flight=in_flight, latency_s={"a": 0.1, "b": 0.3})

    assert route([A, B], strategy="latency", view=view).chosen == chosen


def test_a_deployment_that_nobody_knows_is_found_out_with_one_call_at_a_time() -> None:
    known = {"a": 0.1}

    assert route([A, B], strategy="latency", view=View(latency_s=known)).chosen == "b"
    assert route([A, B], strategy="latency", view=View(latency_s=known, in_flight={"a": 50, "b": 1})).chosen == "a"


@pytest.mark.parametrize(
    ("draw", "pair"), [(0.0, "ab"), (0.2, "ac"), (0.34, "ab"), (0.6, "bc"), (0.67, "ac"), (0.99, "bc")]
)
def test_the_draw_names_two_different_ones(draw: float, pair: str) -> None:
    routing = route([A, B, C], strategy="latency", draw=draw)

    assert "".join(c.deployment for c in routing.candidates if c.score is not None) == pair


def test_cost_takes_the_cheapest() -> None:
    options = [Option("a", price=300), Option("b", price=200), Option("c", price=201)]

    assert route(options, strategy="cost").chosen == "b"


def test_priority_takes_the_lowest_number_and_goes_on_to_the_next_where_it_is_out() -> None:
    options = [Option("a", priority=1), Option("b", priority=0), Option("c", priority=2)]

    assert route(options, strategy="priority").chosen == "b"
    assert route(options, strategy="priority", view=View(out={"b": "circuit_open"})).chosen == "a"


@pytest.mark.parametrize(("draw", "chosen"), [(0.7, "b"), (0.8, "c")])
def test_weights_divide_what_one_priority_gets(draw: float, chosen: str) -> None:
    options = [Option("a", priority=1, weight=9), Option("b", weight=3), Option("c", weight=1)]

    assert route(options, strategy="priority", draw=draw).chosen == chosen


def test_a_slow_answer_counts_at_once_and_a_fast_one_little_by_little() -> None:
    usual = heard(None, 0.1, answered=True, now_ms=0)
    peak = heard(usual, 2.0, answered=True, now_ms=1_000)
    after = heard(peak, 0.1, answered=True, now_ms=2_000)

    assert (usual.seconds, peak.seconds) == (0.1, 2.0)
    assert after.seconds == pytest.approx(1.8192, abs=1e-4)  # 2.0 × e^-0.1 + 0.1 × (1 - e^-0.1)


def test_a_latency_fades_while_nothing_is_heard() -> None:
    assert Latency(2.0, 0).now(10_000) == pytest.approx(0.7358, abs=1e-4)  # 2.0 / e


def test_a_deployment_that_fails_at_once_does_not_look_fast() -> None:
    assert heard(Latency(0.5, 0), 0.001, answered=False, now_ms=0).seconds == 10.0
