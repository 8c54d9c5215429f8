"""When a worker may write, by what its group has answered."""

from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from aiokafka.protocol.commit import OffsetCommitRequest
from aiokafka.protocol.group import HeartbeatRequest, JoinGroupRequest, SyncGroupRequest

from streams.runtime.fence import Fence

HEARTBEAT = HeartbeatRequest("g", 1, "m")
JOIN = JoinGroupRequest("g", 10_000, 30_000, "m", "w1", "consumer", [])
SYNC = SyncGroupRequest("g", 1, "m", "w1", [])
COMMIT = OffsetCommitRequest("g", 1, "m", -1, [])
NO_ERROR, ILLEGAL_GENERATION, UNKNOWN_MEMBER, REBALANCING, FENCED_INSTANCE = 0, 22, 25, 27, 82


class ExitedError(BaseException):
    """The process would have ended."""


class Stage:
    """A fence of a session of 10 s, with a clock that stands where the test puts it."""

    def __init__(self) -> None:
        self.now = 100.0
        self.fence = Fence(10.0, self, now=lambda: self.now)

    def exit(self, code: int, why: str) -> NoReturn:
        raise ExitedError(code, why)

    def ask(self, request: Any, code: int = NO_ERROR, *, takes_s: float = 0) -> None:
        sent_at = self.fence.sent(request)
        self.now += takes_s
        self.fence.answered(request, sent_at, code)

    def join(self) -> None:
        self.ask(JOIN)
        self.ask(SYNC)


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_a_member_may_write_until_eight_tenths_of_its_session_are_over(stage: Stage) -> None:
    stage.join()
    stage.now += 8.0
    stage.fence.check()
    stage.now += 0.1
    with pytest.raises(ExitedError, match=r"no group request of the last 8\.1 s succeeded \(limit 8\.0 s\)"):
        stage.fence.check()


def test_who_has_not_joined_may_not_write(stage: Stage) -> None:
    with pytest.raises(ExitedError, match="without being a member"):
        stage.fence.check()


def test_a_heartbeat_counts_from_when_it_was_sent(stage: Stage) -> None:
    stage.join()
    stage.ask(HEARTBEAT, takes_s=7.0)
    stage.now += 2.0
    with pytest.raises(ExitedError):
        stage.fence.check()


@pytest.mark.parametrize("code", [NO_ERROR, REBALANCING])
def test_a_heartbeat_answered_well_renews_the_trust(stage: Stage, code: int) -> None:
    stage.join()
    stage.now += 7.0
    stage.ask(HEARTBEAT, code)
    stage.now += 7.0
    stage.fence.check()


def test_a_heartbeat_without_a_good_answer_renews_nothing(stage: Stage) -> None:
    stage.join()
    stage.now += 7.0
    stage.ask(HEARTBEAT, 16)  # the coordinator has moved
    stage.now += 2.0
    with pytest.raises(ExitedError):
        stage.fence.check()


def test_the_wait_inside_a_join_is_exempt_and_the_sync_counts(stage: Stage) -> None:
    stage.join()
    sent_at = stage.fence.sent(JOIN)
    stage.now += 25.0
    stage.fence.check()
    stage.fence.answered(JOIN, sent_at, NO_ERROR)
    stage.ask(SYNC)
    stage.now += 7.0
    stage.fence.check()


@pytest.mark.parametrize("code", [ILLEGAL_GENERATION, UNKNOWN_MEMBER, FENCED_INSTANCE])
@pytest.mark.parametrize("request_", [HEARTBEAT, COMMIT])
def test_a_member_that_the_group_does_not_know_ends(stage: Stage, request_: Any, code: int) -> None:
    stage.join()
    with pytest.raises(ExitedError, match="fenced"):
        stage.ask(request_, code)


def test_inside_a_join_an_unknown_member_joins_again_but_a_fenced_instance_ends(stage: Stage) -> None:
    stage.ask(JOIN, UNKNOWN_MEMBER)
    stage.ask(JOIN)
    stage.ask(SYNC, ILLEGAL_GENERATION)
    stage.join()
    with pytest.raises(ExitedError):
        stage.ask(JOIN, FENCED_INSTANCE)


def test_who_has_left_may_not_write_and_is_not_missed(stage: Stage) -> None:
    stage.join()
    stage.fence.leave()
    stage.ask(HEARTBEAT, UNKNOWN_MEMBER)
    with pytest.raises(ExitedError):
        stage.fence.check()


async def test_a_write_waits_for_a_heartbeat_that_proves_the_membership(stage: Stage) -> None:
    stage.join()
    stage.now += 9.0
    asked = []

    def now() -> float:
        asked.append(stage.now)
        if len(asked) == 5:
            stage.ask(HEARTBEAT)
        return stage.now

    stage.fence._now = now
    await stage.fence.confirm()


async def test_a_write_without_proof_for_a_session_ends_the_process(stage: Stage) -> None:
    stage.join()
    stage.now += 9.0

    def now() -> float:
        stage.now += 1.0
        return stage.now

    stage.fence._now = now
    with pytest.raises(ExitedError):
        await stage.fence.confirm()


async def test_a_watched_coordinator_tells_the_fence_and_heartbeats_from_the_sync_on(stage: Stage) -> None:
    started = []

    class Coordinator:
        code = NO_ERROR

        async def _send_req(self, request: object) -> Any:
            return SimpleNamespace(error_code=self.code, topics=[("t", [(0, self.code)])])

        def _start_heartbeat_task(self) -> None:
            started.append(True)

    coordinator = Coordinator()
    stage.fence.watch(coordinator)
    await coordinator._send_req(JOIN)
    assert started == []
    await coordinator._send_req(SYNC)
    assert started == [True]
    stage.fence.check()
    coordinator.code = UNKNOWN_MEMBER
    with pytest.raises(ExitedError):
        await coordinator._send_req(COMMIT)
