"""The bill is the sum of distinct cost events, however they are grouped."""

import json
from typing import Any

import pytest

from streams.core.bills import Bill, Row, Selection, total_of


def event(number: int, kind: str, cost: int, **changed: Any) -> bytes:
    """Return a cost event of `acme`'s request `r-<number>`, attempt 1, on 23 November."""
    usage = {"input_tokens": 9, "output_tokens": 3} if kind == "incurred" else None
    body = {
        "id": f"{kind}-{number}",
        "type": f"cost.{kind}.v1",
        "time": "2026-11-23T02:00:00.000Z",
        "tenant": "acme",
        "request_id": f"r-{number}",
        "attempt": 1,
        "model": "gpt-4",
        "usage": usage,
        "usage_source": "provider",
        "cost_nano_usd": cost,
        "metadata": {"team": "search"},
    }
    return json.dumps(body | changed).encode()


LOG = [
    event(1, "incurred", 360_000),
    event(2, "incurred", 1, model="gpt-5", metadata={}),
    event(3, "uncertain", 2_000_000, model=None),
    event(4, "uncertain", 3_000_000, model=None),
    event(5, "incurred", 500, time="2026-12-01T00:00:00.000Z", tenant="beta"),
    event(3, "adjusted", -1_850_000, time="2026-12-01T00:00:00.000Z"),
    event(6, "saved", 0, saved_nano_usd=360_000),
]


def bill(selection: Selection, log: list[bytes], parts: int = 1) -> dict[tuple[str, str], Row]:
    rows: dict[tuple[str, str], Row] = {}
    for part in range(parts):
        fold = Bill(selection, part, parts)
        for value in log:
            fold.add(value)
        assert not fold.problems
        for key, row in fold.rows.items():
            rows.setdefault(key, Row()).add(row)
    return rows


@pytest.mark.parametrize("parts", [1, 2, 7])
@pytest.mark.parametrize("by", [None, "model", "day", "metadata.team"])
def test_every_grouping_has_the_same_total(by: str | None, parts: int) -> None:
    assert total_of(bill(Selection(by=by), LOG + LOG, parts)) == Row(
        calls=5, input_tokens=27, output_tokens=9, cost=3_510_501, uncertain=3_000_000, saved=360_000
    )


def test_a_tenant_has_one_row_unless_it_is_grouped() -> None:
    assert bill(Selection(), LOG) == {
        ("acme", ""): Row(4, 18, 6, cost=3_510_001, uncertain=3_000_000, saved=360_000),
        ("beta", ""): Row(1, 9, 3, cost=500),
    }


def test_an_uncertain_amount_moves_to_the_model_that_its_truth_names() -> None:
    assert bill(Selection(tenant="acme", by="model"), LOG) == {
        ("acme", "gpt-4"): Row(2, 9, 3, cost=510_000, saved=360_000),
        ("acme", "gpt-5"): Row(1, 9, 3, cost=1),
        ("acme", "(unknown)"): Row(1, cost=3_000_000, uncertain=3_000_000),
    }


def test_an_adjustment_is_booked_on_its_own_day_and_in_its_own_month() -> None:
    assert bill(Selection(tenant="acme", by="day"), LOG) == {
        ("acme", "2026-11-23"): Row(4, 18, 6, cost=5_360_001, uncertain=3_000_000, saved=360_000),
        ("acme", "2026-12-01"): Row(cost=-1_850_000),
    }
    assert total_of(bill(Selection(month="2026-11"), LOG)).cost == 5_360_001
    assert total_of(bill(Selection(month="2026-12"), LOG)).cost == -1_849_500


def test_requests_without_the_metadata_have_a_row_of_their_own() -> None:
    assert {group: row.cost for (_, group), row in bill(Selection("acme", None, "metadata.team"), LOG).items()} == {
        "search": 3_510_000,
        "(none)": 1,
    }


@pytest.mark.parametrize("value", [b"", b"[]", event(1, "other", 0), event(1, "incurred", 0, cost_nano_usd="1")])
def test_what_is_no_cost_event_is_counted(value: bytes) -> None:
    fold = Bill(Selection())
    fold.add(value)
    assert (fold.problems, fold.rows) == (1, {})
