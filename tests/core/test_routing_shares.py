"""What share of the calls each deployment gets, against what arithmetic expects: calls in virtual time."""

import heapq
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import pytest

from schemas.routing import Strategy
from streams.core.identity import draw
from streams.core.routing import Latency, Option, View, choose_route, heard


@dataclass
class Fleet:
    """Deployments that serve one model. `takes_s`: how long an answer takes there while so many calls are in flight."""

    options: list[Option]
    takes_s: Mapping[str, Callable[[int], float]]
    strategy: Strategy
    view: View = field(default_factory=View)
    latencies: dict[str, Latency] = field(default_factory=dict)
    in_flight: Counter[str] = field(default_factory=Counter)
    most: Counter[str] = field(default_factory=Counter)
    running: list[tuple[float, str, float]] = field(default_factory=list)
    failing: set[str] = field(default_factory=set)
    asked: int = 0
    now_s: float = 0.0

    def calls(self, count: int, *, every_s: float, of: list[Option] | None = None) -> dict[str, float]:
        """Make so many calls and return the shares."""
        got: Counter[str] = Counter()
        for _ in range(count):
            self.now_s += every_s
            self._end_calls()
            got[self._call(of or self.options)] += 1
        return {option.id: got[option.id] / count for option in self.options}

    def _call(self, options: list[Option]) -> str:
        self.asked += 1
        now_ms = round(self.now_s * 1000)
        latency = {name: known.now(now_ms) for name, known in self.latencies.items()}
        view = replace(self.view, in_flight=self.in_flight, latency_s=latency)
        routing = choose_route(
            [options], strategy=self.strategy, view=view, tried=(), draw=draw("acme", f"r-{self.asked}", 1)
        )
        assert routing.chosen is not None
        chosen = routing.chosen
        self.view = replace(self.view, turns={**self.view.turns, chosen: self.asked})
        self.in_flight[chosen] += 1
        self.most[chosen] = max(self.most[chosen], self.in_flight[chosen])
        took = 0.001 if chosen in self.failing else self.takes_s[chosen](self.in_flight[chosen])
        heapq.heappush(self.running, (self.now_s + took, chosen, took))
        return chosen

    def _end_calls(self) -> None:
        while self.running and self.running[0][0] <= self.now_s:
            ended_s, name, took = heapq.heappop(self.running)
            self.in_flight[name] -= 1
            self.latencies[name] = heard(
                self.latencies.get(name), took, answered=name not in self.failing, now_ms=round(ended_s * 1000)
            )


def always(seconds: float) -> Callable[[int], float]:
    return lambda _: seconds


def fleet(strategy: Strategy, takes_s: dict[str, float], **weights: float) -> Fleet:
    options = [Option(name, weight=weights.get(name, 1.0)) for name in takes_s]
    return Fleet(options, {name: always(seconds) for name, seconds in takes_s.items()}, strategy)


SAME = {"a": 0.1, "b": 0.1, "c": 0.1}


def test_weights_are_kept_within_one_percent() -> None:
    shares = fleet("weighted", SAME, a=5, b=3, c=2).calls(25_000, every_s=0.001)

    assert shares == pytest.approx({"a": 0.5, "b": 0.3, "c": 0.2}, abs=0.01)


def test_weights_of_those_that_are_left_are_kept_in_an_outage_and_all_of_them_after_it() -> None:
    models = fleet("weighted", SAME, a=5, b=3, c=2)
    models.view = View(out={"a": "circuit_open"})
    during = models.calls(15_000, every_s=0.001)
    models.view = View()
    after = models.calls(15_000, every_s=0.001)

    assert during == pytest.approx({"a": 0.0, "b": 0.6, "c": 0.4}, abs=0.01)
    assert after == pytest.approx({"a": 0.5, "b": 0.3, "c": 0.2}, abs=0.01)


def test_round_robin_gives_all_the_same_to_the_call() -> None:
    assert fleet("round-robin", SAME).calls(300, every_s=0.01) == {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}


def test_round_robin_owes_nothing_to_one_that_was_out() -> None:
    models = fleet("round-robin", SAME)
    models.view = View(out={"a": "circuit_open"})
    models.calls(300, every_s=0.01)
    models.view = replace(models.view, out={})

    after = models.calls(30, every_s=0.01)

    assert after == pytest.approx({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3})


def test_round_robin_stays_even_where_requests_for_two_models_alternate() -> None:
    models = fleet("round-robin", {"a": 0.1, "b": 0.1, "c": 0.1, "d": 0.1})
    first, second = models.options[:2], models.options[2:]
    got: Counter[str] = Counter()
    for _ in range(100):
        for options in (first, second):
            got.update({name for name, share in models.calls(1, every_s=0.01, of=options).items() if share})

    assert got == {"a": 50, "b": 50, "c": 50, "d": 50}


def test_least_busy_gives_each_as_much_as_it_is_fast() -> None:
    # equally many calls in flight at each, so by Little's law shares are as 1/0.1 : 1/0.2 : 1/0.4
    models = fleet("least-busy", {"a": 0.1, "b": 0.2, "c": 0.4})
    models.calls(1_000, every_s=0.001)

    assert models.calls(10_000, every_s=0.001) == pytest.approx({"a": 4 / 7, "b": 2 / 7, "c": 1 / 7}, abs=0.01)


def test_latency_gives_equals_the_same() -> None:
    models = fleet("latency", SAME)
    models.calls(1_000, every_s=0.002)

    assert models.calls(10_000, every_s=0.002) == pytest.approx({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}, abs=0.02)


def test_the_fastest_of_ten_gets_no_more_than_the_pairs_that_it_is_in() -> None:
    # at light load it wins each of them: 2 of 10
    takes = {"fast": 0.01, **{f"slow-{n}": 0.5 for n in range(9)}}
    models = fleet("latency", takes)
    models.calls(1_000, every_s=0.05)

    assert models.calls(5_000, every_s=0.05)["fast"] == pytest.approx(0.2, abs=0.01)


def test_nobody_runs_to_the_fastest_until_it_is_the_slowest() -> None:
    # each answers in 0.1 s and twice as long with 20 calls in flight; 200 calls a second make 10 in flight at each
    options = [Option("a"), Option("b"), Option("c")]
    slower_with_load = {option.id: (lambda busy: 0.1 * (1 + busy / 20)) for option in options}
    models = Fleet(options, slower_with_load, "latency")
    shares = models.calls(10_000, every_s=0.005)

    assert shares == pytest.approx({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}, abs=0.02)
    assert max(models.most.values()) <= 20


def test_one_that_fails_fast_draws_no_calls_and_gets_its_share_again_a_minute_after_it_is_well() -> None:
    models = fleet("latency", SAME)
    models.calls(2_000, every_s=0.01)
    models.failing = {"a"}
    models.calls(500, every_s=0.01)
    during = models.calls(2_000, every_s=0.01)
    models.failing = set()
    models.calls(6_000, every_s=0.01)
    after = models.calls(10_000, every_s=0.01)

    assert during["a"] < 0.05
    assert after == pytest.approx({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}, abs=0.03)
