"""What becomes of a tenant whose overrun an operator forgives: the decision on `budget.lifted.v1`.

It is kept in a row of its own, as a request that never called anybody, so that the record delivered again repeats the
same ledger entries.
"""

from schemas.lifts import BudgetLifted
from streams.core.case import Case, Verdict, pen_for
from streams.core.request import Intake, Request


def decide(case: Case, event: BudgetLifted, *, partition: int, traceparent: str) -> Verdict | None:
    """Return the rows and facts after the lift, None where no window is stopped.

    A record that was read before and left no row changed nothing when its turn was: it must not lift what came later.
    """
    if case.offset <= case.home.progress_to:
        return None
    intake = Intake(
        tenant=event.tenant,
        request_id=event.lift_id,
        partition=partition,
        offset=case.offset,
        digest="",
        received_ms=case.time_ms,
        deadline_ms=case.time_ms,
        traceparent=traceparent,
        metadata={},
        model="",
    )
    pen = pen_for(case, Request(intake))
    return pen.verdict() if pen.lift() else None
