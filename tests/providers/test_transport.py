"""Our transport tells every failure by the same class as httpx's own: what was never sent is never taken for lost."""

import asyncio
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest

from agents.providers.transport import AiohttpTransport, GarbledResponse
from agents.providers.transport import client as provider_client
from tests.providers.raw import CHUNKED, OK, RawServer, Step, pause, reset, stay_silent

FULL = OK + b"Content-Length: 2\r\n\r\nok"

TRANSPORTS: dict[str, Callable[[], httpx.AsyncBaseTransport]] = {
    "httpx": httpx.AsyncHTTPTransport,
    "ours": lambda: AiohttpTransport(limit=10),
}

AFTER_SENDING: dict[str, tuple[tuple[Step, ...], type[httpx.TransportError]]] = {
    "closed before any byte": ((), httpx.RemoteProtocolError),
    "closed in the headers": ((OK + b"Content-Le",), httpx.RemoteProtocolError),
    "closed in a counted body": ((OK + b"Content-Length: 9\r\n\r\nabc",), httpx.RemoteProtocolError),
    "closed in a chunked body": ((CHUNKED + b"5\r\nabcde\r\n",), httpx.RemoteProtocolError),
    "reset before any byte": ((reset,), httpx.ReadError),
    "reset in a counted body": ((OK + b"Content-Length: 9\r\n\r\nabc", pause, reset), httpx.ReadError),
    "reset in a chunked body": ((CHUNKED + b"5\r\nabcde\r\n", pause, reset), httpx.ReadError),
    "garbage": ((b"\x16\x03\x01garbage\r\n\r\n",), httpx.RemoteProtocolError),
    "two lengths": ((OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok!",), httpx.RemoteProtocolError),
    "a huge header": ((OK + b"X: " + b"x" * 200_000 + b"\r\n\r\n",), httpx.RemoteProtocolError),
    "a bad chunk": ((CHUNKED + b"ZZ\r\nabc\r\n",), httpx.RemoteProtocolError),
    "a bad chunk later, and then silence": (
        (CHUNKED + b"2\r\nab\r\n", pause, b"ZZ\r\nabc\r\n", stay_silent),
        httpx.RemoteProtocolError,
    ),
    "no first byte": ((stay_silent,), httpx.ReadTimeout),
    "no end of the body": ((OK + b"Content-Length: 9\r\n\r\nabc", stay_silent), httpx.ReadTimeout),
}


@pytest.mark.parametrize("transport", TRANSPORTS.values(), ids=TRANSPORTS)
@pytest.mark.parametrize(("steps", "expected"), AFTER_SENDING.values(), ids=AFTER_SENDING)
async def test_a_failure_after_sending_is_never_a_connect_error(
    transport: Callable[[], httpx.AsyncBaseTransport], steps: tuple[Step, ...], expected: type[httpx.TransportError]
) -> None:
    async with RawServer(*steps) as server, httpx.AsyncClient(transport=transport(), timeout=0.5) as client:
        error = await failure_of(client, server.url)
    assert isinstance(error, expected)
    assert len(server.requests) == 1


GARBLED = ["garbage", "two lengths", "a huge header", "a bad chunk", "a bad chunk later, and then silence"]


@pytest.mark.parametrize("name", AFTER_SENDING)
async def test_only_what_is_no_http_is_garbled(name: str) -> None:
    async with RawServer(*AFTER_SENDING[name][0]) as server, httpx.AsyncClient(transport=ours(), timeout=0.5) as client:
        error = await failure_of(client, server.url)
    assert isinstance(error, GarbledResponse) == (name in GARBLED)


@pytest.mark.parametrize("transport", TRANSPORTS.values(), ids=TRANSPORTS)
async def test_a_refused_connection_is_a_connect_error(transport: Callable[[], httpx.AsyncBaseTransport]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, but not listening
        async with httpx.AsyncClient(transport=transport(), timeout=2) as client:
            error = await failure_of(client, f"http://127.0.0.1:{unused.getsockname()[1]}")
    assert isinstance(error, httpx.ConnectError)


@pytest.mark.parametrize("transport", TRANSPORTS.values(), ids=TRANSPORTS)
async def test_a_name_that_does_not_resolve_is_a_connect_error(
    transport: Callable[[], httpx.AsyncBaseTransport], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def resolve_nothing(*_name: object, **_options: object) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")  # asks nobody outside

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve_nothing)
    async with httpx.AsyncClient(transport=transport(), timeout=2) as client:
        error = await failure_of(client, "http://name.invalid")
    assert isinstance(error, httpx.ConnectError)


@pytest.mark.parametrize("transport", TRANSPORTS.values(), ids=TRANSPORTS)
@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""], ids=["speaks plain", "closes"])
async def test_a_failed_tls_handshake_is_a_connect_error(
    transport: Callable[[], httpx.AsyncBaseTransport], answer: bytes
) -> None:
    async def speak_plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(speak_plain, "127.0.0.1", 0)
    async with server, httpx.AsyncClient(transport=transport(), timeout=2) as client:
        error = await failure_of(client, f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    assert isinstance(error, httpx.ConnectError)


@pytest.mark.parametrize("transport", TRANSPORTS.values(), ids=TRANSPORTS)
async def test_a_handshake_without_end_is_a_connect_timeout(transport: Callable[[], httpx.AsyncBaseTransport]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:  # the kernel accepts, nobody speaks
        async with httpx.AsyncClient(transport=transport(), timeout=0.2) as client:
            error = await failure_of(client, f"https://127.0.0.1:{listening.getsockname()[1]}")
    assert isinstance(error, httpx.ConnectTimeout)


async def test_a_full_pool_is_a_pool_timeout() -> None:
    for transport in (httpx.AsyncHTTPTransport(limits=httpx.Limits(max_connections=1)), AiohttpTransport(limit=1)):
        async with RawServer(stay_silent) as server:
            timeout = httpx.Timeout(None, connect=0.1, pool=0.1)
            async with httpx.AsyncClient(transport=transport, timeout=timeout) as client:
                first = asyncio.ensure_future(client.post(server.url))
                while not server.requests:
                    await asyncio.sleep(0)
                assert isinstance(await failure_of(client, server.url), httpx.PoolTimeout)
                first.cancel()
        assert len(server.requests) == 1


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "http:///path", "nowhere"])
async def test_an_url_that_is_none_is_found_before_anything_is_sent(url: str) -> None:
    async with httpx.AsyncClient(transport=ours(), timeout=2) as client:
        error = await failure_of(client, url)
    assert isinstance(error, httpx.UnsupportedProtocol | httpx.LocalProtocolError)


async def test_a_post_is_sent_once_on_a_kept_connection_that_breaks() -> None:
    """aiohttp repeats a request of its own accord where it holds the method for idempotent."""
    replies = iter([FULL, b""])

    async def answer_once(writer: asyncio.StreamWriter) -> None:
        reply = next(replies)
        writer.write(reply)
        if not reply:
            writer.close()

    server = RawServer(answer_once, keep_alive=True)
    async with server, httpx.AsyncClient(transport=ours(), timeout=2) as client:
        await client.post(server.url, content=b"first")
        error = await failure_of(client, server.url)
    assert isinstance(error, httpx.RemoteProtocolError)
    assert server.connections == 1
    assert [request[-5:] for request in server.requests] == [b"first", b"hello"]


async def test_an_idle_connection_closed_by_the_peer_costs_no_request() -> None:
    async with RawServer(FULL, keep_alive=True) as server, httpx.AsyncClient(transport=ours(), timeout=2) as client:
        await client.post(server.url, content=b"first")
        await server.close_connections()
        await asyncio.sleep(0)  # the end of the connection is read
        response = await client.post(server.url, content=b"hello")
    assert response.text == "ok"
    assert [request[-5:] for request in server.requests] == [b"first", b"hello"]


async def test_a_connection_is_kept_and_used_again() -> None:
    async with RawServer(FULL, keep_alive=True) as server, httpx.AsyncClient(transport=ours(), timeout=2) as client:
        for _ in range(3):
            await client.post(server.url)
    assert (server.connections, len(server.requests)) == (1, 3)


async def test_a_response_that_is_not_read_to_its_end_takes_its_connection_along() -> None:
    server = RawServer(OK + b"Content-Length: 1000\r\n\r\nfirst", keep_alive=True)
    responses = []  # held, so that no garbage collection closes what we did not
    async with server, httpx.AsyncClient(transport=AiohttpTransport(limit=1), timeout=2) as client:
        for _ in range(2):
            async with client.stream("POST", server.url) as response:
                responses.append(response)
    assert server.connections == 2


@pytest.mark.parametrize(
    "body", [OK + b"Content-Length: 3000000\r\n\r\n" + b"a" * 3_000_000, OK + b"\r\n" + b"a" * 3_000_000]
)
async def test_a_large_body_is_whole_though_the_peer_closes_at_once(body: bytes) -> None:
    async with RawServer(body) as server, httpx.AsyncClient(transport=ours(), timeout=5) as client:
        assert len((await client.post(server.url)).content) == 3_000_000


async def test_nothing_of_the_environment_reaches_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(RawServer(FULL))
        baked = OK + b"Set-Cookie: a=b\r\nContent-Length: 0\r\n\r\n"
        server = await stack.enter_async_context(RawServer(baked, keep_alive=True))
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        client = await stack.enter_async_context(provider_client(limit=1))
        for _ in range(2):
            await client.post(server.url, content=b"{}")
    assert proxy.requests == []
    assert len(server.requests) == 2
    assert b"cookie" not in server.requests[1].lower()


async def test_a_redirect_is_not_followed() -> None:
    async with RawServer(FULL) as elsewhere:
        reply = f"HTTP/1.1 307 Away\r\nLocation: {elsewhere.url}\r\nContent-Length: 0\r\n\r\n".encode()
        async with RawServer(reply) as server, provider_client(limit=1) as client:
            assert (await client.post(server.url)).status_code == 307
    assert elsewhere.requests == []


@pytest.mark.parametrize("value", ["a\r\nInjected: b", "a\nb", "a\0b"])
async def test_a_line_break_in_a_header_is_refused_before_a_connection_is_made(value: str) -> None:
    async with RawServer(FULL) as server, httpx.AsyncClient(transport=ours(), timeout=2) as client:
        with pytest.raises(httpx.LocalProtocolError):
            await client.post(server.url, headers={"X-Told": value})
    assert server.connections == 0


def ours() -> AiohttpTransport:
    return AiohttpTransport(limit=10)


async def failure_of(client: httpx.AsyncClient, url: str) -> Exception:
    with pytest.raises(httpx.TransportError) as caught:
        await client.post(url, content=b"hello")
    return caught.value
