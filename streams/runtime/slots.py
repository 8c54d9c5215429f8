"""Which worker this is: a name that is unique in the group and stays over restarts, and its own state directory."""

import fcntl
import os
import re
import socket
from pathlib import Path

MOST_SLOTS = 1_000


class SlotInUseError(Exception):
    """Another process works under this name."""


class Slot:
    """A worker's name and directory, locked for as long as this process lives."""

    def __init__(self, name: str, directory: Path, lock: int) -> None:
        """Made by `take_slot`."""
        self.name, self.directory, self._lock = name, directory, lock


def take_slot(root: Path, name: str | None) -> Slot:
    """Take the slot `name`, or the first free one of `<host>-1`, `<host>-2`, … under `root`.

    The host is part of the name because the group knows its members by it, and hosts may have state volumes of their
    own.

    Raises `SlotInUseError` when it is taken, `OSError` when its directory cannot be written.
    """
    if name is not None:
        slot = _take(root / name)
        if slot is None:
            raise SlotInUseError(f"worker {name} is running already (state directory {root / name})")
        return slot
    host = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:48] or "worker"
    for number in range(1, MOST_SLOTS + 1):
        slot = _take(root / f"{host}-{number}")
        if slot is not None:
            return slot
    raise SlotInUseError(f"all {MOST_SLOTS} workers under {root} are running already")


def _take(directory: Path) -> Slot | None:
    directory.mkdir(parents=True, exist_ok=True)
    lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return Slot(directory.name, directory, lock)
