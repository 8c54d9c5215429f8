"""What catches requests that everything else has dropped, and how many attempts are started at once after a crash."""

import json
from collections import Counter
from random import Random

import pytest

from schemas.progress import AttemptRedriven, progress_of
from streams.runtime.pace import Pace
from streams.runtime.pipeline import Pipeline
from streams.runtime.ports import Outgoing
from streams.runtime.timers import RequestKey, Timers
from tests.simulation.history import TOPICS, Fault, Observed, Plan, plan_of, registry_of, run
from tests.simulation.oracle import broken, events
from tests.simulation.owner import PROGRESS, REQUESTS
from tests.simulation.world import Weather


def test_attempts_start_slowly_and_then_faster_and_slowly_again_after_calm() -> None:
    pace = Pace()
    assert [pace.take(5_000, second * 1000) for second in range(8)] == [100, 200, 400, 800, 1000, 1000, 1000, 1000]
    assert [pace.take(60, 8_000), pace.take(5_000, 8_500), pace.take(1, 8_999)] == [60, 940, 0]
    assert pace.take(5_000, 18_999) == 100


def inherited(requests: int) -> Plan:
    """Many requests whose calls take long, and a crash of everybody while they run."""
    random = Random(5)
    asks = tuple(
        (
            1 + random.random() * 3,
            Outgoing(REQUESTS, None, json.dumps({"tenant": "free", "prompt": f"{n}", "timeout_s": 300}).encode()),
        )
        for n in range(requests)
    )
    faults = (Fault(25.0, "crash everybody", "w1", 0.0),)
    return Plan(5, Weather(), registry_of(30, 3, "0.001", "refuse", 86_400), asks, faults, 0.0, 100.0)


@pytest.fixture(scope="module")
def storm() -> Observed:
    """Crash with a thousand calls in flight."""
    return run(inherited(1_200))


def test_a_worker_that_inherits_hundreds_of_calls_does_not_make_them_all_at_once(storm: Observed) -> None:
    assert broken(storm) == []
    began: dict[str, float] = {}
    started: Counter[tuple[str, int]] = Counter()
    for at_s, who, record in storm.world.appended:
        if record.topic == PROGRESS and isinstance(progress_of(record.value or b""), AttemptRedriven):
            started[who, int(at_s - began.setdefault(who, at_s))] += 1
    assert sum(started.values()) > 400
    assert {count for (_, second), count in started.items() if second == 0} == {100}
    assert {second for _, second in started} >= {0, 1}
    assert all(count <= min(100 * 2**second, 1_000) for (_, second), count in started.items())


def test_no_inherited_call_is_lost(storm: Observed) -> None:
    assert len([*events(storm, TOPICS.responses), *events(storm, TOPICS.errors)]) == 1_200
    assert storm.complaints == []


class _DeafTimers(Timers):
    """No moment ever comes."""

    def set(self, moment_ms: int, key: RequestKey) -> None:
        return


class TimersNeverFire(Pipeline):
    """Deadlines are nobody's business but the sweeper's."""

    def __init__(self, **ports: object) -> None:
        super().__init__(**ports)  # type: ignore[arg-type]  # the ports as they came
        self._timers = _DeafTimers(self._clock, self._fire)


def test_the_sweeper_closes_what_no_timer_does_and_says_so() -> None:
    swept = 0
    for seed in range(60):
        told = broken(run(plan_of(seed), TimersNeverFire))
        swept += any("swept up requests" in one for one in told)
        assert not any("never comes to rest" in one for one in told)
    assert swept >= 3


def test_work_older_than_its_deadline_is_refused_before_any_call() -> None:
    """An outage longer than the deadline: all workers are away while requests come."""
    asks = tuple(
        (
            20 + n / 10,
            Outgoing(REQUESTS, None, json.dumps({"tenant": "rich", "prompt": f"{n}", "timeout_s": 5}).encode()),
        )
        for n in range(50)
    )
    faults = tuple(Fault(10.0, "pause", worker, 0.99) for worker in ("w1", "w2"))  # for 28 s
    late = run(Plan(7, Weather(), registry_of(30, 3, "0.001", "refuse", 86_400), asks, faults, 0.0, 1.0))
    assert broken(late) == []
    assert late.provider.calls == []
    errors = events(late, TOPICS.errors)
    assert [(e["error"]["code"], e["error"]["details"]["reason"]) for e in errors] == [
        ("TIMEOUT_ERROR", "deadline")
    ] * 50
