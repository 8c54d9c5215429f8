"""The machine's clock."""

import asyncio
import time


class SystemClock:
    """Wall time of this machine (`ports.Clock`)."""

    def now_ms(self) -> int:
        """Return milliseconds since the Unix epoch."""
        return time.time_ns() // 1_000_000

    async def sleep_until(self, moment_ms: int) -> None:
        """Return at or after `moment_ms`, also when the wall clock is set back meanwhile."""
        while (wait_ms := moment_ms - self.now_ms()) > 0:
            await asyncio.sleep(wait_ms / 1000)
