"""A fake provider and the caller that speaks to it: every class of outcome, and an invoice of its own."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from schemas.progress import Answer, AttemptFailed, AttemptSucceeded
from schemas.requests import PromptRequest
from schemas.usage import NO_CHARGE, Charge, CostLine, Usage
from streams.core.request import Start
from tests.simulation.loop import SimProcess
from tests.simulation.world import SimClock, World

Outcome = AttemptSucceeded | AttemptFailed


@dataclass(frozen=True, slots=True)
class PhysicalCall:
    """One call as the provider saw it, and what it charges for it."""

    partition: int
    tenant: str
    request_id: str
    attempt: int
    process: str
    at_s: float
    nano_usd: int
    hold: int


class Provider:
    """Everything that providers saw in one history. `overruns`: how often one bills more than the bound."""

    def __init__(self, world: World, random: Random, *, overruns: float = 0.0, patience: float = 1.0) -> None:
        """`patience` stretches how long calls take."""
        self.calls: list[PhysicalCall] = []
        self._world = world
        self._random = random
        self._overruns = overruns
        self._patience = patience

    def caller(self, process: SimProcess, clock: SimClock) -> "SimCaller":
        """Return the way in for one worker process."""
        return SimCaller(self, process, clock)

    def charge_for(self, start: Start) -> int:
        """Draw what a call costs."""
        if self._random.random() < self._overruns:
            return start.hold + self._random.randint(1, max(1, start.hold))
        return self._random.randint(start.hold // 3, start.hold)

    def receive(self, start: Start, process: SimProcess, nano_usd: int) -> None:
        """See one call arrive."""
        now = self._world.loop.time()
        self.calls.append(
            PhysicalCall(
                start.partition,
                start.tenant,
                start.request_id,
                start.attempt,
                process.name,
                now,
                nano_usd,
                start.hold,
            )
        )
        self._world.note(process.name, f"calls {start.tenant}/{start.request_id} attempt {start.attempt}: {nano_usd}")

    def duration_s(self) -> float:
        """Draw how long a call takes."""
        draw = self._random.random()
        return self._patience * (25 * draw if draw < 0.05 else 0.02 + 4 * draw * draw)


class SimCaller:
    """The `Caller` of one worker process."""

    def __init__(self, provider: Provider, process: SimProcess, clock: SimClock) -> None:
        self._provider = provider
        self._process = process
        self._clock = clock
        self._random = provider._random

    async def call(self, start: Start, request: PromptRequest) -> Outcome:
        """Make one attempt: it ends by the deadline, whatever the provider does."""
        deployment = self._random.choice(start.candidates or ("nobody",))
        self._process.checkpoint()
        await asyncio.sleep(self._random.random() * 0.02)
        self._process.checkpoint()
        if self._clock.now_ms() >= start.deadline_ms:
            return failed(start, deployment, "TIMEOUT_ERROR", "deadline")
        kind: Callable[[Start, str], tuple[int, Outcome]] = self._random.choice(_KINDS)
        amount, outcome = kind(start, deployment) if kind is not succeeded else self._succeeds(start, deployment)
        if outcome.charge.certainty == "uncertain" and amount < 0:
            amount = self._random.choice((0, self._random.randint(1, max(1, start.hold))))
        self._provider.receive(start, self._process, amount)
        ends_ms = self._clock.now_ms() + round(self._provider.duration_s() * 1000)
        if kind is never_answers or ends_ms >= start.deadline_ms:
            ends_ms = start.deadline_ms
            outcome = uncertain(start, deployment, "TIMEOUT_ERROR", "provider_timeout")
        await self._clock.sleep_until(ends_ms)
        self._process.checkpoint()
        return outcome

    def _succeeds(self, start: Start, deployment: str) -> tuple[int, Outcome]:
        amount = self._provider.charge_for(start)
        return amount, AttemptSucceeded(
            tenant=start.tenant,
            request_id=start.request_id,
            attempt=start.attempt,
            model="model",
            deployment=deployment,
            provider="fake",
            answer=Answer(text=f"answer {start.attempt} {amount}", finish_reason="stop"),
            charge=incurred(amount),
            duration_s=0.5,
        )


def incurred(nano_usd: int) -> Charge:
    """Return the charge of a call whose cost is known."""
    lines = (CostLine(class_="per_request", nano_usd=nano_usd),)
    return Charge(certainty="incurred", nano_usd=nano_usd, lines=lines, usage=Usage(input_tokens=1, output_tokens=1))


def failed(
    start: Start,
    deployment: str,
    code: str,
    reason: str,
    *,
    again: bool = False,
    elsewhere: bool = False,
    charge: Charge = NO_CHARGE,
    retry_after_s: float | None = None,
) -> AttemptFailed:
    """Return an attempt without an answer."""
    return AttemptFailed.model_validate(
        {
            "tenant": start.tenant,
            "request_id": start.request_id,
            "attempt": start.attempt,
            "deployment": deployment,
            "code": code,
            "reason": reason,
            "message": reason,
            "again": again,
            "elsewhere": elsewhere,
            "charge": charge,
            "retry_after_s": retry_after_s,
        }
    )


def uncertain(start: Start, deployment: str, code: str, reason: str) -> AttemptFailed:
    """Return an attempt of which nobody knows whether it was billed."""
    lines = (CostLine(class_="bound", nano_usd=start.hold),)
    charge = Charge(certainty="uncertain", nano_usd=start.hold, lines=lines, usage_source="estimated")
    return failed(start, deployment, code, reason, again=True, elsewhere=True, charge=charge)


def succeeded(start: Start, deployment: str) -> tuple[int, Outcome]:
    """Stands for a success in the list of kinds: the caller draws its amount."""
    raise NotImplementedError


def refused_connection(start: Start, deployment: str) -> tuple[int, Outcome]:
    """Nothing was sent."""
    return 0, failed(start, deployment, "MODEL_UNAVAILABLE", "connect", again=True, elsewhere=True)


def too_many(start: Start, deployment: str) -> tuple[int, Outcome]:
    """429 with a time to come back at."""
    return 0, failed(
        start, deployment, "MODEL_UNAVAILABLE", "rate_limit", again=True, elsewhere=True, retry_after_s=1.5
    )


def no_key(start: Start, deployment: str) -> tuple[int, Outcome]:
    """401: another deployment may do better."""
    return 0, failed(start, deployment, "MODEL_UNAVAILABLE", "provider_auth", elsewhere=True)


def rejected(start: Start, deployment: str) -> tuple[int, Outcome]:
    """400: the request is at fault."""
    return 0, failed(start, deployment, "INVALID_REQUEST", "provider_rejected")


def broken_server(start: Start, deployment: str) -> tuple[int, Outcome]:
    """500."""
    return 0, failed(start, deployment, "MODEL_ERROR", "server_error", again=True, elsewhere=True)


def malformed(start: Start, deployment: str) -> tuple[int, Outcome]:
    """A 2xx that cannot be read, and is billed."""
    charge = incurred(start.hold // 2)
    return start.hold // 2, failed(
        start, deployment, "INVALID_RESPONSE", "malformed", again=True, elsewhere=True, charge=charge
    )


def lost_connection(start: Start, deployment: str) -> tuple[int, Outcome]:
    """Nobody knows: an amount below 0 lets the caller draw whether it is billed."""
    return -1, uncertain(start, deployment, "MODEL_ERROR", "connection_lost")


def never_answers(start: Start, deployment: str) -> tuple[int, Outcome]:
    """Silence until the deadline."""
    return -1, uncertain(start, deployment, "TIMEOUT_ERROR", "provider_timeout")


_KINDS = (
    *(succeeded,) * 16,
    *(refused_connection, too_many, no_key, rejected, broken_server, malformed),
    *(lost_connection, lost_connection, never_answers),
)
