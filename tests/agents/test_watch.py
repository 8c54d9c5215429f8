"""What `orchestrator watch` tells people: one line per event, each event once, and nothing that moves a cursor."""

from typing import Any

import pytest

from agents.commands.following import event_of, on_one_line
from agents.commands.watch import Totals, dollars, line_of


def answered(**changes: Any) -> dict[str, Any]:
    return {
        "id": "e-1",
        "type": "prompt.answered.v1",
        "time": "2026-11-23T02:00:00.000Z",
        "tenant": "acme",
        "request_id": "r-1",
        "model": "gpt-4",
        "text": "Hello!",
        "usage": {"input_tokens": 9, "output_tokens": 3},
        "cost_nano_usd": 360000,
        "duration_s": 0.48,
    } | changes


def failed(**changes: Any) -> dict[str, Any]:
    error = {"code": "BUDGET_EXCEEDED", "message": "the day is spent", "details": {"reason": "budget"}}
    return answered(id="e-2", type="prompt.failed.v1", cost_nano_usd=0, error=error) | changes


def cost(**changes: Any) -> dict[str, Any]:
    return answered(id="e-3", type="cost.incurred.v1", attempt=1, deployment="gpt-4") | changes


def told(*events: dict[str, Any]) -> list[str]:
    totals = Totals()
    return [line_of(event, totals).text for event in events if totals.count(event)]


def test_every_kind_of_event_is_one_line_with_totals() -> None:
    dead = {
        "id": "e-4",
        "type": "prompt.dead_lettered.v1",
        "time": "2026-11-23T02:00:01.000Z",
        "topic": "prompt.requests",
        "partition": 3,
        "offset": 17,
        "reason": "not_json",
        "message": "not JSON",
    }
    assert told(answered(), cost(), failed(), dead) == [
        "02:00:00  answered       acme/r-1  gpt-4  0.48 s  9+3 tokens  $0.000360"
        "  Σ 1 answered, 0 failed, $0.000000  Hello!",
        "02:00:00  cost incurred  acme/r-1  attempt 1  gpt-4  9+3 tokens  $0.000360  Σ 1 answered, 0 failed, $0.000360",
        "02:00:00  failed         acme/r-1  BUDGET_EXCEEDED · budget  $0.000000"
        "  Σ 1 answered, 1 failed, $0.000360  the day is spent",
        "02:00:01  dead letter    prompt.requests 3:17  not_json"
        "  Σ 1 answered, 1 failed, 1 dead letters, $0.000360  not JSON",
    ]


def test_a_repeated_event_is_told_and_counted_once() -> None:
    assert len(told(cost(), cost())) == 1


def test_a_correction_lowers_the_total() -> None:
    lines = told(cost(), cost(id="e-5", type="cost.adjusted.v1", cost_nano_usd=-60000, usage=None))
    assert lines[-1].startswith("02:00:00  cost adjusted  acme/r-1  attempt 1  gpt-4  -$0.000060")
    assert lines[-1].endswith("Σ 0 answered, 0 failed, $0.000300")


def test_other_events_are_left_out() -> None:
    assert told(answered(type="hold.placed.v1"), answered(type="prompt.answered.v9")) == []


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("two\nlines\tof  text", "two lines of text"),
        ("\x1b[2Jgone", "�[2Jgone"),
        ("\u202eevil", "�evil"),
        ("123456789012", "12345678…"),
    ],
)
def test_text_from_elsewhere_stays_on_its_line(text: str, line: str) -> None:
    assert on_one_line(text, 9 if text.isdigit() else 60) == line


def test_a_tenant_cannot_write_control_characters_either() -> None:
    assert "\x1b" not in told(answered(tenant="\x1b[31m"))[0]


def test_a_time_cannot_write_control_characters_either() -> None:
    assert "\x1b" not in told(answered(time="2026-11-23T\x1b[31m;000"))[0]


@pytest.mark.parametrize("value", [None, b"", b"[]", b"{", b'{"id": 1}', b'"x"', b"\xff"])
def test_what_is_no_event_is_passed_over(value: bytes | None) -> None:
    assert event_of(value) is None


@pytest.mark.parametrize(
    ("nano_usd", "text"), [(0, "$0.000000"), (360000, "$0.000360"), (-1_500_000_000, "-$1.500000")]
)
def test_an_amount_is_written_in_dollars(nano_usd: int, text: str) -> None:
    assert dollars(nano_usd) == text
