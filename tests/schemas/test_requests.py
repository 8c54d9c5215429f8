"""What a record of `prompt.requests` is understood as, case by case (CONTRACT §1, §5)."""

import json
from typing import Any

import pytest

from schemas.requests import (
    CachePolicy,
    DeadLetter,
    Limits,
    Needs,
    PromptRequest,
    WrongFields,
    fingerprint,
    shareable,
    understand,
    work_key,
)

LIMITS = Limits(max_request_bytes=10_000, max_timeout_s=3600)
HI = [{"role": "user", "content": "Hi"}]
CALL = {"id": "c-1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
TOOL = {"type": "function", "function": {"name": "add"}}


def read(value: bytes | None) -> PromptRequest | WrongFields | DeadLetter:
    return understand(value, default_request_id="p3-17", limits=LIMITS)


def encoded(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def accepted(**fields: Any) -> PromptRequest:
    """The request that these fields make; one user message unless they say otherwise."""
    said = fields if {"prompt", "messages"} & fields.keys() else {"messages": HI, **fields}
    request = read(encoded(**said))
    assert isinstance(request, PromptRequest), request
    return request


def refused(**fields: Any) -> WrongFields:
    said = fields if {"prompt", "messages"} & fields.keys() else {"messages": HI, **fields}
    wrong = read(encoded(**said))
    assert isinstance(wrong, WrongFields), wrong
    return wrong


def message(**members: Any) -> dict[str, Any]:
    return {"messages": [members]}


def user(*parts: Any) -> dict[str, Any]:
    return message(role="user", content=list(parts))


def nested(levels: int) -> bytes:
    """A request with `levels` objects and arrays inside each other."""
    inner = levels - 2
    return b'{"messages":[{"role":"user","content":"Hi"}],"extra_body":{"x":' + b"[" * inner + b"]" * inner + b"}}"


# --- dead letters ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "tombstone"),
        (b"", "not_json"),
        (b"  ", "not_json"),
        (b"hello", "not_json"),
        (b'{"prompt": "Hi"', "not_json"),
        (b'{"prompt": "Hi"} {}', "not_json"),
        (b'{"prompt": "Hi",}', "not_json"),
        (b"{'prompt': 'Hi'}", "not_json"),
        (b'{"prompt": "a\nb"}', "not_json"),
        (b'{"prompt": "\\x41"}', "not_json"),
        (b'{"prompt": "Hi"}\x00', "not_json"),
        (b'/* Hi */ {"prompt": "Hi"}', "not_json"),
        (b'{"prompt": "Hi", "temperature": NaN}', "not_json"),
        (b'{"prompt": "Hi", "temperature": Infinity}', "not_json"),
        (b'{"prompt": "Hi", "temperature": -Infinity}', "not_json"),
        (b'{"prompt": "Hi", "seed": 01}', "not_json"),
        (b'{"prompt": "Hi", "seed": +1}', "not_json"),
        (b'{"prompt": "Hi", "seed": 1e400}', "not_json"),
        (b'{"prompt": "Hi", "seed": -1e400}', "not_json"),
        (b'{"prompt": "Hi", "seed": 1' + b"0" * 400 + b"}", "not_json"),
        (b'{"prompt": "\\ud800"}', "not_json"),
        (b'{"prompt": "\\udc00\\ud800"}', "not_json"),
        (b'{"\\ud83d": "Hi"}', "not_json"),
        (b'{"prompt": "\xff"}', "not_utf8"),
        (b'{"prompt": "\xed\xa0\x80"}', "not_utf8"),
        (b'{"prompt": "\xc0\xaf"}', "not_utf8"),
        (b'{"prompt": "\xf0\x9f"}', "not_utf8"),
        ('{"prompt": "Hi"}'.encode("utf-16"), "not_utf8"),
        (b'\xef\xbb\xbf{"prompt": "Hi"}', "bom"),
        (b"\xef\xbb\xbf", "bom"),
        (b"null", "not_an_object"),
        (b"true", "not_an_object"),
        (b"5", "not_an_object"),
        (b'"Hi"', "not_an_object"),
        (b"[]", "not_an_object"),
        (b'[{"prompt": "Hi"}]', "not_an_object"),
        (nested(65), "too_deep"),
        (nested(1024), "too_deep"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "too_deep"),
        (b'{"a":' + b"[" * 64 + b"]" * 64 + b',"a":1,"prompt":"Hi"}', "too_deep"),
        (b'{"prompt": "\\\\", "a":' + b"[" * 64 + b"]" * 64 + b"}", "too_deep"),
        (b"[" * 5000 + b"]" * 5000, "too_deep"),
        (b"[" * 9999, "too_deep"),
        (b" " * 10_001, "too_large"),
        (b'{"prompt": "Hi"}' + b" " * 9_985, "too_large"),
    ],
)
def test_what_is_no_json_object_is_a_dead_letter_that_tells_why(value: bytes | None, reason: str) -> None:
    result = read(value)
    assert isinstance(result, DeadLetter), result
    assert result.reason == reason
    assert 10 <= len(result.message) <= 300


def test_100_000_levels_are_too_deep_where_they_are_not_too_large() -> None:
    bomb = b"[" * 100_000 + b"]" * 100_000
    result = understand(bomb, default_request_id="p0-0", limits=Limits(max_request_bytes=300_000, max_timeout_s=1))
    assert isinstance(result, DeadLetter)
    assert result.reason == "too_deep"


@pytest.mark.parametrize(
    "value",
    [
        nested(64),
        b'{"prompt": "Hi"}' + b" " * 9_984,
        b' \t\r\n{"prompt": "Hi"}\n',
        b'{"prompt": "' + b"[{" * 500 + b'"}',
        b'{"prompt": "' + b'\\"[' * 500 + b'"}',
        b'{"prompt": "' + b"\\\\" * 3 + b'", "user": "' + b"[" * 70 + b'"}',
        b'{"prompt": "\\ud83d\\ude00"}',
        b'{"prompt": "Hi", "extra_body": {"x": 1.7976931348623157e308, "y": 1e-400}}',
        b'{"prompt": 5, "prompt": "Hi"}',
        b'{"prompt": "Hi", "max_tokens": "5", "max_tokens": 5}',
    ],
)
def test_what_is_just_within_the_rules_of_json_is_a_request(value: bytes) -> None:
    assert isinstance(read(value), PromptRequest), read(value)


def test_of_duplicate_keys_the_last_counts() -> None:
    request = read(b'{"prompt": "first", "seed": 1, "prompt": "last", "seed": 2}')
    assert isinstance(request, PromptRequest)
    assert request.messages == ({"role": "user", "content": "last"},)
    assert request.parameters == {"seed": 2}


# --- wrong fields ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        # envelope
        ({"request_id": 5}, "request_id"),
        ({"request_id": ""}, "request_id"),
        ({"request_id": "a b"}, "request_id"),
        ({"request_id": "a\n"}, "request_id"),
        ({"request_id": "é"}, "request_id"),
        ({"request_id": "x" * 129}, "request_id"),
        ({"tenant": True}, "tenant"),
        ({"tenant": ""}, "tenant"),
        ({"tenant": "a\r\nb"}, "tenant"),
        ({"tenant": "x" * 129}, "tenant"),
        ({"model": 5}, "model"),
        ({"model": ""}, "model"),
        ({"model": []}, "model"),
        ({"model": {}}, "model"),
        ({"model": "a\nb"}, "model"),
        ({"model": "gpt\u20284"}, "model"),
        ({"model": ["gpt-4", 4]}, "model[1]"),
        ({"model": ["gpt-4", None]}, "model[1]"),
        ({"priority": "urgent"}, "priority"),
        ({"priority": 1}, "priority"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"timeout_s": -1}, "timeout_s"),
        ({"timeout_s": 3600.001}, "timeout_s"),
        ({"timeout_s": "30"}, "timeout_s"),
        ({"timeout_s": True}, "timeout_s"),
        ({"cache": "off"}, "cache"),
        ({"cache": {"mode": "never"}}, "cache.mode"),
        ({"cache": {"mode": False}}, "cache.mode"),
        ({"cache": {"ttl_s": 0}}, "cache.ttl_s"),
        ({"cache": {"ttl_s": "60"}}, "cache.ttl_s"),
        ({"cache": {"ttl": 60}}, "cache.ttl"),
        ({"needs": []}, "needs"),
        ({"needs": {"capabilities": "code"}}, "needs.capabilities"),
        ({"needs": {"capabilities": ["code", 5]}}, "needs.capabilities[1]"),
        ({"needs": {"max_cost_usd": "-1"}}, "needs.max_cost_usd"),
        ({"needs": {"max_cost_usd": -0.5}}, "needs.max_cost_usd"),
        ({"needs": {"max_cost_usd": "0.0000000001"}}, "needs.max_cost_usd"),
        ({"needs": {"max_cost_usd": 1e-10}}, "needs.max_cost_usd"),
        ({"needs": {"max_cost_usd": "1e-3"}}, "needs.max_cost_usd"),
        ({"needs": {"max_cost_usd": "NaN"}}, "needs.max_cost_usd"),
        ({"needs": {"max_cost_usd": "1\n"}}, "needs.max_cost_usd"),
        ({"needs": {"max_cost_usd": "٣"}}, "needs.max_cost_usd"),
        ({"needs": {"max_cost_usd": 1e300}}, "needs.max_cost_usd"),
        ({"needs": {"max_cost_usd": True}}, "needs.max_cost_usd"),
        ({"needs": {"max_latency_s": 0}}, "needs.max_latency_s"),
        ({"needs": {"max_latency_s": "5"}}, "needs.max_latency_s"),
        ({"needs": {"speed": 5}}, "needs.speed"),
        ({"metadata": "team"}, "metadata"),
        ({"metadata": []}, "metadata"),
        ({"metadata": {f"k{n}": "v" for n in range(17)}}, "metadata"),
        ({"metadata": {"team": 5}}, "metadata.team"),
        ({"metadata": {"team": {}}}, "metadata.team"),
        ({"metadata": {"team": "x" * 513}}, "metadata.team"),
        ({"metadata": {"x" * 65: "v"}}, "metadata." + "x" * 63 + "…"),
        # the conversation
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "Hi"}, "messages"),
        ({"messages": {"role": "user", "content": "Hi"}}, "messages"),
        ({"messages": [None]}, "messages[0]"),
        ({"messages": ["Hi"]}, "messages[0]"),
        ({"messages": [*HI, 5]}, "messages[1]"),
        ({"prompt": 5}, "prompt"),
        ({"prompt": ["Hi"]}, "prompt"),
        ({"prompt": "Hi", "messages": HI}, "messages"),
        (message(content="Hi"), "messages[0].role"),
        (message(role="robot", content="Hi"), "messages[0].role"),
        (message(role="function", name="add", content="5"), "messages[0].role"),
        (message(role=5, content="Hi"), "messages[0].role"),
        (message(role=["user"], content="Hi"), "messages[0].role"),
        (message(role="user"), "messages[0].content"),
        (message(role="user", content=None), "messages[0].content"),
        (message(role="user", content=5), "messages[0].content"),
        (message(role="user", content={}), "messages[0].content"),
        (message(role="user", content=[]), "messages[0].content"),
        (message(role="system", content=True), "messages[0].content"),
        (message(role="user", content="Hi", name=5), "messages[0].name"),
        (message(role="user", content="Hi", colour="red"), "messages[0].colour"),
        (message(role="user", content="Hi", tool_calls=[CALL]), "messages[0].tool_calls"),
        (user("Hi"), "messages[0].content[0]"),
        (user({"text": "Hi"}), "messages[0].content[0].type"),
        (user({"type": "input_audio", "input_audio": {}}), "messages[0].content[0].type"),
        (user({"type": "file", "file": {}}), "messages[0].content[0].type"),
        (user({"type": "text"}), "messages[0].content[0].text"),
        (user({"type": "text", "text": 5}), "messages[0].content[0].text"),
        (user({"type": "text", "text": "Hi", "x": 1}), "messages[0].content[0].x"),
        (user({"type": "image_url"}), "messages[0].content[0].image_url"),
        (user({"type": "image_url", "image_url": "https://a/b.png"}), "messages[0].content[0].image_url"),
        (user({"type": "image_url", "image_url": {}}), "messages[0].content[0].image_url.url"),
        (user({"type": "image_url", "image_url": {"url": "file:///etc"}}), "messages[0].content[0].image_url.url"),
        (
            user({"type": "image_url", "image_url": {"url": "data:,x", "detail": "best"}}),
            "messages[0].content[0].image_url.detail",
        ),
        (
            message(role="system", content=[{"type": "image_url", "image_url": {"url": "data:,x"}}]),
            "messages[0].content[0].type",
        ),
        (message(role="assistant"), "messages[0].content"),
        (message(role="assistant", tool_calls=[]), "messages[0].content"),
        (message(role="assistant", tool_calls={}), "messages[0].tool_calls"),
        (message(role="assistant", tool_calls=[{**CALL, "id": None}]), "messages[0].tool_calls[0].id"),
        (message(role="assistant", tool_calls=[{**CALL, "type": "custom"}]), "messages[0].tool_calls[0].type"),
        (
            message(role="assistant", tool_calls=[{**CALL, "function": {"name": "f"}}]),
            "messages[0].tool_calls[0].function.arguments",
        ),
        (
            message(role="assistant", tool_calls=[{**CALL, "function": {"name": "f", "arguments": {}}}]),
            "messages[0].tool_calls[0].function.arguments",
        ),
        (message(role="assistant", content="Hi", function_call={"name": "f"}), "messages[0].function_call"),
        (message(role="tool", content="5"), "messages[0].tool_call_id"),
        (message(role="tool", content="5", tool_call_id=5), "messages[0].tool_call_id"),
        # parameters
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": "5"}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": 5.0}, "max_tokens"),
        ({"max_tokens": [5]}, "max_tokens"),
        ({"max_completion_tokens": 0}, "max_completion_tokens"),
        ({"max_tokens": 5, "max_completion_tokens": 5}, "max_completion_tokens"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "0"}, "temperature"),
        ({"temperature": False}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"top_p": 1.1}, "top_p"),
        ({"presence_penalty": -2.1}, "presence_penalty"),
        ({"presence_penalty": 2.1}, "presence_penalty"),
        ({"frequency_penalty": -2.1}, "frequency_penalty"),
        ({"frequency_penalty": "1"}, "frequency_penalty"),
        ({"stop": 5}, "stop"),
        ({"stop": ""}, "stop"),
        ({"stop": ["a", 5]}, "stop[1]"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"seed": 1.5}, "seed"),
        ({"seed": "1"}, "seed"),
        ({"seed": 2**63}, "seed"),
        ({"logprobs": 1}, "logprobs"),
        ({"logprobs": "true"}, "logprobs"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"top_logprobs": -1}, "top_logprobs"),
        ({"logit_bias": [1]}, "logit_bias"),
        ({"logit_bias": {"50256": 101}}, "logit_bias.50256"),
        ({"logit_bias": {"50256": "1"}}, "logit_bias.50256"),
        ({"logit_bias": {"hello": 1}}, "logit_bias.hello"),
        ({"response_format": "json"}, "response_format"),
        ({"response_format": {}}, "response_format.type"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format.json_schema.name"),
        ({"response_format": {"type": "json_object", "schema": {}}}, "response_format.schema"),
        ({"tools": TOOL}, "tools"),
        ({"tools": ["add"]}, "tools[0]"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{"type": "custom"}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
        (
            {"tools": [TOOL, {"type": "function", "function": {"name": "f", "parameters": []}}]},
            "tools[1].function.parameters",
        ),
        ({"tool_choice": "any"}, "tool_choice"),
        ({"tool_choice": 5}, "tool_choice"),
        ({"tool_choice": {"type": "function"}}, "tool_choice.function"),
        ({"parallel_tool_calls": "yes"}, "parallel_tool_calls"),
        ({"reasoning_effort": "extreme"}, "reasoning_effort"),
        ({"service_tier": "gold"}, "service_tier"),
        ({"user": 5}, "user"),
        ({"n": 2}, "n"),
        ({"n": 0}, "n"),
        ({"n": True}, "n"),
        ({"n": "1"}, "n"),
        ({"stream": True}, "stream"),
        ({"stream": 0}, "stream"),
        ({"stream": "false"}, "stream"),
        # names that are not ours
        ({"functions": []}, "functions"),
        ({"stream_options": {}}, "stream_options"),
        ({"api_base": "http://169.254.169.254"}, "api_base"),
        ({"Model": "gpt-4"}, "Model"),
        ({"top_k": 40}, "top_k"),
        ({"extra_body": []}, "extra_body"),
        ({"extra_body": "x"}, "extra_body"),
        ({"extra_body": {"model": "gpt-4"}}, "extra_body.model"),
        ({"extra_body": {"messages": []}}, "extra_body.messages"),
        ({"extra_body": {"max_tokens": 5}}, "extra_body.max_tokens"),
        ({"extra_body": {"max_completion_tokens": 5}}, "extra_body.max_completion_tokens"),
        ({"extra_body": {"n": 5}}, "extra_body.n"),
        ({"extra_body": {"stream": False}}, "extra_body.stream"),
        ({"extra_body": {"stream_options": {}}}, "extra_body.stream_options"),
        ({"extra_body": {"prompt": "Hi"}}, "extra_body.prompt"),
        ({"extra_body": {"tools": [TOOL]}}, "extra_body.tools"),
        ({"extra_body": {"temperature": 1}}, "extra_body.temperature"),
        ({"extra_body": {"system": "Be brief."}}, "extra_body.system"),
        ({"extra_body": {"n": None}}, "extra_body.n"),
    ],
)
def test_a_wrong_field_is_named_and_no_other(fields: dict[str, Any], path: str) -> None:
    wrong = refused(**fields)
    assert [problem.field for problem in wrong.fields] == [path]
    assert 5 <= len(wrong.fields[0].problem) <= 300


def test_an_object_without_messages_misses_them() -> None:
    wrong = read(b"{}")
    assert isinstance(wrong, WrongFields)
    assert [problem.field for problem in wrong.fields] == ["messages"]


def test_every_wrong_field_has_an_entry_of_its_own() -> None:
    wrong = refused(
        messages=[{"role": "user", "content": 5}, {"role": "robot"}], max_tokens="5", temperature=3, tempo=1
    )
    assert [problem.field for problem in wrong.fields] == [
        "messages[0].content",
        "messages[1].role",
        "max_tokens",
        "temperature",
        "tempo",
    ]


def test_a_field_that_is_wrong_twice_has_one_entry() -> None:
    wrong = refused(max_tokens=5, max_completion_tokens="5")
    assert [problem.field for problem in wrong.fields] == ["max_completion_tokens"]


def test_no_more_than_50_wrong_fields_are_listed() -> None:
    assert len(refused(messages=[0] * 1000).fields) == 50
    assert len(refused(**{f"x{n}": 1 for n in range(500)}).fields) == 50


def test_an_unknown_field_comes_with_the_name_it_is_most_like() -> None:
    assert "did you mean `max_tokens`?" in refused(max_token=5).fields[0].problem
    assert "did you mean `timeout_s`?" in refused(timeout=5).fields[0].problem
    assert "did you mean `mode`?" in refused(cache={"modes": "on"}).fields[0].problem
    assert "did you mean" not in refused(qqqqqqqq=5).fields[0].problem


def test_names_from_outside_are_shown_short_and_on_one_line() -> None:
    wrong = refused(**{"a\r\nb\x1b[31m\u202e": 1, "y" * 5000: 1})
    assert wrong.fields[0].field == "a\\u000d\\u000ab\\u001b[31m\\u202e"
    assert wrong.fields[1].field == "y" * 63 + "…"


def test_problems_say_what_is_expected() -> None:
    assert refused(max_tokens="5").fields[0].problem == (
        "must be a whole number from 1 to 9223372036854775807; it is a string"
    )
    assert refused(max_tokens=10**30).fields[0].problem == "must be a whole number from 1 to 9223372036854775807"
    assert refused(top_logprobs=5.0).fields[0].problem == (
        "must be a whole number from 0 to 20, without fraction or exponent"
    )
    assert refused(temperature=3).fields[0].problem == "must be a number, at least 0 and at most 2"
    assert refused(priority="urgent").fields[0].problem == "must be `high` or `normal` or `low`, not `urgent`"
    assert refused(timeout_s=4000).fields[0].problem == "must be at most 3600, the limit of this orchestrator"


# --- whom an error is for -------------------------------------------------------------------------------------------


def test_an_error_is_addressed_with_what_was_right() -> None:
    wrong = refused(request_id="r-1", tenant="acme", metadata={"team": "search"}, max_tokens=0)
    assert (wrong.request_id, wrong.tenant, wrong.metadata) == ("r-1", "acme", {"team": "search"})


def test_a_wrong_request_id_tenant_or_metadata_counts_as_absent_and_is_named_too() -> None:
    wrong = refused(request_id="a b", tenant=5, metadata={"team": "search", "size": 5})
    assert (wrong.request_id, wrong.tenant, wrong.metadata) == ("p3-17", "default", {})
    assert [problem.field for problem in wrong.fields] == ["request_id", "tenant", "metadata.size"]


# --- what is right --------------------------------------------------------------------------------------------------


def test_a_prompt_alone_has_all_defaults() -> None:
    request = accepted(prompt="Hi")
    assert (request.request_id, request.tenant, request.models) == ("p3-17", "default", ("auto",))
    assert request.messages == ({"role": "user", "content": "Hi"},)
    assert (request.max_tokens, request.parameters, request.extra_body) == (None, {}, {})
    assert (request.needs, request.priority, request.timeout_s) == (Needs((), None, None), "normal", None)
    assert (request.cache, request.metadata, request.images) == (CachePolicy("default", None), {}, 0)


def test_the_request_of_the_contract_is_understood_in_full() -> None:
    request = read(
        b"""{"request_id": "r-1", "tenant": "acme", "model": "gpt-4", "messages": [{"role": "user", "content": "Hi"}],
        "max_tokens": 256, "temperature": 0, "stop": ["\\n"], "seed": 1, "response_format": {"type": "json_object"},
        "needs": {"capabilities": ["code-completion"], "max_cost_usd": "0.01", "max_latency_s": 5},
        "priority": "normal", "timeout_s": 30, "cache": {"mode": "default", "ttl_s": 3600},
        "metadata": {"team": "search"}}"""
    )
    assert isinstance(request, PromptRequest)
    assert (request.request_id, request.tenant, request.models) == ("r-1", "acme", ("gpt-4",))
    assert request.messages == ({"role": "user", "content": "Hi"},)
    assert request.max_tokens == 256
    assert request.parameters == {
        "temperature": 0,
        "stop": ["\n"],
        "seed": 1,
        "response_format": {"type": "json_object"},
    }
    assert request.needs == Needs(("code-completion",), 10_000_000, 5)
    assert (request.priority, request.timeout_s) == ("normal", 30)
    assert request.cache == CachePolicy("default", 3600)
    assert request.metadata == {"team": "search"}
    assert (request.response_format, request.tools, request.temperature) == ({"type": "json_object"}, [], 0)


@pytest.mark.parametrize(
    "fields",
    [
        {"request_id": "!~" * 64, "tenant": "x" * 128},
        {"temperature": 0},
        {"temperature": 2},
        {"temperature": 0.7, "top_p": 1},
        {"top_p": 0},
        {"presence_penalty": -2, "frequency_penalty": 2},
        {"max_tokens": 1},
        {"max_tokens": 10**12},
        {"max_completion_tokens": 256},
        {"seed": -(2**63)},
        {"stop": "\n"},
        {"stop": ["a", "b", "c", "d"]},
        {"logprobs": True, "top_logprobs": 20},
        {"logit_bias": {"50256": -100, "7": 1.5}},
        {"tools": [TOOL], "tool_choice": "auto", "parallel_tool_calls": False},
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "add"}}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}, "strict": True}}},
        {"reasoning_effort": "low", "service_tier": "flex", "user": "u-1"},
        {"n": 1, "stream": False},
        {"timeout_s": 3600},
        {"timeout_s": 0.001},
        {"priority": "high"},
        {"cache": {}},
        {"needs": {}},
        {"metadata": {f"k{n}": "v" for n in range(16)}},
        {"metadata": {"k" * 64: "é" * 512}},
        {"metadata": {"": ""}},
        {"model": ["gpt-4", "unheard-of"]},
        {"extra_body": {"top_k": 40, "chat_template_kwargs": {"enable_thinking": None}}},
        {"prompt": ""},
        message(role="developer", content="Be brief."),
        message(role="system", content=[{"type": "text", "text": "Be brief."}]),
        message(role="user", content="Hi", name="ada"),
        message(role="assistant", content=None, tool_calls=[CALL], refusal=None, function_call=None, audio=None),
        message(role="assistant", content="Hi", tool_calls=[], annotations=[]),
        message(role="tool", content="5", tool_call_id="c-1"),
        user({"type": "image_url", "image_url": {"url": "https://a/b.png", "detail": "low"}}),
    ],
)
def test_what_the_contract_allows_is_accepted(fields: dict[str, Any]) -> None:
    accepted(**fields)


def test_null_counts_as_absent() -> None:
    names = ["request_id", "tenant", "model", "prompt", "max_tokens", "temperature", "n", "stream", "needs", "cache"]
    request = accepted(
        messages=[{"role": "user", "content": "Hi", "name": None}],
        **dict.fromkeys(names),
        **dict.fromkeys(["metadata", "timeout_s", "priority", "extra_body", "tools", "unheard_of"]),
    )
    assert request == accepted(messages=HI)
    assert accepted(needs={"max_cost_usd": None}, cache={"mode": None}, metadata={"a": None}) == accepted()


def test_models_keep_their_order_and_lose_their_repetitions() -> None:
    assert accepted(model=["b", "a", "b"]).models == ("b", "a")
    assert accepted(model="auto").models == ("auto",)


def test_both_names_of_the_output_limit_mean_the_same() -> None:
    assert accepted(max_tokens=7).max_tokens == 7
    assert accepted(max_completion_tokens=7).max_tokens == 7
    assert accepted(max_tokens=None, max_completion_tokens=7).max_tokens == 7


@pytest.mark.parametrize(
    ("written", "nano_usd"),
    [
        ("0.01", 10_000_000),
        (0.01, 10_000_000),
        ("0", 0),
        (0, 0),
        (2, 2_000_000_000),
        (5.0, 5_000_000_000),
        ("0.000000001", 1),
        (1e-9, 1),
        ("999999999.999999999", 999_999_999_999_999_999),
    ],
)
def test_the_most_that_an_answer_may_cost_is_exact(written: Any, nano_usd: int) -> None:
    assert accepted(needs={"max_cost_usd": written}).needs.max_cost_nano_usd == nano_usd


def test_extra_body_is_passed_as_it_is() -> None:
    extra = {"top_k": 40, "guided": {"choice": ["a", None]}, "x": None}
    assert accepted(extra_body=extra).extra_body == extra


def test_prompts_keep_every_character() -> None:
    odd = 'e\u0301 \u200b\u202e ﬁ \U0001f600 \u0000 \u2028 [{"}]'
    assert accepted(prompt=odd).messages == ({"role": "user", "content": odd},)


def test_images_are_counted() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    request = accepted(messages=[*HI, {"role": "user", "content": [image, {"type": "text", "text": "?"}, image]}])
    assert request.images == 2


def test_empty_lists_of_tools_and_stops_mean_none() -> None:
    assert accepted(tools=[], stop=[]).parameters == {}


# --- sharing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "is_shareable"),
    [
        ({}, False),
        ({"temperature": 0}, True),
        ({"temperature": 0.0}, True),
        ({"temperature": 0.1}, False),
        ({"temperature": 0, "tools": [TOOL]}, False),
        ({"temperature": 0, "tools": []}, True),
        ({"temperature": 0, "cache": {"mode": "default"}}, True),
        ({"cache": {"mode": "on"}}, True),
        ({"cache": {"mode": "on"}, "temperature": 1, "tools": [TOOL]}, True),
        ({"cache": {"mode": "refresh"}}, True),
        ({"cache": {"mode": "off"}, "temperature": 0}, False),
    ],
)
def test_what_is_shareable_has_its_content_as_work_key(fields: dict[str, Any], is_shareable: bool) -> None:
    request = accepted(request_id="r-1", **fields)
    assert shareable(request) is is_shareable
    assert work_key(request) == (fingerprint(request) if is_shareable else "r-1")
