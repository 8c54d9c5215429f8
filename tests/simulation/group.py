"""The group coordinator: eager rebalances, static members, generations, sessions, commits."""

import asyncio
from dataclasses import dataclass, field
from typing import Literal

from tests.simulation.world import World

HeartbeatAnswer = Literal["ok", "rebalance", "unknown"]


class Fenced(Exception):
    """Another process has taken this static member's place."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a member gets from joining."""

    generation: int
    partitions: frozenset[int]


@dataclass(slots=True, eq=False)
class _Member:
    worker: str
    token: int
    seen_at: float
    partitions: frozenset[int] = frozenset()
    waits: "asyncio.Future[Assignment] | None" = None
    checks: int = field(default=0)


class Group:
    """One consumer group. All methods run at the broker: callers add the trips there and back."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._loop = world.loop
        self._members: dict[str, _Member] = {}
        self.preparing = False
        self._round = 0
        self.generation = 0
        self.committed: dict[tuple[str, int], int] = {}

    def join(self, worker: str, token: int) -> "asyncio.Future[Assignment]":
        """Enter, or enter again. A static member that comes back as a new process keeps its place."""
        answer: asyncio.Future[Assignment] = self._loop.create_future()
        member = self._members.get(worker)
        if member is None:
            self._members[worker] = member = _Member(worker, token, self._loop.time())
            self._prepare(f"{worker} joins")
        elif member.token != token:
            if member.waits is not None and not member.waits.done():
                member.waits.set_exception(Fenced(worker))
            member.token = token
            member.waits = None
            if not self.preparing:
                self._seen(member)
                answer.set_result(Assignment(self.generation, member.partitions))
                return answer
        elif not self.preparing:
            self._prepare(f"{worker} joins again")
        member.waits = answer
        self._complete_if_all_wait()
        return answer

    def heartbeat(self, worker: str, token: int, generation: int) -> HeartbeatAnswer:
        """Keep a member's session."""
        member = self._members.get(worker)
        if member is None or member.token != token or (generation != self.generation and not self.preparing):
            return "unknown"
        self._seen(member)
        return "rebalance" if self.preparing else "ok"

    def leave(self, worker: str, token: int) -> None:
        """Remove a member."""
        member = self._members.get(worker)
        if member is not None and member.token == token:
            self._remove(member, "leaves")

    def nudge(self) -> None:
        """Rebalance although nobody came or went."""
        if self._members:
            self._prepare("for no reason")

    def commit(self, worker: str, token: int, generation: int, offsets: dict[tuple[str, int], int]) -> bool:
        """Store offsets, if this member of this generation may."""
        member = self._members.get(worker)
        if member is None or member.token != token or generation != self.generation:
            return False
        self.committed.update(offsets)
        return True

    def owner_of(self, partition: int) -> str | None:
        """Return who has a partition in this generation."""
        return next((m.worker for m in self._members.values() if partition in m.partitions), None)

    def _seen(self, member: _Member) -> None:
        member.seen_at = self._loop.time()
        member.checks += 1
        self._loop.at_world(self._world.weather.session_s, self._expire, member, member.checks)

    def _expire(self, member: _Member, checks: int) -> None:
        gone = self._members.get(member.worker) is not member or member.checks != checks
        if not gone and member.waits is None:
            self._remove(member, "session is over")

    def _remove(self, member: _Member, why: str) -> None:
        del self._members[member.worker]
        if member.waits is not None and not member.waits.done():
            member.waits.set_exception(Fenced(member.worker))
        self._prepare(f"{member.worker} {why}")
        self._complete_if_all_wait()

    def _prepare(self, why: str) -> None:
        if self.preparing:
            return
        self._world.note("group", f"rebalance: {why}")
        self.preparing = True
        self._round += 1
        self._loop.at_world(self._world.weather.rebalance_timeout_s, self._give_up_on_absent, self._round)

    def _give_up_on_absent(self, round_number: int) -> None:
        if self.preparing and self._round == round_number:
            for member in [m for m in self._members.values() if m.waits is None]:
                self._remove(member, "did not join in time")

    def _complete_if_all_wait(self) -> None:
        members = list(self._members.values())
        if not self.preparing or not members or any(m.waits is None for m in members):
            return
        self.preparing = False
        self.generation += 1
        self._share_out(members)
        told = " ".join(f"{m.worker}={sorted(m.partitions)}" for m in members)
        self._world.note("group", f"generation {self.generation}: {told}")
        for member in members:
            waits, member.waits = member.waits, None
            self._seen(member)
            if waits is not None and not waits.done():
                waits.set_result(Assignment(self.generation, member.partitions))

    def _share_out(self, members: list[_Member]) -> None:
        """Give every partition an owner: the one that it had where that is fair, mostly."""
        random = self._world.random
        order = list(members)
        random.shuffle(order)
        many = self._world.weather.partitions
        room = {m.worker: many // len(order) + (i < many % len(order)) for i, m in enumerate(order)}
        taken: dict[str, list[int]] = {m.worker: [] for m in order}
        before = {p: m.worker for m in members for p in sorted(m.partitions)}
        homeless = []
        sticky = random.random() < 0.8
        for partition in range(many):
            owner = before.get(partition)
            if sticky and owner is not None and len(taken[owner]) < room[owner]:
                taken[owner].append(partition)
            else:
                homeless.append(partition)
        for partition in homeless:
            free = [m.worker for m in order if len(taken[m.worker]) < room[m.worker]]
            taken[random.choice(free)].append(partition)
        for member in members:
            member.partitions = frozenset(taken[member.worker])
