"""What this worker's calls do, by deployment: what its next choice goes by. Nothing here outlives the process."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from schemas.routing import LeftOut
from streams.core.retry_budget import RetryBudget, called
from streams.core.routing import Latency, View, heard
from streams.runtime.ports import Clock

NO_CALLS = RetryBudget()


class Traffic:
    """Calls in flight, latencies and turns of this worker."""

    def __init__(self, clock: Clock) -> None:
        """Nothing is known of any deployment yet."""
        self._clock = clock
        self._in_flight: Counter[str] = Counter()
        self._latencies: dict[str, Latency] = {}
        self._turns: dict[str, int] = {}
        self._choices = 0
        self._budgets: dict[str, RetryBudget] = {}

    def view(self, deployments: Sequence[str], out: Mapping[str, LeftOut], full: Sequence[str]) -> View:
        """Return what there is to know of these deployments at this moment."""
        now_ms = self._clock.now_ms()
        return View(
            out=out,
            full=full,
            in_flight={name: self._in_flight[name] for name in deployments},
            latency_s={name: self._latencies[name].now(now_ms) for name in deployments if name in self._latencies},
            turns={name: self._turns[name] for name in deployments if name in self._turns},
        )

    def allows_retry(self, deployment: str) -> bool:
        """Whether a request that failed there may be sent there again."""
        return self._budgets.get(deployment, NO_CALLS).allows(self._clock.now_ms())

    @contextmanager
    def call(self, deployment: str, *, retry: bool) -> Iterator[None]:
        """Count a choice, and the call in flight while the block runs. `retry`: of a request that failed there."""
        budget = self._budgets.get(deployment, NO_CALLS)
        self._budgets[deployment] = called(budget, self._clock.now_ms(), retry=retry)
        self._choices += 1
        self._turns[deployment] = self._choices
        self._in_flight[deployment] += 1
        try:
            yield
        finally:
            self._in_flight[deployment] -= 1

    def heard(self, deployment: str, took_s: float, *, answered: bool) -> None:
        """Take note of how long a call took that tells something about the deployment."""
        before = self._latencies.get(deployment)
        self._latencies[deployment] = heard(before, took_s, answered=answered, now_ms=self._clock.now_ms())
