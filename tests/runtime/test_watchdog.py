"""A worker that hangs says so: what counts as hanging, and a state directory that cannot be written."""

import asyncio
from pathlib import Path
from typing import NoReturn

import pytest

from streams.runtime.watchdog import Limits, Watch, require_writable, write_probe


class Ended(Exception):
    """Stands for the end of the process."""


class FakeProcess:
    def exit(self, code: int, why: str) -> NoReturn:
        raise Ended(code, why)


def test_what_moves_is_never_still() -> None:
    watch = Watch()
    for second in range(100):
        assert watch.look({"committing": [("t", 0, second)], "fetching": None}, second) == []


def test_what_does_not_move_is_still_since_it_stopped() -> None:
    watch = Watch()
    watch.look({"committing": 1, "fetching": 7}, 0)
    watch.look({"committing": 2, "fetching": 7}, 10)
    (committing, fetching) = watch.look({"committing": 2, "fetching": 7}, 30)
    assert (committing.what, committing.for_s) == ("committing", 20)
    assert str(fetching) == "fetching: no progress for 30 s: 7"


def test_what_has_nothing_to_do_begins_anew() -> None:
    watch = Watch()
    watch.look({"committing": 1}, 0)
    watch.look({"committing": None}, 20)
    watch.look({"committing": 1}, 25)
    assert [still.for_s for still in watch.look({"committing": 1}, 30)] == [5]


def test_a_state_directory_that_can_be_written_is_left_as_it_was(tmp_path: Path) -> None:
    write_probe(tmp_path)
    assert list(tmp_path.iterdir()) == []


async def test_a_state_directory_that_is_gone_ends_the_worker(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with pytest.raises(Ended) as ended:
        await asyncio.wait_for(require_writable(state, FakeProcess(), Limits(disk_s=0.1), every_s=0.01), 20)
    code, why = ended.value.args
    assert code == 75
    assert "cannot be written" in why
    assert str(state) in why
