"""Prompts of a command line or a file are completed, checked, and named so that a repetition finds them again."""

import json
from itertools import count
from typing import Any

import pytest

from agents.commands.exits import CommandError
from agents.commands.prompts import Filling, Prompt, understood
from schemas.requests import Limits

LIMITS = Limits(max_request_bytes=1_000, max_timeout_s=60)
NOTHING = Filling(None, None)


def submitted(*texts: str, lines: str | None = None, filling: Filling = NOTHING) -> list[Prompt]:
    numbers = count(1)
    content = None if lines is None else ("f.jsonl", lines.encode())
    return understood(texts, content, filling, LIMITS, lambda: f"new-{next(numbers)}")


def bodies(prompts: list[Prompt]) -> list[dict[str, Any]]:
    return [json.loads(prompt.value) for prompt in prompts]


def ids(prompts: list[Prompt]) -> list[str]:
    return [prompt.request.request_id for prompt in prompts]


def test_a_text_is_a_prompt_with_a_new_id() -> None:
    assert bodies(submitted("Hi", "Ho")) == [
        {"request_id": "new-1", "prompt": "Hi"},
        {"request_id": "new-2", "prompt": "Ho"},
    ]


def test_tenant_and_model_are_filled_in_where_absent_or_null() -> None:
    lines = '{"prompt": "a", "tenant": "own"}\n{"prompt": "b", "model": "mine", "tenant": null}\n"c"'
    assert [
        (body.get("tenant"), body.get("model"))
        for body in bodies(submitted(lines=lines, filling=Filling("acme", "gpt-4")))
    ] == [("own", "gpt-4"), ("acme", "mine"), ("acme", "gpt-4")]


def test_given_ids_are_kept() -> None:
    assert ids(submitted(lines='{"prompt": "a", "request_id": "r-1"}')) == ["r-1"]


def test_the_same_file_gives_the_same_ids_again() -> None:
    lines = '"a"\n\n"a"\r\n'
    first, second = ids(submitted(lines=lines))
    assert first != second
    assert first.removesuffix("-1") == second.removesuffix("-3")
    assert ids(submitted(lines=lines)) == [first, second]


@pytest.mark.parametrize(
    ("lines", "filling"),
    [('"b"', NOTHING), ('"a" ', NOTHING), ('"a"', Filling("t", None)), ('"a"', Filling(None, "t"))],
)
def test_another_file_or_filling_gives_other_ids(lines: str, filling: Filling) -> None:
    assert ids(submitted(lines=lines, filling=filling)) != ids(submitted(lines='"a"'))


def test_the_size_that_counts_is_the_size_that_is_published() -> None:
    longest = 1_000 - len('{"request_id":"new-1","prompt":""}')
    assert len(submitted("x" * longest)[0].value) == 1_000
    with pytest.raises(CommandError) as refused:
        submitted("x" * (longest + 1))
    assert refused.value.lines == ("TEXT 1: The value has 1001 bytes, 1000 are allowed",)
