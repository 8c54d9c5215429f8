"""The books of three requests, recorded as a worker publishes them, hold; and no change to them goes unnoticed.

Amounts are written out by hand: a hold is 2,000,000 nano-USD, `r-1` costs 120,000, `r-2` is lost (2,000,000, uncertain)
and turns out to have cost 150,000, its second attempt costs 120,000; `r-3` is refused a connection and costs nothing.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from schemas.progress import AttemptRedriven
from streams.core import rows
from streams.core.books import Line, Tables, Unpublished, compare_accounts, report
from streams.core.case import Verdict
from streams.core.cost_join import CostJoin
from streams.core.ledger_fold import Difference, LedgerFold
from tests.core.build import PARTITION, Desk, configuration, failed, incurred, outputs, prompt, succeeded

BUDGETS = 'tenants: [{name: acme, budgets: [{usd: "0.01", window: day}, {usd: "1", window: total}]}]'
WINDOWS = {"acme": frozenset({"day", "total"})}
DAY = ("acme", "day:2026-11-23")


@dataclass
class Log:
    """What the topics hold."""

    ledger: list[bytes] = field(default_factory=list)
    costs: list[bytes] = field(default_factory=list)
    changelog: list[tuple[bytes, bytes]] = field(default_factory=list)

    def decided(self, verdict: Verdict, event: Any = None) -> None:
        intake = verdict.request.intake
        key = rows.open_key(intake.tenant, intake.request_id)
        self.changelog += [
            (key, rows.encode_request(verdict.request)),
            (rows.account_key(intake.tenant), rows.encode_account(verdict.account)),
            (rows.HOME_KEY, rows.encode_home(verdict.home)),
        ]
        for output in outputs(verdict, event):
            if output.channel == "ledger":
                self.ledger.append(output.value)
            elif output.channel == "costs":
                self.costs.append(output.value)


@pytest.fixture
def log() -> Log:
    desk, log = Desk(configuration(BUDGETS)), Log()

    def hear(event: Any) -> None:
        log.decided(desk.must_hear(event), event)

    log.decided(desk.ask(prompt(request_id="r-1")))
    log.decided(desk.ask(prompt(request_id="r-2")))
    hear(succeeded(request_id="r-1"))
    hear(AttemptRedriven(tenant="acme", request_id="r-2", attempt=1))
    hear(succeeded(2, request_id="r-2"))
    log.decided(desk.ask(prompt(request_id="r-3")))
    hear(succeeded(1, incurred(150_000), request_id="r-2"))
    hear(failed(request_id="r-3", reason="connect", code="MODEL_UNAVAILABLE", again=False, elsewhere=False))
    return log


@dataclass
class Checked:
    differences: list[Difference]
    lines: list[Line]
    fold: LedgerFold
    join: CostJoin


def check(log: Log) -> Checked:
    """Do what `verify` does, on recorded lists."""
    tables = Tables()
    for key, value in log.changelog:
        tables.add(PARTITION, key, value)
    fold, join = LedgerFold(PARTITION, tables.target(PARTITION)), CostJoin()
    for value in log.costs:
        join.hear(value)
    for value in log.ledger:
        for booking in fold.add(value):
            join.book(booking)
    for booking in fold.end():
        join.book(booking)
    join.finish()
    ledgers = {PARTITION: fold}
    differences = [
        *fold.differences,
        *tables.differences,
        *compare_accounts(tables, ledgers, WINDOWS),
        *join.differences,
    ]
    return Checked(differences, report(tables, ledgers, [join], differences), fold, join)


def changed(value: bytes, **fields: Any) -> bytes:
    return json.dumps(json.loads(value) | fields).encode()


def test_the_books_of_a_right_history_hold(log: Log) -> None:
    checked = check(log)
    assert checked.differences == []
    assert [
        (line.window, line.spent, line.reserved, line.costs, line.row_spent, line.ok) for line in checked.lines
    ] == [
        ("day:2026-11-23", 390_000, 0, 390_000, 390_000, True),
        ("total", 390_000, 0, 390_000, 390_000, True),
    ]
    assert (checked.fold.seq, checked.join.events) == (18, 4)
    assert not checked.fold.open_holds


def test_told_again_changes_nothing(log: Log) -> None:
    log.ledger += log.ledger[4:]
    log.costs += log.costs
    checked = check(log)
    assert checked.differences == []
    assert (checked.fold.repeated, checked.join.repeated) == (14, 4)
    assert checked.lines[0].costs == 390_000


def test_seq_is_judged_by_first_appearances(log: Log) -> None:
    log.ledger[6:6] = log.ledger[2:6]
    assert check(log).differences == []


def missing_entry(log: Log) -> None:
    del log.ledger[7]


def missing_entries_of_one_booking(log: Log) -> None:
    del log.ledger[4:6]


def missing_last_entry(log: Log) -> None:
    log.ledger.pop()


def doubled_entry_with_a_new_id_and_seq(log: Log) -> None:
    log.ledger.append(changed(log.ledger[4], id="11111111-1111-4111-8111-111111111111", seq=19))


def doubled_entry_with_a_new_id(log: Log) -> None:
    log.ledger.insert(5, changed(log.ledger[4], id="11111111-1111-4111-8111-111111111111"))


def doubled_entry_that_all_later_ones_count(log: Log) -> None:
    """The forger renumbered what follows and corrected its balances, and the account and home rows too."""
    twice = log.ledger[4:6]
    later = [json.loads(value) for value in twice + log.ledger[6:]]
    for entry in later:
        entry["seq"] += 2
        entry["spent_after_nano_usd"] += 120_000
        entry["reserved_after_nano_usd"] -= 2_000_000 if entry["seq"] <= 8 else 0
    log.ledger[6:] = [json.dumps(entry).encode() for entry in later]


def changed_amount(log: Log) -> None:
    log.ledger[4] = changed(log.ledger[4], amount_nano_usd=119_999)


def changed_amounts_that_add_up(log: Log) -> None:
    """In the ledger alone: every balance from there on, and the rows, were corrected."""
    for at in range(4, 18):
        entry = json.loads(log.ledger[at])
        entry["spent_after_nano_usd"] -= 1
        entry["amount_nano_usd"] -= at in (4, 5)
        log.ledger[at] = json.dumps(entry).encode()
    changed_account_row(log, -1)


def changed_account_row(log: Log, by: int = 1) -> None:
    key, value = next((k, v) for k, v in reversed(log.changelog) if k == rows.account_key("acme"))
    account = json.loads(value)
    for window in account[3]:
        window[2] += by
    log.changelog.append((key, json.dumps(account).encode()))


def changed_limit_in_a_row(log: Log) -> None:
    key, value = next((k, v) for k, v in reversed(log.changelog) if k == rows.account_key("acme"))
    account = json.loads(value)
    account[3][0][1] += 1
    log.changelog.append((key, json.dumps(account).encode()))


def account_row_without_a_window(log: Log) -> None:
    key, value = next((k, v) for k, v in reversed(log.changelog) if k == rows.account_key("acme"))
    account = json.loads(value)
    del account[3][1]
    log.changelog.append((key, json.dumps(account).encode()))


def no_account_row(log: Log) -> None:
    log.changelog = [(k, v) for k, v in log.changelog if k != rows.account_key("acme")]


def reordered_entries(log: Log) -> None:
    log.ledger[5:7] = log.ledger[6], log.ledger[5]


def reordered_window(log: Log) -> None:
    """Two windows of one booking changed places, with their numbers."""
    first, second = json.loads(log.ledger[4]), json.loads(log.ledger[5])
    first["window"], second["window"] = second["window"], first["window"]
    first["limit_nano_usd"], second["limit_nano_usd"] = second["limit_nano_usd"], first["limit_nano_usd"]
    log.ledger[4], log.ledger[5] = (json.dumps(entry).encode() for entry in (second, first))


def booked_in_another_window(log: Log) -> None:
    log.ledger[4] = changed(log.ledger[4], window="day:2026-11-24")


def missing_cost_event(log: Log) -> None:
    del log.costs[0]


def doubled_cost_event_with_a_new_id(log: Log) -> None:
    log.costs.append(changed(log.costs[0], id="11111111-1111-4111-8111-111111111111"))


def cost_event_of_nobody(log: Log) -> None:
    log.costs.append(changed(log.costs[0], request_id="r-9"))


def changed_cost_event(log: Log) -> None:
    log.costs[0] = changed(log.costs[0], cost_nano_usd=119_999)


def adjusted_booking_that_was_certain(log: Log) -> None:
    log.costs = [value.replace(b"cost.uncertain.v1", b"cost.incurred.v1") for value in log.costs]


@pytest.mark.parametrize(
    ("corrupt", "first"),
    [
        (
            missing_entry,
            "ledger partition 3 seq 9 (hold.placed.v1 of acme, day:2026-11-23): seq 8 is missing before it",
        ),
        (
            missing_entries_of_one_booking,
            "ledger partition 3 seq 7 (hold.settled.v1 of acme, day:2026-11-23): seq 5 to 6 is missing before it",
        ),
        (missing_last_entry, "account acme of partition 3, window total: reserved is 0 in its row and 2000000 in the"),
        (
            doubled_entry_with_a_new_id_and_seq,
            "ledger partition 3 seq 19 (hold.settled.v1 of acme, day:2026-11-23): the tables end with seq 18",
        ),
        (
            doubled_entry_with_a_new_id,
            "ledger partition 3 seq 5 (hold.settled.v1 of acme, day:2026-11-23): was told before with other content",
        ),
        (
            doubled_entry_that_all_later_ones_count,
            "ledger partition 3 seq 7 (hold.settled.v1 of acme, day:2026-11-23): closes a hold of attempt 1 of r-1",
        ),
        (
            changed_amount,
            "ledger partition 3 seq 5 (hold.settled.v1 of acme, day:2026-11-23): says spent 120000 and reserved"
            " 2000000; the entries up to it make 119999 and 2000000",
        ),
        (changed_amounts_that_add_up, "attempt 1 of r-1 (acme): is settled in the ledger with 119999, its cost event"),
        (
            changed_account_row,
            "account acme of partition 3, window day:2026-11-23: spent is 390001 in its row and 390000 in the ledger",
        ),
        (
            changed_limit_in_a_row,
            "account acme of partition 3, window day:2026-11-23: limit is 10000001 in its row and 10000000 in the",
        ),
        (account_row_without_a_window, "account acme of partition 3: its row lacks the window total: spent 390000"),
        (no_account_row, "account acme of partition 3: there is no row; the ledger has day:2026-11-23"),
        (
            reordered_entries,
            "ledger partition 3 seq 7 (hold.settled.v1 of acme, day:2026-11-23): seq 6 is missing before it",
        ),
        (reordered_window, "ledger partition 3 seq 6 (hold.settled.v1 of acme, day:2026-11-23): seq 5 is missing"),
        (booked_in_another_window, "ledger partition 3 seq 5 (hold.settled.v1 of acme, day:2026-11-24): closes a hold"),
        (missing_cost_event, "attempt 1 of r-1 (acme): is settled in the ledger with 120000, and has no cost event"),
        (doubled_cost_event_with_a_new_id, "attempt 1 of r-1 (acme): has two different cost events; the second is 111"),
        (cost_event_of_nobody, "attempt 1 of r-9 (acme): has a cost.incurred.v1 of 120000 that the ledger does not"),
        (
            changed_cost_event,
            "attempt 1 of r-1 (acme): is settled in the ledger with 120000, its cost event says 119999",
        ),
        (adjusted_booking_that_was_certain, "attempt 1 of r-2 (acme): was adjusted, and its booking was not uncertain"),
    ],
)
def test_a_corruption_is_found(log: Log, corrupt: Callable[[Log], None], first: str) -> None:
    corrupt(log)
    checked = check(log)
    assert str(checked.differences[0]).startswith(first), [str(d) for d in checked.differences]
    assert not all(line.ok for line in checked.lines)


def test_a_hold_that_does_not_fit_is_found() -> None:
    fold = LedgerFold(0, 1)
    entry = {
        "id": "e",
        "type": "hold.placed.v1",
        "time": "2026-11-23T02:00:00.000Z",
        "tenant": "acme",
        "request_id": "r",
        "attempt": 1,
        "window": "total",
        "hold_nano_usd": 101,
        "spent_after_nano_usd": 0,
        "reserved_after_nano_usd": 101,
        "limit_nano_usd": 100,
        "partition": 0,
        "seq": 1,
    }
    list(fold.add(json.dumps(entry).encode()))
    assert [d.problem for d in fold.differences] == ["spent 0 and reserved 101 are above the limit 100"]


def test_a_lowered_budget_and_an_overrun_are_no_difference() -> None:
    desk, log = Desk(configuration(BUDGETS)), Log()
    log.decided(desk.ask())
    event = succeeded(charge=incurred(12_000_000))
    log.decided(desk.must_hear(event), event)
    desk.settings = configuration(BUDGETS.replace("0.01", "0.005"))
    log.decided(desk.ask(prompt(request_id="r-2")))
    checked = check(log)
    assert checked.differences == []
    assert [(line.window, line.spent, line.limit) for line in checked.lines] == [
        ("day:2026-11-23", 12_000_000, 5_000_000),
        ("total", 12_000_000, 1_000_000_000),
    ]


def test_an_open_hold_is_reserved_in_ledger_and_row() -> None:
    desk, log = Desk(configuration(BUDGETS)), Log()
    log.decided(desk.ask())
    checked = check(log)
    assert checked.differences == []
    assert [(line.reserved, line.row_reserved) for line in checked.lines] == [(2_000_000, 2_000_000)] * 2


def test_what_a_dead_worker_did_not_publish_is_in_the_rows(log: Log) -> None:
    found = Unpublished({PARTITION: 16}, frozenset({("acme", "r-1")}))
    for key, value in log.changelog:
        found.add(PARTITION, key, value)
    assert {seq: made.value for seq, made in found.entries[PARTITION].items()} == {
        17: log.ledger[16],
        18: log.ledger[17],
    }
    assert [(made.topic, made.offset) for made in found.entries[PARTITION].values()] == [("prompt.progress", 11)] * 2
    assert [json.loads(value)["cost_nano_usd"] for value in found.costs[PARTITION]] == [120_000]


def test_a_cost_event_older_than_its_topic_keeps_is_no_difference(log: Log) -> None:
    join, fold = CostJoin(is_aged=lambda _tenant, time: time < "2026-12-01"), LedgerFold(PARTITION, 18)
    for value in log.costs[1:]:
        join.hear(value)
    for value in log.ledger:
        for booking in fold.add(value):
            join.book(booking)
    join.finish()
    assert join.differences == []
    assert (join.spent[DAY], join.aged[DAY]) == (270_000, 120_000)


@pytest.mark.parametrize("parts", [1, 3])
def test_parts_of_a_join_make_the_whole(log: Log, parts: int) -> None:
    total = events = 0
    for part in range(parts):
        join, fold = CostJoin(part, parts), LedgerFold(PARTITION, 18)
        for value in log.costs:
            join.hear(value)
        for value in log.ledger:
            for booking in fold.add(value):
                join.book(booking)
        for booking in fold.end():
            join.book(booking)
        join.finish()
        assert join.differences == []
        total += join.spent.get(DAY, 0)
        events += join.events
    assert (total, events) == (390_000, 4)


@pytest.mark.parametrize("value", [b"", b"{}", b"\xff", b"[]", b'{"id": "x", "type": "hold.placed.v1"}'])
def test_what_is_no_entry_or_cost_event_is_a_difference(value: bytes) -> None:
    fold, join = LedgerFold(PARTITION, 1), CostJoin()
    list(fold.add(value))
    join.hear(value)
    assert [d.kind for d in (*fold.differences, *join.differences)] == ["entry", "cost"]
