"""The drain loop over a broker that hands over stale records, jumps, and holes that are real."""

import asyncio
from types import SimpleNamespace
from typing import Any

from faust.types import TP
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.runtime.consumer import Consumer, Contiguity

REQUESTS = TP("requests", 0)


class Broker:
    """The drain loop over one partition. A fetch reads on from a position, unless a disturbance comes first:

    `("stale", offset)` hands over records from there, fetched long ago; `("lost", offset)` moves the position there.
    """

    flow_active = True
    _drain_once: Any = Consumer._drain_once
    _deliver: Any = Consumer._deliver

    def __init__(self, log: list[int], start: int, disturbances: list[tuple[int, str, int]]) -> None:
        self.app = SimpleNamespace(consumer_generation_id=1)
        self.scheduler = SimpleNamespace(iterate=lambda records: [(tp, one) for tp in records for one in records[tp]])
        self.delivered: list[int] = []
        self.seeks = 0
        self._sought = False
        self._log = log
        self._position = start
        self._disturbances = {at: (what, offset) for at, what, offset in disturbances}
        self._fetches = 0
        self._contiguity = Contiguity()
        self._contiguity.begin({REQUESTS: start})

    async def _look(self) -> dict[TP, list[Any]]:
        self._fetches += 1
        what, offset = self._disturbances.pop(self._fetches, ("", 0))
        if self._sought:  # what aiokafka had fetched before a seek it throws away
            what, self._sought = "", False
        if what == "lost":
            self._position = offset
        found = [one for one in self._log if one >= (offset if what == "stale" else self._position)][:5]
        if found and what != "stale":
            self._position = found[-1] + 1
        return {REQUESTS: [SimpleNamespace(offset=one) for one in found]}

    async def _seek_back(self, tp: TP, offset: int) -> None:
        self.seeks += 1
        self._sought = True
        self._position = offset

    async def callback(self, message: Any) -> None:
        self.delivered.append(message.offset)

    def _to_message(self, tp: TP, record: Any) -> Any:
        return record

    def _restore(self, changelogs: dict[TP, list[Any]]) -> None:
        assert changelogs == {}

    def _is_changelog_tp(self, tp: TP) -> bool:
        return False

    def _flows(self, generation: int) -> bool:
        return bool(generation == self.app.consumer_generation_id)

    def drain(self, fetches: int) -> list[int]:
        async def drain() -> None:
            for _ in range(fetches):
                await self._drain_once()

        asyncio.run(drain())
        return self.delivered


def logs() -> st.SearchStrategy[list[int]]:
    """Offsets of a log with holes of two and more; its last record lies behind every disturbance."""
    steps = st.lists(st.sampled_from([1, 1, 1, 1, 3, 4]), max_size=40)
    return steps.map(lambda steps: [*(sum(steps[: n + 1]) - 1 for n in range(len(steps))), 500])


def disturbances() -> st.SearchStrategy[list[tuple[int, str, int]]]:
    """At which fetch, what, to where."""
    one = st.tuples(st.integers(1, 30), st.sampled_from(["stale", "lost"]), st.integers(0, 100))
    return st.lists(one, max_size=8)


@settings(max_examples=300)
@given(logs(), st.integers(0, 10), disturbances())
def test_every_record_is_delivered_once_and_in_order_whatever_the_broker_hands_over(
    log: list[int], start: int, disturbed: list[tuple[int, str, int]]
) -> None:
    broker = Broker(log, start, disturbed)
    assert broker.drain(fetches=150) == [offset for offset in log if offset >= start]


def test_a_marker_behind_every_commit_costs_one_seek_in_all() -> None:
    broker = Broker(list(range(0, 100, 2)), 0, [])
    assert broker.drain(fetches=30) == list(range(0, 100, 2))
    assert broker.seeks == 1


def test_a_record_held_back_across_a_rebalance_does_not_move_the_expected_offset() -> None:
    broker = Broker([0, 1, 2], 0, [])

    async def rebalanced_meanwhile(message: Any) -> None:
        broker.app.consumer_generation_id += 1

    broker.callback = rebalanced_meanwhile  # type: ignore[method-assign]
    broker.drain(fetches=1)
    assert broker._contiguity.expects(REQUESTS) == 0


def test_a_jump_is_a_hole_only_when_it_comes_again() -> None:
    reading = Contiguity()
    reading.begin({REQUESTS: 5})
    assert reading.admits(REQUESTS, 5)
    reading.delivered(REQUESTS, 5)
    assert not reading.admits(REQUESTS, 9)
    assert not reading.admits(REQUESTS, 12)
    assert not reading.admits(REQUESTS, 9)
    assert reading.admits(REQUESTS, 9)


def test_a_topic_that_has_shown_a_marker_may_lack_one_offset_without_a_second_look() -> None:
    reading = Contiguity()
    reading.begin({REQUESTS: 0, TP("progress", 0): 0})
    assert [reading.admits(REQUESTS, 1), reading.admits(REQUESTS, 1)] == [False, True]
    reading.delivered(REQUESTS, 1)
    assert reading.admits(REQUESTS, 3)
    assert not reading.admits(REQUESTS, 4)
    assert not reading.admits(TP("progress", 0), 1)
