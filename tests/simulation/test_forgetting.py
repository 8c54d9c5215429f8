"""Hours of traffic with a short horizon: rows do not grow, and ids are new again after it."""

import json
from dataclasses import replace
from random import Random

import pytest

from streams.core.forgetting import FINISHED_PREFIX, Finished
from streams.core.rows import DONE_PREFIX, OPEN_PREFIX
from streams.runtime import forgetting
from streams.runtime.ports import Outgoing
from tests.simulation.history import PARTITIONS, TOPICS, Observed, Plan, plan_of, registry_of, run
from tests.simulation.oracle import broken, events
from tests.simulation.owner import ACCOUNTS, REQUESTS
from tests.simulation.world import Weather

HORIZON_S = 120
EVERY_S = 6
HOURS = 2


def traffic(seed: int, *, ids: int) -> Plan:
    """A request every six seconds for two hours, without faults; each id comes again after `ids` of them."""
    random = Random(seed)
    asks = tuple(
        (
            at_s + random.random() * EVERY_S,
            Outgoing(
                REQUESTS,
                None,
                json.dumps({"request_id": f"r{number % ids}", "tenant": "rich", "prompt": str(number % ids)}).encode(),
                0,
            ),
        )
        for number, at_s in enumerate(range(0, HOURS * 3600, EVERY_S))
    )
    registry = registry_of(30, 1, "0.001", "refuse", HORIZON_S)
    return Plan(seed, Weather(), registry, asks, (), 0.0, 0.3)


def most_rows(observed: Observed, prefix: bytes) -> int:
    """Return the most rows of a kind that any partition ever had."""
    most = 0
    for partition in range(PARTITIONS):
        there: set[bytes] = set()
        for key, value in observed.world.rows_of(ACCOUNTS, partition):
            if key.startswith(prefix):
                if value is None:
                    there.discard(key)
                else:
                    there.add(key)
                most = max(most, len(there))
    return most


@pytest.fixture(scope="module")
def hours() -> Observed:
    """Run two hours in which no id comes twice."""
    return run(traffic(1, ids=10_000))


def test_rows_stay_within_what_comes_in_a_horizon(hours: Observed) -> None:
    assert hours.complaints == []
    assert hours.at_rest
    assert len(events(hours, TOPICS.responses)) + len(events(hours, TOPICS.errors)) == 1_200
    assert 15 <= most_rows(hours, DONE_PREFIX) <= 35  # 20 in a horizon
    assert most_rows(hours, FINISHED_PREFIX) == most_rows(hours, DONE_PREFIX)
    assert most_rows(hours, OPEN_PREFIX) <= 8


def test_an_id_is_new_again_after_the_horizon_and_a_repetition_within_it() -> None:
    after = run(traffic(2, ids=60))  # 360 s later: forgotten
    within = run(traffic(2, ids=5))  # 30 s later: known, until 120 s after it was done
    assert after.complaints == within.complaints == []
    held = [len(after.world.all_records(TOPICS.ledger)) // 2, len(within.world.all_records(TOPICS.ledger)) // 2]
    assert held[0] >= 1_200
    assert 5 * 40 <= held[1] <= 5 * 80  # in two hours each id is new every 120 to 150 s, some tried twice


def test_forgetting_too_early_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Finished, "is_over", lambda finished, clock_ms, horizon_ms: True)
    assert any(broken(run(plan_of(seed))) for seed in range(1000))


def test_forgetting_what_unacknowledged_records_need_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if rows were forgotten at once: even then nothing is lost, unless a row goes that is still needed."""
    monkeypatch.setattr(Finished, "is_over", lambda finished, clock_ms, horizon_ms: clock_ms > finished.finished_ms)
    assert not any(loses(seed) for seed in range(200))
    monkeypatch.setattr(forgetting.Forgetting, "need", lambda self, key: None)
    assert any(loses(seed) for seed in range(1000))


def loses(seed: int) -> bool:
    """Whether a history loses an answer."""
    plan = replace(plan_of(seed), registry=registry_of(8, 1, "0.001", "refuse", 1))
    return any(told.startswith("G1") and (" 0 " in told or "rest" in told) for told in broken(run(plan)))
