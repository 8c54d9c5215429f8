"""A worker that hangs ends itself and says why, within half a minute (DESIGN §10, rule 7): its supervisor starts it
again, and its partitions move. A hanging event loop is seen by the consumer's thread (`consumer.ConsumerThread`)."""

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from streams.runtime.ports import Process
from streams.runtime.process import TRY_AGAIN

PROBE: Final = ".writable"


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds. `still_s`: how long something that has to move may show no progress; above the rebalance timeout, for
    which the broker may let this worker wait for others. `stall_s`: how long the event loop may hang. `disk_s`: how
    long the state directory may refuse to be written.
    """

    still_s: float = 27.0
    stall_s: float = 15.0
    disk_s: float = 15.0


@dataclass(frozen=True, slots=True)
class Still:
    """Something that has to move and has not since `for_s` seconds."""

    what: str
    state: str
    for_s: float

    def __str__(self) -> str:
        return f"{self.what}: no progress for {self.for_s:.0f} s: {self.state}"


class Watch:
    """Remembers since when each thing that has to move has been as it is."""

    def __init__(self) -> None:
        self._since: dict[str, tuple[object, float]] = {}

    def look(self, states: Mapping[str, object], now_s: float) -> list[Still]:
        """Return what has to move and since when it has not. A state of None: nothing has to move there."""
        found = []
        for what, state in states.items():
            before = self._since.get(what)
            if state is None:
                self._since.pop(what, None)
            elif before is None or before[0] != state:
                self._since[what] = (state, now_s)
            else:
                found.append(Still(what, str(state), now_s - before[1]))
        return found


def write_probe(directory: Path) -> None:
    """Write a small file and remove it; raises `OSError` where that cannot be done."""
    probe = directory / PROBE
    with probe.open("wb") as file:
        file.write(b"x" * 4096)
        file.flush()
        os.fsync(file.fileno())
    probe.unlink()


async def require_writable(directory: Path, process: Process, limits: Limits, *, every_s: float = 5.0) -> None:
    """End the process when the directory cannot be written for `disk_s`: it is gone, full or hangs. Runs for ever."""
    loop = asyncio.get_running_loop()
    well_s = loop.time()
    while True:
        try:
            async with asyncio.timeout(limits.disk_s):
                await asyncio.to_thread(write_probe, directory)
            well_s = loop.time()
        except (OSError, TimeoutError) as error:
            if loop.time() - well_s >= limits.disk_s:
                process.exit(TRY_AGAIN, f"the state directory {directory} cannot be written: {error!r}")
        await asyncio.sleep(every_s)
