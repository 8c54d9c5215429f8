"""Local rows: RocksDB below Faust's tables, which recovery fills from the changelogs."""

import gc
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import faust
from faust.stores.rocksdb import Store as RocksDBStore
from faust.types import TP
from rocksdict import Rdict, WriteBatch

from streams.runtime.ports import Rows

MIB = 1024 * 1024
OFFSET_KEY = RocksDBStore.offset_key


class NotHeldError(LookupError):
    """A partition that this worker does not hold now; its database belongs to another."""


def options() -> dict[str, Any]:
    """Return options of one table, which Faust changes; its default block cache is 2 GiB per partition."""
    return {"block_cache_size": 16 * MIB, "write_buffer_size": 16 * MIB, "max_write_buffer_number": 2}


def write(db: Rdict, rows: Rows, changelog_offset: int) -> None:
    """Write rows and, under Faust's own key, the offset of the last one, in one atomic batch."""
    batch = WriteBatch(raw_mode=True)
    for key, value in rows:
        if value is None:
            batch.delete(key)
        else:
            batch.put(key, value)
    batch.put(OFFSET_KEY, str(changelog_offset).encode())
    db.write(batch)


class PartitionStore(RocksDBStore):
    """Faust's RocksDB store that opens assigned partitions only, and closes revoked ones.

    Faust's own opens any partition on demand: a late write would take the lock of a partition's database away from its
    owner and move its offset past rows that it lacks.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._held: frozenset[int] = frozenset()

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        """Close what is lost, open what is new."""
        topics = self.table.changelog_topic.topics
        self._held = frozenset(tp.partition for tp in assigned if tp.topic in topics)
        for partition in set(self._dbs) - self._held:
            self._dbs.pop(partition).close()
        await super().on_rebalance(assigned, revoked, newly_assigned, generation_id)

    def _db_for_partition(self, partition: int) -> Rdict:
        if partition not in self._held:
            raise NotHeldError(f"partition {partition} of {self.table.name} is not assigned to this worker")
        return cast(Rdict, super()._db_for_partition(partition))

    def restore(self, partition: int, records: Sequence[Any]) -> None:
        """Store changelog records, in order, and how far they reach, in one atomic batch."""
        write(self._db_for_partition(partition), [(one.key, one.value) for one in records], records[-1].offset)

    async def stop(self) -> None:
        """Close all databases."""
        self.close()

    def close(self) -> None:
        """Close all databases; nothing can be read or written afterwards."""
        self._held = frozenset()
        for db in self._dbs.values():
            db.close()
        self._dbs.clear()
        gc.collect()


class RawTable(faust.Table[bytes, bytes]):
    """A table of bytes. Nobody writes through it: rows go to the changelog first and then into its store."""

    def _new_store_by_url(self, url: Any) -> PartitionStore:
        return PartitionStore(
            url,
            self.app,
            self,
            table_name=self.name,
            key_type=bytes,
            value_type=bytes,
            key_serializer="raw",
            value_serializer="raw",
            loop=self.loop,
            options=options(),
        )


class TableStore:
    """`ports.Store` over the tables of one worker. Raises `NotHeldError` for partitions not held now."""

    def __init__(self, tables: Mapping[str, RawTable]) -> None:
        self._tables = tables

    def get(self, table: str, partition: int, key: bytes) -> bytes | None:
        """Return a row's value."""
        value: bytes | None = self._db(table, partition).get(key)
        return value

    def write(self, table: str, partition: int, rows: Rows, changelog_offset: int) -> None:
        """Write rows and the offset that recovery starts behind, in one atomic batch; not synced, the log is enough."""
        write(self._db(table, partition), rows, changelog_offset)

    def scan(self, table: str, partition: int, prefix: bytes, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Yield rows whose key starts with `prefix` and is not below `start`, in key order, as of the first one
        taken."""
        begin = max(prefix, start)
        rows = cast(Iterator[tuple[bytes, bytes]], self._db(table, partition).items(from_key=begin))
        for key, value in rows:
            if not key.startswith(prefix):
                return
            if key != OFFSET_KEY:
                yield key, value

    def close(self) -> None:
        """Close all databases."""
        for table in self._tables.values():
            cast(PartitionStore, table.data).close()

    def _db(self, table: str, partition: int) -> Rdict:
        return cast(PartitionStore, self._tables[table].data)._db_for_partition(partition)
