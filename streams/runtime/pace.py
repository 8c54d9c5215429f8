"""How fast attempts are started that were not admitted one by one: slowly first, then faster."""

FIRST = 100
MOST = 1_000
"""Attempts in the first second, twice as many in each following one, and at most. A worker makes about a thousand calls
a second (DESIGN §3)."""

CALM_MS = 10_000
"""After so long without any, it begins slowly again."""


class Pace:
    """A worker that inherits thousands of open requests must not send as many calls at once: neither a provider that
    has just come back nor one with a rate limit would take them."""

    def __init__(self) -> None:
        self._began_ms = self._last_ms = -CALM_MS
        self._second, self._started = 0, 0

    def take(self, wanted: int, now_ms: int) -> int:
        """Return how many of `wanted` attempts may start now; those that may not ask again a second later."""
        if now_ms - self._last_ms >= CALM_MS:
            self._began_ms, self._second, self._started = now_ms, 0, 0
        second = (now_ms - self._began_ms) // 1000
        if second != self._second:
            self._second, self._started = second, 0
        granted = max(0, min(wanted, min(FIRST << min(second, 8), MOST) - self._started))
        self._started += granted
        self._last_ms = now_ms
        return granted
