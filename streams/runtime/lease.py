"""Which partitions this worker may decide on, in which generation of the group (DESIGN §4 "Lease")."""

from dataclasses import dataclass, field

from streams.runtime.ports import Record


@dataclass(slots=True)
class Lease:
    """ACTIVE in one generation, or in LIMBO from the start of a rebalance until the next assignment.

    In LIMBO nothing is planned and nothing is acknowledged; calls go on.
    """

    generation: int = -1
    partitions: frozenset[int] = field(default_factory=frozenset)
    active: bool = False
    rebalances: int = 0

    def begin_rebalance(self) -> None:
        """Enter limbo because the group rebalances. May be called from another thread: it sets plain attributes."""
        self.rebalances += 1
        self.active = False

    def enter_limbo(self) -> None:
        """Stop deciding."""
        self.active = False

    def renew(self, generation: int, partitions: frozenset[int]) -> None:
        """Decide on these partitions, in this generation."""
        self.generation, self.partitions, self.active = generation, partitions, True

    def admits(self, record: Record) -> bool:
        """Whether a decision may be planned on this record."""
        return self.active and record.generation == self.generation and record.partition in self.partitions
