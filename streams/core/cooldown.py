"""How long a quota scope is left alone after its provider has refused calls for its rate limit (429).

Deployments of one account share a limit, so they cool down together (DESIGN §8).
"""

from dataclasses import dataclass, replace

FIRST_S, MOST_S = 1.0, 60.0
"""What is waited where the provider names no time: doubled with each refusal after a cooldown, until one answers."""
LONGEST_S = 3600.0
"""Nobody is left alone for longer on one word, whoever says it."""


@dataclass(frozen=True, slots=True)
class Cooldown:
    """One scope's: until when, and how many refusals in a row led to it."""

    until_ms: int = 0
    refusals: int = 0

    def left_s(self, now_ms: int) -> float:
        """Return how much of it is left, 0 where none is."""
        return max(0, self.until_ms - now_ms) / 1000


def refused(before: Cooldown, told_s: float | None, now_ms: int) -> Cooldown:
    """Return the cooldown after a refusal; `told_s`: what the provider asks to wait.

    Refusals of calls that were under way when it began are the same refusal. It never gets shorter.
    """
    cooling = now_ms < before.until_ms
    if cooling and told_s is None:
        return before
    refusals = before.refusals if cooling else before.refusals + 1
    own_s = min(FIRST_S * 2.0 ** min(refusals - 1, 10), MOST_S)
    waits_s = own_s if told_s is None else min(told_s, LONGEST_S)
    return Cooldown(max(before.until_ms, now_ms + round(waits_s * 1000)), refusals)


def answered(before: Cooldown) -> Cooldown:
    """Return the cooldown after an answer: the next refusal is a first one again."""
    return replace(before, refusals=0)


def told(before: Cooldown, until_ms: int, now_ms: int) -> Cooldown:
    """Return the cooldown after another worker's word of it."""
    return replace(before, until_ms=max(before.until_ms, min(until_ms, now_ms + round(LONGEST_S * 1000))))
