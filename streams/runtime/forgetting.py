"""Forgetting finished requests, a few with each decision: rows shrink as fast as they grow, and nothing is scanned
through.

A row is only deleted once every record that it has answered is acknowledged, so that what a crash makes the log deliver
again still finds it, or was published before.
"""

from collections import deque
from heapq import heappop, heappush

from streams.core import rows
from streams.core.account import Account
from streams.core.forgetting import (
    FINISHED_PREFIX,
    UNCERTAIN,
    Finished,
    decode_finished,
    encode_finished,
    finished_key,
    without_doubts,
)
from streams.runtime.journal import Journal

MOST_PER_DECISION = 4
"""A decision finishes at most one request, so a backlog of rows shrinks by three."""
MOST_PUT_OFF = 2
"""Of these, how many are ones that were needed when their turn was: who asks again and again holds up nobody."""

AT_ONCE = 256
"""Index rows that are read at a time."""

Key = tuple[int, str, str]
"""Home partition, tenant, request id."""


class Forgetting:
    """The index of what is done, of each partition held here: as rows, and the next few of them in memory."""

    def __init__(self, journal: Journal, table: str, horizon_ms: int) -> None:
        """`table` has the rows of requests and accounts."""
        self._journal, self._table, self._horizon_ms = journal, table, horizon_ms
        self._clock_ms: dict[int, int] = {}
        self._next: dict[int, list[Finished]] = {}
        self._read_to: dict[int, int] = {}
        self._read_all: set[int] = set()
        self._put_off: dict[int, deque[Finished]] = {}
        self._needed: dict[Key, object] = {}

    def begin(self) -> None:
        """Begin anew after an assignment: what was planned may be gone."""
        self._clock_ms.clear()
        self._next.clear()
        self._read_to.clear()
        self._read_all.clear()
        self._put_off.clear()
        self._needed.clear()

    def read_until(self, partition: int, time_ms: int) -> None:
        """Note that `prompt.requests` is read up to here: no record to come is older.

        It is this time that counts, and not that of outcomes, which may be far ahead of a backlog of requests.
        """
        self._clock_ms[partition] = max(time_ms, self._clock_ms.get(partition, 0))

    def finish(self, partition: int, finished: Finished) -> None:
        """Plan the index row of a request that is done, which may have been before and only cost something else now."""
        key = finished_key(finished.offset)
        self._journal.put(self._table, partition, key, encode_finished(finished), finished)
        if finished.offset < self._read_to.get(partition, 0):
            heappush(self._next[partition], finished)
        else:
            self._read_all.discard(partition)
        self.need((partition, finished.tenant, finished.request_id))

    def need(self, key: Key) -> None:
        """Keep a row until the open group is acknowledged: a record in it was answered from the row."""
        token = self._needed[key] = object()

        def acknowledged() -> None:
            if self._needed.get(key) is token:
                del self._needed[key]

        self._journal.afterwards(key[0], acknowledged, acknowledged)

    def forget(self, partition: int) -> int:
        """Plan to delete the first few whose time is over, and return how many."""
        clock_ms = self._clock_ms.get(partition, 0)
        put_off = self._put_off.setdefault(partition, deque())
        due = [put_off.popleft() for _ in range(min(len(put_off), MOST_PUT_OFF))]
        while len(due) < MOST_PER_DECISION:
            first = self._first(partition)
            if first is None or not first.is_over(clock_ms, self._horizon_ms):
                break
            due.append(heappop(self._next[partition]))
        free = [one for one in due if (partition, one.tenant, one.request_id) not in self._needed]
        for finished in free:
            self._delete(partition, finished)
        put_off.extend(one for one in due if one not in free)
        return len(free)

    def _first(self, partition: int) -> Finished | None:
        waiting = self._next.setdefault(partition, [])
        if not waiting and partition not in self._read_all:
            start = finished_key(self._read_to.get(partition, 0))
            found = self._journal.scan(self._table, partition, FINISHED_PREFIX, start, AT_ONCE)
            waiting.extend(decode_finished(key, value) for key, value in found)
            if waiting:
                self._read_to[partition] = waiting[-1].offset + 1
            else:  # looking again before the next request is done would find nothing, at the price of all planned rows
                self._read_all.add(partition)
        return waiting[0] if waiting else None

    def _delete(self, partition: int, finished: Finished) -> None:
        put = self._journal.put
        key = rows.done_key(finished.tenant, finished.request_id)
        row = self._journal.value(self._table, partition, key)
        if row is not None and UNCERTAIN in row:
            self._give_up_doubts(partition, finished.tenant, row)
        put(self._table, partition, key, None, None)
        put(self._table, partition, finished_key(finished.offset), None, None)

    def _give_up_doubts(self, partition: int, tenant: str, row: bytes) -> None:
        key = rows.account_key(tenant)
        account = self._journal.read(self._table, partition, key, rows.decode_account) or Account(tenant)
        account = without_doubts(account, rows.decode_request(row))
        self._journal.put(self._table, partition, key, rows.encode_account(account), account)
