"""Whatever the bytes: exactly one of three results, nothing raised, every text short and encodable."""

from collections.abc import Iterator
from typing import Any

import orjson
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas.requests import DeadLetter, Limits, PromptRequest, WrongFields, fingerprint, understand, work_key

LIMITS = Limits(max_request_bytes=300_000, max_timeout_s=3600)
FIELDS = [
    *("request_id", "tenant", "model", "messages", "prompt", "max_tokens", "max_completion_tokens", "temperature"),
    *("top_p", "stop", "seed", "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs", "logit_bias"),
    *("response_format", "tools", "tool_choice", "parallel_tool_calls", "reasoning_effort", "service_tier", "user"),
    *("n", "stream", "extra_body", "needs", "priority", "timeout_s", "cache", "metadata", "mesages", "a\r\nb\u202e"),
]
INNER = [
    *("role", "content", "type", "text", "image_url", "url", "tool_calls", "function", "name", "arguments", "id"),
    *("json_schema", "parameters", "capabilities", "max_cost_usd", "max_latency_s", "mode", "ttl_s", "tool_call_id"),
]
WORDS = ["user", "assistant", "tool", "system", "text", "image_url", "function", "json_schema", "auto", "on", "0.01"]

numbers = st.one_of(
    st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.sampled_from([0, 1, -0.0, 1.0, 5e-324, 2**64])
)
texts = st.one_of(st.sampled_from(WORDS), st.text(max_size=20), st.just("é" * 600))
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, texts),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.one_of(st.sampled_from(INNER), texts), inner, max_size=5)
    ),
    max_leaves=12,
)
objects = st.dictionaries(st.one_of(st.sampled_from(FIELDS), st.text(max_size=100)), values, max_size=8)


def as_json(value: Any) -> str:
    """JSON text without any library's limits: whole numbers of any size, lone surrogates as escapes."""
    match value:
        case dict():
            return "{" + ",".join(f"{as_json(key)}:{as_json(content)}" for key, content in value.items()) + "}"
        case list():
            return "[" + ",".join(map(as_json, value)) + "]"
        case str():
            return '"' + "".join(c if c.isascii() and c.isalnum() else escaped(c) for c in value) + '"'
        case None | bool():
            return {None: "null", True: "true", False: "false"}[value]
        case _:
            return repr(value)


def escaped(letter: str) -> str:
    units = letter.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


def texts_in(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for key, content in value.items():
                yield key
                yield from texts_in(content)
        case list() | tuple():
            for entry in value:
                yield from texts_in(entry)


def assert_one_sound_result(value: bytes | None) -> None:
    result = understand(value, default_request_id="p3-17", limits=LIMITS)
    match result:
        case DeadLetter(reason, message):
            assert reason in {"tombstone", "too_large", "not_utf8", "bom", "not_json", "too_deep", "not_an_object"}
            assert len(message.encode()) <= 300
        case WrongFields(request_id, tenant, metadata, fields):
            assert 1 <= len(fields) <= 50
            assert len({problem.field for problem in fields}) == len(fields)
            for problem in fields:
                assert len(problem.field.encode()) <= 1000
                assert len(problem.problem.encode()) <= 1000
                assert (problem.field + problem.problem).isprintable()
            assert_addressable(request_id, tenant, metadata)
        case PromptRequest():
            assert_addressable(result.request_id, result.tenant, result.metadata)
            assert len(fingerprint(result)) == 64
            assert 1 <= len(work_key(result)) <= 128
            for text in texts_in([*result.messages, result.parameters, result.extra_body, result.models]):
                text.encode()
    assert understand(value, default_request_id="p3-17", limits=LIMITS) == result


def assert_addressable(request_id: str, tenant: str, metadata: dict[str, str]) -> None:
    for identifier in (request_id, tenant):
        assert 1 <= len(identifier) <= 128
        assert all("!" <= letter <= "~" for letter in identifier)
    assert len(metadata) <= 16
    assert all(len(key) <= 64 and len(content) <= 512 for key, content in metadata.items())
    orjson.dumps(metadata)


@given(st.binary(max_size=200))
@example(b"")
@example(b"\xef\xbb\xbf{}")
@example(b"[" * 100_000)
@example(b"[" * 100_000 + b"]" * 100_000)
@example(b'{"a":' * 40_000)
@example(b'{"prompt":"\xed\xa0\x80"}')
@example(b'{"n":1' + b"0" * 5_000 + b"}")
@example(b'{"n":-1e' + b"9" * 5_000 + b"}")
@example(b'{"messages":[' + b"0," * 140_000 + b"0]}")
@example(b"{" + b",".join(b'"mesages%d":1' % n for n in range(15_000)) + b"}")
def test_any_bytes_have_one_sound_result(value: bytes) -> None:
    assert_one_sound_result(value)


@settings(max_examples=200)
@given(st.one_of(objects, objects.map(lambda fields: {"prompt": "Hi", **fields})))
@example({"prompt": "Hi", "extra_body": {"x": 10**400}})
@example({"prompt": "\ud800"})
@example({"prompt": "Hi", "\udfff": 1})
def test_any_object_has_one_sound_result(value: dict[str, Any]) -> None:
    assert_one_sound_result(as_json(value).encode())


@given(st.lists(st.dictionaries(st.sampled_from(INNER), values, max_size=5), max_size=4))
def test_any_messages_have_one_sound_result(messages: list[Any]) -> None:
    assert_one_sound_result(as_json({"messages": messages}).encode())


@given(values, st.integers(min_value=0, max_value=400), st.binary(min_size=1, max_size=4))
def test_any_damage_to_a_request_has_one_sound_result(value: Any, at: int, damage: bytes) -> None:
    sound = as_json({"prompt": "Hi", "extra_body": {"x": value}}).encode()
    assert_one_sound_result(sound[:at] + damage + sound[at + len(damage) :])


@given(values)
def test_a_prompt_and_an_extra_body_come_out_as_they_went_in(value: Any) -> None:
    sent = as_json({"prompt": "Hi", "extra_body": {"x": value}}).encode()
    result = understand(sent, default_request_id="p3-17", limits=LIMITS)
    if isinstance(result, PromptRequest):
        assert result.extra_body == orjson.loads(sent)["extra_body"]
