"""A deterministic event loop: virtual time, several processes, a seeded choice of who runs next.

Every handle belongs to the process that its context names. The handles of one process keep their order; which process
runs next is drawn. When nobody can run, time jumps to the next timer: nothing sleeps, nothing reads a real clock.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from inspect import CORO_CREATED, getcoroutinestate
from random import Random
from types import CoroutineType
from typing import Any, Never

EPOCH_MS = 1_795_000_000_000
"""What the virtual clocks show at virtual second 0: 2026-11-18T11:06:40Z."""

STEPS_AT_ONE_MOMENT = 200_000
"""More steps without time moving on are a livelock."""


class ProcessEnded(BaseException):
    """Raised inside a process that has ended, wherever it touches the world. Nothing may catch it."""


class Livelock(Exception):
    """Processes keep running and time stands still."""


class SimProcess:
    """One simulated operating-system process: handles in order, and whether they may run."""

    def __init__(self, loop: "SimLoop", name: str) -> None:
        self.loop = loop
        self.name = name
        self.ready: deque[asyncio.Handle] = deque()
        self.alive = True
        self.paused = False
        self.is_able = False
        self.steps_left: int | None = None
        self.tasks: list[asyncio.Task[Any]] = []
        self.on_end: Callable[[int, str], None] | None = None
        self.context: Context = copy_context()
        self.context.run(PROCESS.set, self)

    def checkpoint(self) -> None:
        """Count one step; a process may die at any. Raises `ProcessEnded` in a process that is dead."""
        if self.alive and self.steps_left is not None:
            self.steps_left -= 1
            if self.steps_left <= 0:
                self.loop.kill(self, -9, "crash")
        if not self.alive:
            raise ProcessEnded(self.name)

    def exit(self, code: int, why: str) -> Never:
        """End at once (`streams.runtime.ports.Process`)."""
        if self.alive:
            self.loop.kill(self, code, why)
        raise ProcessEnded(self.name)


PROCESS: ContextVar[SimProcess] = ContextVar("PROCESS")


class SimLoop(asyncio.BaseEventLoop):
    """Runs processes until told to stop. One history, one loop, one seed."""

    def __init__(self, random: Random) -> None:
        super().__init__()
        self.random = random
        self.steps = 0
        self.escaped: list[str] = []
        self._moment = 0.0
        self._processes: list[SimProcess] = []
        self._able: list[SimProcess] = []
        self._every_task: list[asyncio.Task[Any]] = []
        self._timers: list[tuple[float, int, asyncio.TimerHandle, SimProcess]] = []
        self._numbered = 0
        self._steps_at_moment = 0
        self.world = self.process("world")
        self.set_task_factory(self._create_task)

    def time(self) -> float:
        """Return the virtual second."""
        return self._moment

    def now_ms(self) -> int:
        """Return what a wall clock shows at this virtual moment."""
        return EPOCH_MS + int(self._moment * 1000)

    def process(self, name: str) -> SimProcess:
        """Start an empty process."""
        process = SimProcess(self, name)
        self._processes.append(process)
        return process

    def spawn(self, process: SimProcess, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run `work` as a task of `process`."""
        return self.create_task(work, name=name, context=process.context)

    def kill(self, process: SimProcess, code: int, why: str) -> None:
        """End `process` at once: none of its handles runs again."""
        if not process.alive:
            return
        process.alive = False
        process.ready.clear()
        self._processes.remove(process)
        self._set_aside(process)
        if process.on_end is not None:
            self.world.context.copy().run(process.on_end, code, why)

    def pause(self, process: SimProcess) -> None:
        """SIGSTOP: hold its handles back while time goes on."""
        process.paused = True
        self._set_aside(process)

    def resume(self, process: SimProcess) -> None:
        """SIGCONT: what has become due meanwhile runs, in order."""
        if process.paused:
            process.paused = False
            if process.ready and process.alive:
                process.is_able = True
                self._able.append(process)

    def at_world(self, delay_s: float, callback: Callable[..., object], *args: Any) -> None:
        """Call back after `delay_s`, whatever happens to the process that asks."""
        self.call_at(self._moment + delay_s, callback, *args, context=self.world.context.copy())

    def drive(self, *, until_s: float, finished: Callable[[], bool] = lambda: False) -> None:
        """Run until virtual second `until_s`, or until `finished()`, asked whenever time moves on."""
        asyncio._set_running_loop(self)
        try:
            self._run_able()
            while not finished() and self._wake_due(until_s):
                self._run_able()
        finally:
            asyncio._set_running_loop(None)

    def shut(self) -> list[str]:
        """Close; return what died unseen: exceptions of tasks that nobody looked at."""
        unseen = [f"{task.get_name()}: {task.exception()!r}" for task in self._every_task if _died_unseen(task)]
        for process in list(self._processes):
            process.on_end = None
            self.kill(process, 0, "end of history")
        for task in self._every_task:
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # the history is over, pending is fine
            work = task.get_coro()
            if isinstance(work, CoroutineType) and getcoroutinestate(work) == CORO_CREATED:
                work.close()
        self._timers.clear()
        self.close()
        return self.escaped + unseen

    # What asyncio asks of a loop

    def call_soon(  # type: ignore[override]  # typeshed's is generic in the arguments
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """Queue a callback behind the others of its process; a dead process has no queue."""
        handle = asyncio.Handle(callback, args, self, context)
        process = PROCESS.get(self.world) if context is None else context.get(PROCESS, self.world)
        if process.alive:
            self._queue(process, handle)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]  # there are no threads here

    def call_at(  # type: ignore[override]  # typeshed's is generic in the arguments
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Call back at virtual second `when`."""
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        process = PROCESS.get(self.world) if context is None else context.get(PROCESS, self.world)
        if process.alive:
            self._numbered += 1
            heapq.heappush(self._timers, (when, self._numbered, timer, process))
        return timer

    def call_later(  # type: ignore[override]  # typeshed's is generic in the arguments
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Call back after `delay` virtual seconds."""
        return self.call_at(self._moment + delay, callback, *args, context=context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Remember what escaped from a callback: no history may end with one."""
        exception = context.get("exception")
        if not self.is_closed() and not isinstance(exception, ProcessEnded):
            self.escaped.append(f"{context.get('message')}: {exception!r}")

    def get_debug(self) -> bool:
        """Return False: debug mode reads real clocks."""
        return False

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Do nothing: a cancelled timer is skipped when its time comes."""

    def _create_task(
        self, loop: asyncio.AbstractEventLoop, work: Any, context: Context | None = None
    ) -> "asyncio.Task[Any]":
        task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, context=context)
        self._every_task.append(task)
        return task

    # The scheduler

    def _queue(self, process: SimProcess, handle: asyncio.Handle) -> None:
        process.ready.append(handle)
        if not process.is_able and not process.paused:
            process.is_able = True
            self._able.append(process)

    def _wake_due(self, until_s: float) -> bool:
        """Jump to the next timer and wake what is due then. False: `until_s` is reached, or nothing is left."""
        timers = self._timers
        if not timers or timers[0][0] > until_s:
            self._moment = max(self._moment, until_s)
            return False
        if timers[0][0] > self._moment:
            self._moment = timers[0][0]
            self._steps_at_moment = 0
        while timers and timers[0][0] <= self._moment:
            _, _, timer, process = heapq.heappop(timers)
            if process.alive and not timer.cancelled():
                self._queue(process, timer)
        return True

    def _run_able(self) -> None:
        """Let the processes run, drawn one after the other, until none can at this moment."""
        able, draw = self._able, self.random.random
        while able:
            at = int(draw() * len(able)) if len(able) > 1 else 0
            process = able[at]
            for _ in range(1 + int(draw() * 4) if len(able) > 1 else 1):
                self._run_one(process)
                if not process.ready or process.paused:
                    break
            if not process.ready:
                self._set_aside(process)

    def _set_aside(self, process: SimProcess) -> None:
        if process.is_able:
            process.is_able = False
            self._able.remove(process)

    def _run_one(self, process: SimProcess) -> None:
        handle = process.ready.popleft()
        if handle.cancelled():
            return
        self.steps += 1
        self._steps_at_moment += 1
        if self._steps_at_moment > STEPS_AT_ONE_MOMENT:
            raise Livelock(f"{process.name} at {self._moment:.3f} s: {handle!r}")
        if process.steps_left is not None:
            process.steps_left -= 1
            if process.steps_left <= 0:
                self.kill(process, -9, "crash")
                return
        handle._run()


def _died_unseen(task: "asyncio.Task[Any]") -> bool:
    if not task.done() or task.cancelled() or not task._log_traceback:
        return False
    task._log_traceback = False  # it is told here
    return not isinstance(task.exception(), ProcessEnded)
