"""Child processes that end with their parent, however it ends: their standard input is a pipe that only it holds.

A parent that was killed can tell nobody; the kernel closes its pipes. The child gets a session of its own, so that a
Ctrl-C reaches the parent alone, which then stops its children in order.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Final

GRACE_S: Final = 10.0
"""How long a child may take to stop before it is killed (CONTRACT §4)."""

PYTHON: Final = (sys.executable, "-P")
"""This interpreter; modules in the working directory do not shadow ours."""


def start(
    arguments: Sequence[str], *, log: IO[bytes] | int = subprocess.DEVNULL, environ: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a program that calls `end_with_parent`; both its output streams go to `log`."""
    return subprocess.Popen(
        arguments,
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=log,
        env=None if environ is None else dict(environ),
        start_new_session=True,
    )


def end_with_parent(grace_s: float = GRACE_S) -> None:
    """Stop this process as SIGTERM does once standard input ends; end it at once `grace_s` seconds later."""
    threading.Thread(target=_end_after_input, args=(grace_s,), name="end with parent", daemon=True).start()


def _end_after_input(grace_s: float) -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace_s)
    os.kill(os.getpid(), signal.SIGKILL)


def stop(children: Iterable[subprocess.Popen[bytes]], grace_s: float = GRACE_S) -> None:
    """Stop all at once; kill those that still run after `grace_s` seconds. Returns when all have ended."""
    running = [child for child in children if child.poll() is None]
    deadline = time.monotonic() + grace_s
    for child in running:
        child.terminate()
    for child in running:
        try:
            child.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
