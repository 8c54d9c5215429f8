"""Anthropic's messages: what is asked in them, and what is made of an answer."""

import json
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.providers.anthropic_messages import read, url_of, write
from agents.providers.call import Refusal, Reply, exchange
from agents.providers.dialect import CannotSayError
from schemas.progress import Answer
from schemas.usage import Usage
from tests.providers.calls import Said, call_to
from tests.providers.fake import Behaviour, FakeProvider
from tests.providers.raw import OK, RawServer

HI = {"role": "user", "content": "Hi"}
TOLD = {"input_tokens": 9, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 3}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells it",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        "strict": True,
    },
}


def written(*messages: dict[str, Any], **parameters: Any) -> dict[str, Any]:
    said = Said(messages or (HI,), parameters, {})
    body: dict[str, Any] = json.loads(write(said, provider_model="claude-x", max_tokens=64, host="h").body)
    return body


def dropped(*messages: dict[str, Any], **parameters: Any) -> tuple[str, ...]:
    return write(Said(messages or (HI,), parameters, {}), provider_model="claude-x", max_tokens=64, host="h").dropped


def refused(*messages: dict[str, Any], **parameters: Any) -> str:
    with pytest.raises(CannotSayError) as unsaid:
        written(*messages, **parameters)
    return str(unsaid.value)


def text(*texts: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": text} for text in texts]


async def test_the_request_arrives_as_anthropic_describes_it(client: httpx.AsyncClient) -> None:
    async with RawServer(OK + b"Content-Length: 0\r\n\r\n") as server:
        call = call_to(
            f"{server.url}/v1/",
            dialect="anthropic",
            provider_model="claude-x",
            api_key="sk-ant-1",
            messages=({"role": "system", "content": "Be brief."}, HI),
            parameters={"temperature": 1, "top_p": 0.5, "stop": "END", "user": "u-1"},
            extra_body={"top_k": 5},
        )
        await exchange(client, call)
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    lines = head.decode().lower().split("\r\n")
    assert lines[0] == "post /v1/messages http/1.1"
    assert {"x-api-key: sk-ant-1", "anthropic-version: 2023-06-01", "content-type: application/json"} <= set(lines)
    assert "authorization" not in head.decode().lower()
    assert json.loads(body) == {
        "model": "claude-x",
        "max_tokens": 64,
        "system": "Be brief.",
        "messages": [{"role": "user", "content": text("Hi")}],
        "temperature": 1,
        "top_p": 0.5,
        "stop_sequences": ["END"],
        "metadata": {"user_id": "u-1"},
        "top_k": 5,
    }


def test_the_url_keeps_its_path_and_query() -> None:
    assert str(url_of("https://host/anthropic/v1/?x=1", "m")) == "https://host/anthropic/v1/messages?x=1"


@pytest.mark.parametrize("name", ["model", "messages", "max_tokens", "system", "stream"])
def test_what_we_bound_cannot_be_overridden(name: str) -> None:
    body = json.loads(write(Said(extra_body={name: 9}), provider_model="claude-x", max_tokens=64, host="h").body)
    assert body == {"model": "claude-x", "max_tokens": 64, "messages": [{"role": "user", "content": text("Hi")}]}


@pytest.mark.parametrize("name", ["speed", "inference_geo", "container", "mcp_servers"])
def test_what_would_be_dearer_than_the_hold_is_not_passed_on(name: str) -> None:
    with pytest.raises(CannotSayError, match=f"^extra_body.{name} is not passed on"):
        write(Said(extra_body={name: "x"}), provider_model="claude-x", max_tokens=64, host="h")


def test_what_is_passed_on_stands_beside_what_we_say() -> None:
    said = Said(parameters={"reasoning_effort": "low"}, extra_body={"output_config": {"x": 1, "effort": "max"}})
    body = json.loads(write(said, provider_model="claude-x", max_tokens=64, host="h").body)
    assert body["output_config"] == {"x": 1, "effort": "low"}


def test_instructions_become_one_system_prompt_wherever_they_stand() -> None:
    body = written(
        {"role": "system", "content": "One."},
        HI,
        {"role": "developer", "content": [{"type": "text", "text": "Two."}, {"type": "text", "text": "Three."}]},
    )
    assert body["system"] == "One.\n\nTwo.\n\nThree."
    assert body["messages"] == [{"role": "user", "content": text("Hi")}]


def test_messages_of_one_side_in_a_row_become_one() -> None:
    body = written(HI, {"role": "user", "content": "there"}, {"role": "assistant", "content": "Hello"}, HI)
    assert body["messages"] == [
        {"role": "user", "content": text("Hi", "there")},
        {"role": "assistant", "content": text("Hello")},
        {"role": "user", "content": text("Hi")},
    ]


def test_empty_texts_which_anthropic_refuses_are_left_out() -> None:
    body = written(HI, {"role": "assistant", "content": ""}, {"role": "user", "content": "?"})
    assert body["messages"] == [{"role": "user", "content": text("Hi", "?")}]


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "system", "content": "Be brief."}],
        [{"role": "assistant", "content": "Hello"}, HI],
        [{"role": "user", "content": ""}],
    ],
)
def test_a_conversation_that_the_user_does_not_begin_cannot_be_said(messages: list[dict[str, Any]]) -> None:
    assert refused(*messages) == "messages must begin with one of the user's there, and one that is not empty"


def test_tool_calls_and_their_results_come_back_as_blocks() -> None:
    called = [
        {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bern"}'}},
        {"id": "call_2", "type": "function", "function": {"name": "time", "arguments": ""}},
    ]
    body = written(
        HI,
        {"role": "assistant", "content": "Let me see.", "tool_calls": called},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
        {"role": "tool", "tool_call_id": "call_2", "content": text("12", "30")},
        {"role": "user", "content": "Well?"},
    )
    assert body["messages"][1:] == [
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "Let me see."},
                {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Bern"}},
                {"type": "tool_use", "id": "call_2", "name": "time", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "call_1", "content": "sunny"},
                {"type": "tool_result", "tool_use_id": "call_2", "content": "12\n30"},
                {"type": "text", "text": "Well?"},
            ],
        },
    ]


def test_an_id_that_anthropic_does_not_take_is_rewritten_in_call_and_result_alike() -> None:
    call = {"id": "functions.f:0", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    body = written(
        HI,
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "functions.f:0", "content": "1"},
    )
    assert body["messages"][1]["content"][0]["id"] == "call_66756e6374696f6e732e663a30"
    assert body["messages"][2]["content"][0]["tool_use_id"] == "call_66756e6374696f6e732e663a30"


@pytest.mark.parametrize("arguments", ["{", "[]", "5"])
def test_arguments_that_are_no_object_cannot_be_said(arguments: str) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
    message = refused(HI, {"role": "assistant", "tool_calls": [call]})
    assert message == "messages[1].tool_calls must have a JSON object as arguments there"


def test_an_earlier_refusal_is_text() -> None:
    parts = [{"type": "refusal", "refusal": "No."}]
    said = written(HI, {"role": "assistant", "content": parts}, HI, {"role": "assistant", "refusal": "Never."}, HI)
    assert [said["messages"][place]["content"] for place in (1, 3)] == [text("No."), text("Never.")]


def test_images_go_by_url_or_as_base64() -> None:
    def image(url: str) -> dict[str, Any]:
        return {"type": "image_url", "image_url": {"url": url, "detail": "high"}}

    content = [image("https://host/cat.png"), image("data:image/PNG;base64,aGk="), {"type": "text", "text": "What?"}]
    assert written({"role": "user", "content": content})["messages"][0]["content"] == [
        {"type": "image", "source": {"type": "url", "url": "https://host/cat.png"}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}},
        {"type": "text", "text": "What?"},
    ]
    assert dropped({"role": "user", "content": content}) == ("messages.image_url.detail",)


@pytest.mark.parametrize("url", ["data:image/png,hi", "data:text/plain;base64,aGk=", "data:"])
def test_other_data_is_no_image(url: str) -> None:
    content = [{"type": "image_url", "image_url": {"url": url}}]
    assert refused({"role": "user", "content": content}).startswith("messages.image_url must be")


def test_a_participant_s_name_is_dropped_and_told() -> None:
    assert dropped({"role": "user", "content": "Hi", "name": "Ada"}) == ("messages.name",)


@pytest.mark.parametrize(
    ("choice", "parallel", "expected"),
    [
        ("auto", True, None),
        ("auto", False, {"type": "auto", "disable_parallel_tool_use": True}),
        ("none", False, {"type": "none"}),
        ("required", True, {"type": "any"}),
        ("required", False, {"type": "any", "disable_parallel_tool_use": True}),
        ({"type": "function", "function": {"name": "weather"}}, True, {"type": "tool", "name": "weather"}),
    ],
)
def test_tools_and_the_choice_among_them(choice: Any, parallel: bool, expected: Any) -> None:
    body = written(tools=[WEATHER], tool_choice=choice, parallel_tool_calls=parallel)
    assert body["tools"] == [
        {
            "name": "weather",
            "description": "Tells it",
            "strict": True,
            "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
        }
    ]
    assert body.get("tool_choice") == expected


def test_a_tool_without_parameters_has_an_empty_schema() -> None:
    tool = {"type": "function", "function": {"name": "now"}}
    assert written(tools=[tool])["tools"] == [{"name": "now", "input_schema": {"type": "object", "properties": {}}}]


def test_without_tools_none_can_be_required() -> None:
    assert "tool_choice" not in written(tool_choice="none")
    assert refused(tool_choice="required") == "tool_choice needs tools"


@pytest.mark.parametrize("temperature", [0, 0.5, 1])
def test_a_temperature_is_sent_as_it_is(temperature: float) -> None:
    assert written(temperature=temperature)["temperature"] == temperature


@pytest.mark.parametrize("temperature", [1.0001, 2])
def test_a_temperature_that_anthropic_does_not_have_is_not_clamped(temperature: float) -> None:
    assert refused(temperature=temperature) == "temperature must be at most 1 there"


def test_stops_that_are_only_white_space_cannot_be_said() -> None:
    assert written(stop=["a", "b"])["stop_sequences"] == ["a", "b"]
    assert refused(stop=["a", "\n"]) == "stop must hold more than white space there"


def test_a_schema_is_the_form_of_the_answer() -> None:
    schema = {"type": "object", "properties": {"x": {"type": "string"}}, "additionalProperties": False}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "description": "An x", "schema": schema}}
    assert written(response_format=wanted)["output_config"] == {
        "format": {"type": "json_schema", "schema": {"description": "An x", **schema}}
    }


@pytest.mark.parametrize("wanted", [{"type": "json_object"}, {"type": "json_schema", "json_schema": {"name": "x"}}])
def test_json_without_a_schema_cannot_be_promised(wanted: dict[str, Any]) -> None:
    assert refused(response_format=wanted) == "response_format needs a JSON schema there"


@pytest.mark.parametrize(
    ("effort", "expected"),
    [
        ("none", {"thinking": {"type": "disabled"}}),
        ("minimal", {"output_config": {"effort": "low"}}),
        ("low", {"output_config": {"effort": "low"}}),
        ("high", {"output_config": {"effort": "high"}}),
        ("max", {"output_config": {"effort": "max"}}),
    ],
)
def test_effort(effort: str, expected: dict[str, Any]) -> None:
    body = written(reasoning_effort=effort)
    assert {name: body[name] for name in body.keys() & {"thinking", "output_config"}} == expected


@pytest.mark.parametrize(("length", "fits"), [(256, True), (257, False)])
def test_a_user_is_told_as_far_as_it_fits(length: int, fits: bool) -> None:
    if fits:
        assert written(user="u" * length)["metadata"] == {"user_id": "u" * length}
    else:
        assert refused(user="u" * length) == "user must have at most 256 characters there"


ROLES = st.sampled_from(["system", "developer", "user", "assistant", "tool"])
MESSAGES = st.lists(
    st.builds(
        lambda role, content: {"role": role, "content": content} | ({"tool_call_id": "c"} if role == "tool" else {}),
        ROLES,
        st.text(max_size=3) | st.lists(st.text(max_size=3), min_size=1, max_size=2).map(lambda texts: text(*texts)),
    ),
    min_size=1,
    max_size=6,
)


@given(MESSAGES)
def test_whatever_is_said_sides_alternate_the_user_begins_and_no_text_is_empty(messages: list[dict[str, Any]]) -> None:
    try:
        body = written(*messages)
    except CannotSayError:
        return
    roles = [message["role"] for message in body["messages"]]
    assert roles == [("user", "assistant")[place % 2] for place in range(len(roles))]
    blocks = [block for message in body["messages"] for block in message["content"]]
    assert all(block.get("text", "x") for block in blocks)
    spoken = [m["content"] for m in messages if m["role"] in ("user", "assistant")]
    expected = "".join(c if isinstance(c, str) else "".join(part["text"] for part in c) for c in spoken)
    assert "".join(block.get("text", "") for block in blocks) == expected


# --- answers --------------------------------------------------------------------------------------------------------


def message(*content: dict[str, Any], **changes: Any) -> bytes:
    """The example of Anthropic's reference, with changes."""
    body = {
        "id": "msg_013Zva2CMHLNnXjNJJKqJ2EF",
        "type": "message",
        "role": "assistant",
        "model": "claude-x-20260101",
        "content": list(content),
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": TOLD,
    }
    return json.dumps(body | changes).encode()


def answered(body: bytes, *, may_be_empty: bool = False) -> Answer:
    outcome = read(body, framed=True, may_be_empty=may_be_empty).outcome
    assert isinstance(outcome, Answer), outcome
    return outcome


def test_an_answer_is_read_with_its_usage() -> None:
    reading = read(message(*text("Hi! My name is Claude.")), framed=True, may_be_empty=False)
    assert reading.outcome == Answer(
        text="Hi! My name is Claude.",
        finish_reason="stop",
        finish_reason_raw="end_turn",
        response_id="msg_013Zva2CMHLNnXjNJJKqJ2EF",
        response_model="claude-x-20260101",
    )
    assert reading.usage == Usage(input_tokens=9, output_tokens=3)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("pause_turn", "other"),
        ("something_new", "other"),
    ],
)
def test_a_stop_reason_is_ours_with_anthropic_s_word_beside_it(word: str, expected: str) -> None:
    answer = answered(message(*text("x"), stop_reason=word))
    assert (answer.finish_reason, answer.finish_reason_raw) == (expected, word)


def test_tool_use_is_told_in_openai_s_words() -> None:
    asked = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Zürich", "days": 2}}
    answer = answered(message(*text("Let me see."), asked, stop_reason="tool_use"))
    assert answer.text == "Let me see."
    assert answer.tool_calls == (
        {
            "id": "toolu_1",
            "type": "function",
            "function": {"name": "weather", "arguments": '{"city":"Zürich","days":2}'},
        },
    )


def test_thoughts_are_not_part_of_the_text() -> None:
    thinking = {"type": "thinking", "thinking": "Hm.", "signature": "x"}
    hidden = {"type": "redacted_thinking", "data": "x"}
    assert answered(message(thinking, hidden, *text("Hel", "lo"))).text == "Hello"


@pytest.mark.parametrize("word", ["max_tokens", "refusal", "model_context_window_exceeded"])
def test_a_cut_or_refused_answer_may_be_empty(word: str) -> None:
    assert answered(message(stop_reason=word)).text == ""


def test_a_stop_sequence_at_once_is_an_empty_answer() -> None:
    assert answered(message(stop_reason="stop_sequence"), may_be_empty=True).text == ""


def test_a_usage_of_nothing_written_is_none_where_something_was() -> None:
    assert read(message(*text("x"), usage=TOLD | {"output_tokens": 0}), framed=True, may_be_empty=False).usage is None


# --- over HTTP ------------------------------------------------------------------------------------------------------


async def test_a_provider_as_strict_as_anthropic_understands_us(fake: FakeProvider, client: httpx.AsyncClient) -> None:
    fake.behaviour = Behaviour(answer="Hello!")
    call = call_to(
        fake.endpoint,
        dialect="anthropic",
        messages=({"role": "system", "content": "S"}, HI, HI),
        parameters={"tools": [WEATHER], "seed": 1, "logprobs": False, "presence_penalty": 0.5},
    )
    reply = await exchange(client, call)
    assert isinstance(reply, Reply), reply
    assert reply.answer.text == "Hello!"
    assert reply.answer.response_id is not None
    assert reply.answer.response_id.startswith("msg_")
    assert reply.usage == Usage(input_tokens=fake.invoice[0], output_tokens=fake.invoice[1])
    assert reply.dropped_parameters == ("seed", "presence_penalty")


async def test_what_cannot_be_said_is_not_sent_and_may_be_said_elsewhere(
    fake: FakeProvider, client: httpx.AsyncClient
) -> None:
    call = call_to(fake.endpoint, dialect="anthropic", parameters={"logit_bias": {"50256": -100}})
    refusal = await exchange(client, call)
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.reason, refusal.billed) == ("INVALID_REQUEST", "provider_rejected", "none")
    assert (refusal.again, refusal.elsewhere, refusal.blames_model) == (False, True, False)
    assert refusal.message == (
        "The request cannot be said in the provider's dialect: logit_bias has no equivalent in this provider's API"
    )
    assert fake.calls == []


async def test_anthropic_s_own_request_id_is_kept(client: httpx.AsyncClient) -> None:
    body = message(*text("x"))
    head = b"request-id: req_011\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with RawServer(OK + head + body) as server:
        reply = await exchange(client, call_to(server.url, dialect="anthropic"))
    assert isinstance(reply, Reply)
    assert reply.provider_request_id == "req_011"
