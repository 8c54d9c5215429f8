"""What `deadletters` and `explain` understand of their arguments, and how a story is told, without a broker."""

from typing import Any

import pytest

from agents.commands.deadletters import Selection, selection
from agents.commands.exits import CommandError
from agents.commands.models import Board
from agents.commands.redrive import rate
from streams.core.story import Moment, Place, charged, ended, entered, progressed, set_aside, told

AT = Place("prompt.progress", 1, 7)


def entry(seq: int, window: str, **changes: Any) -> dict[str, Any]:
    return {
        "id": f"ledger-{seq}",
        "type": "hold.placed.v1",
        "time": "2026-11-23T02:00:00.000Z",
        "attempt": 1,
        "window": window,
        "hold_nano_usd": 500,
        "amount_nano_usd": 0,
        "spent_after_nano_usd": 0,
        "reserved_after_nano_usd": 500,
        "limit_nano_usd": 1000,
        "seq": seq,
    } | changes


def cost(name: str, kind: str, nano_usd: int) -> Moment:
    body = {"id": name, "type": f"cost.{kind}.v1", "time": "2026-11-23T02:00:01.000Z", "attempt": 1}
    return charged({**body, "cost_nano_usd": nano_usd, "cost_usd": "-", "lines": []}, place=AT)


def failed(reason: str) -> Moment:
    error = {"code": "INVALID_REQUEST", "message": "-", "details": {"reason": reason}}
    body = {"id": reason, "type": "prompt.failed.v1", "time": "2026-11-23T02:00:02.000Z", "error": error}
    return ended({**body, "attempts": 0, "cost_nano_usd": 0}, place=AT)


def test_a_hold_in_two_windows_is_one_moment() -> None:
    story = told([entered(entry(2, "day:2026-11-23"), place=AT), entered(entry(1, "total"), place=AT)])
    (moment,) = story.moments
    assert (moment.nano_usd, moment.what) == (500, "hold placed")
    assert "total: " in moment.note
    assert "day:2026-11-23: " in moment.note


def test_repeated_events_count_once_and_corrections_count_with_their_sign() -> None:
    moments = [cost("a", "uncertain", 700), cost("b", "adjusted", -300), cost("a", "uncertain", 700)]
    story = told(moments)
    assert (story.booked_nano_usd, story.repeated) == (400, 1)
    assert [m.what for m in story.moments] == ["cost uncertain", "cost adjusted"]


def test_a_conflict_is_not_what_became_of_the_request() -> None:
    answered = {"id": "t", "type": "prompt.answered.v1", "time": "2026-11-23T02:00:03.000Z", "text": "words"}
    story = told([failed("request_id_conflict"), ended(answered, place=AT)])
    assert story.state == "answered"
    assert [m.what for m in story.moments] == ["conflict", "answered"]
    assert told([failed("request_id_conflict")]).state == "open"
    assert told([failed("fields")]).state == "failed"
    assert told([failed("unknown_model")]).state == "failed"


def test_a_story_of_dead_letters_alone_is_set_aside() -> None:
    letter = {"id": "d", "time": "2026-11-23T02:00:00.000Z", "topic": "prompt.requests", "partition": 1, "offset": 7}
    assert told([set_aside({**letter, "reason": "not_json", "message": "-"}, place=AT)]).state == "set aside"


def test_what_an_attempt_says_is_told_without_the_answer() -> None:
    body = {
        "type": "prompt.attempt.succeeded.v1",
        "attempt": 2,
        "deployment": "eu",
        "answer": {"text": "secret"},
        "duration_s": 0.5,
        "charge": {"usage": {"input_tokens": 9, "output_tokens": 3}},
        "routing": {
            "strategy": "cost",
            "chosen": "eu",
            "candidates": [
                {"deployment": "us", "verdict": "excluded", "reason": "circuit_open"},
                {"deployment": "eu", "verdict": "considered"},
            ],
        },
    }
    moment = progressed(body, place=AT, time_ms=1_795_399_200_000)
    assert (moment.what, moment.attempt, moment.deployment) == ("attempt succeeded", 2, "eu")
    assert moment.note == "0.500 s; 9+3 tokens; cost chose eu; not us (circuit_open)"
    assert "answer" not in (moment.body or {})
    assert moment.content == {"text": "secret"}


def test_the_newest_health_of_a_deployment_counts_and_strange_records_do_not() -> None:
    board = Board([])
    assert board.take({"id": "1", "type": "model.health.v1", "deployment": "m"})
    assert not board.take({"id": "2", "type": "model.observed.v1", "deployment": "m"})
    assert not board.take({"id": "3", "type": "model.health.v1"})
    assert not board.take(None)


@pytest.mark.parametrize(
    ("given", "moment"),
    [
        ("2026-11-23", "2026-11-23T00:00:00.000Z"),
        ("2026-11-23T02:00:00Z", "2026-11-23T02:00:00.000Z"),
        ("2026-11-23T02:00:00.5+01:00", "2026-11-23T01:00:00.500Z"),
    ],
)
def test_a_time_is_read_as_utc(given: str, moment: str) -> None:
    assert selection(None, "not_json", given, 3) == Selection(None, "not_json", moment, 3)


def test_every_mistake_in_a_selection_is_told() -> None:
    with pytest.raises(CommandError) as raised:
        selection(None, "bad", "yesterday", 0)
    assert raised.value.code == 2
    assert [line.split(":")[0] for line in raised.value.lines] == ["--reason", "--limit", "--since"]


@pytest.mark.parametrize(("given", "per_second"), [(None, None), ("10", 10.0), ("10/s", 10.0), ("0.5/s", 0.5)])
def test_a_rate_is_read(given: str | None, per_second: float | None) -> None:
    assert rate(given) == per_second


@pytest.mark.parametrize("given", ["0", "-1", "10/m", "fast"])
def test_what_is_no_rate_is_refused(given: str) -> None:
    with pytest.raises(CommandError):
        rate(given)
