"""Calls that wait for a place at one deployment: in which order they get it, and who is refused when too many wait.

By priority with ageing: a call of the next lower priority counts as one that came `AGEING_MS` later, so that it passes
those of the higher priority that came later than that. Tenants that hold their fair share of the places let others go
first. A step looks at the first ones of few tenants, never at all that wait.
"""

import heapq
from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from schemas.requests import Priority

AGEING_MS = 10_000
_RANKS: Mapping[Priority, int] = {"high": 0, "normal": 1, "low": 2}

H = TypeVar("H")


def share_of(most: int, owned: int, partitions: int) -> int:
    """Return how many of a deployment's `most` places belong to the owner of so many partitions: at least one.

    Rounded down, so that all workers together keep to `most` wherever it is no less than their number.
    """
    return max(1, most * owned // partitions)


@dataclass(slots=True, order=True)
class Waiting(Generic[H]):
    """One call that waits. `turn`: its moment of arrival, later the lower its priority is."""

    turn: int
    number: int
    rank: int = field(compare=False)
    tenant: str = field(compare=False)
    handle: H = field(compare=False)
    gone: bool = field(default=False, compare=False)


class Line(Generic[H]):
    """Those who wait at one deployment, at most `most`."""

    def __init__(self, most: int) -> None:
        """Nobody waits yet."""
        self._most = most
        self._numbers = 0
        self._waiting = 0
        self._count: Counter[str] = Counter()
        self._lines: dict[str, list[Waiting[H]]] = {}  # heaps by tenant; those who are gone go when they come up
        self._first: list[tuple[int, int, str]] = []  # a heap of the tenants' first ones, some of them stale
        self._newest: tuple[OrderedDict[int, Waiting[H]], ...] = tuple(OrderedDict() for _ in _RANKS)

    def __len__(self) -> int:
        """How many wait."""
        return self._waiting

    def join(self, handle: H, *, tenant: str, priority: Priority, now_ms: int) -> tuple[Waiting[H], Waiting[H] | None]:
        """Let a call wait; return its place in the line, and who is refused for it where too many wait: maybe itself.

        That is the newest of the lowest priority; among equals, of the tenant of whom most wait.
        """
        self._numbers += 1
        rank = _RANKS[priority]
        mine = Waiting(now_ms + rank * AGEING_MS, self._numbers, rank, tenant, handle)
        self._waiting += 1
        self._count[tenant] += 1
        self._newest[rank][mine.number] = mine
        line = self._lines.setdefault(tenant, [])
        heapq.heappush(line, mine)
        if line[0] is mine:
            heapq.heappush(self._first, (mine.turn, mine.number, tenant))
        refused = self._least() if self._waiting > self._most else None
        if refused is not None:
            self.leave(refused)
        return mine, refused

    def leave(self, waiting: Waiting[H]) -> None:
        """Take a call out of the line, wherever it is. A second time changes nothing."""
        if not waiting.gone:
            waiting.gone = True
            self._waiting -= 1
            del self._newest[waiting.rank][waiting.number]
            self._count[waiting.tenant] -= 1
            if not self._count[waiting.tenant]:
                del self._count[waiting.tenant]

    def next(self, held: Mapping[str, int], places: int) -> Waiting[H] | None:
        """Take out whose turn it is, None where nobody waits. `held`: the places that each tenant has now."""
        tenants = len(self._count) + sum(tenant not in self._count for tenant in held)
        fair = max(1, places // max(1, tenants))
        passed: list[tuple[int, int, str]] = []
        chosen: Waiting[H] | None = None
        while chosen is None and (first := self._pop_first()) is not None:
            if held.get(first.tenant, 0) < fair:
                chosen = first
            else:
                passed.append((first.turn, first.number, first.tenant))
        if chosen is None and passed:  # all who wait have their share: by turn alone
            chosen = self._lines[passed[0][2]][0]
            passed = passed[1:]
        for entry in passed:
            heapq.heappush(self._first, entry)
        if chosen is not None:
            self.leave(chosen)
            self._offer(chosen.tenant)
        return chosen

    def _pop_first(self) -> Waiting[H] | None:
        """Return the first of the tenant who comes first, and take that tenant's entry out."""
        while self._first:
            _, number, tenant = heapq.heappop(self._first)
            line = self._lines.get(tenant)
            if line and line[0].number == number:
                if not line[0].gone:
                    return line[0]
                self._offer(tenant)
        return None

    def _offer(self, tenant: str) -> None:
        """Put the tenant's first one that still waits where others can find it."""
        line = self._lines[tenant]
        while line and line[0].gone:
            heapq.heappop(line)
        if line:
            heapq.heappush(self._first, (line[0].turn, line[0].number, tenant))
        else:
            del self._lines[tenant]

    def _least(self) -> Waiting[H]:
        newest = next(line for line in reversed(self._newest) if line)
        last = next(reversed(newest.values()))
        tenant, most = max(self._count.items(), key=lambda item: item[1])
        if most <= self._count[last.tenant]:
            return last
        return next((waiting for waiting in reversed(newest.values()) if waiting.tenant == tenant), last)
