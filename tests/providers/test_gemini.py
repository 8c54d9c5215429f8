"""Gemini's generateContent: what is asked in it, and what is made of an answer."""

import json
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.providers.call import Refusal, Reply, exchange
from agents.providers.dialect import CannotSayError
from agents.providers.gemini import read, url_of, write
from schemas.progress import Answer
from schemas.usage import Usage
from tests.providers.calls import Said, call_to
from tests.providers.raw import OK, RawServer

HI = {"role": "user", "content": "Hi"}
TOLD = {"promptTokenCount": 9, "candidatesTokenCount": 3, "thoughtsTokenCount": 4, "totalTokenCount": 16}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells it",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "additionalProperties": False},
    },
}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bern"}'}}


def written(*messages: dict[str, Any], model: str = "gemini-2.5-flash", **parameters: Any) -> dict[str, Any]:
    said = Said(messages or (HI,), parameters, {})
    body: dict[str, Any] = json.loads(write(said, provider_model=model, max_tokens=64, host="h").body)
    return body


def dropped(*messages: dict[str, Any], **parameters: Any) -> tuple[str, ...]:
    return write(Said(messages or (HI,), parameters, {}), provider_model="gemini-x", max_tokens=64, host="h").dropped


def refused(*messages: dict[str, Any], **parameters: Any) -> str:
    with pytest.raises(CannotSayError) as unsaid:
        written(*messages, **parameters)
    return str(unsaid.value)


def configured(**parameters: Any) -> dict[str, Any]:
    config: dict[str, Any] = written(**parameters)["generationConfig"]
    assert config.pop("maxOutputTokens") == 64
    return config


async def test_the_request_arrives_as_google_describes_it(client: httpx.AsyncClient) -> None:
    async with RawServer(OK + b"Content-Length: 0\r\n\r\n") as server:
        call = call_to(
            f"{server.url}/v1beta/",
            dialect="google",
            provider_model="gemini-2.5-flash",
            api_key="AIza-1",
            messages=({"role": "system", "content": "Be brief."}, HI, {"role": "assistant", "content": "Hello"}, HI),
            parameters={"temperature": 2, "top_p": 0.5, "stop": "END", "seed": 7},
            extra_body={"safetySettings": []},
        )
        await exchange(client, call)
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /v1beta/models/gemini-2.5-flash:generateContent HTTP/1.1"
    assert "x-goog-api-key: aiza-1" in head.decode().lower().split("\r\n")
    assert head.count(b"AIza-1") == 1
    assert "authorization" not in head.decode().lower()
    assert json.loads(body) == {
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "contents": [
            {"role": "user", "parts": [{"text": "Hi"}]},
            {"role": "model", "parts": [{"text": "Hello"}]},
            {"role": "user", "parts": [{"text": "Hi"}]},
        ],
        "generationConfig": {"maxOutputTokens": 64, "temperature": 2, "topP": 0.5, "seed": 7, "stopSequences": ["END"]},
        "safetySettings": [],
    }


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("gemini-x", "https://host/v1beta/models/gemini-x:generateContent"),
        ("models/gemini-x", "https://host/v1beta/models/gemini-x:generateContent"),
        ("tunedModels/mine", "https://host/v1beta/tunedModels/mine:generateContent"),
        ("a?key=b#c", "https://host/v1beta/models/a%3Fkey%3Db%23c:generateContent"),
    ],
)
def test_the_model_is_part_of_the_path(model: str, expected: str) -> None:
    assert str(url_of("https://host/v1beta", model)) == expected


@pytest.mark.parametrize(
    "name",
    ["contents", "systemInstruction", "system_instruction", "generationConfig", "generation_config", "tools", "model"],
)
def test_what_we_bound_cannot_be_overridden(name: str) -> None:
    body = json.loads(write(Said(extra_body={name: 9}), provider_model="m", max_tokens=64, host="h").body)
    assert body == {
        "contents": [{"role": "user", "parts": [{"text": "Hi"}]}],
        "generationConfig": {"maxOutputTokens": 64},
    }


@pytest.mark.parametrize("name", ["serviceTier", "service_tier", "cachedContent"])
def test_what_would_be_dearer_than_the_hold_is_not_passed_on(name: str) -> None:
    with pytest.raises(CannotSayError, match=f"^extra_body.{name} is not passed on"):
        write(Said(extra_body={name: "x"}), provider_model="m", max_tokens=64, host="h")


def test_messages_of_one_side_in_a_row_become_one() -> None:
    assert written(HI, {"role": "developer", "content": "x"}, {"role": "user", "content": "there"})["contents"] == [
        {"role": "user", "parts": [{"text": "Hi"}, {"text": "there"}]}
    ]


@pytest.mark.parametrize(
    "messages",
    [[{"role": "system", "content": "x"}], [{"role": "assistant", "content": "Hello"}, HI], [HI | {"content": ""}]],
)
def test_a_conversation_that_the_user_does_not_begin_cannot_be_said(messages: list[dict[str, Any]]) -> None:
    assert refused(*messages) == "messages must begin with one of the user's there, and one that is not empty"


def test_tool_calls_and_their_results_come_back_as_parts() -> None:
    now = {"id": "call_2", "type": "function", "function": {"name": "now", "arguments": " "}}
    body = written(
        HI,
        {"role": "assistant", "content": "Let me see.", "tool_calls": [CALL, now]},
        {"role": "tool", "tool_call_id": "call_1", "content": '{"sky": "blue"}'},
        {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "12"}]},
    )
    assert body["contents"][1:] == [
        {
            "role": "model",
            "parts": [
                {"text": "Let me see."},
                {"functionCall": {"id": "call_1", "name": "weather", "args": {"city": "Bern"}}},
                {"functionCall": {"id": "call_2", "name": "now", "args": {}}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"id": "call_1", "name": "weather", "response": {"sky": "blue"}}},
                {"functionResponse": {"id": "call_2", "name": "now", "response": {"output": "12"}}},
            ],
        },
    ]


@pytest.mark.parametrize("model", ["gemini-3-flash", "models/gemini-3-pro", "gemini-4"])
def test_from_gemini_3_on_the_first_call_of_a_step_carries_a_signature(model: str) -> None:
    called = {"role": "assistant", "tool_calls": [CALL, CALL | {"id": "call_2"}]}
    parts = written(HI, called, model=model)["contents"][1]["parts"]
    assert [part.get("thoughtSignature") for part in parts] == ["skip_thought_signature_validator", None]


def test_a_result_of_no_call_and_arguments_that_are_no_object_cannot_be_said() -> None:
    lost = {"role": "tool", "tool_call_id": "call_9", "content": "x"}
    assert refused(HI, lost) == "messages[1].tool_call_id must be that of an earlier tool call"
    wrong = CALL | {"function": {"name": "f", "arguments": "[1]"}}
    message = refused(HI, {"role": "assistant", "tool_calls": [wrong]})
    assert message == "messages[1].tool_calls must have a JSON object as arguments there"


def test_images_go_by_url_or_as_base64() -> None:
    urls = ["https://host/cat.jpg?size=1", "data:image/webp;base64,aGk="]
    content = [{"type": "image_url", "image_url": {"url": url, "detail": "auto"}} for url in urls]
    assert written({"role": "user", "content": content})["contents"][0]["parts"] == [
        {"fileData": {"mimeType": "image/jpeg", "fileUri": "https://host/cat.jpg?size=1"}},
        {"inlineData": {"mimeType": "image/webp", "data": "aGk="}},
    ]
    assert dropped({"role": "user", "content": content}) == ()


@pytest.mark.parametrize("url", ["https://host/cat", "https://host/cat.html", "data:image/png,hi", "data:x.png"])
def test_what_may_be_no_image_cannot_be_said(url: str) -> None:
    content = [{"type": "image_url", "image_url": {"url": url}}]
    assert refused({"role": "user", "content": content}).startswith("messages.image_url must be")


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("auto", None),
        ("none", {"mode": "NONE"}),
        ("required", {"mode": "ANY"}),
        (
            {"type": "function", "function": {"name": "weather"}},
            {"mode": "ANY", "allowedFunctionNames": ["weather"]},
        ),
    ],
)
def test_tools_and_the_choice_among_them(choice: Any, expected: Any) -> None:
    now = {"type": "function", "function": {"name": "now"}}
    body = written(tools=[WEATHER, now], tool_choice=choice, parallel_tool_calls=True)
    assert body["tools"] == [
        {
            "functionDeclarations": [
                {
                    "name": "weather",
                    "description": "Tells it",
                    "parametersJsonSchema": {
                        "type": "object",
                        "properties": {"city": {"type": "string"}},
                        "additionalProperties": False,
                    },
                },
                {"name": "now"},
            ]
        }
    ]
    assert body.get("toolConfig") == (None if expected is None else {"functionCallingConfig": expected})


def test_without_tools_none_can_be_required() -> None:
    assert written(tool_choice="none").keys() == {"contents", "generationConfig"}
    assert refused(tool_choice="required") == "tool_choice needs tools"


def test_strictness_of_a_tool_is_dropped_and_told() -> None:
    strict = {"type": "function", "function": WEATHER["function"] | {"strict": True}}  # type: ignore[operator]
    assert dropped(HI | {"name": "Ada"}, tools=[strict]) == ("messages.name", "tools.function.strict")


def test_json_with_and_without_a_schema() -> None:
    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    named = {"type": "json_schema", "json_schema": {"name": "x", "description": "An x", "schema": schema}}
    assert configured(response_format={"type": "json_object"}) == {"responseMimeType": "application/json"}
    assert configured(response_format=named) == {
        "responseMimeType": "application/json",
        "responseJsonSchema": {"description": "An x", **schema},
    }
    assert configured(response_format={"type": "text"}) == {}


def test_penalties_and_logprobs() -> None:
    assert configured(presence_penalty=1, frequency_penalty=-0.5, logprobs=True, top_logprobs=5) == {
        "presencePenalty": 1,
        "frequencyPenalty": -0.5,
        "responseLogprobs": True,
        "logprobs": 5,
    }


@pytest.mark.parametrize(
    ("model", "effort", "expected"),
    [
        ("gemini-2.5-flash", "none", {"thinkingBudget": 0}),
        ("gemini-2.5-flash", "medium", {"thinkingBudget": 8192}),
        ("models/gemini-2.5-pro", "max", {"thinkingBudget": 24576}),
        ("gemini-3-pro", "minimal", {"thinkingLevel": "minimal"}),
        ("gemini-3-pro", "max", {"thinkingLevel": "xhigh"}),
    ],
)
def test_effort_is_a_budget_or_a_level(model: str, effort: str, expected: dict[str, Any]) -> None:
    assert configured(model=model, reasoning_effort=effort) == {"thinkingConfig": expected}


def test_what_some_values_ask_for_cannot_be_said() -> None:
    message = refused(model="gemini-3-pro", reasoning_effort="none")
    assert message == "reasoning_effort cannot be `none`: this model always thinks"
    assert refused(seed=2**31) == "seed must fit into 32 bits there"
    assert refused(tools=[WEATHER], parallel_tool_calls=False).startswith("parallel_tool_calls has no equivalent")


ROLES = st.sampled_from(["system", "user", "assistant"])


@given(st.lists(st.builds(lambda role, said: {"role": role, "content": said}, ROLES, st.text(max_size=3)), min_size=1))
def test_whatever_is_said_sides_alternate_the_user_begins_and_no_text_is_empty(messages: list[dict[str, Any]]) -> None:
    try:
        contents = written(*messages)["contents"]
    except CannotSayError:
        return
    assert [c["role"] for c in contents] == [("user", "model")[place % 2] for place in range(len(contents))]
    texts = [part["text"] for content in contents for part in content["parts"]]
    assert all(texts)
    assert "".join(texts) == "".join(m["content"] for m in messages if m["role"] != "system")


# --- answers --------------------------------------------------------------------------------------------------------


def content(*parts: dict[str, Any], candidate: dict[str, Any] | None = None, **changes: Any) -> bytes:
    """The shape of Google's reference, with changes."""
    said = {"content": {"role": "model", "parts": list(parts)}, "finishReason": "STOP", "index": 0} | (candidate or {})
    body = {"candidates": [said], "usageMetadata": TOLD, "modelVersion": "gemini-x-001", "responseId": "3w4Vad6y"}
    return json.dumps(body | changes).encode()


def answered(body: bytes, *, may_be_empty: bool = False) -> Answer:
    outcome = read(body, framed=True, may_be_empty=may_be_empty).outcome
    assert isinstance(outcome, Answer), outcome
    return outcome


def test_an_answer_is_read_with_its_usage_and_without_its_thoughts() -> None:
    parts: list[dict[str, Any]] = [
        {"text": "Hm.", "thought": True},
        {"text": "Hel"},
        {"text": "lo", "thoughtSignature": "x"},
    ]
    reading = read(content(*parts), framed=True, may_be_empty=False)
    assert reading.outcome == Answer(
        text="Hello",
        finish_reason="stop",
        finish_reason_raw="STOP",
        response_id="3w4Vad6y",
        response_model="gemini-x-001",
    )
    assert reading.usage == Usage(input_tokens=9, output_tokens=7, reasoning_tokens=4)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        ("SAFETY", "content_filter"),
        ("RECITATION", "content_filter"),
        ("BLOCKLIST", "content_filter"),
        ("PROHIBITED_CONTENT", "content_filter"),
        ("SPII", "content_filter"),
        ("MODEL_ARMOR", "content_filter"),
        ("MALFORMED_FUNCTION_CALL", "other"),
        ("OTHER", "other"),
        ("SOMETHING_NEW", "other"),
    ],
)
def test_a_finish_reason_is_ours_with_google_s_word_beside_it(word: str, expected: str) -> None:
    answer = answered(content({"text": "x"}, candidate={"finishReason": word}))
    assert (answer.finish_reason, answer.finish_reason_raw) == (expected, word)


def test_function_calls_are_told_in_openai_s_words_and_get_ids_where_they_have_none() -> None:
    calls: list[dict[str, Any]] = [
        {"functionCall": {"name": "f", "args": {"x": 1}, "id": "abc"}},
        {"functionCall": {"name": "now"}},
    ]
    answer = answered(content(*calls))
    assert answer.tool_calls == (
        {"id": "abc", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}},
        {"id": "call_3w4Vad6y_1", "type": "function", "function": {"name": "now", "arguments": "{}"}},
    )
    assert (answer.text, answer.finish_reason, answer.finish_reason_raw) == ("", "tool_calls", "STOP")


@pytest.mark.parametrize("word", ["MAX_TOKENS", "SAFETY"])
@pytest.mark.parametrize("said", [None, {}, {"role": "model"}, {"role": "model", "parts": []}])
def test_a_cut_or_filtered_answer_may_be_empty(word: str, said: Any) -> None:
    assert answered(content(candidate={"finishReason": word, "content": said})).text == ""


def test_a_stop_sequence_at_once_is_an_empty_answer() -> None:
    assert answered(content(), may_be_empty=True).text == ""


def test_logprobs_are_told_in_openai_s_words() -> None:
    one = {"token": "Hé", "tokenId": 5, "logProbability": -0.1}
    other = {"token": "Ho", "tokenId": 6, "logProbability": -2.5}
    told = {"chosenCandidates": [one, other], "topCandidates": [{"candidates": [one, other]}]}
    assert answered(content({"text": "HéHo"}, candidate={"logprobsResult": told})).logprobs == {
        "content": [
            {
                "token": "Hé",
                "logprob": -0.1,
                "bytes": [72, 195, 169],
                "top_logprobs": [
                    {"token": "Hé", "logprob": -0.1, "bytes": [72, 195, 169]},
                    {"token": "Ho", "logprob": -2.5, "bytes": [72, 111]},
                ],
            },
            {"token": "Ho", "logprob": -2.5, "bytes": [72, 111], "top_logprobs": []},
        ],
        "refusal": None,
    }


# --- over HTTP ------------------------------------------------------------------------------------------------------


def answering(body: bytes) -> RawServer:
    return RawServer(OK + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


async def test_an_answer_comes_back_with_what_was_dropped(client: httpx.AsyncClient) -> None:
    async with answering(content({"text": "Hello"})) as server:
        reply = await exchange(client, call_to(server.url, dialect="google", parameters={"user": "u"}))
    assert isinstance(reply, Reply), reply
    assert reply.answer.text == "Hello"
    assert reply.usage == Usage(input_tokens=9, output_tokens=7, reasoning_tokens=4)
    assert reply.dropped_parameters == ("user",)


async def test_what_cannot_be_said_is_not_sent_and_may_be_said_elsewhere(client: httpx.AsyncClient) -> None:
    async with answering(content({"text": "Hello"})) as server:
        refusal = await exchange(client, call_to(server.url, dialect="google", parameters={"logit_bias": {"1": 1}}))
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.reason, refusal.billed) == ("INVALID_REQUEST", "provider_rejected", "none")
    assert (refusal.again, refusal.elsewhere, refusal.blames_model) == (False, True, False)
    assert server.requests == []
