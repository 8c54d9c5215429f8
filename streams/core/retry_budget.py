"""How many of a deployment's calls may be retries there: a tenth over two minutes, and always three (DESIGN §8).

A provider that fails all calls would else get each of them several times, when it can bear it least.
"""

from dataclasses import dataclass

WINDOW_MS = 120_000
SLICE_MS = 10_000
SHARE, FLOOR = 0.1, 3


@dataclass(frozen=True, slots=True)
class Slice:
    """The calls of ten seconds, of which `retries` went to a deployment that had failed the same request before."""

    begins_ms: int
    calls: int
    retries: int


@dataclass(frozen=True, slots=True)
class RetryBudget:
    """One deployment's, in one worker: its calls by slices, newest last."""

    slices: tuple[Slice, ...] = ()

    def allows(self, now_ms: int) -> bool:
        """Whether one more retry may be made there."""
        recent = [s for s in self.slices if s.begins_ms > now_ms - WINDOW_MS]
        return sum(s.retries for s in recent) < max(FLOOR, SHARE * sum(s.calls for s in recent))


def called(budget: RetryBudget, now_ms: int, *, retry: bool) -> RetryBudget:
    """Return the budget after one more call."""
    begins_ms = now_ms - now_ms % SLICE_MS
    *older, last = budget.slices or (Slice(begins_ms, 0, 0),)
    if last.begins_ms >= begins_ms:  # a clock that went back counts where it was
        return RetryBudget((*older, Slice(last.begins_ms, last.calls + 1, last.retries + retry)))
    kept = tuple(s for s in budget.slices if s.begins_ms > now_ms - WINDOW_MS)
    return RetryBudget((*kept, Slice(begins_ms, 1, int(retry))))
