"""A real model behind the same call: what llama.cpp's server says, not what we think it says."""

import httpx

from agents.providers.call import Refusal, Reply, exchange
from agents.providers.check import check
from tests.providers.calls import call_to
from tests.providers.local_model import MODEL


async def test_a_real_model_answers_and_its_own_count_is_told(local_model: str, client: httpx.AsyncClient) -> None:
    asked = {"model": MODEL, "messages": [{"role": "user", "content": "Name a colour."}], "temperature": 0, "seed": 1}
    direct = await client.post(f"{local_model}/chat/completions", json=asked | {"max_tokens": 12}, timeout=60)
    call = call_to(
        local_model,
        "Name a colour.",
        provider_model=MODEL,
        max_tokens=12,
        timeout_s=60.0,
        parameters={"temperature": 0, "seed": 1},
    )
    reply = await exchange(client, call)
    counted = direct.json()["usage"]
    assert isinstance(reply, Reply)
    assert reply.answer.text
    assert reply.answer.finish_reason in {"stop", "length"}
    assert reply.usage is not None
    assert reply.usage.input_tokens == counted["prompt_tokens"]
    assert 0 < reply.usage.output_tokens <= 12
    assert reply.usage.cache_read_input_tokens <= reply.usage.input_tokens


async def test_a_real_model_refuses_a_prompt_beyond_its_context(local_model: str, client: httpx.AsyncClient) -> None:
    refusal = await exchange(client, call_to(local_model, "word " * 5000, provider_model=MODEL, timeout_s=60.0))
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.reason, refusal.billed) == ("TOKEN_LIMIT_EXCEEDED", "context", "none")


async def test_a_real_model_is_healthy(local_model: str, client: httpx.AsyncClient) -> None:
    assert await check(client, local_model, "openai", None, 5.0)
