"""What a demo has seen of its requests: their states, what they cost, and the bill; folded from events alone."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from agents.commands.demo_prompts import BUDGETS, Asked
from agents.commands.following import Event
from schemas.units import usd

MALFORMED: Final = "(malformed)"
Place = tuple[str, int, int]


@dataclass
class Row:
    """One request as far as it is known. `state`: sent, running, answered, refused, failed or dead letter."""

    tenant: str
    request_id: str
    text: str
    state: str = "sent"
    model: str = ""
    attempt: int = 0
    latency_s: float | None = None
    cost_nano_usd: int = 0
    outcome: Event | None = None
    costs: dict[str, int] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        """Whether its terminal event or dead letter has been seen."""
        return self.outcome is not None

    @property
    def booked(self) -> bool:
        """Whether the cost events seen add up to what the terminal event tells."""
        return self.ended and sum(self.costs.values()) == self.cost_nano_usd


@dataclass
class Share:
    """One tenant's line of the bill. Tokens are those of its cost events."""

    answered: int = 0
    refused: int = 0
    failed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_nano_usd: int = 0


class Board:
    """All requests of a demo. Repeated events change nothing."""

    def __init__(self, asked: Iterable[Asked]) -> None:
        """Expect these, and one that is malformed."""
        self.rows: list[Row] = [Row(each.tenant, each.request_id, each.text) for each in asked]
        self._by_name = {(row.tenant, row.request_id): row for row in self.rows}
        self.malformed = Row("–", MALFORMED, "")
        self.rows.append(self.malformed)
        self._costs: dict[str, Event] = {}
        self._place: Place | None = None

    def published_malformed(self, place: Place) -> None:
        """Note where the malformed one is stored: what its dead letter is known by."""
        self._place = place

    @property
    def ended(self) -> int:
        """How many have their outcome."""
        return sum(row.ended for row in self.rows)

    @property
    def complete(self) -> bool:
        """Whether every request has its outcome, and every outcome its cost events."""
        return all(row.booked for row in self.rows)

    def hear(self, event: Event) -> Row | None:
        """Take an event into account; return the request that it ended, if it ended one."""
        kind = str(event.get("type"))
        if kind == "prompt.dead_lettered.v1":
            if (event.get("topic"), event.get("partition"), event.get("offset")) != self._place:
                return None
            return self._end(self.malformed, "dead letter", event)
        row = self._by_name.get((str(event.get("tenant")), str(event.get("request_id"))))
        if row is None:
            return None
        match kind:
            case "hold.placed.v1" if not row.ended:
                row.state, row.attempt = "running", int(event["attempt"])
            case "prompt.answered.v1":
                row.latency_s = round(event["queued_s"] + event["duration_s"], 3)
                row.model = event["model"]
                return self._end(row, "answered", event)
            case "prompt.failed.v1":
                return self._end(row, "failed" if event["attempts"] else "refused", event)
            case _ if kind.startswith("cost."):
                self._costs[event["id"]] = event
                row.costs[event["id"]] = event["cost_nano_usd"]
        return None

    def _end(self, row: Row, state: str, event: Event) -> Row | None:
        if row.ended:
            return None
        row.state, row.outcome = state, event
        row.attempt = event.get("attempts", row.attempt)
        row.cost_nano_usd = event.get("cost_nano_usd", 0)
        return row

    def bill(self) -> dict[str, Share]:
        """Return the bill per tenant: Σ of distinct cost events."""
        shares: dict[str, Share] = defaultdict(Share)
        for row in self.rows:
            if row is not self.malformed:
                share = shares[row.tenant]
                share.answered += row.state == "answered"
                share.refused += row.state == "refused"
                share.failed += row.state == "failed"
        for event in self._costs.values():
            share = shares[event["tenant"]]
            share.cost_nano_usd += event["cost_nano_usd"]
            usage = event.get("usage") or {}
            share.input_tokens += usage.get("input_tokens", 0)
            share.output_tokens += usage.get("output_tokens", 0)
        return dict(sorted(shares.items()))

    def refusals(self) -> list[tuple[Row, str, str]]:
        """Return what was not answered, as (request, code and reason, message)."""
        return [(row, *_why(row.outcome)) for row in self.rows if row.outcome is not None and row.state != "answered"]


def _why(outcome: Event) -> tuple[str, str]:
    error = outcome.get("error")
    if error is None:
        return f"dead letter · {outcome['reason']}", str(outcome["message"])
    reason = error.get("details", {}).get("reason")
    return (f"{error['code']} · {reason}" if reason else str(error["code"])), str(error["message"])


def summary(board: Board, about: dict[str, Any], wall_s: float) -> dict[str, Any]:
    """Return what `--json` prints at the end, beside `about`."""
    bill = board.bill()
    rows: Sequence[Row] = board.rows
    return {
        **about,
        "wall_s": round(wall_s, 1),
        "requests": [
            {
                "tenant": row.tenant if row is not board.malformed else None,
                "request_id": row.request_id if row is not board.malformed else None,
                "state": row.state,
                "model": row.model or None,
                "latency_s": row.latency_s,
                "cost_nano_usd": row.cost_nano_usd,
            }
            for row in rows
        ],
        "bill": {
            tenant: {
                "answered": share.answered,
                "refused": share.refused,
                "failed": share.failed,
                "input_tokens": share.input_tokens,
                "output_tokens": share.output_tokens,
                "cost_nano_usd": share.cost_nano_usd,
                "cost_usd": usd(share.cost_nano_usd),
                "budget": BUDGETS.get(tenant),
            }
            for tenant, share in bill.items()
        },
        "total_nano_usd": sum(share.cost_nano_usd for share in bill.values()),
        "not_answered": [
            {"tenant": row.tenant, "request_id": row.request_id, "why": why, "message": message}
            for row, why, message in board.refusals()
        ],
        "complete": board.complete,
    }
