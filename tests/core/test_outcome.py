"""What becomes of a request when an attempt ends: answered, failed, tried again, and every truth that comes late."""

from decimal import Decimal
from typing import Any

import pytest

from schemas.progress import AttemptDue, AttemptFailed, AttemptRedriven, AttemptSucceeded, RequestExpired
from streams.core.facts import (
    Answered,
    AttemptEnded,
    AttemptStarted,
    AttemptWaits,
    BookingAdjusted,
    Charged,
    HoldPlaced,
    HoldReleased,
    HoldSettled,
    LedgerLine,
)
from streams.core.prices import Rates
from streams.core.request import start_of
from tests.core.build import (
    ACME_PER_DAY,
    NOW,
    Desk,
    answer_of,
    configuration,
    deployment,
    error_of,
    failed,
    incurred,
    prompt,
    succeeded,
    uncertain,
)

DAY = "day:2026-11-23"
LIMIT = 10_000_000
SERVER_ERROR = {
    "code": "MODEL_ERROR",
    "reason": "server_error",
    "message": "the provider answered 500",
    "model": "gpt-4",
    "deployment": "gpt-4",
    "provider_status": None,
    "retry_after_s": None,
}
EXPIRED = RequestExpired(tenant="acme", request_id="r-1")


def due(attempt: int) -> AttemptDue:
    return AttemptDue(tenant="acme", request_id="r-1", attempt=attempt)


def redriven(attempt: int) -> AttemptRedriven:
    return AttemptRedriven(tenant="acme", request_id="r-1", attempt=attempt)


def running(yaml: str = ACME_PER_DAY, names: tuple[str, ...] = ("gpt-4",), **fields: Any) -> Desk:
    """Return a desk where the first attempt of `r-1` runs, on deployments of these names."""
    desk = Desk(configuration(yaml), tuple(deployment(name) for name in names))
    assert desk.ask(prompt(model=list(names), **fields)).request.state == "pending"
    return desk


def nobody(attempt: int = 1, *, again: bool = False) -> AttemptFailed:
    """Return the failure of an attempt that found every circuit open."""
    return failed(
        attempt,
        model=None,
        deployment=None,
        provider=None,
        code="MODEL_UNAVAILABLE",
        reason="circuit_open",
        again=again,
        elsewhere=False,
    )


# --- answered, failed, tried again


def test_an_answer_settles_the_hold_at_its_cost_and_ends_the_request() -> None:
    verdict = running().must_hear(succeeded(charge=incurred(120_000)))

    assert verdict.decision.facts == (
        HoldSettled(1, 2_000_000, 120_000, (LedgerLine(DAY, 120_000, 0, LIMIT, 2),)),
        Charged("incurred", 1, 120_000),
        Answered(1, attempts=1, cost=120_000),
    )
    assert (verdict.request.state, verdict.request.hold, verdict.request.booked) == ("done", None, 120_000)


def test_a_failure_that_cost_nothing_gives_its_hold_back_and_tries_another_deployment_at_once() -> None:
    verdict = running(names=("a", "b")).must_hear(failed(deployment="a"))

    assert verdict.decision.facts == (
        HoldReleased(1, 2_000_000, (LedgerLine(DAY, 0, 0, LIMIT, 2),)),
        AttemptEnded(1, "a", redriven=False, error=SERVER_ERROR | {"deployment": "a"}),
        HoldPlaced(2, 2_000_000, (LedgerLine(DAY, 0, 2_000_000, LIMIT, 3),)),
        AttemptStarted(2),
    )
    assert (start_of(verdict.request).tried, start_of(verdict.request).attempt) == (("a",), 2)


def test_a_retry_after_does_not_delay_a_failover() -> None:
    verdict = running(names=("a", "b")).must_hear(failed(deployment="a", reason="rate_limit", retry_after_s=20))

    assert verdict.decision.facts[-1] == AttemptStarted(2)


def test_a_failure_that_only_another_deployment_can_mend_ends_the_request_where_there_is_none() -> None:
    verdict = running().must_hear(failed(code="MODEL_UNAVAILABLE", reason="no_key", again=False, http_status=401))

    assert error_of(verdict).code == "MODEL_UNAVAILABLE"
    assert error_of(verdict).details == {
        "reason": "no_key",
        "model": "gpt-4",
        "deployment": "gpt-4",
        "provider_status": 401,
    }


def test_a_failure_of_the_request_itself_ends_it_whoever_else_there_is() -> None:
    rejected = failed(deployment="a", code="INVALID_REQUEST", reason="provider_rejected", again=False, elsewhere=False)

    verdict = running(names=("a", "b")).must_hear(rejected)

    assert (error_of(verdict).code, error_of(verdict).details["reason"]) == ("INVALID_REQUEST", "provider_rejected")
    assert "not_retried" not in error_of(verdict).details


def test_the_only_deployment_is_tried_again_after_what_it_asks_for() -> None:
    desk = running()

    verdict = desk.must_hear(failed(reason="rate_limit", retry_after_s=1.5))

    assert verdict.decision.facts[-1] == AttemptWaits(2, NOW + 1_500)
    assert (verdict.request.state, verdict.request.attempts) == ("waiting", 1)
    assert desk.amounts() == {DAY: (0, 2_000_000)}
    desk.now_ms += 1_500
    assert desk.must_hear(due(2)).decision.facts == (AttemptStarted(2),)


def test_the_wait_before_a_retry_doubles_from_half_a_second_to_eight_less_at_most_a_quarter() -> None:
    desk = running("orchestrator: {timeout: 600, max_retries: 8}")
    waits = []
    for attempt in range(1, 9):
        last = desk.must_hear(failed(attempt)).decision.facts[-1]
        assert isinstance(last, AttemptWaits)
        waits.append(last.not_before_ms - desk.now_ms)
        desk.now_ms = last.not_before_ms
        desk.must_hear(due(attempt + 1))

    for wait_ms, most_ms in zip(waits, [500, 1_000, 2_000, 4_000, 8_000, 8_000, 8_000, 8_000], strict=True):
        assert most_ms * 3 // 4 <= wait_ms <= most_ms
    assert len({wait_ms / most_ms for wait_ms, most_ms in zip(waits[4:], [8_000] * 4, strict=True)}) > 1


def test_a_retry_after_beyond_the_deadline_is_not_waited_for() -> None:
    desk = running(timeout_s=10)
    desk.now_ms += 1_000

    error = error_of(desk.must_hear(failed(code="MODEL_UNAVAILABLE", reason="rate_limit", retry_after_s=9)))

    assert (error.code, error.attempts) == ("MODEL_UNAVAILABLE", 1)
    assert error.details == {
        "reason": "rate_limit",
        "model": "gpt-4",
        "deployment": "gpt-4",
        "retry_after_s": 9.0,
        "not_retried": "deadline",
    }


def test_a_retry_after_one_millisecond_before_the_deadline_is_waited_for() -> None:
    verdict = running(timeout_s=10).must_hear(failed(reason="rate_limit", retry_after_s=9.999))

    assert verdict.decision.facts[-1] == AttemptWaits(2, NOW + 9_999)


@pytest.mark.parametrize(("max_retries", "attempts"), [(0, 1), (1, 2), (3, 4)])
def test_a_request_is_tried_once_and_max_retries_times_again(max_retries: int, attempts: int) -> None:
    desk = running(f"orchestrator: {{max_retries: {max_retries}}}")
    for attempt in range(1, attempts):
        desk.must_hear(failed(attempt, retry_after_s=0))
        assert desk.requests["r-1"].state == "pending"

    error = error_of(desk.must_hear(failed(attempts, message="the last one", retry_after_s=0)))

    assert (error.code, error.message, error.attempts) == ("MODEL_ERROR", "the last one", attempts)
    assert error.details["not_retried"] == "max_retries"


def test_a_retry_that_the_budget_does_not_allow_ends_with_the_failure_and_says_so() -> None:
    desk = running(ACME_PER_DAY.replace("0.01", "0.003"))

    error = error_of(desk.must_hear(failed(charge=uncertain(), code="TIMEOUT_ERROR", reason="provider_timeout")))

    assert (error.code, error.cost, error.attempts) == ("TIMEOUT_ERROR", 2_000_000, 1)
    assert error.details["reason"] == "provider_timeout"
    assert error.details["not_retried"] == "budget"


def test_a_billed_failure_is_booked_and_tried_again() -> None:
    desk = running(names=("a", "b"))

    desk.must_hear(failed(deployment="a", code="INVALID_RESPONSE", reason="malformed", charge=incurred(500_000)))
    verdict = desk.must_hear(succeeded(2, incurred(120_000), deployment="b"))

    assert answer_of(verdict) == Answered(2, attempts=2, cost=620_000)
    assert desk.amounts() == {DAY: (620_000, 0)}


def test_a_failure_without_a_chosen_deployment_names_the_model_that_was_asked_for() -> None:
    error = error_of(running().must_hear(nobody()))

    assert (error.code, error.attempts) == ("MODEL_UNAVAILABLE", 0)
    assert error.details == {"reason": "circuit_open", "model": "gpt-4"}


def test_a_failure_that_a_provider_caused_names_the_error_where_nobody_is_left_to_call() -> None:
    desk = running(names=("a", "b"))
    desk.must_hear(failed(deployment="a", http_status=500))

    error = error_of(desk.must_hear(nobody(2)))

    assert (error.code, error.message, error.attempts) == ("MODEL_ERROR", "the provider answered 500", 1)
    assert error.details == {"reason": "server_error", "model": "gpt-4", "deployment": "a", "provider_status": 500}


def test_nobody_to_call_may_be_waited_out_like_a_first_failure() -> None:
    verdict = running().must_hear(nobody(again=True))

    assert verdict.decision.facts[-1] == AttemptWaits(2, NOW + 401)


# --- lost, late, expired


def test_a_lost_attempt_is_booked_at_its_bound_and_the_next_one_started() -> None:
    desk = running()

    verdict = desk.must_hear(redriven(1))

    assert verdict.decision.facts == (
        HoldSettled(1, 2_000_000, 2_000_000, (LedgerLine(DAY, 2_000_000, 0, LIMIT, 2),)),
        Charged("uncertain", 1, 2_000_000),
        AttemptEnded(1, None, redriven=True, error={}),
        HoldPlaced(2, 2_000_000, (LedgerLine(DAY, 2_000_000, 2_000_000, LIMIT, 3),)),
        AttemptStarted(2),
    )
    assert (verdict.request.failures, verdict.request.redrives) == (0, 1)


def test_the_answer_of_an_earlier_attempt_wins_while_a_later_one_runs() -> None:
    desk = running()
    desk.must_hear(redriven(1))

    verdict = desk.must_hear(succeeded(1, incurred(120_000)))

    assert verdict.decision.facts == (
        BookingAdjusted(1, -1_880_000, (LedgerLine(DAY, 120_000, 2_000_000, LIMIT, 4),)),
        Charged("adjusted", 1, -1_880_000),
        HoldSettled(2, 2_000_000, 2_000_000, (LedgerLine(DAY, 2_120_000, 0, LIMIT, 5),)),
        Charged("uncertain", 2, 2_000_000),
        Answered(1, attempts=2, cost=2_120_000),
    )
    late = desk.must_hear(succeeded(2, incurred(300_000)))
    assert late.decision.facts == (
        BookingAdjusted(2, -1_700_000, (LedgerLine(DAY, 420_000, 0, LIMIT, 6),)),
        Charged("adjusted", 2, -1_700_000),
    )
    assert late.request.terminal == verdict.decision


def test_the_answer_of_an_earlier_attempt_wins_while_a_later_one_waits_and_gives_its_hold_back() -> None:
    desk = running()
    desk.must_hear(redriven(1))
    desk.must_hear(failed(2, reason="rate_limit", retry_after_s=5))

    verdict = desk.must_hear(succeeded(1, incurred(120_000)))

    assert verdict.decision.facts[2:] == (
        HoldReleased(3, 2_000_000, (LedgerLine(DAY, 120_000, 0, LIMIT, 7),)),
        Answered(1, attempts=2, cost=120_000),
    )
    assert desk.hear(due(3)) is None


def test_the_failure_of_an_earlier_attempt_corrects_its_costs_and_leaves_the_later_one_alone() -> None:
    desk = running()
    desk.must_hear(redriven(1))

    verdict = desk.must_hear(failed(1, again=False, elsewhere=False))

    assert verdict.decision.facts == (
        BookingAdjusted(1, -2_000_000, (LedgerLine(DAY, 0, 2_000_000, LIMIT, 4),)),
        Charged("adjusted", 1, -2_000_000),
    )
    assert (verdict.request.state, verdict.request.attempt) == ("pending", 2)


def test_a_truth_above_an_uncertain_booking_is_booked_in_full_and_stops_the_tenant() -> None:
    desk = running()
    desk.must_hear(EXPIRED)

    verdict = desk.must_hear(succeeded(1, incurred(2_500_000)))

    assert verdict.decision.facts == (
        BookingAdjusted(1, 500_000, (LedgerLine(DAY, 2_500_000, 0, LIMIT, 3),)),
        Charged("adjusted", 1, 500_000),
    )
    assert error_of(desk.ask(prompt(request_id="r-2"))).details["reason"] == "overrun"


def test_a_truth_that_equals_its_uncertain_booking_is_told_once() -> None:
    desk = running()
    desk.must_hear(EXPIRED)

    verdict = desk.must_hear(succeeded(1, incurred(2_000_000)))

    assert verdict.decision.facts[-1] == Charged("adjusted", 1, 0)
    assert desk.hear(succeeded(1, incurred(2_000_000))) is None
    assert error_of(desk.ask(prompt(request_id="r-2", max_tokens=101))).details["reason"] == "max_tokens"


def test_a_request_that_expires_while_it_runs_is_booked_at_its_bound() -> None:
    desk = running()

    verdict = desk.must_hear(EXPIRED)

    assert verdict.decision.facts[:2] == (
        HoldSettled(1, 2_000_000, 2_000_000, (LedgerLine(DAY, 2_000_000, 0, LIMIT, 2),)),
        Charged("uncertain", 1, 2_000_000),
    )
    error = error_of(verdict)
    assert (error.code, error.details, error.attempts, error.cost) == (
        "TIMEOUT_ERROR",
        {"reason": "deadline", "model": "gpt-4"},
        1,
        2_000_000,
    )


def test_a_request_that_expires_while_it_waits_costs_nothing_more() -> None:
    desk = running()
    desk.must_hear(failed(retry_after_s=5))

    verdict = desk.must_hear(EXPIRED)

    assert verdict.decision.facts[0] == HoldReleased(2, 2_000_000, (LedgerLine(DAY, 0, 0, LIMIT, 4),))
    assert (error_of(verdict).message, error_of(verdict).attempts) == ("its time was up while it waited", 1)


def test_a_call_lost_after_the_deadline_is_not_made_again() -> None:
    desk = running(timeout_s=10)
    desk.now_ms += 10_000

    error = error_of(desk.must_hear(redriven(1)))

    assert (error.code, error.details["reason"], error.cost) == ("TIMEOUT_ERROR", "deadline", 2_000_000)


def test_a_call_is_lost_ten_times_and_made_again_but_not_an_eleventh_time() -> None:
    desk = running("{}")
    for attempt in range(1, 11):
        assert desk.must_hear(redriven(attempt)).request.state == "pending"

    error = error_of(desk.must_hear(redriven(11)))

    assert (error.code, error.details["reason"], error.attempts) == ("MODEL_ERROR", "connection_lost", 11)
    assert error.cost == 22_000_000


def test_a_lost_call_is_not_made_again_without_money_for_it() -> None:
    error = error_of(running(ACME_PER_DAY.replace("0.01", "0.003")).must_hear(redriven(1)))

    assert (error.code, error.details["reason"], error.details["not_retried"]) == (
        "MODEL_ERROR",
        "connection_lost",
        "budget",
    )


# --- overruns


def test_an_overrun_is_booked_in_full_and_stops_the_tenant() -> None:
    desk = running()

    verdict = desk.must_hear(succeeded(charge=incurred(2_000_001)))

    assert answer_of(verdict).cost == 2_000_001
    assert error_of(desk.ask(prompt(request_id="r-2"))).details["reason"] == "overrun"


def test_a_cost_of_exactly_the_hold_is_no_overrun() -> None:
    desk = running()

    desk.must_hear(succeeded(charge=incurred(2_000_000)))

    assert desk.ask(prompt(request_id="r-2")).request.state == "pending"


def test_an_overrun_stops_the_tenant_also_where_the_window_of_its_hold_is_over() -> None:
    desk = running(ACME_PER_DAY.replace("day", "minute"))
    desk.now_ms += 60_000

    desk.must_hear(succeeded(charge=incurred(2_000_001)))

    error = error_of(desk.ask(prompt(request_id="r-2")))
    assert (error.details["reason"], error.details["window"]) == ("overrun", "minute:2026-11-23T02:01")


# --- the same again


@pytest.mark.parametrize(
    "event", [succeeded(), failed(again=False, elsewhere=False), failed(charge=uncertain()), redriven(1), EXPIRED]
)
def test_an_event_at_a_new_offset_changes_nothing(
    event: AttemptSucceeded | AttemptFailed | AttemptRedriven | RequestExpired,
) -> None:
    desk = running()
    desk.must_hear(event)
    before = (dict(desk.requests), desk.account, desk.home)

    assert desk.hear(event) is None
    assert (desk.requests, desk.account, desk.home) == before


@pytest.mark.parametrize("event", [succeeded(2), failed(2), succeeded(9), failed(9), due(1), due(2), redriven(2)])
def test_the_outcome_of_an_attempt_that_was_never_started_changes_nothing(
    event: AttemptSucceeded | AttemptFailed | AttemptDue | AttemptRedriven,
) -> None:
    assert running().hear(event) is None


def test_an_uncertain_outcome_does_not_replace_another_one() -> None:
    desk = running()
    desk.must_hear(redriven(1))

    assert desk.hear(failed(1, charge=uncertain(1_000_000))) is None


def test_the_outcome_of_an_attempt_that_should_still_wait_counts() -> None:
    desk = running()
    desk.must_hear(failed(1, retry_after_s=5))

    verdict = desk.must_hear(failed(2, charge=incurred(100_000), retry_after_s=1))

    assert verdict.decision.facts[-2:] == (
        HoldPlaced(3, 2_000_000, (LedgerLine(DAY, 100_000, 2_000_000, LIMIT, 5),)),
        AttemptWaits(3, NOW + 1_000),
    )
    assert AttemptStarted(2) not in verdict.decision.facts  # which would let the call go once more


def test_a_decision_keeps_the_wall_time_that_it_was_made_at() -> None:
    desk = running()
    desk.now_ms += 777

    decision = desk.must_hear(succeeded()).decision

    assert (decision.topic, decision.offset, decision.time_ms, decision.now_ms) == (
        "prompt.progress",
        7,
        NOW + 777,
        NOW + 777,
    )


def test_a_hold_of_nothing_is_closed_too_when_its_window_is_over() -> None:
    free = deployment(rates=Rates.flat(Decimal(0), "v1"))
    desk = Desk(configuration(ACME_PER_DAY.replace("day", "minute")), (free,))
    desk.ask()
    desk.now_ms += 60_000
    desk.ask(prompt(request_id="r-2"))

    assert desk.must_hear(succeeded(charge=incurred(0))).decision.facts[0] == HoldSettled(
        1, 0, 0, (LedgerLine("minute:2026-11-23T02:00", 0, 0, LIMIT, 3),)
    )
