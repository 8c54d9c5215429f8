"""When a circuit opens, who may probe it, and when it closes."""

from typing import Any

import pytest

from schemas.health import Observation
from streams.core.circuit import Circuit, evolve, health_of
from streams.core.rows import decode_circuit, encode_circuit

NOW = 1_795_399_200_000


def seen(worker: str = "w0", successes: int = 0, failed: int = 0, **changed: Any) -> Observation:
    failures = {"server_error": failed} if failed else {}
    in_a_row = {"failures_in_a_row": failed, **changed}
    return Observation(deployment="a", worker=worker, successes=successes, failures=failures, at_ms=NOW, **in_a_row)


FAILS = seen(failed=3)
PASSED = seen(check="passed")
NOT_PASSED = seen(check="failed")


def after(*observations: Observation, circuit: Circuit | None = None) -> Circuit:
    circuit = circuit or Circuit("a")
    for observation in observations:
        circuit = evolve(circuit, observation, offset=circuit.applied + 1, max_failures=3)
    return circuit


@pytest.mark.parametrize(("failed", "state"), [(2, "closed"), (3, "open")])
def test_three_failures_in_a_row_open_it(failed: int, state: str) -> None:
    assert after(seen(failed=failed)).state == state


def test_failures_of_several_workers_add_up_and_an_answer_begins_anew() -> None:
    assert after(seen("w0", failed=1), seen("w1", failed=2)).state == "open"
    assert after(seen("w0", failed=2), seen("w1", successes=1), seen("w0", failed=2)).state == "closed"


def test_a_check_that_passes_lets_the_worker_probe_that_had_calls_last() -> None:
    circuit = after(seen("w0", failed=1), seen("w1", failed=2), PASSED)
    health = health_of(circuit, partition=0, time_ms=NOW)

    assert (health.circuit, health.status, health.probe_by) == ("half_open", "unavailable", "w1")


def test_an_answer_to_the_probe_closes_it() -> None:
    circuit = after(FAILS, PASSED, seen("w0", successes=1))

    assert (circuit.state, circuit.failures_in_a_row) == ("closed", 0)
    assert health_of(circuit, partition=0, time_ms=NOW).probe_by is None


def test_a_failed_probe_opens_it_at_once() -> None:
    assert after(FAILS, PASSED, seen("w0", failed=1)).state == "open"


@pytest.mark.parametrize("late", [seen("w1", successes=1), seen("w1", failed=5)])
def test_what_others_had_under_way_decides_nothing_while_it_is_half_open(late: Observation) -> None:
    circuit = after(FAILS, PASSED, late)

    assert (circuit.state, circuit.last_worker) == ("half_open", "w0")


def test_where_nobody_had_a_call_the_next_check_that_passes_closes_it() -> None:
    assert after(FAILS, PASSED, PASSED).state == "closed"


def test_a_check_that_fails_opens_a_half_open_one_and_no_closed_one() -> None:
    assert after(FAILS, PASSED, NOT_PASSED).state == "open"
    assert after(NOT_PASSED, NOT_PASSED, NOT_PASSED).state == "closed"


def test_answers_that_come_while_it_is_open_do_not_close_it() -> None:
    assert after(FAILS, seen("w1", successes=1)).state == "open"


def test_an_observation_read_again_changes_nothing() -> None:
    once = after(seen(failed=2))

    assert evolve(once, seen(failed=2), offset=0, max_failures=3) == once


def test_counts_are_totals_whatever_the_state() -> None:
    circuit = after(FAILS, PASSED, seen("w1", failed=2), seen("w0", successes=4))

    assert (circuit.successes, circuit.failures, circuit.last_reason) == (4, {"server_error": 5}, "server_error")


def test_a_cooldown_is_kept_and_never_gets_shorter() -> None:
    circuit = after(seen(cooldown_until_ms=NOW + 9_000), seen(cooldown_until_ms=NOW + 2_000), seen(successes=1))

    assert health_of(circuit, partition=0, time_ms=NOW).cooldown_until_ms == NOW + 9_000
    assert circuit.state == "closed"


def test_a_circuit_is_read_as_it_was_written_and_so_is_one_of_before() -> None:
    circuit = after(FAILS, PASSED)

    assert decode_circuit(encode_circuit(circuit)) == circuit
    assert decode_circuit(b'["a","open",3,0,{"server_error":3},"server_error",7]') == Circuit(
        "a", "open", 3, 0, {"server_error": 3}, "server_error", 7
    )
