"""`orchestrator up`: worker processes under one supervisor, which starts them again and says why they ended."""

import asyncio
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson
import structlog

from agents.commands.exits import FAILED, WRONG
from streams.runtime.children import PYTHON

FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 30.0
HEALTHY_S: Final = 60.0
"""A worker that ran for so long was well: its next failure is again the first."""
STOP_S: Final = 9.6
"""How long workers may take to stop; they give themselves 9 s, and all of it has to be over after 10 (CONTRACT §4)."""
_LONGEST_LINE: Final = 1024 * 1024

Tell = Callable[[bytes], None]
"""Takes one line of the log, without its end."""


@dataclass(frozen=True, slots=True)
class Again:
    """Start it again after `pause_s`; `failures` in a row, this one included."""

    pause_s: float
    failures: int


def what_next(code: int, ran_s: float, failures: int) -> Again | None:
    """Decide what to do about a worker that ended with `code` after so many failures in a row.

    None: starting again will not help (CONTRACT §4: exit 1 and 2).
    """
    if code in (FAILED, WRONG):
        return None
    failures = 1 if ran_s >= HEALTHY_S else failures + 1
    return Again(min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(failures - 1, 16)), failures)


def why(code: int) -> str:
    """Return what an exit code of a worker says, for people; a negative one is a signal's number."""
    match code:
        case 0:
            return "stopped by somebody else"
        case 1:
            return "starting again will not help; the line before says why"
        case 2:
            return "a mistake in the configuration, or no place to work in; the line before says which"
        case 75:
            return "asked to be started again; the line before says why"
        case _ if code < 0:
            return f"killed by {_signal(-code)}"
        case _:
            return "failed"


def _signal(number: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    return f"{name}, perhaps for want of memory" if number == signal.SIGKILL else name


def worker_command(config: Path) -> list[str]:
    """Return how to start a worker that ends with its supervisor."""
    run = "import sys; from agents.cli import main; sys.exit(main())"
    return [*PYTHON, "-c", run, "worker", "-c", str(config), "--supervised"]


class Supervisor:
    """Keeps processes of one command running until it is stopped. Each has a number, from 1."""

    def __init__(self, command: Sequence[str], tell: Tell, log: Any, environ: Mapping[str, str] | None = None) -> None:
        """`tell` gets what the processes write to standard error, in whole lines of JSON; `log` hears of their ends."""
        self._command = command
        self._tell = tell
        self._log = log
        self._environ = environ
        self._running: dict[int, Process] = {}
        self._stopping = asyncio.Event()

    async def keep(self, number: int) -> int:
        """Run process `number`, again and again. Returns 0 once stopped, else the code with which it gave up."""
        failures = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            code = await self._run(number)
            ran_s = time.monotonic() - began
            if self._stopping.is_set():
                break
            then = what_next(code, ran_s, failures)
            told = {"worker": number, "exit": code, "why": why(code), "ran_s": round(ran_s, 1)}
            if then is None:
                self._log.error("a worker has ended for good", **told)
                return code
            self._log.warning("a worker has ended", **told, again_in_s=then.pause_s)
            failures = then.failures
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), then.pause_s)
        return 0

    async def stop(self, within_s: float = STOP_S) -> None:
        """Stop all, for good; kill those that still run after `within_s` seconds."""
        self._stopping.set()
        ending = list(self._running.values())
        for process in ending:
            with suppress(ProcessLookupError):
                process.terminate()
        try:
            async with asyncio.timeout(within_s):
                await asyncio.gather(*(process.wait() for process in ending))
        except TimeoutError:
            for number, process in list(self._running.items()):
                if process.returncode is None:
                    self._log.warning("killed: it did not stop in time", worker=number, seconds=within_s)
                    process.kill()
                    await process.wait()

    async def _run(self, number: int) -> int:
        """Run the process once, to its end."""
        process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=PIPE,
            stdout=DEVNULL,
            stderr=PIPE,
            limit=_LONGEST_LINE,
            env=None if self._environ is None else dict(self._environ),
            start_new_session=True,  # a Ctrl-C is ours: we stop them in order
        )
        self._running[number] = process
        if self._stopping.is_set():
            process.terminate()
        self._log.info("worker started", worker=number, pid=process.pid)
        try:
            await self._pass_on(number, process)
            return await process.wait()
        finally:
            del self._running[number]

    async def _pass_on(self, number: int, process: Process) -> None:
        assert process.stderr is not None
        while True:
            try:
                line = await process.stderr.readline()
            except ValueError:  # longer than the limit: what has been read is gone
                line = b"a line that was too long\n"
            if not line:
                return
            self._tell(as_log_line(line.rstrip(b"\r\n"), number))


def as_log_line(line: bytes, number: int) -> bytes:
    """Return a line of the log as it is; what is none (an interpreter's last words) as the message of one."""
    if line.startswith(b"{") and line.endswith(b"}"):
        return line
    message = line.decode("utf-8", "backslashreplace")
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    told = {"timestamp": now, "level": "ERROR", "service": "orchestrator", "message": message}
    return orjson.dumps(told | {"details": {"worker": number}})


async def supervise(config: Path, workers: int) -> int:
    """Run `workers` workers until SIGTERM or SIGINT (0), or until all have given up (1)."""
    supervisor = Supervisor(worker_command(config), _to_standard_error, structlog.get_logger())
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    keeping = asyncio.gather(*(supervisor.keep(number) for number in range(1, workers + 1)))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait((keeping, stopping), return_when=asyncio.FIRST_COMPLETED)
    if keeping.done() and not stop.is_set():
        stopping.cancel()
        structlog.get_logger().error("no worker is left", codes=keeping.result())
        return FAILED
    await supervisor.stop()
    await keeping
    return 0


def _to_standard_error(line: bytes) -> None:
    with suppress(OSError):  # nobody listens any more
        sys.stderr.buffer.write(line + b"\n")
        sys.stderr.buffer.flush()
