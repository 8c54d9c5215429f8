"""The call of one attempt: chooses a deployment, speaks to it, and says what came of it and what it cost."""

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import groupby

import httpx

from agents.providers.call import Call, Refusal, Reply, exchange
from agents.providers.refusals import NO_MONEY_COOLDOWN_S
from schemas.configuration import Configuration
from schemas.errors import ErrorCode, Reason
from schemas.progress import AttemptFailed, AttemptSucceeded
from schemas.requests import PromptRequest
from schemas.routing import LeftOut, Routing
from schemas.usage import NO_CHARGE, Charge, Usage
from streams.core.costs import bound_of, charge_incurred, charge_uncertain
from streams.core.identity import draw
from streams.core.registry import Candidate, Deployment, Registry, bounded
from streams.core.request import Start
from streams.core.routing import Option, choose_route
from streams.runtime.concurrency import Places, QueueFullError, TooLateError
from streams.runtime.health import HealthView
from streams.runtime.ports import Clock
from streams.runtime.traffic import Traffic


class ProviderCaller:
    """Makes calls over HTTP (`streams.runtime.calls.Caller`)."""

    def __init__(  # noqa: PLR0917 - what a worker is made of
        self,
        client: httpx.AsyncClient,
        registry: Callable[[int], Registry],
        health: HealthView,
        clock: Clock,
        environ: Mapping[str, str],
        places: Places,
    ) -> None:
        """`environ` holds the providers' keys."""
        self._client, self._registry, self._health, self._clock = client, registry, health, clock
        self._environ, self._places = environ, places
        self._traffic = Traffic(clock)

    async def call(self, start: Start, request: PromptRequest) -> AttemptSucceeded | AttemptFailed:
        """Make one attempt within the request's deadline. The outcome says how its deployment was chosen.

        Where it had to wait for a place and its deployment is out by then, or too many wait there, it chooses again.
        """
        registry = self._registry(start.decided_ms)
        found = [d for d in map(registry.deployment, start.candidates) if d is not None]
        crowded: set[str] = set()
        while True:
            routing = self._route(start, request, found, registry.configuration, crowded)
            chosen = next((d for d in found if d.id == routing.chosen), None)
            if chosen is None:
                outcome: AttemptSucceeded | AttemptFailed | None = self._nobody(start, routing)
            elif self._clock.now_ms() >= start.deadline_ms:
                outcome = _too_late(start)
            else:
                outcome = await self._placed(start, request, chosen, registry, crowded)
            if outcome is not None:
                return outcome.model_copy(update={"routing": routing})

    async def _placed(
        self, start: Start, request: PromptRequest, chosen: Deployment, registry: Registry, crowded: set[str]
    ) -> AttemptSucceeded | AttemptFailed | None:
        """Call once there is a place; None where another choice must be made. Adds to `crowded` where too many wait."""
        place = self._places.place(
            chosen, tenant=start.tenant, priority=request.priority, deadline_ms=start.deadline_ms
        )
        try:
            with self._traffic.call(chosen.id, retry=_is_retry(start, chosen.id)):
                async with place as waited:
                    if waited and self._health.why_out(chosen.id) is not None:
                        return None
                    with self._health.probe(chosen.id):
                        return await self._call(start, request, chosen, registry, self._clock.now_ms())
        except QueueFullError:
            crowded.add(chosen.id)
            return None
        except TooLateError:
            return _too_late(start)

    def _route(
        self,
        start: Start,
        request: PromptRequest,
        found: Sequence[Deployment],
        settings: Configuration,
        crowded: Collection[str],
    ) -> Routing:
        strategy = settings.load_balancer.strategy
        prices = _prices(found, request, settings.limits.default_max_tokens) if strategy == "cost" else {}
        out = {d.id: why for d in found if (why := self._why_out(start, d.id)) is not None}
        out.update(dict.fromkeys(crowded, "full"))
        return choose_route(
            [
                [Option(d.id, weight=d.weight, priority=d.priority, price=prices.get(d.id, 0)) for d in group]
                for group in _by_preference(found, request)
            ],
            strategy=strategy,
            view=self._traffic.view([d.id for d in found], out, full=[d.id for d in found if self._places.full(d)]),
            tried=start.tried,
            draw=draw(start.tenant, start.request_id, start.attempt),
        )

    def _why_out(self, start: Start, deployment: str) -> LeftOut | None:
        if (why := self._health.why_out(deployment)) is not None:
            return why
        refused = _is_retry(start, deployment) and not self._traffic.allows_retry(deployment)
        return "retry_budget" if refused else None

    def _nobody(self, start: Start, routing: Routing) -> AttemptFailed:
        """Where one cools down, its end is known, so that it may be waited for; a circuit's is not."""
        why = ", ".join(f"{c.deployment} {c.reason}" for c in routing.candidates) or "none"
        message = f"no deployment is available: {why}"
        cooling = [self._health.cooldown_s(c.deployment) for c in routing.candidates if c.reason == "cooldown"]
        reasons = {c.reason for c in routing.candidates}
        if cooling:
            waits_s = _spread(min(cooling), start, (start.deadline_ms - self._clock.now_ms()) / 1000)
            return _no_call(start, "MODEL_UNAVAILABLE", "cooldown", message, retry_after_s=waits_s)
        if "full" in reasons:
            return _no_call(start, "SERVICE_UNAVAILABLE", "queue_full", message)
        if "retry_budget" in reasons:
            return _no_call(start, "MODEL_ERROR", "overloaded", message)  # what is told is the failure before
        return _no_call(start, "MODEL_UNAVAILABLE", "circuit_open", message)

    async def _call(
        self, start: Start, request: PromptRequest, deployment: Deployment, registry: Registry, now_ms: int
    ) -> AttemptSucceeded | AttemptFailed:
        key = None if deployment.api_key_env is None else self._environ.get(deployment.api_key_env)
        if deployment.api_key_env is not None and not key:
            message = f"the environment variable {deployment.api_key_env} holds no key"
            return _failed(start, deployment, NO_CHARGE, "MODEL_UNAVAILABLE", "no_key", message, elsewhere=True)
        limits = registry.configuration.limits
        (candidate,) = bounded([deployment], request, limits.default_max_tokens)
        left_s = (start.deadline_ms - now_ms) / 1000
        reply = await exchange(
            self._client,
            Call(
                endpoint=deployment.endpoint,
                provider=deployment.provider,
                provider_model=deployment.provider_model,
                api_key=key,
                request=request,
                max_tokens=candidate.output_bound,
                timeout_s=min(left_s, deployment.timeout_s or left_s),
                max_answer_bytes=limits.max_answer_bytes,
                traceparent=start.traceparent,
                dialect=deployment.dialect or "openai",
            ),
        )
        if isinstance(reply, Refusal):
            return self._refused(start, candidate, reply)
        return self._answered(start, candidate, reply, (now_ms - start.received_ms) / 1000)

    def _answered(self, start: Start, candidate: Candidate, reply: Reply, queued_s: float) -> AttemptSucceeded:
        deployment = candidate.deployment
        self._health.saw_success(deployment.id)
        self._traffic.heard(deployment.id, reply.duration_s, answered=True)
        return AttemptSucceeded(
            tenant=start.tenant,
            request_id=start.request_id,
            attempt=start.attempt,
            model=deployment.name,
            deployment=deployment.id,
            provider=deployment.provider,
            answer=reply.answer,
            charge=_incurred(candidate, reply.usage),
            duration_s=round(reply.duration_s, 6),
            queued_s=max(0.0, queued_s),
            provider_request_id=reply.provider_request_id,
            dropped_parameters=reply.dropped_parameters,
        )

    def _refused(self, start: Start, candidate: Candidate, refusal: Refusal) -> AttemptFailed:
        deployment = candidate.deployment
        if refusal.reason == "rate_limit" and (refusal.again or (refusal.retry_after_s or 0) >= NO_MONEY_COOLDOWN_S):
            self._health.saw_rate_limit(deployment.id, refusal.retry_after_s)  # else the request alone is above it
        if refusal.blames_model:
            self._health.saw_failure(deployment.id, refusal.reason)
            self._traffic.heard(deployment.id, refusal.duration_s, answered=False)
        match refusal.billed:
            case "none":
                charge = NO_CHARGE
            case "uncertain":
                charge = charge_uncertain(candidate.bound_nano_usd, deployment.rates)
            case "usage":
                charge = _incurred(candidate, refusal.usage)
        return _failed(
            start,
            deployment,
            charge,
            refusal.code,
            refusal.reason,
            refusal.message,
            again=refusal.again,
            elsewhere=refusal.elsewhere,
            blames_model=refusal.blames_model,
            retry_after_s=refusal.retry_after_s,
            http_status=refusal.http_status,
            provider_request_id=refusal.provider_request_id,
            duration_s=round(refusal.duration_s, 6),
        )


def _by_preference(deployments: Sequence[Deployment], request: PromptRequest) -> list[list[Deployment]]:
    """Group candidates by model name in the request's order; `auto` prefers none."""
    if "auto" in request.models:
        return [list(deployments)]
    return [list(group) for _, group in groupby(deployments, key=lambda d: d.name)]


def _prices(deployments: Sequence[Deployment], request: PromptRequest, default_output: int) -> dict[str, int]:
    """Return what the same tokens cost at each: of those with a closer bound than others not less for that alone.

    What an image is billed as is the deployment's own matter, so with images its own bound counts.
    """
    candidates = bounded(list(deployments), request, default_output)
    if request.images or not candidates:
        return {c.deployment.id: c.bound_nano_usd for c in candidates}
    tokens_in, tokens_out = min(c.input_bound for c in candidates), min(c.output_bound for c in candidates)
    return {
        c.deployment.id: bound_of(tokens_in, tokens_out, c.deployment.rates)
        for c in candidates
        if c.deployment.rates is not None
    }


def _incurred(candidate: Candidate, usage: Usage | None) -> Charge:
    deployment = candidate.deployment
    if deployment.rates is None:
        return NO_CHARGE
    window, most = deployment.context_window, deployment.max_output_tokens
    possible = None if window is None else window + (most or window)
    return charge_incurred(
        usage, deployment.rates, candidate.input_bound, candidate.output_bound, most_possible_tokens=possible
    )


def _is_retry(start: Start, deployment: str) -> bool:
    """Whether a call there counts as a retry. After a 429 it does not: the cooldown has limited those, and nothing
    else is wrong with the deployment."""
    return deployment in start.tried and start.last_reason != "rate_limit"


def _too_late(start: Start) -> AttemptFailed:
    return _no_call(start, "TIMEOUT_ERROR", "deadline", "its time was up before its call could start")


def _spread(cools_s: float, start: Start, left_s: float) -> float:
    """Return when to come back after a cooldown: those who waited for its end do not all come at once.

    Up to a quarter later, at most 2 s, and at most half of the time that the request then has left.
    """
    most_s = min(cools_s / 4, 2.0, max(0.0, left_s - cools_s) / 2)
    return round(cools_s + most_s * draw(start.tenant, start.request_id, start.attempt), 3)


def _no_call(
    start: Start, code: ErrorCode, reason: Reason, message: str, *, retry_after_s: float | None = None
) -> AttemptFailed:
    """Return the outcome of an attempt that called nobody. It may be made again where it is known when."""
    return AttemptFailed(
        tenant=start.tenant,
        request_id=start.request_id,
        attempt=start.attempt,
        code=code,
        reason=reason,
        message=message,
        again=retry_after_s is not None,
        elsewhere=False,
        retry_after_s=retry_after_s,
    )


def _failed(  # noqa: PLR0917 - what there is to tell of a failure
    start: Start,
    deployment: Deployment,
    charge: Charge,
    code: ErrorCode,
    reason: Reason,
    message: str,
    *,
    elsewhere: bool,
    again: bool = False,
    blames_model: bool = False,
    retry_after_s: float | None = None,
    http_status: int | None = None,
    provider_request_id: str | None = None,
    duration_s: float = 0.0,
) -> AttemptFailed:
    return AttemptFailed(
        tenant=start.tenant,
        request_id=start.request_id,
        attempt=start.attempt,
        model=deployment.name,
        deployment=deployment.id,
        provider=deployment.provider,
        code=code,
        reason=reason,
        message=message,
        again=again,
        elsewhere=elsewhere,
        blames_model=blames_model,
        charge=charge,
        retry_after_s=retry_after_s,
        http_status=http_status,
        provider_request_id=provider_request_id,
        duration_s=duration_s,
    )
