"""The request's JSON Schema says what its rules say, by the cases that the rules are tested with."""

from typing import Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it has no types

from schemas import requests
from schemas.request_schema import request_schema
from tests.schemas import test_requests

BEYOND_JSON_SCHEMA = [
    {"timeout_s": 3600.001},  # the limit is configuration
    {"max_tokens": 5.0},  # a whole number to JSON Schema
    {"request_id": "a\n"},  # `$` matches before it in Python; not in JSON Schema's own dialect
    {"needs": {"max_cost_usd": "1\n"}},
]
"""Refused by the rules alone."""

VALIDATOR = Draft202012Validator(request_schema())


def cases(test: Any) -> list[dict[str, Any]]:
    """Return the fields of every case of a parametrized test."""
    (mark,) = (mark for mark in test.pytestmark if mark.name == "parametrize")
    return [case[0] if isinstance(case, tuple) else case for case in mark.args[1]]


def whole(fields: dict[str, Any]) -> dict[str, Any]:
    """Return a request with these fields, as the tests of the rules fill it, without its nulls."""
    said = fields if {"prompt", "messages"} & fields.keys() else {"messages": test_requests.HI, **fields}
    return {
        name: content if name == "extra_body" else without_nulls(content)
        for name, content in said.items()
        if content is not None
    }


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_nulls(content) for name, content in value.items() if content is not None}
    return [without_nulls(entry) for entry in value] if isinstance(value, list) else value


def test_it_is_a_json_schema() -> None:
    Draft202012Validator.check_schema(request_schema())


@pytest.mark.parametrize("fields", cases(test_requests.test_what_the_contract_allows_is_accepted))
def test_it_accepts_what_the_rules_accept(fields: dict[str, Any]) -> None:
    VALIDATOR.validate(whole(fields))


@pytest.mark.parametrize("fields", cases(test_requests.test_a_wrong_field_is_named_and_no_other))
def test_it_refuses_what_the_rules_refuse(fields: dict[str, Any]) -> None:
    assert VALIDATOR.is_valid(whole(fields)) == (fields in BEYOND_JSON_SCHEMA)


def test_it_knows_the_fields_that_the_rules_know() -> None:
    assert set(request_schema()["properties"]) == set(requests._RULES)


def test_it_needs_messages_or_a_prompt() -> None:
    assert not VALIDATOR.is_valid({"tenant": "acme"})
    assert VALIDATOR.is_valid({"prompt": "Hi"})
