"""Who is let in, who is refused, and what a refusal says."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from streams.core.account import Account, Window
from streams.core.facts import AttemptStarted, AttemptWaits, BudgetSet, Failed, HoldPlaced, HoldRefused, LedgerLine
from streams.core.prices import Rates
from tests.core.build import (
    ACME_PER_DAY,
    HOLD,
    NOW,
    Desk,
    configuration,
    deployment,
    error_of,
    failed,
    prompt,
    succeeded,
    uncertain,
)

RATE_LIMITED = "rate_limit: {requests_per_minute: 60, burst_size: 2, mode: %s}"


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def test_a_request_is_let_in_with_its_hold_in_every_window() -> None:
    desk = Desk(
        configuration('tenants: [{name: acme, budgets: [{usd: "0.01", window: day}, {usd: "1", window: month}]}]')
    )

    verdict = desk.ask()

    assert verdict.decision.facts == (
        HoldPlaced(
            1,
            2_000_000,
            (
                LedgerLine("day:2026-11-23", 0, 2_000_000, 10_000_000, 1),
                LedgerLine("month:2026-11", 0, 2_000_000, 1_000_000_000, 2),
            ),
        ),
        AttemptStarted(1),
    )
    assert (verdict.request.state, verdict.request.attempt, verdict.home.seq) == ("pending", 1, 2)


def test_a_tenant_without_budget_holds_in_the_window_none() -> None:
    verdict = Desk().ask()

    assert verdict.decision.facts[0] == HoldPlaced(1, 2_000_000, (LedgerLine("none", 0, 2_000_000, None, 1),))


@pytest.mark.parametrize(
    ("yaml", "asked", "code", "details"),
    [
        ("unknown_tenants: refuse", {}, "FORBIDDEN", {"reason": "unknown_tenant", "tenant": "acme"}),
        (
            "{}",
            {"model": ["gpt-5", "gpt-6"]},
            "INVALID_REQUEST",
            {"reason": "unknown_model", "model": "gpt-5, gpt-6", "models": ["gpt-4"]},
        ),
        (
            "models: [{name: other, endpoint: 'http://127.0.0.1:1'}, {name: another, endpoint: 'http://127.0.0.1:1'}]\n"
            "tenants: [{name: acme, models: [other, another]}]",
            {},
            "FORBIDDEN",
            {"reason": "model_not_allowed", "model": "gpt-4", "allowed": ["another", "other"]},
        ),
        (
            "{}",
            {"needs": {"capabilities": ["vision"]}},
            "INVALID_REQUEST",
            {"reason": "no_candidate", "model": "gpt-4", "models": ["gpt-4"]},
        ),
        (
            "{}",
            {"max_tokens": 101},
            "TOKEN_LIMIT_EXCEEDED",
            {"reason": "max_tokens", "model": "gpt-4", "limits": {"gpt-4": 100}},
        ),
        (
            "{}",
            {"needs": {"max_cost_usd": "0.001999999"}},
            "BUDGET_EXCEEDED",
            {"reason": "max_cost", "bound_usd": "0.002000000", "max_cost_usd": "0.001999999"},
        ),
    ],
)
def test_a_refusal_says_its_code_its_reason_and_what_helps(
    yaml: str, asked: dict[str, Any], code: str, details: dict[str, Any]
) -> None:
    verdict = Desk(configuration(yaml)).ask(prompt(**asked))

    refused, error = verdict.decision.facts
    assert isinstance(refused, HoldRefused)
    assert refused.lines == (LedgerLine("none", 0, 0, None, 1),)
    assert (error_of(verdict).code, error_of(verdict).details) == (code, details)
    assert (error_of(verdict).attempts, error_of(verdict).cost, verdict.request.state) == (0, 0, "done")
    assert error is error_of(verdict)


@pytest.mark.parametrize(
    ("changed", "code", "reason"),
    [({"rates": None}, "MODEL_UNAVAILABLE", "no_price"), ({"dialect": None}, "MODEL_UNAVAILABLE", "no_dialect")],
)
def test_a_deployment_without_price_or_dialect_is_not_called(changed: dict[str, Any], code: str, reason: str) -> None:
    error = error_of(Desk(deployments=(deployment(**changed),)).ask())

    assert (error.code, error.details["reason"]) == (code, reason)


def test_an_image_has_no_known_bound_and_so_no_candidate() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}

    error = error_of(Desk().ask(prompt(messages=[{"role": "user", "content": [image]}])))

    assert (error.code, error.details["reason"]) == ("INVALID_REQUEST", "no_candidate")
    assert "image_tokens" in error.message


def test_one_known_name_in_a_list_is_enough() -> None:
    verdict = Desk().ask(prompt(model=["gpt-5", "gpt-4"]))

    assert (verdict.request.state, verdict.request.intake.candidates) == ("pending", ("gpt-4",))


def test_candidates_stand_in_the_order_of_preference() -> None:
    desk = Desk(deployments=(deployment("a"), deployment("b"), deployment("c")))

    assert desk.ask(prompt(model=["c", "a"])).request.intake.candidates == ("c", "a")
    assert desk.ask(prompt(request_id="r-2", model="auto")).request.intake.candidates == ("a", "b", "c")


def test_the_hold_is_that_of_the_dearest_candidate() -> None:
    dear = deployment("dear", rates=Rates.flat(Decimal("0.00003"), "v1"))

    assert Desk(deployments=(deployment(), dear)).ask(prompt(model="auto")).request.intake.hold == 6_000_000


def test_a_candidate_above_the_cap_of_the_request_is_none() -> None:
    dear = deployment("dear", rates=Rates.flat(Decimal("0.00003"), "v1"))
    desk = Desk(deployments=(dear, deployment()))

    intake = desk.ask(prompt(model="auto", needs={"max_cost_usd": "0.005999999"})).request.intake
    assert (intake.candidates, intake.hold) == (("gpt-4",), 2_000_000)

    intake = desk.ask(prompt(request_id="r-2", model="auto", needs={"max_cost_usd": "0.006"})).request.intake
    assert (intake.candidates, intake.hold) == (("dear", "gpt-4"), 6_000_000)


def test_a_cap_of_exactly_the_bound_lets_a_request_in() -> None:
    assert Desk().ask(prompt(needs={"max_cost_usd": "0.002"})).request.state == "pending"


def test_a_request_whose_time_is_up_is_not_decided_any_more() -> None:
    desk = Desk()

    late = desk.ask(prompt(timeout_s=5), received_ms=NOW - 5_000)
    in_time = desk.ask(prompt(request_id="r-2", timeout_s=5), received_ms=NOW - 4_999)

    assert error_of(late).code == "TIMEOUT_ERROR"
    assert error_of(late).details == {"reason": "deadline", "model": "gpt-4"}
    assert (in_time.request.state, in_time.request.intake.deadline_ms) == ("pending", NOW + 1)


def test_the_configured_timeout_counts_where_a_request_names_none() -> None:
    desk = Desk(configuration("orchestrator: {timeout: 7.5}"))

    assert desk.ask(received_ms=NOW - 100).request.intake.deadline_ms == NOW + 7_400


# --- rate limit


def test_a_request_above_the_rate_is_refused_and_told_when_to_come_back() -> None:
    desk = Desk(configuration(RATE_LIMITED % "refuse"))
    passed = [desk.ask(prompt(request_id=f"r-{i}")).request.state for i in range(2)]

    desk.now_ms += 300
    error = error_of(desk.ask(prompt(request_id="r-3")))

    assert passed == ["pending", "pending"]
    assert error.code == "RATE_LIMIT_EXCEEDED"
    assert error.details == {"reason": "requests", "retry_after_s": 0.7}
    desk.now_ms += 699
    assert error_of(desk.ask(prompt(request_id="r-4"))).details == {"reason": "requests", "retry_after_s": 0.001}
    desk.now_ms += 1
    assert desk.ask(prompt(request_id="r-5")).request.state == "pending"


def test_in_mode_wait_a_request_holds_its_money_and_waits_its_turn() -> None:
    desk = Desk(configuration(RATE_LIMITED % "wait"))
    for i in range(2):
        desk.ask(prompt(request_id=f"r-{i}"))

    waits = [desk.ask(prompt(request_id=f"w-{i}")) for i in range(2)]

    assert [w.decision.facts[-1] for w in waits] == [AttemptWaits(1, NOW + 1_000), AttemptWaits(1, NOW + 2_000)]
    assert [w.request.state for w in waits] == ["waiting", "waiting"]
    assert waits[0].request.attempts == 0
    assert desk.amounts() == {"none": (0, 4 * HOLD)}


def test_in_mode_wait_a_request_whose_turn_comes_too_late_is_refused_and_takes_no_turn() -> None:
    desk = Desk(configuration(RATE_LIMITED % "wait"))
    for i in range(2):
        desk.ask(prompt(request_id=f"r-{i}"))

    error = error_of(desk.ask(prompt(request_id="r-3", timeout_s=1)))
    following = desk.ask(prompt(request_id="r-4", timeout_s=1.001))

    assert (error.code, error.details) == ("RATE_LIMIT_EXCEEDED", {"reason": "requests", "retry_after_s": 1.0})
    assert following.decision.facts[-1] == AttemptWaits(1, NOW + 1_000)


def test_a_refused_request_takes_no_turn() -> None:
    yaml = (
        "tenants: [{name: acme, rate_limit: {requests_per_minute: 60, burst_size: 1},"
        ' budgets: [{usd: "0.002", window: total}]}]'
    )
    desk = Desk(configuration(yaml))

    assert error_of(desk.ask(prompt(needs={"max_cost_usd": "0.001"}))).details["reason"] == "max_cost"
    assert desk.ask(prompt(request_id="r-2")).request.state == "pending"


def test_the_rate_limit_speaks_before_the_budget() -> None:
    yaml = (
        "tenants: [{name: acme, rate_limit: {requests_per_minute: 60, burst_size: 1},"
        ' budgets: [{usd: "0.002", window: total}]}]'
    )
    desk = Desk(configuration(yaml))
    desk.ask()

    assert error_of(desk.ask(prompt(request_id="r-2"))).code == "RATE_LIMIT_EXCEEDED"
    desk.now_ms += 1_000
    assert error_of(desk.ask(prompt(request_id="r-3"))).code == "BUDGET_EXCEEDED"
    assert desk.account.tat_ns == (NOW + 1_000) * 1_000_000  # as the first request left it


# --- tokens per minute: a request of 200 tokens at most, ten tokens a second

TOKEN_LIMITED = "rate_limit: {requests_per_minute: 6000, burst_size: 100, tokens_per_minute: 600, mode: %s}"


def test_tokens_above_the_rate_are_refused_by_their_bound() -> None:
    desk = Desk(configuration(TOKEN_LIMITED % "refuse"))
    passed = [desk.ask(prompt(request_id=f"r-{i}")).request.state for i in range(3)]

    error = error_of(desk.ask(prompt(request_id="r-3")))

    assert passed == ["pending"] * 3
    assert (error.code, error.details) == ("RATE_LIMIT_EXCEEDED", {"reason": "tokens", "retry_after_s": 20.0})
    desk.now_ms += 19_999
    assert error_of(desk.ask(prompt(request_id="r-4"))).details["retry_after_s"] == 0.001
    desk.now_ms += 1
    assert desk.ask(prompt(request_id="r-5")).request.state == "pending"


def test_tokens_that_were_not_used_are_given_back_when_an_attempt_settles() -> None:
    desk = Desk(configuration(TOKEN_LIMITED % "refuse"))
    for i in range(3):
        desk.ask(prompt(request_id=f"r-{i}"))

    desk.must_hear(succeeded(request_id="r-0"))  # 12 tokens of 200
    error = error_of(desk.ask(prompt(request_id="r-3")))
    desk.must_hear(failed(request_id="r-1", again=False, elsewhere=False))  # none of 200

    assert error.details == {"reason": "tokens", "retry_after_s": 1.2}
    assert desk.ask(prompt(request_id="r-4")).request.state == "pending"


def test_tokens_of_an_uncertain_attempt_count_by_their_bound() -> None:
    desk = Desk(configuration(TOKEN_LIMITED % "refuse"))
    for i in range(3):
        desk.ask(prompt(request_id=f"r-{i}"))

    desk.must_hear(failed(request_id="r-0", charge=uncertain(), again=False, elsewhere=False))

    assert error_of(desk.ask(prompt(request_id="r-3"))).details["retry_after_s"] == 20.0


def test_a_request_of_more_tokens_than_a_minute_allows_is_refused_for_good() -> None:
    desk = Desk(configuration("rate_limit: {tokens_per_minute: 199, mode: wait}"))

    error = error_of(desk.ask())

    assert error.details == {"reason": "tokens"}


def test_in_mode_wait_a_request_waits_for_tokens() -> None:
    desk = Desk(configuration(TOKEN_LIMITED % "wait"))
    for i in range(3):
        desk.ask(prompt(request_id=f"r-{i}", timeout_s=60))

    assert desk.ask(prompt(request_id="w", timeout_s=60)).decision.facts[-1] == AttemptWaits(1, NOW + 20_000)


# --- money

RESETS = [
    ("minute", "2026-11-23T04:56:07.250", "minute:2026-11-23T04:56", "2026-11-23T04:57:00.000Z", 52.75),
    ("hour", "2026-11-23T04:56:07.250", "hour:2026-11-23T04", "2026-11-23T05:00:00.000Z", 232.75),
    ("day", "2026-11-23T23:59:59.999", "day:2026-11-23", "2026-11-24T00:00:00.000Z", 0.001),
    ("month", "2026-12-31T23:59:00", "month:2026-12", "2027-01-01T00:00:00.000Z", 60.0),
    ("month", "2028-02-29T00:00:00", "month:2028-02", "2028-03-01T00:00:00.000Z", 86_400.0),
]


@pytest.mark.parametrize(("kind", "at", "window", "resets_at", "retry_after_s"), RESETS)
def test_a_refusal_for_want_of_money_says_which_window_what_is_left_and_when_it_turns(
    kind: str, at: str, window: str, resets_at: str, retry_after_s: float
) -> None:
    budgets = f'{{usd: "50", window: total}}, {{usd: "0.0039", window: {kind}}}'
    yaml = f"tenants: [{{name: acme, budgets: [{budgets}]}}]"
    desk = Desk(configuration(yaml), now_ms=ms(at))
    desk.ask()

    verdict = desk.ask(prompt(request_id="r-2"))

    assert error_of(verdict).code == "BUDGET_EXCEEDED"
    assert error_of(verdict).details == {
        "reason": "budget",
        "window": window,
        "left_usd": "0.001900000",
        "needed_usd": "0.002000000",
        "resets_at": resets_at,
        "retry_after_s": retry_after_s,
    }
    assert verdict.decision.facts[0] == HoldRefused(
        2_000_000,
        (
            LedgerLine("total", 0, 2_000_000, 50_000_000_000, 3),
            LedgerLine(window, 0, 2_000_000, 3_900_000, 4),
        ),
    )


def test_a_total_budget_never_turns() -> None:
    desk = Desk(configuration('tenants: [{name: acme, budgets: [{usd: "0.001999999", window: total}]}]'))

    assert error_of(desk.ask()).details == {
        "reason": "budget",
        "window": "total",
        "left_usd": "0.001999999",
        "needed_usd": "0.002000000",
    }


def test_a_budget_of_exactly_five_holds_lets_five_in() -> None:
    desk = Desk(configuration(ACME_PER_DAY))

    states = [desk.ask(prompt(request_id=f"r-{i}")).request.state for i in range(6)]

    assert states == ["pending"] * 5 + ["done"]
    assert desk.amounts() == {"day:2026-11-23": (0, 10_000_000)}


def test_a_new_day_brings_new_money_and_broker_time_never_runs_backwards() -> None:
    desk = Desk(configuration(ACME_PER_DAY), now_ms=ms("2026-11-23T23:59:59.999"))
    for i in range(5):
        desk.ask(prompt(request_id=f"r-{i}"))

    desk.now_ms += 1
    assert desk.ask(prompt(request_id="r-6")).request.state == "pending"
    desk.now_ms -= 1
    assert desk.ask(prompt(request_id="r-7")).request.state == "pending"
    assert desk.amounts() == {"day:2026-11-24": (0, 4_000_000), "day:2026-11-23": (0, 10_000_000)}


def test_broker_time_that_goes_back_opens_no_window_again_and_fills_no_bucket() -> None:
    limits = 'budgets: [{usd: "0.004", window: day}], rate_limit: {requests_per_minute: 6, burst_size: 1}'
    desk = Desk(configuration(f"tenants: [{{name: acme, {limits}}}]"))
    states = {}
    for name, at in [
        ("first", "2026-11-23T12:00:00"),
        ("next day", "2026-11-24T12:00:00"),
        ("the day before", "2026-11-22T12:00:00"),
        ("its bucket filled", "2026-11-24T12:00:10"),
        ("back again", "2026-11-23T12:00:00"),
    ]:
        desk.now_ms = ms(at)
        ended = desk.ask(prompt(request_id=name.replace(" ", "-"))).decision.facts[-1]
        states[name] = ended.details["reason"] if isinstance(ended, Failed) else "pending"

    assert states == {
        "first": "pending",
        "next day": "pending",
        "the day before": "requests",  # its bucket is that of the next day's noon
        "its bucket filled": "pending",
        "back again": "requests",
    }
    assert desk.amounts() == {"day:2026-11-24": (0, 4_000_000), "day:2026-11-23": (0, 2_000_000)}
    assert desk.account.clock_ms == desk.home.clock_ms == ms("2026-11-24T12:00:10")


@pytest.mark.parametrize(
    ("ahead_ms", "ended"), [(3_600_000, "TIMEOUT_ERROR"), (29_999, None), (0, None), (-3_600_000, None)]
)
def test_a_wall_clock_that_jumps_decides_about_deadlines_and_never_about_money(
    ahead_ms: int, ended: str | None
) -> None:
    desk = Desk(configuration(ACME_PER_DAY), wall_ahead_ms=ahead_ms)

    verdict = desk.ask(prompt(timeout_s=30))

    assert (error_of(verdict).code if verdict.request.state == "done" else None) == ended
    assert [w.id for w in desk.account.windows] == ["day:2026-11-23"]
    assert desk.account.clock_ms == NOW
    assert verdict.request.intake.deadline_ms == NOW + 30_000


def test_after_an_overrun_the_tenant_is_stopped_until_the_window_turns() -> None:
    stopped = Window("day:2026-11-23", 10_000_000, spent=3_000_000, overrun=True)
    desk = Desk(configuration(ACME_PER_DAY), account=Account("acme", windows=(stopped,)))

    error = error_of(desk.ask())

    assert error.code == "BUDGET_EXCEEDED"
    assert error.details == {
        "reason": "overrun",
        "window": "day:2026-11-23",
        "resets_at": "2026-11-24T00:00:00.000Z",
        "retry_after_s": 79_200.0,
    }
    desk.now_ms = ms("2026-11-24T00:00:00")
    assert desk.ask(prompt(request_id="r-2")).request.state == "pending"


def test_a_changed_budget_is_a_fact_of_the_next_decision() -> None:
    desk = Desk(configuration(ACME_PER_DAY))
    desk.ask()
    desk.settings = configuration(ACME_PER_DAY.replace("0.01", "0.02"))

    verdict = desk.ask(prompt(request_id="r-2"))

    assert verdict.decision.facts[:2] == (
        BudgetSet(10_000_000, (LedgerLine("day:2026-11-23", 0, 2_000_000, 20_000_000, 2),)),
        HoldPlaced(1, 2_000_000, (LedgerLine("day:2026-11-23", 0, 4_000_000, 20_000_000, 3),)),
    )
