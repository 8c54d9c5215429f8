"""Each guarantee can fail: the real pipeline with one bug planted is found out within a thousand histories.

The bugs are those that broke the prototype (DESIGN §5), and those that the simulator found in the real one.
"""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from schemas.progress import AttemptFailed, AttemptSucceeded, Progress
from streams.core import outcome, rows
from streams.core.case import Case, Verdict
from streams.core.facts import Decision
from streams.core.request import OpenHold, Request, after
from streams.runtime.forgetting import Forgetting
from streams.runtime.journal import Group, Journal
from streams.runtime.pipeline import ACCOUNTS, Pipeline
from streams.runtime.ports import Record
from tests.simulation.history import Make, Plan, plan_of, run
from tests.simulation.oracle import broken
from tests.simulation.owner import PROGRESS

MANY = 1000
HORIZON_MS = 86_400_000


def plans() -> Iterator[Plan]:
    """Return the histories that a planted bug is looked for in."""
    return (plan_of(seed) for seed in range(MANY))


def is_found(make: Make, promise: str) -> bool:
    """Whether some history shows that `promise` is broken."""
    return any(any(told.startswith(promise) for told in broken(run(plan, make))) for plan in plans())


class _RacingJournal(Journal):
    """Groups of FINISH wait a moment and for nobody: two writers instead of one."""

    async def _commit(self, group: Group, earlier: Group | None) -> None:
        if group.records and group.records[0][1].topic == PROGRESS:
            await asyncio.sleep(0.02)
        await super()._commit(group, None)


class _SurvivingJournal(Journal):
    """What is planned and not released survives a rebalance."""

    def _drop_open(self) -> None:
        return


class RacingJournals(Pipeline):
    """Rows of the two stages race."""

    def __init__(self, **ports: Any) -> None:
        super().__init__(**ports)
        self._journal = _RacingJournal(ports["log"], ports["store"], ports["process"], self._lease)
        self._done = Forgetting(self._journal, ACCOUNTS, HORIZON_MS)


class PlannedGroupSurvivesRevoke(Pipeline):
    """A planned group is sent in the next generation, over what another owner wrote meanwhile."""

    def __init__(self, **ports: Any) -> None:
        super().__init__(**ports)
        self._journal = _SurvivingJournal(ports["log"], ports["store"], ports["process"], self._lease)
        self._done = Forgetting(self._journal, ACCOUNTS, HORIZON_MS)


class OldRowPutAgain(Pipeline):
    """A record delivered again re-puts the row as its own decision left it, not the current one."""

    def _repeat_request(self, record: Record, request: Request) -> None:
        decided = request.decision_at("prompt.requests", record.offset)
        if decided is not None:
            self._put_as_of(request, decided)
        super()._repeat_request(record, request)

    def _put_as_of(self, request: Request, decided: Decision) -> None:
        old = Request(request.intake)
        for decision in request.decisions:
            old = after(old, decision)
            if decision is decided:
                break
        tenant, request_id = request.intake.tenant, request.intake.request_id
        key = rows.done_key(tenant, request_id) if old.state == "done" else rows.open_key(tenant, request_id)
        self._journal.put(ACCOUNTS, request.intake.partition, key, rows.encode_request(old), old)


class RedriveBeforeCatchUp(Pipeline):
    """What is open is redriven at once, before FINISH has read what became of it."""

    async def assigned(
        self,
        generation: int,
        partitions: frozenset[int],
        progress_from: Mapping[int, int],
        requests_from: Mapping[int, int],
    ) -> None:
        await super().assigned(generation, partitions, progress_from, requests_from)
        self._to_redrive = dict.fromkeys(self._to_redrive, 0)


class _ForgetfulJournal(Journal):
    """What was held back in LIMBO never happens."""

    def resume(self) -> None:
        self._held_back.clear()


class HeldBackCallsAreForgotten(Pipeline):
    """A call whose decision was stored in LIMBO is never begun: only its deadline ends it."""

    def __init__(self, **ports: Any) -> None:
        super().__init__(**ports)
        self._journal = _ForgetfulJournal(ports["log"], ports["store"], ports["process"], self._lease)
        self._done = Forgetting(self._journal, ACCOUNTS, HORIZON_MS)


def _decide_by_offset(case: Case, request: Request, event: Progress) -> Verdict | None:
    """Take an outcome at another offset for another outcome: what is booked already is booked again."""
    if isinstance(event, AttemptSucceeded | AttemptFailed) and request.booking(event.attempt) is not None:
        names = request.windows.get(event.attempt, ())
        others = tuple(b for b in request.bookings if b.attempt != event.attempt)
        if request.hold is None:
            request = replace(request, bookings=others, hold=OpenHold(event.attempt, 0, names))
    return _decide(case, request, event)


_decide = outcome.decide


def test_rows_of_two_stages_that_race_are_found() -> None:
    assert is_found(RacingJournals, "")


def test_a_planned_group_that_survives_a_revoke_is_found() -> None:
    assert is_found(PlannedGroupSurvivesRevoke, "")


def test_an_old_row_that_is_put_again_is_found() -> None:
    assert is_found(OldRowPutAgain, "G")


def test_a_redrive_before_catch_up_is_found() -> None:
    assert is_found(RedriveBeforeCatchUp, "G6")


def test_deduplication_by_offset_alone_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcome, "decide", _decide_by_offset)
    assert is_found(Pipeline, "G4")


def test_calls_that_limbo_holds_back_for_ever_are_found() -> None:
    assert is_found(HeldBackCallsAreForgotten, "G1")


def test_groups_that_tear_are_found() -> None:
    torn = (replace(plan, weather=replace(plan.weather, row_by_row=True, unknown_delivery=0.01)) for plan in plans())
    assert any(broken(run(plan)) for plan in torn)
