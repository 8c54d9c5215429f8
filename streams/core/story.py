"""The life of one request as moments in time, folded from the records that tell of it (`orchestrator explain`).

A repeated record (the same id, or the same words about an attempt) is one moment. Bodies are JSON as it was published:
later versions may say more, and that is kept.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from schemas.requests import PromptRequest, WrongFields
from schemas.units import rfc3339, usd
from streams.core.forwarding import First

Body = Mapping[str, Any]
Channel = Literal["requests", "progress", "ledger", "costs", "terminal", "deadletters"]

_ORDER: Final[tuple[Channel, ...]] = ("requests", "progress", "ledger", "costs", "terminal", "deadletters")
"""Of moments at the same millisecond: what is decided carries the time of the record that it was decided on."""
_CONTENT: Final = frozenset({"text", "tool_calls", "logprobs", "answer", "value_base64", "headers"})
_CLAIMS_NOTHING: Final = frozenset({"fields", "request_id_conflict"})


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record stands: the topic's full name, partition and offset."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


@dataclass(frozen=True, slots=True)
class Moment:
    """One thing that happened. `nano_usd`: held, booked or corrected; None where no money moves.

    `wrong`: a request in which fields are wrong. `body`: the event without prompt and answer; `content`: those, None
    where there are none.
    """

    time: str
    channel: Channel
    what: str
    place: Place
    note: str = ""
    attempt: int | None = None
    deployment: str | None = None
    nano_usd: int | None = None
    order: int = 0
    wrong: bool = False
    body: Body | None = None
    content: Any = None


@dataclass(frozen=True, slots=True)
class Story:
    """All moments of one request in order, each once, and what they come to.

    `state`: answered, failed, open, or set aside (nothing but dead letters). `booked_nano_usd`: Σ of its cost events.
    """

    moments: tuple[Moment, ...]
    state: Literal["answered", "failed", "open", "set aside"]
    attempts: int
    booked_nano_usd: int
    repeated: int


def told(moments: Iterable[Moment]) -> Story:
    """Put moments in order, repeated ones once."""
    distinct: dict[tuple[object, ...], Moment] = {}
    count = 0
    for moment in moments:
        count += 1
        distinct.setdefault(_identity(moment), moment)
    merged = _merge_windows(distinct.values())
    ordered = sorted(merged, key=lambda m: (m.time, _ORDER.index(m.channel), m.order, m.place.offset))
    ends = [m for m in ordered if m.channel == "terminal" and m.what in {"answered", "failed"}]
    claimed = [m for m in ends if reason_of(m) not in _CLAIMS_NOTHING] or [
        m for m in ends if not any(o.channel in {"ledger", "progress"} for o in ordered)
    ]
    state: Literal["answered", "failed", "open", "set aside"] = "open"
    if claimed:
        state = "answered" if claimed[0].what == "answered" else "failed"
    elif all(m.channel in {"deadletters", "requests"} for m in ordered) and _set_aside(ordered):
        state = "set aside"
    return Story(
        moments=tuple(ordered),
        state=state,
        attempts=max((m.attempt or 0 for m in ordered if m.channel != "costs"), default=0),
        booked_nano_usd=sum(m.nano_usd or 0 for m in ordered if m.channel == "costs"),
        repeated=count - len(distinct),
    )


def requested(
    found: PromptRequest | WrongFields | None, first: First, *, place: Place, time_ms: int, redriven_from: str | None
) -> Moment:
    """Return the moment of one record of `prompt.requests`; `found` None: it is not understood."""
    if redriven_from is not None:
        what, notes = "redriven", [f"dead letter {redriven_from}"]
    elif first.forwarded:
        what, notes = "forwarded", [f"home, from partition {first.partition} offset {first.offset}"]
    else:
        what, notes = "published", []
    content = None
    match found:
        case PromptRequest():
            notes.append("model " + ", ".join(found.models))
            content = {"messages": found.messages, "parameters": found.parameters, "extra_body": found.extra_body}
        case WrongFields():
            notes.append("wrong: " + ", ".join(wrong.field for wrong in found.fields))
        case None:
            notes.append("not understood")
    wrong = isinstance(found, WrongFields)
    return Moment(rfc3339(time_ms), "requests", what, place, "; ".join(notes), wrong=wrong, content=content)


def progressed(body: Body, *, place: Place, time_ms: int) -> Moment:
    """Return the moment of one record of `prompt.progress`."""
    kind = str(body.get("type")).removeprefix("prompt.").removesuffix(".v1").replace(".", " ")
    notes = []
    if "code" in body:
        notes.append(f"{body['code']} · {body.get('reason')}: {body.get('message')}")
    if body.get("http_status") is not None:
        notes.append(f"HTTP {body['http_status']}")
    if body.get("duration_s"):
        notes.append(f"{body['duration_s']:.3f} s")
    if body.get("retry_after_s") is not None:
        notes.append(f"retry after {body['retry_after_s']:g} s")
    usage = _at(body, "charge", "usage")
    if isinstance(usage, Mapping):
        notes.append(f"{usage.get('input_tokens')}+{usage.get('output_tokens')} tokens")
    if body.get("provider_request_id"):
        notes.append(f"provider's id {body['provider_request_id']}")
    if body.get("dropped_parameters"):
        notes.append("dropped " + ", ".join(body["dropped_parameters"]))
    notes += _routing(body.get("routing"))
    return Moment(
        rfc3339(time_ms),
        "progress",
        kind,
        place,
        "; ".join(notes),
        attempt=body.get("attempt"),
        deployment=body.get("deployment"),
        body=without_content(body),
        content=body.get("answer"),
    )


def entered(body: Body, *, place: Place) -> Moment:
    """Return the moment of one ledger entry: one window of an account."""
    kind = str(body["type"]).removesuffix(".v1").replace(".", " ")
    amount = body["amount_nano_usd"] if kind in {"hold settled", "booking adjusted"} else body["hold_nano_usd"]
    limit = body.get("limit_nano_usd")
    spent, reserved = usd(body["spent_after_nano_usd"]), usd(body["reserved_after_nano_usd"])
    note = f"{body['window']}: {spent} spent, {reserved} held" + ("" if limit is None else f" of {usd(limit)}")
    if kind == "hold refused":
        note = f"needed {usd(body['hold_nano_usd'])}; {note}"
    return Moment(
        str(body["time"]),
        "ledger",
        kind,
        place,
        note,
        attempt=body.get("attempt") or None,
        nano_usd=amount,
        order=int(body["seq"]),
        body=dict(body),
    )


def charged(body: Body, *, place: Place) -> Moment:
    """Return the moment of one cost event."""
    kind = str(body["type"]).removesuffix(".v1").replace(".", " ")
    lines = [f"{line.get('class')} {usd(int(line.get('nano_usd', 0)))}" for line in body.get("lines") or ()]
    notes = [" + ".join(lines)] if lines else []
    if body.get("usage_source") == "estimated":
        notes.append("estimated")
    if body.get("saved_nano_usd"):
        notes.append(f"saved {usd(int(body['saved_nano_usd']))}")
    return Moment(
        str(body["time"]),
        "costs",
        kind,
        place,
        "; ".join(notes),
        attempt=body.get("attempt"),
        deployment=body.get("deployment"),
        nano_usd=int(body["cost_nano_usd"]),
        body=dict(body),
    )


def ended(body: Body, *, place: Place) -> Moment:
    """Return the moment of one terminal event, or of the error of a reused id."""
    answered = body.get("type") == "prompt.answered.v1"
    if answered:
        notes = [f"{body.get('finish_reason')}", f"source {body.get('source')}", f"{body.get('attempts')} attempts"]
    else:
        reason = _at(body, "error", "details", "reason")
        notes = [f"{_at(body, 'error', 'code')} · {reason}: {_at(body, 'error', 'message')}"]
        notes += ["the caller may try again"] if body.get("retryable") else []
    conflict = _at(body, "error", "details", "reason") == "request_id_conflict"
    return Moment(
        str(body["time"]),
        "terminal",
        "answered" if answered else ("conflict" if conflict else "failed"),
        place,
        "; ".join([*notes, f"booked so far {usd(int(body.get('cost_nano_usd') or 0))}"]),
        deployment=body.get("deployment"),
        body=without_content(body),
        content={"text": body.get("text"), "tool_calls": body.get("tool_calls")} if answered else None,
    )


def set_aside(body: Body, *, place: Place) -> Moment:
    """Return the moment of one dead letter."""
    original = f"{body.get('topic')}/{body.get('partition')}/{body.get('offset')}"
    note = f"{original}: {body.get('reason')}: {body.get('message')} (dead letter {place})"
    return Moment(str(body["time"]), "deadletters", "dead letter", place, note, body=without_content(body))


def reason_of(moment: Moment) -> str | None:
    """Return the reason of a failure, None for anything else."""
    reason = _at(moment.body, "error", "details", "reason")
    return reason if isinstance(reason, str) else None


def without_content(body: Body) -> dict[str, Any]:
    """Return an event without prompt and answer."""
    return {name: value for name, value in body.items() if name not in _CONTENT}


def _identity(moment: Moment) -> tuple[object, ...]:
    match moment.channel:
        case "requests":
            return "requests", moment.place
        case "progress":
            return "progress", moment.what, moment.attempt, moment.deployment, moment.note
        case _:
            return moment.channel, (moment.body or {}).get("id")


def _merge_windows(moments: Iterable[Moment]) -> list[Moment]:
    """Make one moment of the ledger entries of one decision about one attempt: an entry per window, one amount."""
    merged: dict[tuple[object, ...], Moment] = {}
    for moment in moments:
        if moment.channel != "ledger":
            merged[_identity(moment)] = moment
            continue
        key = ("ledger", moment.time, moment.what, moment.attempt)
        known = merged.get(key)
        merged[key] = moment if known is None else replace(known, note=f"{known.note}; {moment.note}")
    return list(merged.values())


def _set_aside(moments: Sequence[Moment]) -> bool:
    """Whether the newest record of the request has become a dead letter."""
    letters = {f"{_at(m.body, 'partition')}/{_at(m.body, 'offset')}" for m in moments if m.channel == "deadletters"}
    records = [m.place for m in moments if m.channel == "requests"]
    return bool(letters) and (not records or f"{records[-1].partition}/{records[-1].offset}" in letters)


def _routing(routing: object) -> list[str]:
    """What a progress record says about the choice of its deployment."""
    if not isinstance(routing, Mapping):
        return []
    out = [
        f"{c.get('deployment')} ({c.get('reason')})"
        for c in routing.get("candidates") or ()
        if isinstance(c, Mapping) and c.get("verdict") == "excluded"
    ]
    return [f"{routing.get('strategy')} chose {routing.get('chosen')}", *([f"not {', '.join(out)}"] if out else [])]


def _at(body: object, *path: str) -> Any:
    for name in path:
        body = body.get(name) if isinstance(body, Mapping) else None
    return body
