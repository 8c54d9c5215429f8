"""Local rows of the partitions held, in a real RocksDB below a Faust app that is connected to nothing."""

from pathlib import Path
from typing import cast

import pytest
from faust.types import TP

from streams.runtime.app import WorkerApp, WorkerSettings, build_app
from streams.runtime.process import SystemProcess
from streams.runtime.tables import NotHeldError, PartitionStore, RawTable

CHANGELOG = "g-accounts-changelog"


def app_in(state: Path) -> WorkerApp:
    settings = WorkerSettings(
        bootstrap_servers=("127.0.0.1:1",),
        group="g",
        worker="w1",
        requests="requests",
        progress="progress",
        observations="observations",
        tables={"accounts": CHANGELOG},
        partitions=2,
        state=state,
    )
    return build_app(settings, SystemProcess())


async def rebalance(app: WorkerApp, held: set[int], lost: frozenset[int] = frozenset()) -> PartitionStore:
    store = cast(RawTable, app.tables["accounts"]).data
    assert isinstance(store, PartitionStore)
    assigned, revoked = ({TP(CHANGELOG, partition) for partition in some} for some in (frozenset(held), lost))
    await store.on_rebalance(assigned, revoked, assigned)
    return store


async def test_rows_and_their_changelog_offset_are_written_together(tmp_path: Path) -> None:
    app = app_in(tmp_path)
    partitions = await rebalance(app, {0, 1})
    app.store.write("accounts", 0, [(b"a", b"1"), (b"b", b"2")], 41)
    app.store.write("accounts", 0, [(b"a", None), (b"c", b"3")], 43)
    assert app.store.get("accounts", 0, b"a") is None
    assert app.store.get("accounts", 0, b"c") == b"3"
    assert app.store.get("accounts", 1, b"c") is None
    assert partitions.persisted_offset(TP(CHANGELOG, 0)) == 43
    assert partitions.persisted_offset(TP(CHANGELOG, 1)) is None


async def test_a_scan_yields_the_rows_of_a_prefix_in_key_order_without_fausts_offset(tmp_path: Path) -> None:
    app = app_in(tmp_path)
    await rebalance(app, {0})
    app.store.write("accounts", 0, [(b"b/2", b"y"), (b"a/1", b"x"), (b"b/1", b"z"), (b"c", b"w")], 7)
    assert list(app.store.scan("accounts", 0, b"b/")) == [(b"b/1", b"z"), (b"b/2", b"y")]
    assert [key for key, _ in app.store.scan("accounts", 0, b"")] == [b"a/1", b"b/1", b"b/2", b"c"]


async def test_a_partition_that_is_not_held_is_never_opened(tmp_path: Path) -> None:
    app = app_in(tmp_path)
    await rebalance(app, {0})
    with pytest.raises(NotHeldError, match="partition 1 of accounts"):
        app.store.write("accounts", 1, [(b"a", b"1")], 1)
    with pytest.raises(NotHeldError):
        app.store.get("accounts", 1, b"a")
    assert not (tmp_path / "v1" / "tables" / "accounts-1.db").exists()


async def test_a_lost_partition_is_closed_so_that_another_process_can_open_it(tmp_path: Path) -> None:
    app = app_in(tmp_path)
    await rebalance(app, {0, 1})
    app.store.write("accounts", 1, [(b"a", b"1")], 5)
    await rebalance(app, {0}, lost=frozenset({1}))
    with pytest.raises(NotHeldError):
        app.store.get("accounts", 1, b"a")
    other = app_in(tmp_path)
    await rebalance(other, {1})  # RocksDB locks a database: it would fail to open twice
    assert other.store.get("accounts", 1, b"a") == b"1"
    other.store.close()
    app.store.close()
