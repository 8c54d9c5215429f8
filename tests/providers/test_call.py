"""What is asked of a provider, and what is made of its answer."""

import asyncio
import json
import random
from typing import Any

import httpx
import pytest

from agents.providers.call import Refusal, Reply, exchange
from agents.providers.openai_chat import url_of, write
from agents.providers.transport import client as provider_client
from schemas.progress import Answer
from schemas.usage import Usage
from tests.providers.calls import Said, call_to
from tests.providers.fake import Behaviour, FakeProvider, words_of
from tests.providers.raw import OK, RawServer

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TOLD = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}


async def reply_to(fake: FakeProvider, client: httpx.AsyncClient, **changes: Any) -> Reply:
    reply = await exchange(client, call_to(fake.endpoint, **changes))
    assert isinstance(reply, Reply), reply
    return reply


async def test_an_answer_comes_back_with_its_usage(fake: FakeProvider, client: httpx.AsyncClient) -> None:
    fake.behaviour = Behaviour(answer="Hello!", finish_reason="stop", usage=TOLD, headers={"X-Request-Id": "req-7"})
    reply = await reply_to(fake, client)
    assert reply.answer == Answer(
        text="Hello!",
        finish_reason="stop",
        finish_reason_raw="stop",
        response_id=reply.answer.response_id,
        response_model="gpt-4",
    )
    assert reply.usage == Usage(input_tokens=9, output_tokens=3)
    assert reply.provider_request_id == "req-7"
    assert reply.duration_s > 0


async def test_the_request_arrives_as_openai_describes_it(client: httpx.AsyncClient) -> None:
    async with RawServer(OK + b"Content-Length: 0\r\n\r\n") as server:
        call = call_to(
            f"{server.url}/v1/",
            provider_model="gpt-4-0613",
            api_key="sk-1",
            traceparent=TRACEPARENT,
            parameters={"temperature": 0, "stop": ["\n"]},
            extra_body={"top_k": 5},
        )
        await exchange(client, call)
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    lines = head.decode().lower().split("\r\n")
    assert lines[0] == "post /v1/chat/completions http/1.1"
    assert set(lines[1:]) >= {
        f"host: 127.0.0.1:{server.port}",
        "authorization: bearer sk-1",
        "content-type: application/json",
        "accept-encoding: identity",
        f"traceparent: {TRACEPARENT}",
        f"content-length: {len(body)}",
    }
    assert json.loads(body) == {
        "model": "gpt-4-0613",
        "messages": [{"role": "user", "content": "Hi"}],
        "max_tokens": 64,
        "temperature": 0,
        "stop": ["\n"],
        "top_k": 5,
    }


@pytest.mark.parametrize("traceparent", [None, "nothing", "00-\r\nX: y", TRACEPARENT.upper()])
async def test_without_a_key_or_a_trace_no_such_header_is_sent(
    client: httpx.AsyncClient, traceparent: str | None
) -> None:
    async with RawServer(OK + b"Content-Length: 0\r\n\r\n") as server:
        await exchange(client, call_to(server.url, traceparent=traceparent))
    assert b"authorization" not in server.requests[0].lower()
    assert b"traceparent" not in server.requests[0].lower()


def test_openai_itself_is_told_the_limit_of_its_reasoning_models() -> None:
    body = json.loads(write(Said(), provider_model="o4", max_tokens=7, host="api.openai.com").body)
    assert body == {
        "model": "o4",
        "messages": [{"role": "user", "content": "Hi"}],
        "max_completion_tokens": 7,
    }


@pytest.mark.parametrize(
    "name", ["model", "messages", "max_tokens", "max_completion_tokens", "n", "stream", "stream_options"]
)
def test_what_we_bound_cannot_be_overridden(name: str) -> None:
    said = Said(parameters={name: 9}, extra_body={name: 9})
    assert json.loads(write(said, provider_model="m", max_tokens=7, host="other").body) == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
        "max_tokens": 7,
    }


def test_an_endpoint_keeps_its_query() -> None:
    assert str(url_of("https://host/openai/v1/?api-version=1", "m")) == (
        "https://host/openai/v1/chat/completions?api-version=1"
    )


def test_a_call_does_not_show_its_key_or_its_prompt() -> None:
    shown = repr(call_to("http://127.0.0.1", "a secret prompt", api_key="sk-secret"))
    assert "secret" not in shown


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("stop", "stop"),
        ("eos", "stop"),
        ("length", "length"),
        ("max_tokens", "length"),
        ("tool_calls", "tool_calls"),
        ("function_call", "tool_calls"),
        ("content_filter", "content_filter"),
        ("SAFETY", "content_filter"),
        ("MALFORMED_FUNCTION_CALL", "other"),
        ("abort", "other"),
    ],
)
async def test_a_finish_reason_is_ours_with_the_provider_s_word_beside_it(
    fake: FakeProvider, client: httpx.AsyncClient, word: str, expected: str
) -> None:
    fake.behaviour = Behaviour(finish_reason=word)
    answer = (await reply_to(fake, client)).answer
    assert (answer.finish_reason, answer.finish_reason_raw) == (expected, word)


def completion(message: dict[str, Any], **changes: Any) -> str:
    choice = {"index": 0, "message": message, "finish_reason": "stop"} | changes
    return json.dumps({"id": "c-1", "model": "m", "choices": [choice], "usage": TOLD})


@pytest.mark.parametrize("content", ["", None])
@pytest.mark.parametrize("finish_reason", ["length", "content_filter"])
async def test_a_cut_or_filtered_answer_may_be_empty_and_its_text_is_never_null(
    fake: FakeProvider, client: httpx.AsyncClient, content: str | None, finish_reason: str
) -> None:
    fake.behaviour = Behaviour(body=completion({"content": content}, finish_reason=finish_reason))
    reply = await reply_to(fake, client)
    assert (reply.answer.text, reply.answer.finish_reason) == ("", finish_reason)
    assert reply.usage == Usage(input_tokens=9, output_tokens=3)


async def test_a_stop_sequence_at_once_is_an_empty_answer(fake: FakeProvider, client: httpx.AsyncClient) -> None:
    fake.behaviour = Behaviour(body=completion({"content": ""}))
    assert (await reply_to(fake, client, parameters={"stop": ["\n"]})).answer.text == ""


async def test_tool_calls_are_an_answer_without_text(fake: FakeProvider, client: httpx.AsyncClient) -> None:
    asked = {"id": "t-1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    fake.behaviour = Behaviour(tool_calls=[asked], finish_reason="tool_calls")
    answer = (await reply_to(fake, client)).answer
    assert (answer.text, answer.tool_calls, answer.finish_reason) == ("", (asked,), "tool_calls")


async def test_a_refusal_of_the_model_is_a_filtered_answer(fake: FakeProvider, client: httpx.AsyncClient) -> None:
    fake.behaviour = Behaviour(body=completion({"content": None, "refusal": "I cannot."}))
    answer = (await reply_to(fake, client)).answer
    assert (answer.text, answer.finish_reason, answer.finish_reason_raw) == ("I cannot.", "content_filter", "stop")


async def test_text_in_parts_is_joined(fake: FakeProvider, client: httpx.AsyncClient) -> None:
    parts = [{"type": "thinking", "thinking": []}, {"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]
    fake.behaviour = Behaviour(body=completion({"content": parts}))
    assert (await reply_to(fake, client)).answer.text == "Hello"


async def test_logprobs_are_passed_on(fake: FakeProvider, client: httpx.AsyncClient) -> None:
    told = {"content": [{"token": "Hi", "logprob": -0.1, "bytes": [72, 105], "top_logprobs": []}]}
    fake.behaviour = Behaviour(body=completion({"content": "Hi"}, logprobs=told))
    assert (await reply_to(fake, client)).answer.logprobs == told


async def test_an_answer_survives_as_an_event(fake: FakeProvider, client: httpx.AsyncClient) -> None:
    nested: Any = "x"
    for _ in range(60):
        nested = [nested]
    text = "\0\u2028 \U0001f600"
    fake.behaviour = Behaviour(body=completion({"content": text}, logprobs={"content": nested}))
    answer = (await reply_to(fake, client)).answer
    assert Answer.model_validate_json(answer.model_dump_json()) == answer
    assert answer.text == text


@pytest.mark.parametrize(
    "usage",
    [
        None,
        {},
        {"prompt_tokens": -1, "completion_tokens": 3},
        {"prompt_tokens": 9, "completion_tokens": 0},
        {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 7},
    ],
)
async def test_a_usage_that_cannot_be_is_none(fake: FakeProvider, client: httpx.AsyncClient, usage: Any) -> None:
    fake.behaviour = Behaviour(usage=usage)
    assert (await reply_to(fake, client)).usage is None


async def test_an_overrun_of_the_output_limit_is_told_as_it_is(fake: FakeProvider, client: httpx.AsyncClient) -> None:
    fake.behaviour = Behaviour(usage={"prompt_tokens": 9, "completion_tokens": 5000})
    assert (await reply_to(fake, client)).usage == Usage(input_tokens=9, output_tokens=5000)


@pytest.mark.parametrize(("limit", "read"), [(400, True), (399, False)])
async def test_an_answer_may_be_as_large_as_allowed(
    fake: FakeProvider, client: httpx.AsyncClient, limit: int, read: bool
) -> None:
    text = completion({"content": "x"})
    fake.behaviour = Behaviour(body=text + " " * (400 - len(text)))
    outcome = await exchange(client, call_to(fake.endpoint, max_answer_bytes=limit))
    assert isinstance(outcome, Reply) == read


async def test_a_cancelled_call_gives_its_connection_up_and_nobody_hears_another_s_answer(fake: FakeProvider) -> None:
    """redis-py 2624: a connection used again after a cancel told one user the data of another."""
    rng = random.Random(7)
    fake.behaviour = Behaviour(delay_s=0.001)

    async def ask(client: httpx.AsyncClient, number: int) -> bool:
        task = asyncio.ensure_future(exchange(client, call_to(fake.endpoint, f"nonce {number}")))
        if rng.random() < 0.5:
            for _ in range(rng.randrange(40)):
                await asyncio.sleep(0)
            task.cancel()
        try:
            outcome = await task
        except asyncio.CancelledError:
            return True
        messages = json.dumps([{"content": f"nonce {number}", "role": "user"}])
        assert isinstance(outcome, Reply)
        assert outcome.usage is not None
        return outcome.answer.text == words_of(messages, outcome.usage.output_tokens)

    async with provider_client(limit=8) as client:
        for batch in range(40):
            assert all(await asyncio.gather(*(ask(client, batch * 25 + i) for i in range(25))))


async def test_a_cancelled_call_is_cancelled(fake: FakeProvider, client: httpx.AsyncClient) -> None:
    fake.behaviour = Behaviour(hang=True)
    task: asyncio.Task[Reply | Refusal] = asyncio.ensure_future(exchange(client, call_to(fake.endpoint)))
    while not fake.calls:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
