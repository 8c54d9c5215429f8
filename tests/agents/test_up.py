"""The supervisor starts again what may be started again, says why it ended, and leaves no process behind."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agents.commands.up import Again, Supervisor, as_log_line, what_next, why

LOOK_EVERY_S = 0.02


class Heard:
    """A log that remembers; `lines` are what the processes wrote."""

    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.lines: list[bytes] = []

    def info(self, message: str, **details: Any) -> None:
        self.told.append((message, details))

    warning = error = info

    def ends(self) -> list[int]:
        """Return the exit codes that were told, in order."""
        return [details["exit"] for message, details in self.told if message.startswith("a worker has ended")]


async def until(condition: Callable[[], object], within_s: float = 20) -> None:
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(LOOK_EVERY_S)


@asynccontextmanager
async def supervised(script: str, heard: Heard, *numbers: int) -> AsyncIterator[tuple[Supervisor, "asyncio.Task[Any]"]]:
    """Keep processes of a script running; it gets its standard input as a worker does."""
    supervisor = Supervisor([sys.executable, "-c", script], heard.lines.append, heard)
    keeping = asyncio.ensure_future(asyncio.gather(*(supervisor.keep(number) for number in numbers)))
    try:
        yield supervisor, keeping  # type: ignore[misc]  # a gathering is awaited like a task
    finally:
        await supervisor.stop(5)
        await keeping


def test_pauses_grow_and_have_an_end() -> None:
    pauses, failures = [], 0
    for _ in range(9):
        then = what_next(75, 3.0, failures)
        assert then is not None
        failures = then.failures
        pauses.append(then.pause_s)
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


@pytest.mark.parametrize(("ran_s", "expected"), [(59.9, Again(32.0 - 2.0, 8)), (60.0, Again(0.5, 1))])
def test_a_minute_of_health_forgets_earlier_failures(ran_s: float, expected: Again) -> None:
    assert what_next(75, ran_s, 7) == expected


@pytest.mark.parametrize("code", [1, 2])
def test_a_hopeless_worker_is_not_started_again(code: int) -> None:
    assert what_next(code, 3600.0, 0) is None


@pytest.mark.parametrize("code", [0, 75, -signal.SIGKILL, -signal.SIGSEGV, 3])
def test_every_other_end_is_followed_by_a_start(code: int) -> None:
    assert what_next(code, 1.0, 0) == Again(0.5, 1)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (0, "stopped by somebody else"),
        (-9, "killed by SIGKILL, perhaps for want of memory"),
        (-11, "killed by SIGSEGV"),
        (-200, "killed by signal 200"),
        (75, "asked to be started again; the line before says why"),
    ],
)
def test_an_end_is_explained(code: int, expected: str) -> None:
    assert why(code) == expected


def test_a_line_of_the_log_passes_unchanged() -> None:
    line = b'{"timestamp": "2026-11-24T16:00:00.000Z",  "message": "ready"}'
    assert as_log_line(line, 1) == line


def test_an_interpreters_last_words_become_a_line_of_the_log() -> None:
    told = json.loads(as_log_line(b"Fatal Python error: \xff", 2))
    assert told["level"] == "ERROR"
    assert told["message"] == "Fatal Python error: \\xff"
    assert told["details"] == {"worker": 2}


async def test_a_process_that_ends_is_started_again_and_its_words_are_passed_on() -> None:
    heard = Heard()
    script = 'import sys; print(\'{"message": "last words"}\', file=sys.stderr); sys.exit(75)'
    async with supervised(script, heard, 1):
        await until(lambda: len(heard.ends()) >= 2)
    assert heard.ends()[:2] == [75, 75]
    assert heard.lines[:2] == [b'{"message": "last words"}'] * 2


async def test_a_crash_loop_stops_nobody_else(tmp_path: Path) -> None:
    """There is room for two; the third crashes whenever it is started."""
    heard = Heard()
    script = f"""
import os, sys
for room in ("a", "b"):
    try:
        os.mkdir(os.path.join({str(tmp_path)!r}, room))
        sys.stdin.read()
    except FileExistsError:
        pass
sys.exit(3)
"""
    async with supervised(script, heard, 1, 2, 3):
        await until(lambda: len(heard.ends()) >= 3)
        ended = {details["worker"] for message, details in heard.told if message == "a worker has ended"}
        assert len(ended) == 1


async def test_all_hopeless_is_the_end_and_tells_the_codes() -> None:
    heard = Heard()
    async with supervised("import sys; sys.exit(2)", heard, 1, 2) as (_, keeping):
        await until(keeping.done)
        assert keeping.result() == [2, 2]
    assert [message for message, _ in heard.told if "ended" in message] == ["a worker has ended for good"] * 2


async def test_a_stop_ends_all_and_starts_nobody() -> None:
    heard = Heard()
    async with supervised("import sys; print('{}', file=sys.stderr, flush=True); sys.stdin.read()", heard, 1, 2) as (
        supervisor,
        keeping,
    ):
        await until(lambda: len(heard.lines) == 2)
        await supervisor.stop()
        await until(keeping.done)
        assert keeping.result() == [0, 0]
    assert [message for message, _ in heard.told] == ["worker started"] * 2


async def test_who_does_not_stop_is_killed() -> None:
    heard = Heard()
    script = """
import signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("{}", file=sys.stderr, flush=True)
while True: time.sleep(60)
"""
    async with supervised(script, heard, 1) as (supervisor, keeping):
        await until(lambda: heard.lines)
        await supervisor.stop(0.1)
        await until(keeping.done)
    assert "killed: it did not stop in time" in [message for message, _ in heard.told]


def test_a_killed_supervisor_leaves_no_process_behind() -> None:
    """SIGKILL can be handled by nobody: the children notice the end of their standard input."""
    child = (
        "import os, sys, time\nfrom streams.runtime import children\nchildren.end_with_parent()\n"
        "print(os.getpid(), file=sys.stderr, flush=True)\nwhile True: time.sleep(60)"
    )
    parent = f"""
import sys
from streams.runtime import children
children.start([sys.executable, "-c", {child!r}], log=sys.stdout)
children.start([sys.executable, "-c", {child!r}], log=sys.stdout)
sys.stdin.read()
"""
    process = subprocess.Popen([sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdin is not None
    pids = [int(process.stdout.readline()) for _ in range(2)]
    for pid in pids:
        os.kill(pid, 0)  # there
    process.kill()
    process.wait()
    assert process.stdout.read() == b""  # returns once nobody holds the other end any more: all have ended
    process.stdin.close()
    process.stdout.close()
