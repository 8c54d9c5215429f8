"""What becomes of a request when one of its attempts has ended: the decision of FINISH (DESIGN §3, step 3).

Fold once (DESIGN §4, rule 4): an attempt is booked when its row has no booking for it; an uncertain booking is
corrected by the first certain outcome; everything else changes nothing, at whatever offset it comes.
"""

from typing import Any, assert_never

from schemas.progress import AttemptDue, AttemptFailed, AttemptRedriven, AttemptSucceeded, Progress, RequestExpired
from streams.core.case import Case, Pen, Verdict, pen_for
from streams.core.facts import AttemptEnded, AttemptStarted, AttemptWaits
from streams.core.identity import draw
from streams.core.request import Request

BACKOFF_S, BACKOFF_MOST_S = 0.5, 8.0
"""As the official SDKs wait: 0.5 s, doubled each time, at most 8 s, less a jitter of up to a quarter
(PROVIDER_FAILURES §2.1, read 2026-11-22)."""

MOST_REDRIVES = 10
"""A prompt that takes its worker down with it must not be paid for without end."""


def decide(case: Case, request: Request, event: Progress) -> Verdict | None:
    """Return the rows and facts after one event, None where it changes nothing."""
    pen = pen_for(case, request)
    match event:
        case AttemptSucceeded():
            changed = _succeeded(pen, event)
        case AttemptFailed():
            changed = _failed(pen, event)
        case AttemptRedriven():
            changed = _redriven(pen, event)
        case AttemptDue():
            changed = _due(pen, event)
        case RequestExpired():
            changed = _expired(pen)
        case _:
            assert_never(event)
    return pen.verdict() if changed else None


def _book(pen: Pen, event: AttemptSucceeded | AttemptFailed) -> bool:
    """Book what an attempt cost, or correct what was booked for it; False where its truth is known already."""
    charge, booking = event.charge, pen.request.booking(event.attempt)
    if booking is None:
        open_hold = pen.request.hold
        if open_hold is None or open_hold.attempt != event.attempt:
            return False
        usage = charge.usage if charge.certainty == "incurred" else None
        tokens = None if usage is None else usage.input_tokens + usage.output_tokens
        pen.close_hold(None if charge.certainty == "none" else charge.certainty, charge.nano_usd, tokens)
        return True
    if booking.certain or charge.certainty == "uncertain":
        return False
    pen.adjust(event.attempt, charge.nano_usd)
    return True


def _succeeded(pen: Pen, event: AttemptSucceeded) -> bool:
    ends = pen.request.state != "done"
    if not _book(pen, event):
        return False
    if ends:
        _abandon_running(pen)
        pen.answer(event.attempt)
    return True


def _abandon_running(pen: Pen) -> None:
    """Close the hold of an attempt that is not waited for any longer: its call may have been billed, if it started."""
    if pen.request.hold is None:
        return
    if pen.request.state == "waiting":
        pen.close_hold(None, 0)
    else:
        pen.close_hold("uncertain", pen.request.hold.hold)


def _failed(pen: Pen, event: AttemptFailed) -> bool:
    # also one that should still wait: somebody did call, and a row without a hold must not start another
    runs = pen.request.state != "done" and pen.request.attempt == event.attempt
    if not _book(pen, event):
        return False
    if runs:
        before = pen.request.last_error
        error = _error(pen.request.intake.model, event)
        pen.write(AttemptEnded(event.attempt, event.deployment, redriven=False, error=error))
        _go_on(pen, event, error if event.deployment is not None or before is None else before)
    return True


def _error(model: str, event: AttemptFailed) -> dict[str, Any]:
    """What the request's error is, if this failure is its last."""
    details = {
        "model": event.model or model,
        "deployment": event.deployment,
        "provider_status": event.http_status,
        "retry_after_s": event.retry_after_s,
    }
    return {"code": event.code, "reason": event.reason, "message": event.message, **details}


def _go_on(pen: Pen, event: AttemptFailed, error: dict[str, Any]) -> None:
    """Fail over at once, wait and try again, or give up with `error`: the last failure that a provider caused."""
    request, case = pen.request, pen.case
    intake = request.intake
    untried = any(candidate not in request.tried for candidate in intake.candidates)
    starts_ms = case.now_ms if event.elsewhere and untried else case.now_ms + _pause_ms(request, event)
    if not (event.again or (event.elsewhere and untried)):
        why_not = None
    elif request.failures > case.configuration.orchestrator.max_retries:
        why_not = "max_retries"
    elif starts_ms >= intake.deadline_ms:
        why_not = "deadline"
    elif pen.room_for(intake.hold) is not None:
        why_not = "budget"
    else:
        following = event.attempt + 1
        pen.hold_for(following, intake.hold)
        pen.write(AttemptStarted(following) if starts_ms <= case.now_ms else AttemptWaits(following, starts_ms))
        return
    pen.fail(**error, not_retried=why_not)


def _pause_ms(request: Request, event: AttemptFailed) -> int:
    """How long to wait before the same deployment is tried again: what the provider asks for, else the backoff."""
    if event.retry_after_s is not None:
        return round(event.retry_after_s * 1000)
    doublings = max(request.failures, 1) - 1  # where nobody could be called, nothing has failed yet
    backoff = min(BACKOFF_S * (1 << doublings), BACKOFF_MOST_S)
    jitter = 1 - 0.25 * draw(request.intake.tenant, request.intake.request_id, event.attempt)
    return round(backoff * jitter * 1000)


def _redriven(pen: Pen, event: AttemptRedriven) -> bool:
    """An attempt was lost with its worker: book it at its bound, and run the next one."""
    request, case = pen.request, pen.case
    if request.state != "pending" or request.attempt != event.attempt or request.hold is None:
        return False
    intake = request.intake
    pen.close_hold("uncertain", request.hold.hold)
    pen.write(AttemptEnded(event.attempt, None, redriven=True, error={}))
    if case.now_ms >= intake.deadline_ms:
        pen.fail("TIMEOUT_ERROR", "deadline", "its time was up when its call was lost", model=intake.model)
    elif pen.request.redrives > MOST_REDRIVES:
        message = "its calls were lost with their workers too often"
        pen.fail("MODEL_ERROR", "connection_lost", message, model=intake.model)
    elif pen.room_for(intake.hold) is not None:
        message = "its call was lost and the budget does not allow another"
        pen.fail("MODEL_ERROR", "connection_lost", message, model=intake.model, not_retried="budget")
    else:
        pen.hold_for(event.attempt + 1, intake.hold)
        pen.write(AttemptStarted(event.attempt + 1))
    return True


def _due(pen: Pen, event: AttemptDue) -> bool:
    if pen.request.state != "waiting" or pen.request.attempt != event.attempt:
        return False
    pen.write(AttemptStarted(event.attempt))
    return True


def _expired(pen: Pen) -> bool:
    request = pen.request
    if request.state == "done":
        return False
    waited = request.state == "waiting"
    _abandon_running(pen)
    message = "its time was up while it waited" if waited else "its time was up before an answer came"
    pen.fail("TIMEOUT_ERROR", "deadline", message, model=request.intake.model)
    return True
