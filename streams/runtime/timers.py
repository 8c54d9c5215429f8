"""Moments that something waits for: one heap and one task for all of them."""

import asyncio
import heapq
from collections.abc import Awaitable, Callable

from streams.runtime.ports import Clock

RequestKey = tuple[int, str, str]
"""Home partition, tenant, request id."""


class Timers:
    """Calls `fire` with the keys whose moment has come. What a key still waits for is for `fire` to look up."""

    def __init__(self, clock: Clock, fire: Callable[[list[RequestKey]], Awaitable[None]]) -> None:
        """Nothing happens until `run`."""
        self._clock, self._fire = clock, fire
        self._heap: list[tuple[int, RequestKey]] = []
        self._earlier = asyncio.Event()

    def set(self, moment_ms: int, key: RequestKey) -> None:
        """Fire for `key` at `moment_ms`. Timers are never taken back: one that means nothing any more is looked up in
        vain."""
        if not self._heap or moment_ms < self._heap[0][0]:
            self._earlier.set()
        heapq.heappush(self._heap, (moment_ms, key))

    def clear(self) -> None:
        """Forget all moments."""
        self._heap.clear()

    async def run(self) -> None:
        """Run for ever."""
        while True:
            self._earlier.clear()
            now_ms = self._clock.now_ms()
            due = []
            while self._heap and self._heap[0][0] <= now_ms:
                due.append(heapq.heappop(self._heap)[1])
            if due:
                await self._fire(due)
            elif self._heap:
                await self._wait_until(self._heap[0][0])
            else:
                await self._earlier.wait()

    async def _wait_until(self, moment_ms: int) -> None:
        sleep = asyncio.ensure_future(self._clock.sleep_until(moment_ms))
        earlier = asyncio.ensure_future(self._earlier.wait())
        try:
            await asyncio.wait({sleep, earlier}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleep.cancel()
            earlier.cancel()
