"""An outcome counts once, for the request that it ends, whatever else stands on the result topics."""

import json
from typing import Any

import pytest

from agents.commands.outcomes import Outcomes
from agents.commands.prompts import Filling, Prompt, understood
from schemas.requests import Limits


def prompt(request_id: str, text: str = "Hi", tenant: str = "acme") -> Prompt:
    line = json.dumps({"request_id": request_id, "prompt": text, "tenant": tenant}).encode()
    (made,) = understood((), ("f", line), Filling(None, None), Limits(10_000, 60), str)
    return made


def expecting(*prompts: Prompt) -> Outcomes:
    return Outcomes(each.request for each in prompts)


def event(event_id: str, request_id: str, kind: str = "prompt.answered.v1", **other: Any) -> bytes:
    return json.dumps({"id": event_id, "type": kind, "tenant": "acme", "request_id": request_id} | other).encode()


def test_an_answer_ends_its_request_and_is_told_as_one_line() -> None:
    outcomes = expecting(prompt("r-1"))
    told = outcomes.heard(b'{"id": "e", "type":\n"prompt.answered.v1", "tenant": "acme", "request_id": "r-1"}')
    assert told == b'{"id":"e","type":"prompt.answered.v1","tenant":"acme","request_id":"r-1"}'
    assert (outcomes.complete, outcomes.failed, outcomes.missing) == (True, 0, [])


def test_a_repeated_event_counts_once() -> None:
    outcomes = expecting(prompt("r-1"), prompt("r-2"))
    assert outcomes.heard(event("e-1", "r-1")) is not None
    assert outcomes.heard(event("e-1", "r-1")) is None
    assert (outcomes.complete, outcomes.ended, outcomes.missing) == (False, 1, ["r-2"])


@pytest.mark.parametrize("kind", ["prompt.failed.v1", "prompt.dead_lettered.v1"])
def test_an_error_and_a_dead_letter_are_failures(kind: str) -> None:
    outcomes = expecting(prompt("r-1"))
    assert outcomes.heard(event("e-1", "r-1", kind)) is not None
    assert (outcomes.complete, outcomes.failed) == (True, 1)


def test_a_dead_letter_without_names_is_known_by_its_coordinates() -> None:
    asked = prompt("r-1")
    outcomes = expecting(asked)
    outcomes.published(("prompt.requests", 3, 17), asked)
    letter = {"id": "e", "type": "prompt.dead_lettered.v1", "topic": "prompt.requests", "partition": 3}
    assert outcomes.heard(json.dumps(letter | {"offset": 16}).encode()) is None
    assert outcomes.heard(json.dumps(letter | {"offset": 17}).encode()) is not None
    assert outcomes.complete


def test_a_repeated_request_shares_one_outcome_and_other_content_has_its_own() -> None:
    assert expecting(prompt("r-1"), prompt("r-1")).expected == 1
    outcomes = expecting(prompt("r-1"), prompt("r-1", "other"))
    assert outcomes.heard(event("e-1", "r-1")) is not None
    assert not outcomes.complete
    assert outcomes.heard(event("e-2", "r-1", "prompt.failed.v1")) is not None
    assert outcomes.complete


@pytest.mark.parametrize(
    "record",
    [
        None,
        b"",
        b"\xff",
        b"[]",
        b'"x"',
        b"{}",
        event("e", "r-2"),
        event("e", "r-1", tenant="other"),
        event("e", "r-1", tenant=["acme"]),
        event("e", "r-1", "prompt.answered.v2"),
        event("e", "r-1", id=7),
        event("e", "no", "prompt.dead_lettered.v1", topic=[], partition={}, offset=None),
    ],
)
def test_what_is_not_ours_or_no_event_is_passed_over(record: bytes | None) -> None:
    outcomes = expecting(prompt("r-1"))
    assert outcomes.heard(record) is None
    assert (outcomes.ended, outcomes.missing) == (0, ["r-1"])
