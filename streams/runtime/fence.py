"""Self-fencing: a worker that may have lost its partitions must not write (DESIGN §4, "Fencing").

Kafka fences offset commits by generation and records not at all: a worker that was stopped for longer than the session
timeout wakes up and would write old rows behind its successor's. It therefore remembers when it last was a member for
certain: the moment at which it *sent* the last group request that the broker answered well.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any, cast

from aiokafka.protocol.commit import OffsetCommitRequest
from aiokafka.protocol.group import HeartbeatRequest, JoinGroupRequest, SyncGroupRequest

from streams.runtime.ports import Process
from streams.runtime.process import TRY_AGAIN

MARGIN = 0.8
"""Part of the session timeout after which this worker no longer trusts its membership."""

POLL_S = 0.02

OK = 0
ILLEGAL_GENERATION = 22
UNKNOWN_MEMBER = 25
REBALANCE_IN_PROGRESS = 27
FENCED_INSTANCE = 82
NOT_A_MEMBER = {
    ILLEGAL_GENERATION: "the group is in a generation that does not know this worker",
    UNKNOWN_MEMBER: "the group has removed this worker, or another process uses its id",
    FENCED_INSTANCE: "another process uses this worker's id",
}


def seconds_since_boot() -> float:
    """Return a time that never runs back; on Linux it also counts while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class Fence:
    """Ends the process rather than let it write as a member that it may no longer be.

    Told by the consumer's thread, asked by the main thread: its attributes are plain values, each set in one step.
    """

    def __init__(
        self, session_timeout_s: float, process: Process, now: Callable[[], float] = seconds_since_boot
    ) -> None:
        self._session_s = session_timeout_s
        self._limit_s = MARGIN * session_timeout_s
        self._process = process
        self._now = now
        self._member_at: float | None = None
        self._joining = False
        self._left = False

    def check(self) -> None:
        """Return if this worker is a member for certain, or waits in a join (then nothing of it is on the way)."""
        if self._joining and not self._left:
            return
        if self._left or self._member_at is None:
            self._process.exit(TRY_AGAIN, "fenced: about to write without being a member of the group")
        silent_s = self._now() - self._member_at
        if silent_s > self._limit_s:
            self._process.exit(
                TRY_AGAIN,
                f"fenced: no group request of the last {silent_s:.1f} s succeeded (limit {self._limit_s:.1f} s)",
            )

    async def confirm(self) -> None:
        """Return once this worker is a member for certain; one session without certainty ends the process.

        Waiting is as safe as ending: a heartbeat that succeeds *now* in this generation proves that nobody has taken
        over. It spares the calls in flight when the broker was away; a zombie's heartbeat fails and ends it.
        """
        deadline = self._now() + self._session_s
        while self._is_stale() and self._now() < deadline:
            await asyncio.sleep(POLL_S)
        self.check()

    def _is_stale(self) -> bool:
        unsure = not self._joining and not self._left and self._member_at is not None
        return unsure and self._now() - cast(float, self._member_at) > self._limit_s

    def leave(self) -> None:
        """Note that this worker leaves the group on purpose: from now on it may not write, and is not missed."""
        self._left = True

    def sent(self, request: object) -> float:
        """Note that a group request is about to be sent; return its moment, for `answered`."""
        if isinstance(request, JoinGroupRequest):
            self._joining = True
        return self._now()

    def answered(self, request: object, sent_at: float, error_code: int) -> None:
        """Take the broker's answer to a group request into account; ends the process when it is no member any more.

        Inside a join such answers are normal: aiokafka joins again.
        """
        if error_code in NOT_A_MEMBER and not self._left and (error_code == FENCED_INSTANCE or not self._joining):
            self._process.exit(TRY_AGAIN, f"fenced: {NOT_A_MEMBER[error_code]}")
        match request:
            case HeartbeatRequest() if error_code in (OK, REBALANCE_IN_PROGRESS):
                self._member_at = sent_at
            case JoinGroupRequest() if error_code == OK:
                self._member_at = sent_at
            case SyncGroupRequest() if error_code == OK:
                self._member_at = sent_at
                self._joining = False
            case _:
                pass

    def watch(self, coordinator: Any) -> None:
        """See every group request of aiokafka's group coordinator from now on.

        Also start its heartbeats right after a join instead of after the assign callback, which opens databases and
        may take longer than a session.
        """
        send = coordinator._send_req

        async def watched(request: Any) -> Any:
            sent_at = self.sent(request)
            response = await send(request)
            for code in error_codes(request, response):
                self.answered(request, sent_at, code)
            if isinstance(request, SyncGroupRequest) and response.error_code == OK:
                coordinator._start_heartbeat_task()
            return response

        coordinator._send_req = watched


def error_codes(request: object, response: Any) -> set[int]:
    """Return the error codes in the answer to a group request; none of other requests."""
    match request:
        case HeartbeatRequest() | JoinGroupRequest() | SyncGroupRequest():
            return {response.error_code}
        case OffsetCommitRequest():
            return {code for _, partitions in response.topics for _, code in partitions}
        case _:
            return set()
