"""The same real model through Anthropic's dialect, which llama.cpp's server speaks too."""

from typing import Any

import httpx
import pytest

from agents.providers.call import Refusal, Reply, exchange
from agents.providers.check import check
from tests.providers.calls import call_to
from tests.providers.local_model import MODEL

CONVERSATION = (
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Name a colour."},
    {"role": "assistant", "content": "Blue."},
    {"role": "user", "content": "Another one."},
)


async def asked(client: httpx.AsyncClient, endpoint: str, dialect: str, **changes: Any) -> Reply | Refusal:
    defaults: dict[str, Any] = {
        "provider_model": MODEL,
        "max_tokens": 12,
        "timeout_s": 60.0,
        "parameters": {"temperature": 0},
    }
    return await exchange(client, call_to(endpoint, dialect=dialect, **defaults | changes))


async def test_one_conversation_in_two_dialects_is_one_prompt_and_one_count(
    local_model: str, client: httpx.AsyncClient
) -> None:
    ours = await asked(client, local_model, "anthropic", messages=CONVERSATION)
    openai = await asked(client, local_model, "openai", messages=CONVERSATION)
    assert isinstance(ours, Reply), ours
    assert isinstance(openai, Reply), openai
    assert ours.usage is not None
    assert openai.usage is not None
    assert ours.usage.input_tokens == openai.usage.input_tokens  # whatever either found in the cache
    assert 0 < ours.usage.output_tokens <= 12
    assert ours.answer.text
    assert ours.answer.finish_reason in {"stop", "length"}
    assert ours.answer.finish_reason_raw in {"end_turn", "max_tokens"}


async def test_a_cached_prompt_counts_the_same_in_total(local_model: str, client: httpx.AsyncClient) -> None:
    replies = [await asked(client, local_model, "anthropic", messages=CONVERSATION) for _ in range(3)]
    usages = [reply.usage for reply in replies if isinstance(reply, Reply)]
    assert len({usage.input_tokens for usage in usages if usage is not None}) == 1
    assert all(usage is not None and usage.cache_read_input_tokens <= usage.input_tokens for usage in usages)


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
async def test_a_limit_of_tokens_is_kept_and_told(local_model: str, client: httpx.AsyncClient, dialect: str) -> None:
    reply = await asked(client, local_model, dialect, content="Count from one to one hundred in words.", max_tokens=5)
    assert isinstance(reply, Reply)
    assert reply.usage is not None
    assert (reply.answer.finish_reason, reply.usage.output_tokens) == ("length", 5)


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
async def test_a_stop_sequence_ends_the_answer_before_it(
    local_model: str, client: httpx.AsyncClient, dialect: str
) -> None:
    parameters = {"temperature": 0, "stop": ["e"]}
    reply = await asked(client, local_model, dialect, content="Name a colour.", parameters=parameters)
    assert isinstance(reply, Reply), reply
    assert "e" not in reply.answer.text
    assert reply.answer.finish_reason == "stop"


async def test_tools_and_their_results_are_understood(local_model: str, client: httpx.AsyncClient) -> None:
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    messages = (
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    )
    reply = await asked(client, local_model, "anthropic", messages=messages, parameters={"tools": [tool]})
    assert isinstance(reply, Reply), reply
    assert reply.usage is not None


async def test_a_prompt_beyond_the_context_is_refused(local_model: str, client: httpx.AsyncClient) -> None:
    refusal = await asked(client, local_model, "anthropic", content="word " * 5000)
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.reason, refusal.billed) == ("TOKEN_LIMIT_EXCEEDED", "context", "none")


async def test_the_model_is_healthy_in_both_dialects(local_model: str, client: httpx.AsyncClient) -> None:
    assert await check(client, local_model, "anthropic", "sk-any", 5.0)
    assert await check(client, local_model, "openai", "sk-any", 5.0)
