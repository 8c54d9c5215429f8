"""Operators lift overruns while workers crash, stall and hand over: whatever happens, the ledger has no gap and tells
each lift once."""

import json
from dataclasses import replace
from random import Random

from schemas.lifts import BudgetLifted
from streams.core.homes import home_of
from streams.core.rows import lift_key
from streams.runtime.pipeline import ACCOUNTS, Pipeline
from streams.runtime.ports import Outgoing, Record
from tests.simulation.history import PARTITIONS, TOPICS, Plan, plan_of, run
from tests.simulation.oracle import broken, events
from tests.simulation.owner import PROGRESS, REQUESTS

SEEDS = range(40)


def with_lifts(seed: int) -> Plan:
    """Draw a history in which every second call bills more than its hold, and operators lift that again and again.

    Some lifts are published twice, as an operator does who had no answer.
    """
    plan, random = plan_of(seed), Random(seed)
    asks = list(plan.asks)
    for tenant in ("rich", "poor"):
        home = home_of(tenant, "", limited=True, partitions=PARTITIONS)
        for number in range(20):
            at_s = 1 + random.random() * 40
            body = {"tenant": tenant, "request_id": f"also-{number}", "prompt": "?", "max_tokens": 10}
            asks.append((at_s, Outgoing(REQUESTS, None, json.dumps(body).encode())))
        for number in range(8):
            lift = BudgetLifted(tenant=tenant, lift_id=f"lift-{number}").model_dump_json().encode()
            at_s = 1 + random.random() * 40
            out = Outgoing(PROGRESS, tenant.encode(), lift, home)
            asks += [(at_s, out), (at_s + random.random() * 2, out)][: random.choice((1, 1, 2))]
    return replace(plan, asks=tuple(sorted(asks, key=lambda ask: ask[0])), overruns=0.5)


def test_lifts_keep_every_promise_whatever_happens_to_workers() -> None:
    lifted = 0
    for seed in SEEDS:
        observed = run(with_lifts(seed))
        assert broken(observed) == [], f"seed {seed}"
        lifted += sum(e["type"] == "budget.set.v1" for e in events(observed, TOPICS.ledger))
    assert lifted > 100


class ForgetsLifts(Pipeline):
    """Keeps no row of a lift, so that what a crash kept from being published is never told."""

    def _lift(self, record: Record, event: BudgetLifted) -> None:
        super()._lift(record, event)
        self._journal.put(ACCOUNTS, record.partition, lift_key(event.tenant, event.lift_id), None, None)


def test_a_pipeline_that_keeps_no_row_of_a_lift_is_found_out() -> None:
    assert any(broken(run(with_lifts(seed), ForgetsLifts)) for seed in range(400))
