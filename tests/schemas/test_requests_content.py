"""When two requests have the same content: the digest behind repetition, conflict, sharing and home (CONTRACT §5)."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.requests import Limits, PromptRequest, content_digest, fingerprint, understand

LIMITS = Limits(max_request_bytes=524_288, max_timeout_s=3600)
HI = [{"role": "user", "content": "Hi"}]
TOOL = {
    "type": "function",
    "function": {"name": "add", "parameters": {"type": "object", "properties": {"a": {"default": None}}}},
}
BASE: dict[str, Any] = {
    "model": ["gpt-4", "claude-2"],
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Hi"}], "name": "ada"},
    ],
    "max_tokens": 256,
    "temperature": 1,
    "stop": ["a", "b"],
    "seed": 7,
    "logit_bias": {"5": 1},
    "tools": [TOOL],
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"maximum": 3}}},
    "needs": {"capabilities": ["analysis"], "max_cost_usd": "0.01", "max_latency_s": 5},
    "extra_body": {"top_k": 40, "nested": [{"x": 1, "y": None}]},
}


def digest_of(text: str | bytes) -> bytes:
    request = understand(text if isinstance(text, bytes) else text.encode(), default_request_id="p0-0", limits=LIMITS)
    assert isinstance(request, PromptRequest), request
    return content_digest(request)


def digest(**fields: Any) -> bytes:
    return digest_of(json.dumps(fields))


def shuffled(value: Any, draw: st.DataObject) -> Any:
    """The same JSON with the keys of every object in another order."""
    match value:
        case dict():
            keys = draw.draw(st.permutations(list(value)))
            return {key: shuffled(value[key], draw) for key in keys}
        case list():
            return [shuffled(entry, draw) for entry in value]
        case _:
            return value


@given(st.data())
def test_the_order_of_keys_is_no_content(data: st.DataObject) -> None:
    assert digest(**shuffled(BASE, data)) == digest(**BASE)


@given(
    request_id=st.from_regex(r"[!-~]{1,128}", fullmatch=True),
    tenant=st.from_regex(r"[!-~]{1,128}", fullmatch=True),
    metadata=st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=64), st.text(max_size=9), max_size=16),
    priority=st.sampled_from(["high", "normal", "low", None]),
    timeout_s=st.floats(min_value=0.001, max_value=3600),
    cache=st.sampled_from([None, {}, {"mode": "on"}, {"mode": "off", "ttl_s": 5}, {"mode": "refresh"}]),
)
def test_who_asks_and_how_it_is_treated_is_no_content(**envelope: Any) -> None:
    assert digest(**BASE, **envelope) == digest(**BASE)


@pytest.mark.parametrize(
    "change",
    [
        {"model": ["claude-2", "gpt-4"]},
        {"model": "gpt-4"},
        {"model": "auto"},
        {"messages": HI},
        {"messages": [*BASE["messages"], *HI]},
        {"messages": list(reversed(BASE["messages"]))},
        {"messages": [{"role": "developer", "content": "Be brief."}, BASE["messages"][1]]},
        {"messages": [{"role": "system", "content": "Be brief. "}, BASE["messages"][1]]},
        {"messages": [BASE["messages"][0], {**BASE["messages"][1], "name": "bob"}]},
        {"max_tokens": 257},
        {"max_tokens": None},
        {"temperature": 1.0000001},
        {"temperature": None},
        {"top_p": 1},
        {"stop": ["b", "a"]},
        {"stop": "a"},
        {"seed": 8},
        {"presence_penalty": 1},
        {"frequency_penalty": 1},
        {"logprobs": True},
        {"top_logprobs": 1},
        {"logit_bias": {"5": 2}},
        {"logit_bias": {"6": 1}},
        {"tools": None},
        {"tools": [TOOL, TOOL]},
        {"tools": [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]},
        {"tool_choice": "auto"},
        {"parallel_tool_calls": True},
        {"response_format": {"type": "json_object"}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"maximum": 4}}}},
        {"reasoning_effort": "low"},
        {"service_tier": "flex"},
        {"user": "u-1"},
        {"needs": None},
        {"needs": {**BASE["needs"], "capabilities": []}},
        {"needs": {**BASE["needs"], "max_cost_usd": "0.010000001"}},
        {"needs": {**BASE["needs"], "max_latency_s": 6}},
        {"extra_body": None},
        {"extra_body": {"top_k": 41, "nested": [{"x": 1, "y": None}]}},
        {"extra_body": {"top_k": 40, "nested": [{"x": "1", "y": None}]}},
        {"extra_body": {"top_k": 40, "nested": [{"x": True, "y": None}]}},
    ],
)
def test_any_change_of_content_changes_the_digest(change: dict[str, Any]) -> None:
    assert digest(**{**BASE, **change}) != digest(**BASE)


@given(st.text(), st.text())
def test_different_prompts_have_different_digests(one: str, other: str) -> None:
    assert (digest(prompt=one) == digest(prompt=other)) is (one == other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('{"prompt": "Hi"}', '{"messages": [{"content": "Hi", "role": "user"}]}'),
        ('{"prompt": "Hi"}', ' {"prompt" :\n"\\u0048i" } '),
        ('{"prompt": "Hi"}', '{"prompt": "Hi", "seed": null, "needs": {"max_latency_s": null}}'),
        ('{"prompt": "Hi"}', '{"prompt": "Hi", "model": "auto", "n": 1, "stream": false}'),
        ('{"prompt": "Hi"}', '{"prompt": "Ho", "prompt": "Hi"}'),
        ('{"prompt": "Hi", "model": "gpt-4"}', '{"prompt": "Hi", "model": ["gpt-4"]}'),
        ('{"prompt": "Hi", "max_tokens": 5}', '{"prompt": "Hi", "max_completion_tokens": 5}'),
        ('{"prompt": "Hi", "temperature": 1}', '{"prompt": "Hi", "temperature": 1.0}'),
        ('{"prompt": "Hi", "temperature": 0}', '{"prompt": "Hi", "temperature": -0.0}'),
        ('{"prompt": "Hi", "temperature": 1}', '{"prompt": "Hi", "temperature": 10e-1}'),
        (
            '{"prompt": "Hi", "extra_body": {"x": [100000000000000000]}}',
            '{"prompt": "Hi", "extra_body": {"x": [1e17]}}',
        ),
        ('{"prompt": "Hi", "needs": {"max_cost_usd": "0.01"}}', '{"prompt": "Hi", "needs": {"max_cost_usd": 1e-2}}'),
        ('{"prompt": "Hi", "needs": {"max_latency_s": 5}}', '{"prompt": "Hi", "needs": {"max_latency_s": 5.0}}'),
    ],
)
def test_the_same_said_differently_has_the_same_digest(one: str, other: str) -> None:
    assert digest_of(one) == digest_of(other)


def test_text_that_looks_like_a_number_is_text() -> None:
    assert digest(prompt="1.0") != digest(prompt="1")
    assert digest(prompt="Hi", extra_body={"x": "1.0"}) != digest(prompt="Hi", extra_body={"x": "1"})
    assert digest(prompt="Hi", extra_body={"x": "2e0", "y": 1.0}) != digest(prompt="Hi", extra_body={"x": "2", "y": 1})


def test_whole_numbers_that_a_double_cannot_tell_apart_are_different_content() -> None:
    assert digest(prompt="Hi", seed=9007199254740993) != digest(prompt="Hi", seed=9007199254740992)


def test_the_digest_of_a_request_never_changes_between_releases() -> None:
    request = understand(b'{"prompt": "Hi", "temperature": 0}', default_request_id="p0-0", limits=LIMITS)
    assert isinstance(request, PromptRequest)
    assert fingerprint(request) == "7a585238fbf1381867d31ce6a1460806c0ebc4820f15f7145f51a1d76b5b55fe"
