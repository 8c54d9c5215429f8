"""The events that a decision publishes: a pure function of the decision and of the record it was made on.

So a repetition gives the same ids and the same bytes (DESIGN §2, G2). The schemas in `schemas/` say what each looks
like.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, assert_never

import orjson

from schemas.deadletters import DeadLetter, dead_letter_event
from schemas.errors import RETRYABLE_BY_CALLER
from schemas.progress import AttemptFailed, AttemptSucceeded, Progress
from schemas.requests import PromptRequest, WrongFields
from schemas.units import rfc3339, usd
from schemas.usage import Charge
from streams.core.facts import (
    Answered,
    AttemptEnded,
    AttemptStarted,
    AttemptWaits,
    BookingAdjusted,
    BudgetSet,
    Charged,
    Decision,
    Fact,
    Failed,
    HoldPlaced,
    HoldRefused,
    HoldReleased,
    HoldSettled,
    LedgerLine,
)
from streams.core.forwarding import First
from streams.core.identity import event_id
from streams.core.request import Intake, Request
from streams.core.tracing import TRACEPARENT

Channel = Literal["responses", "errors", "costs", "ledger", "deadletters"]

SOURCE = b"prompt-orchestrator"


@dataclass(frozen=True, slots=True)
class Output:
    """One event to publish: JSON value, CloudEvents headers; `partition` None lets the key decide.

    `seq`: a ledger entry's place in its partition, else 0.
    """

    channel: Channel
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...]
    partition: int | None = None
    seq: int = field(default=0, compare=False)


def outputs_of(request: Request, decision: Decision, event: Progress | None) -> list[Output]:
    """Return what one decision publishes, in order. `event` is the progress record that it was made on, if it was
    one."""
    intake = request.intake
    events = [made for fact in decision.facts for made in _events(intake, decision, fact, event)]
    return [_output(channel, body, intake) for channel, body in events]


def terminal_of(request: Request, decision: Decision, event: Progress | None) -> Output | None:
    """Return the terminal event alone: what a repeated request is answered with."""
    for fact in decision.facts:
        if isinstance(fact, Answered | Failed):
            ((channel, body),) = _events(request.intake, decision, fact, event)
            return _output(channel, body, request.intake)
    return None


def wrong_fields(wrong: WrongFields, *, partition: int, offset: int, time_ms: int, traceparent: str) -> Output:
    """Return the error of a JSON object that is no request. It claims nothing."""
    fields = [{"field": f.field, "problem": f.problem} for f in wrong.fields]
    message = f"{len(fields)} wrong: " + "; ".join(f"{f.field} {f.problem}" for f in wrong.fields[:3])
    details = {"reason": "fields", "fields": fields}
    intake = _unclaimed(wrong.tenant, wrong.request_id, partition, offset, wrong.metadata, traceparent=traceparent)
    return _stateless_error(intake, time_ms, "INVALID_REQUEST", message, details)


def conflict(prompt: PromptRequest, first: First, traceparent: str) -> Output:
    """Return the error of a request that uses the id of another one with other content. The first one stands.

    It goes by the coordinates where the request was first published: a crash may have forwarded it twice.
    """
    message = "this request_id was used before with other content; use a new one"
    intake = _unclaimed(
        prompt.tenant, prompt.request_id, first.partition, first.offset, prompt.metadata, traceparent=traceparent
    )
    return _stateless_error(intake, first.time_ms, "INVALID_REQUEST", message, {"reason": "request_id_conflict"})


def dead_letter(
    letter: DeadLetter,
    *,
    topic: Literal["prompt.requests", "prompt.progress", "model.observations"],
    full_topic: str,
    partition: int,
    offset: int,
    time_ms: int,
    value: bytes | None,
    headers: tuple[tuple[str, bytes], ...],
    request_id: str | None = None,
    tenant: str | None = None,
) -> Output:
    """Return the dead letter of a record that has no better answer. The same record always gives the same one."""
    body = dead_letter_event(
        letter,
        event_id=event_id(tenant or "", request_id or "", topic, partition, offset, "dead_lettered"),
        time_ms=time_ms,
        topic=full_topic,
        partition=partition,
        offset=offset,
        value=value,
        headers=headers,
        tenant=tenant,
        request_id=request_id,
    )
    key = None if request_id is None else request_id.encode()
    return Output("deadletters", key, orjson.dumps(body), headers_of(body, None))


def _unclaimed(
    tenant: str, request_id: str, partition: int, offset: int, metadata: dict[str, str], *, traceparent: str
) -> Intake:
    """A request that gets an error and no row."""
    return Intake(tenant, request_id, partition, offset, "", 0, 0, traceparent, metadata, "")


def _stateless_error(intake: Intake, time_ms: int, code: str, message: str, details: Mapping[str, Any]) -> Output:
    decision = Decision("prompt.requests", intake.offset, time_ms, time_ms, ())
    failed = Failed(code, message, dict(details), attempts=0, cost=0)
    return _output("errors", _failed(intake, decision, failed), intake)


def _output(channel: Channel, body: dict[str, Any], intake: Intake) -> Output:
    key = intake.tenant if channel in {"costs", "ledger"} else intake.request_id
    partition = intake.partition if channel == "ledger" else None
    headers = headers_of(body, intake.traceparent)
    return Output(channel, key.encode(), orjson.dumps(body), headers, partition, body.get("seq", 0))


def headers_of(body: Mapping[str, Any], traceparent: str | None = None) -> tuple[tuple[str, bytes], ...]:
    """Return CloudEvents' headers: Kafka binding, binary mode (cloudevents/spec v1.0.2, §3.2 of the binding)."""
    attributes = (
        ("ce_specversion", b"1.0"),
        ("ce_id", body["id"].encode()),
        ("ce_type", body["type"].encode()),
        ("ce_source", SOURCE),
        ("ce_time", body["time"].encode()),
        ("content-type", b"application/json"),
    )
    return attributes if traceparent is None else (*attributes, (TRACEPARENT, traceparent.encode()))


def _events(  # noqa: PLR0912 - one case per kind of fact
    intake: Intake, decision: Decision, fact: Fact, event: Progress | None
) -> Iterator[tuple[Channel, dict[str, Any]]]:
    match fact:
        case HoldPlaced(attempt, hold, lines):
            yield from _entries(intake, decision, "hold.placed.v1", lines, attempt=attempt, hold=hold)
        case HoldSettled(attempt, hold, amount, lines):
            yield from _entries(intake, decision, "hold.settled.v1", lines, attempt=attempt, hold=hold, amount=amount)
        case HoldReleased(attempt, hold, lines):
            yield from _entries(intake, decision, "hold.released.v1", lines, attempt=attempt, hold=hold)
        case HoldRefused(hold, lines):
            yield from _entries(intake, decision, "hold.refused.v1", lines, attempt=0, hold=hold)
        case BookingAdjusted(attempt, delta, lines):
            yield from _entries(intake, decision, "booking.adjusted.v1", lines, attempt=attempt, amount=delta)
        case BudgetSet(before, lines):
            for channel, body in _entries(intake, decision, "budget.set.v1", lines, attempt=None):
                del body["request_id"]  # the request only happened to bring it to light
                yield channel, {**body, "limit_before_nano_usd": before}
        case Charged():
            yield "costs", _cost(intake, decision, fact, event)
        case Answered():
            if isinstance(event, AttemptSucceeded):
                yield "responses", _answered(intake, decision, fact, event)
        case Failed():
            yield "errors", _failed(intake, decision, fact)
        case AttemptStarted() | AttemptWaits() | AttemptEnded():
            return
        case _:
            assert_never(fact)


def _id(intake: Intake, decision: Decision, what: str) -> str:
    return event_id(intake.tenant, intake.request_id, decision.topic, intake.partition, decision.offset, what)


def _envelope(intake: Intake, decision: Decision, type_: str, what: str) -> dict[str, Any]:
    return {
        "id": _id(intake, decision, what),
        "type": type_,
        "time": rfc3339(decision.time_ms),
        "tenant": intake.tenant,
        "request_id": intake.request_id,
    }


def _entries(
    intake: Intake,
    decision: Decision,
    type_: str,
    lines: tuple[LedgerLine, ...],
    *,
    attempt: int | None,
    hold: int = 0,
    amount: int = 0,
) -> Iterator[tuple[Channel, dict[str, Any]]]:
    for line in lines:
        yield (
            "ledger",
            {
                **_envelope(intake, decision, type_, f"{type_}/{attempt}/{line.window}"),
                "attempt": attempt,
                "window": line.window,
                "hold_nano_usd": hold,
                "amount_nano_usd": amount,
                "spent_after_nano_usd": line.spent,
                "reserved_after_nano_usd": line.reserved,
                "limit_nano_usd": line.limit,
                "partition": intake.partition,
                "seq": line.seq,
            },
        )


def _cost(intake: Intake, decision: Decision, fact: Charged, event: Progress | None) -> dict[str, Any]:
    type_ = f"cost.{fact.kind}.v1"
    told = event if isinstance(event, AttemptSucceeded | AttemptFailed) and event.attempt == fact.attempt else None
    charge = None if told is None else told.charge
    body = {
        **_envelope(intake, decision, type_, f"{type_}/{fact.attempt}"),
        "attempt": fact.attempt,
        "model": None if told is None else told.model,
        "deployment": None if told is None else told.deployment,
        "provider": None if told is None else told.provider,
        "usage": _usage(charge) if fact.kind == "incurred" else None,
        "usage_source": charge.usage_source if charge is not None and fact.kind != "uncertain" else "estimated",
        "cost_nano_usd": fact.nano_usd,
        "cost_usd": usd(fact.nano_usd),
        "lines": _lines(fact, charge),
        "price": None if charge is None or charge.price is None else charge.price.model_dump(),
        "metadata": intake.metadata,
    }
    if fact.kind == "adjusted":
        del body["usage"]  # the difference of two usages is none (CONTRACT §5)
    return body


def _lines(fact: Charged, charge: Charge | None) -> list[dict[str, Any]]:
    if fact.kind == "incurred" and charge is not None:
        return [line.model_dump(exclude_none=True) for line in charge.lines]
    return [{"class": "bound" if fact.kind == "uncertain" else "adjustment", "nano_usd": fact.nano_usd}]


def _usage(charge: Charge | None) -> dict[str, Any] | None:
    return None if charge is None or charge.usage is None else charge.usage.model_dump()


def _answered(intake: Intake, decision: Decision, fact: Answered, event: AttemptSucceeded) -> dict[str, Any]:
    answer = event.answer
    body = {
        **_envelope(intake, decision, "prompt.answered.v1", "terminal"),
        "model": event.model,
        "deployment": event.deployment,
        "provider": event.provider,
        "text": answer.text,
        "tool_calls": answer.tool_calls,
        "finish_reason": answer.finish_reason,
        "finish_reason_raw": answer.finish_reason_raw,
        "response_id": answer.response_id,
        "response_model": answer.response_model,
        "usage": _usage(event.charge),
        "usage_source": event.charge.usage_source,
        "cost_nano_usd": fact.cost,
        "cost_usd": usd(fact.cost),
        "source": "provider",
        "attempts": fact.attempts,
        "queued_s": event.queued_s,
        "duration_s": event.duration_s,
        "metadata": intake.metadata,
    }
    logprobs = {} if answer.logprobs is None else {"logprobs": answer.logprobs}
    dropped = {"dropped_parameters": event.dropped_parameters} if event.dropped_parameters else {}
    return body | logprobs | dropped


def _failed(intake: Intake, decision: Decision, fact: Failed) -> dict[str, Any]:
    return {
        **_envelope(intake, decision, "prompt.failed.v1", "terminal"),
        "attempts": fact.attempts,
        "retryable": fact.details.get("reason") in RETRYABLE_BY_CALLER,
        "error": {"code": fact.code, "message": fact.message, "details": fact.details},
        "cost_nano_usd": fact.cost,
        "cost_usd": usd(fact.cost),
        "metadata": intake.metadata,
    }
