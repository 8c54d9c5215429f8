"""An operator lets a tenant go on after a provider's overrun."""

import pytest

from schemas.lifts import BudgetLifted, lift_of
from streams.core import lifting
from streams.core.account import Account, Window
from streams.core.books import Unpublished
from streams.core.case import Case, Verdict
from streams.core.facts import BudgetSet, LedgerLine
from streams.core.ledger_fold import LedgerFold
from streams.core.rows import decode_request, encode_request, lift_key
from tests.core.build import (
    PARTITION,
    TRACEPARENT,
    Desk,
    configuration,
    error_of,
    incurred,
    outputs,
    prompt,
    succeeded,
    told,
)

TWO_WINDOWS = """
tenants: [{name: acme, budgets: [{usd: "0.01", window: day}, {usd: "1", window: total}]}]
"""
RAISED = TWO_WINDOWS.replace('"0.01"', '"0.02"')
LIFT = BudgetLifted(tenant="acme", lift_id="l-1")


def stopped_desk() -> Desk:
    """A provider has billed 3,000,000 for a hold of 2,000,000."""
    desk = Desk(configuration(TWO_WINDOWS))
    desk.ask()
    desk.must_hear(succeeded(charge=incurred(3_000_000)))
    return desk


def lift(desk: Desk, offset: int = 99) -> Verdict | None:
    desk.offsets["prompt.progress"] = max(desk.offsets["prompt.progress"], offset)
    case = Case("prompt.progress", offset, desk.now_ms, desk.now_ms, desk.home, desk.account, desk.settings)
    verdict = lifting.decide(case, LIFT, partition=PARTITION, traceparent=TRACEPARENT)
    if verdict is not None:
        desk.account, desk.home = verdict.account, verdict.home
    return verdict


def must_lift(desk: Desk) -> Verdict:
    verdict = lift(desk)
    assert verdict is not None
    return verdict


def test_a_lift_lets_the_tenant_go_on_with_what_is_left() -> None:
    desk = stopped_desk()
    assert error_of(desk.ask(prompt(request_id="r-2"))).details["reason"] == "overrun"

    verdict = must_lift(desk)

    assert verdict.decision.facts == (
        BudgetSet(10_000_000, (LedgerLine("day:2026-11-23", 3_000_000, 0, 10_000_000, 7),)),
        BudgetSet(1_000_000_000, (LedgerLine("total", 3_000_000, 0, 1_000_000_000, 8),)),
    )
    assert desk.ask(prompt(request_id="r-3")).request.state == "pending"
    assert desk.amounts() == {"day:2026-11-23": (3_000_000, 2_000_000), "total": (3_000_000, 2_000_000)}


def test_a_lift_gives_no_money_back() -> None:
    desk = Desk(
        configuration(TWO_WINDOWS),
        account=Account("acme", windows=(Window("day:2026-11-23", 10_000_000, spent=11_000_000, overrun=True),)),
    )

    must_lift(desk)

    assert error_of(desk.ask()).details["reason"] == "budget"


def test_a_further_overrun_stops_the_tenant_again() -> None:
    desk = stopped_desk()
    must_lift(desk)
    desk.ask(prompt(request_id="r-2"))
    desk.must_hear(succeeded(charge=incurred(2_000_001), request_id="r-2"))

    assert error_of(desk.ask(prompt(request_id="r-3"))).details["reason"] == "overrun"


def test_a_lift_where_nothing_is_stopped_changes_nothing() -> None:
    desk = Desk(configuration(TWO_WINDOWS))
    desk.ask()

    assert lift(desk) is None

    desk = stopped_desk()
    must_lift(desk)
    assert lift(desk) is None


def test_a_lift_that_changed_nothing_does_not_lift_a_later_overrun_when_it_is_delivered_again() -> None:
    desk = stopped_desk()

    assert desk.home.progress_to == 7
    assert lift(desk, offset=7) is None
    assert lift(desk, offset=6) is None
    assert lift(desk, offset=8) is not None


def test_the_ledger_tells_a_lift_as_a_limit_that_stays() -> None:
    desk = stopped_desk()

    entries = [told(output) for output in outputs(must_lift(desk))]

    assert [
        (e["type"], e["window"], e["limit_before_nano_usd"], e["limit_nano_usd"], e["spent_after_nano_usd"], e["seq"])
        for e in entries
    ] == [
        ("budget.set.v1", "day:2026-11-23", 10_000_000, 10_000_000, 3_000_000, 5),
        ("budget.set.v1", "total", 1_000_000_000, 1_000_000_000, 3_000_000, 6),
    ]
    assert all("request_id" not in e and e["amount_nano_usd"] == 0 for e in entries)


def test_a_limit_that_changes_with_the_lift_is_told_once_and_lifted_too() -> None:
    desk = stopped_desk()
    desk.settings = configuration(RAISED)

    verdict = must_lift(desk)

    entries = [told(output) for output in outputs(verdict)]
    assert [(e["window"], e["limit_before_nano_usd"], e["limit_nano_usd"]) for e in entries] == [
        ("day:2026-11-23", 10_000_000, 20_000_000),
        ("total", 1_000_000_000, 1_000_000_000),
    ]
    assert len({e["id"] for e in entries}) == 2
    assert desk.ask(prompt(request_id="r-2")).request.state == "pending"


def test_verify_takes_a_lift_for_what_it_is() -> None:
    desk = Desk(configuration(TWO_WINDOWS))
    done = [desk.ask(), desk.must_hear(succeeded(charge=incurred(3_000_000)))]
    ledger = [*outputs(done[0]), *outputs(done[1], succeeded(charge=incurred(3_000_000)))]
    ledger += outputs(must_lift(desk))
    fold = LedgerFold(PARTITION, target=desk.home.seq)

    for output in ledger:
        if output.channel == "ledger":
            list(fold.add(output.value))

    assert fold.differences == []
    assert fold.seq == 6


def test_a_row_keeps_a_lift_so_that_it_can_be_repeated_byte_for_byte() -> None:
    verdict = must_lift(stopped_desk())

    again = decode_request(encode_request(verdict.request))

    decided = again.decision_at("prompt.progress", 99)
    assert decided is not None
    assert outputs(Verdict(again, verdict.account, verdict.home, decided)) == outputs(verdict)


def test_verify_finds_a_lift_that_a_dead_worker_did_not_publish() -> None:
    verdict = must_lift(stopped_desk())
    unpublished = Unpublished(after={PARTITION: 4}, requests=frozenset())

    unpublished.add(PARTITION, lift_key("acme", "l-1"), encode_request(verdict.request))

    assert [entry.value for entry in unpublished.entries[PARTITION].values()] == [o.value for o in outputs(verdict)]


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"null",
        b"{",
        b'{"type": "budget.lifted.v1", "tenant": "a b", "lift_id": "l"}',
        b'{"type": "budget.lifted.v1", "tenant": "a"}',
        succeeded().model_dump_json().encode(),
    ],
)
def test_nothing_else_is_a_lift(value: bytes) -> None:
    assert lift_of(value) is None


def test_a_lift_is_read_as_it_was_written() -> None:
    assert lift_of(LIFT.model_dump_json().encode()) == LIFT
