"""Whether a prompt request is let in: the decision of DECIDE (DESIGN §3, step 1).

In this order: tenant, deadline, candidates, the price cap of the request itself, rate limit, money. What is refused
here never called anybody.
"""

from datetime import UTC, datetime, timedelta
from typing import Literal

from schemas.configuration import Configuration, RateLimit, TenantRules
from schemas.requests import PromptRequest
from schemas.units import rfc3339, usd
from streams.core import gcra
from streams.core.account import Window
from streams.core.case import Case, Pen, Verdict, pen_for
from streams.core.facts import AttemptStarted, AttemptWaits
from streams.core.registry import Candidate, Registry, Unservable, candidates_for
from streams.core.request import Intake, Request

_MORE_THAN = {
    "requests": "more requests than the tenant's rate limit allows",
    "tokens": "more tokens than the tenant's rate limit allows, counting what this request may use at most",
}


def deadline_of(request: PromptRequest, received_ms: int, configuration: Configuration) -> int:
    """Return when the request's time is up: its own `timeout_s`, or the configured one, after it was first
    published."""
    timeout_s = request.timeout_s if request.timeout_s is not None else float(configuration.orchestrator.timeout)
    return received_ms + round(timeout_s * 1000)


def decide(
    case: Case, prompt: PromptRequest, registry: Registry, *, partition: int, received_ms: int, traceparent: str
) -> Verdict:
    """Admit a request that has no row yet, or refuse it. Both are facts; both claim its id."""
    rules = case.configuration.tenant(prompt.tenant)
    found = candidates_for(prompt, registry, rules) if rules is not None else ()
    candidates = () if isinstance(found, Unservable) else _within(prompt.needs.max_cost_nano_usd, found)
    intake = Intake(
        tenant=prompt.tenant,
        request_id=prompt.request_id,
        partition=partition,
        offset=case.offset,
        digest=prompt.digest.hex(),
        received_ms=received_ms,
        deadline_ms=deadline_of(prompt, received_ms, case.configuration),
        traceparent=traceparent,
        metadata=prompt.metadata,
        model=", ".join(prompt.models),
        hold=max((c.bound_nano_usd for c in candidates), default=0),
        tokens=max((c.input_bound + c.output_bound for c in candidates), default=0),
        candidates=tuple(c.deployment.id for c in candidates),
    )
    pen = pen_for(case, Request(intake))
    if rules is None:
        pen.refuse(0, "FORBIDDEN", "unknown_tenant", "the tenant is not known here", tenant=prompt.tenant)
    elif case.now_ms >= intake.deadline_ms:
        pen.refuse(0, "TIMEOUT_ERROR", "deadline", "its time was up before it could be decided", model=intake.model)
    elif isinstance(found, Unservable):
        pen.refuse(0, found.code, found.reason, found.message, **found.details)
    elif not candidates:
        _refuse_cap(pen, prompt.needs.max_cost_nano_usd, min(c.bound_nano_usd for c in found))
    else:
        _admit(pen, rules)
    return pen.verdict()


def _within(cap: int | None, candidates: tuple[Candidate, ...]) -> tuple[Candidate, ...]:
    """Return those of which one attempt stays within the request's own cap."""
    return tuple(c for c in candidates if cap is None or c.bound_nano_usd <= cap)


def _refuse_cap(pen: Pen, cap: int | None, bound: int) -> None:
    message = f"max_cost_usd is below the {usd(bound)} USD that it may cost; lower max_tokens or raise the cap"
    pen.refuse(bound, "BUDGET_EXCEEDED", "max_cost", message, bound_usd=usd(bound), max_cost_usd=usd(cap or 0))


def _admit(pen: Pen, rules: TenantRules) -> None:
    intake, case = pen.request.intake, pen.case
    tat_ns, wait_ms, limited = _turn(pen, rules.rate_limit)
    may_wait = rules.rate_limit is not None and rules.rate_limit.mode == "wait"
    if limited is not None and (not may_wait or wait_ms is None or case.now_ms + wait_ms >= intake.deadline_ms):
        limit, after = limited, None if wait_ms is None else wait_ms / 1000
        pen.refuse(0, "RATE_LIMIT_EXCEEDED", limit, _MORE_THAN[limit], retry_after_s=after)
        return
    full = pen.room_for(intake.hold)
    if full is not None:
        _refuse_money(pen, full)
        return
    pen.take_turn(tat_ns)
    pen.hold_for(1, intake.hold)
    pen.write(AttemptWaits(1, case.now_ms + wait_ms) if wait_ms else AttemptStarted(1))


def _turn(pen: Pen, rules: RateLimit | None) -> tuple[int, int | None, Literal["requests", "tokens"] | None]:
    """Return the request limiter's next state, how long to wait (ms; None: no wait helps), and which limit says so."""
    account, clock_ms = pen.account, pen.account.clock_ms
    if rules is None:
        return account.tat_ns, 0, None
    rate = gcra.Rate(rules.requests_per_minute, rules.burst_size)
    tat_ns, turn_ms = gcra.turn(account.tat_ns, clock_ms, rate)
    starts_ms: int | None = clock_ms
    if pen.token_rate is not None:
        starts_ms = gcra.start_for(pen.request.intake.tokens, account.tokens_tat_ns, clock_ms, pen.token_rate)
    if starts_ms is None:
        return tat_ns, None, "tokens"
    wait_ms = max(turn_ms, starts_ms) - clock_ms
    return tat_ns, wait_ms, None if wait_ms == 0 else "tokens" if starts_ms > turn_ms else "requests"


def _refuse_money(pen: Pen, window: Window) -> None:
    left = usd((window.limit or 0) - window.spent - window.reserved)
    hold, resets = pen.request.intake.hold, _end_of(window, pen.account.clock_ms)
    reset = (
        {}
        if resets is None
        else {"resets_at": rfc3339(resets), "retry_after_s": (resets - pen.account.clock_ms) / 1000}
    )
    if window.overrun:
        message = f"a provider billed more than was agreed in the window {window.id}: no more calls until it turns"
        pen.refuse(hold, "BUDGET_EXCEEDED", "overrun", message, window=window.id, **reset)
        return
    message = f"the budget {window.id} has {left} USD left and this request may cost {usd(hold)} USD"
    pen.refuse(
        hold, "BUDGET_EXCEEDED", "budget", message, window=window.id, left_usd=left, needed_usd=usd(hold), **reset
    )


def _end_of(window: Window, moment_ms: int) -> int | None:
    """When a window turns; None for `total`, which never does."""
    moment = datetime.fromtimestamp(moment_ms // 1000, UTC)
    match window.kind:
        case "minute":
            turn = moment.replace(second=0, microsecond=0) + timedelta(minutes=1)
        case "hour":
            turn = moment.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
        case "day":
            turn = moment.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
        case "month":
            start = moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
            turn = (start + timedelta(days=32)).replace(day=1)
        case _:
            return None
    return int(turn.timestamp()) * 1000
