"""A health check tells whether an endpoint answers, and costs nothing."""

import httpx
import pytest

from agents.providers.check import check
from tests.providers.fake import Behaviour, FakeProvider
from tests.providers.raw import OK, RawServer, stay_silent


@pytest.mark.parametrize(
    ("status", "healthy"), [(200, True), (307, False), (404, False), (429, False), (500, False), (503, False)]
)
async def test_only_a_success_is_healthy(
    fake: FakeProvider, client: httpx.AsyncClient, status: int, healthy: bool
) -> None:
    fake.behaviour = Behaviour(status=status)
    assert await check(client, fake.endpoint, "openai", None, 5.0) == healthy
    assert fake.calls == []


@pytest.mark.parametrize(("key", "healthy"), [("sk-right", True), ("sk-wrong", False), (None, False)])
async def test_a_refused_key_is_not_healthy(client: httpx.AsyncClient, key: str | None, healthy: bool) -> None:
    async with FakeProvider(api_key="sk-right") as provider:
        assert await check(client, provider.endpoint, "openai", key, 5.0) == healthy


async def test_silence_is_not_healthy(client: httpx.AsyncClient) -> None:
    async with RawServer(stay_silent) as server:
        assert not await check(client, server.url, "openai", None, 0.05)


async def test_an_endless_list_is_not_read(client: httpx.AsyncClient) -> None:
    async with RawServer(OK + b"Content-Length: 9999999\r\n\r\n", stay_silent) as server:
        assert await check(client, server.url, "openai", None, 5.0)


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:1", "http://[::", "ftp://x", "nothing", "http://"])
async def test_what_cannot_be_reached_is_not_healthy(client: httpx.AsyncClient, endpoint: str) -> None:
    assert not await check(client, endpoint, "openai", None, 1.0)


@pytest.mark.parametrize(
    ("dialect", "expected"),
    [
        ("openai", b"authorization: bearer sk-1"),
        ("anthropic", b"x-api-key: sk-1"),
        ("anthropic", b"anthropic-version: 2023-06-01"),
        ("google", b"x-goog-api-key: sk-1"),
    ],
)
async def test_the_key_goes_where_the_provider_looks_for_it(
    client: httpx.AsyncClient, dialect: str, expected: bytes
) -> None:
    async with RawServer(OK + b"Content-Length: 0\r\n\r\n") as server:
        await check(client, f"{server.url}/v1", dialect, "sk-1", 5.0)
    assert server.requests[0].startswith(b"GET /v1/models HTTP/1.1\r\n")
    assert expected in server.requests[0].lower()


async def test_a_key_that_no_header_can_hold_is_not_healthy(fake: FakeProvider, client: httpx.AsyncClient) -> None:
    for key in ("a\r\nX: y", "schlüssel"):
        assert not await check(client, fake.endpoint, "openai", key, 5.0)
