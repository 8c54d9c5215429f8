"""The fake provider keeps an honest invoice, also where its answers lie, and outlives those who call it."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from agents.providers.call import Refusal, Reply, exchange
from agents.providers.transport import client as provider_client
from tests.providers.calls import call_to
from tests.providers.fake import Behaviour, FakeProvider, read_journal


async def test_the_same_prompt_gets_the_same_answer_and_usage(fake: FakeProvider, client: httpx.AsyncClient) -> None:
    first, second, other = [await exchange(client, call_to(fake.endpoint, said)) for said in ("a", "a", "b")]
    assert isinstance(first, Reply)
    assert isinstance(second, Reply)
    assert isinstance(other, Reply)
    assert (first.answer, first.usage) == (second.answer, second.usage)
    assert first.answer.text != other.answer.text


async def test_it_honours_the_output_limit(fake: FakeProvider, client: httpx.AsyncClient) -> None:
    for number in range(20):
        reply = await exchange(client, call_to(fake.endpoint, f"prompt {number}", max_tokens=2))
        assert isinstance(reply, Reply)
        assert reply.usage is not None
        assert reply.usage.output_tokens <= 2


async def test_a_prompt_chooses_what_becomes_of_it(fake: FakeProvider, client: httpx.AsyncClient) -> None:
    told = json.dumps({"fake": {"status": 503, "times": 2}, "n": "marker:r-1"})
    outcomes = [await exchange(client, call_to(fake.endpoint, told)) for _ in range(3)]
    assert [isinstance(outcome, Reply) for outcome in outcomes] == [False, False, True]
    assert [(call.marker, call.status, call.charged) for call in fake.calls] == [
        ("r-1", 503, False),
        ("r-1", 503, False),
        ("r-1", 200, True),
    ]


@pytest.mark.parametrize("how", ["cut", "drop", "reset", "hang"])
async def test_an_answer_that_is_lost_is_charged_all_the_same(
    fake: FakeProvider, client: httpx.AsyncClient, how: str
) -> None:
    lost = await exchange(client, call_to(fake.endpoint, json.dumps({"fake": {how: True}}), timeout_s=0.5))
    assert isinstance(lost, Refusal)
    assert lost.billed == "uncertain"
    assert lost.reason == ("provider_timeout" if how == "hang" else "connection_lost")
    assert fake.calls[0].charged


async def test_its_invoice_is_what_it_told(fake: FakeProvider, client: httpx.AsyncClient) -> None:
    fake.behaviour = Behaviour(usage={"prompt_tokens": 9, "completion_tokens": 3})
    for number in range(3):
        await exchange(client, call_to(fake.endpoint, f"prompt {number}"))
    assert fake.invoice == (27, 9)


async def test_a_wrong_key_is_refused_and_not_charged(client: httpx.AsyncClient) -> None:
    async with FakeProvider(api_key="right") as provider:
        refusal = await exchange(client, call_to(provider.endpoint, api_key="wrong"))
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "provider_auth"
    assert provider.invoice == (0, 0)


async def test_a_thousand_calls_at_once_are_all_answered(fake: FakeProvider) -> None:
    fake.behaviour = Behaviour(delay_s=0.2, answer="ok")
    async with provider_client(limit=1000) as client:
        outcomes = await asyncio.gather(
            *(exchange(client, call_to(fake.endpoint, f"{n}", timeout_s=120.0)) for n in range(1000))
        )
    assert [type(outcome) for outcome in outcomes] == [Reply] * 1000
    assert len({call.prompt_sha256 for call in fake.calls}) == 1000


async def test_as_a_process_it_keeps_a_journal_that_survives_it(client: httpx.AsyncClient, tmp_path: Path) -> None:
    journal = tmp_path / "invoice.jsonl"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.providers.fake", "--journal", str(journal), "--behaviour", '{"answer": "ok"}'),
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    word, endpoint = (await process.stdout.readline()).decode().split()
    assert word == "ready"
    reply = await exchange(client, call_to(endpoint, "marker:r-9"))
    base = endpoint.removesuffix("/v1")
    assert (await client.post(f"{base}/fake/behaviour", json={"status": 429})).is_success
    refusal = await exchange(client, call_to(endpoint))
    assert (await client.post(f"{base}/fake/behaviour", json={"statsu": 429})).status_code == 400
    assert len((await client.get(f"{base}/fake/journal")).json()) == 2
    process.kill()
    await process.wait()
    assert isinstance(reply, Reply)
    assert isinstance(refusal, Refusal)
    assert [(entry.seq, entry.marker, entry.status) for entry in read_journal(journal)] == [
        (1, "r-9", 200),
        (2, None, 429),
    ]
