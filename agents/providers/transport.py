"""httpx on aiohttp's connections: the same errors as httpx's own transport, four times as many requests a second.

What the error map keeps: `ConnectError` and `ConnectTimeout` mean that nothing was sent, so nothing can have been
billed; `PoolTimeout` means that we were full, not the provider; whatever happens once the first header may be on the
wire is a read or protocol error. The phase decides, the exception only refines it: aiohttp's classes overlap (a
`ServerTimeoutError` is raised before and after sending).

A POST is sent once: aiohttp repeats only idempotent methods on a connection that turns out to be closed.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from enum import Enum, auto
from functools import cache, lru_cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from types import SimpleNamespace
from typing import Any

import aiohttp
import httpx
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

USER_AGENT = "prompt-orchestrator"
KEEPALIVE_S = 15.0
CONNECT_TIMEOUT_S = 5.0
POOL_TIMEOUT_S = 5.0
LARGEST_HEADER_BYTES = 65_536

Trace = Callable[[str, dict[str, Any]], Awaitable[None]]
"""httpx's `trace` extension: told `connection.connect_tcp.started` and `http11.send_request_headers.started`."""


class GarbledResponse(httpx.RemoteProtocolError):
    """What came back is not HTTP. Raised apart from a dropped connection, which httpx gives the same class."""


class _Phase(Enum):
    QUEUED = auto()
    CONNECTING = auto()
    SENT = auto()


@dataclass(slots=True)
class _Journey:
    """How far one request has come."""

    trace: Trace | None
    phase: _Phase = _Phase.QUEUED

    async def reach(self, phase: _Phase, event: str) -> None:
        self.phase = phase
        if self.trace is not None:
            await self.trace(event, {})


class AiohttpTransport(httpx.AsyncBaseTransport):
    """At most `limit` connections at once (0: no limit), kept `KEEPALIVE_S` when idle.

    No cookies, no proxies or credentials from the environment, no redirects, no decompression. Belongs to the event
    loop of its first request.
    """

    def __init__(self, *, limit: int, tls: ssl.SSLContext | None = None) -> None:
        self._limit = limit
        self._tls = tls or _authorities()
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        _refuse_broken_headers(request)
        body = b"".join([part async for part in request.stream])  # type: ignore[union-attr]  # of an AsyncClient
        journey = _Journey(request.extensions.get("trace"))
        try:
            response = await self._open().request(
                request.method,
                _parsed(str(request.url)),
                headers=[(name, value) for name, value in request.headers.multi_items() if name not in _OURS],
                data=body or None,
                allow_redirects=False,
                timeout=_timeout_of(request),
                trace_request_ctx=journey,
            )
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _translate(error, journey.phase, request) from error
        return httpx.Response(
            response.status, headers=list(response.raw_headers), stream=_Body(response, request), request=request
        )

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                limit=self._limit,
                keepalive_timeout=KEEPALIVE_S,
                ssl=self._tls,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                auto_decompress=False,
                skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
                trace_configs=[_tracing()],
                max_line_size=LARGEST_HEADER_BYTES,
                max_field_size=LARGEST_HEADER_BYTES,
            )
        return self._session


_OURS = frozenset({"content-length", "transfer-encoding"})
"""Set by aiohttp, which is given the whole body."""


class DirectClient(httpx.AsyncClient):
    """A client whose requests go straight to its transport: no cookies, credentials, redirects or hooks on the way,
    which are half of what httpx does for a request."""

    def __init__(self, transport: httpx.AsyncBaseTransport, **options: Any) -> None:
        super().__init__(transport=transport, **options)
        self._direct = transport

    async def send(self, request: httpx.Request, *, stream: bool = False, **_unused: Any) -> httpx.Response:
        """Send a request as it is."""
        response = await self._direct.handle_async_request(request)
        response.request = request
        if not stream:
            await response.aread()
        return response


def client(*, limit: int) -> httpx.AsyncClient:
    """Return the client for calls to providers: at most `limit` connections, nothing remembered, nothing followed."""
    return DirectClient(
        AiohttpTransport(limit=limit),
        timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT_S, pool=POOL_TIMEOUT_S),
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
        follow_redirects=False,
        trust_env=False,
        headers={"user-agent": USER_AGENT},
    )


class _Body(httpx.AsyncByteStream):
    """The undecoded bytes of a response. Closed before its end, it takes its connection along: never reused."""

    def __init__(self, response: aiohttp.ClientResponse, request: httpx.Request) -> None:
        self._response = response
        self._request = request
        protocol = response.connection.protocol if response.connection else None  # None: all of it is here already
        self._lost: asyncio.Future[None] | None = (
            None if protocol is None else protocol.closed
        )  # an empty queue is falsy
        if self._lost is not None:
            self._lost.add_done_callback(self._wake)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        content = self._response.content
        try:
            while not content.at_eof():
                chunk = content.read_nowait() if self._is_lost() else await content.readany()
                if chunk:
                    yield chunk
                elif self._is_lost() and not content.at_eof():
                    raise GarbledResponse("no end", request=self._request)
        except (aiohttp.ClientError, OSError) as error:
            if self._was_reset() and not _is_garbled(error):
                raise httpx.ReadError("connection reset", request=self._request) from error
            raise _translate(error, _Phase.SENT, self._request) from error

    async def aclose(self) -> None:
        if self._lost is not None:
            self._lost.remove_done_callback(self._wake)
        self._response.close()

    def _wake(self, lost: asyncio.Future[None]) -> None:
        """End a wait for bytes that cannot come.

        Where a later segment of a body is no HTTP, aiohttp (3.14.5) closes the connection and leaves the reader waiting
        for ever. `read_nowait` refuses while someone waits, which tells that nothing is left to read.
        """
        content = self._response.content
        if not lost.cancelled():
            lost.exception()  # retrieved: it is told by the body
        if not content.is_eof() and content.exception() is None:
            try:
                content.read_nowait(0)
            except RuntimeError:
                content.set_exception(GarbledResponse("no end", request=self._request))

    def _is_lost(self) -> bool:
        return self._lost is not None and self._lost.done()

    def _was_reset(self) -> bool:
        lost = self._lost
        return lost is not None and lost.done() and not lost.cancelled() and lost.exception() is not None


def _translate(error: Exception, phase: _Phase, request: httpx.Request) -> httpx.TransportError:
    """Return httpx's word for `error`. Its text is the class alone: some messages hold the URL and headers."""
    kind = _after_sending(error) if phase is _Phase.SENT else _before_sending(error, phase)
    return kind(type(error).__name__, request=request)


def _after_sending(error: Exception) -> type[httpx.TransportError]:
    match error:  # in this order: a timeout is an OSError too
        case TimeoutError():
            return httpx.ReadTimeout
        case _ if _is_garbled(error):
            return GarbledResponse
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientPayloadError():
            return httpx.RemoteProtocolError
        case _:
            return httpx.ReadError


def _before_sending(error: Exception, phase: _Phase) -> type[httpx.TransportError]:
    match error:
        case TimeoutError():
            return httpx.PoolTimeout if phase is _Phase.QUEUED else httpx.ConnectTimeout
        case aiohttp.NonHttpUrlClientError():
            return httpx.UnsupportedProtocol
        case aiohttp.ClientConnectionError():  # some are ValueErrors: a certificate of another host
            return httpx.ConnectError
        case ValueError():  # aiohttp's InvalidURL is one
            return httpx.LocalProtocolError
        case _:
            return httpx.ConnectError


def _is_garbled(error: Exception) -> bool:
    return isinstance(error, aiohttp.ClientResponseError | HttpProcessingError)


def _refuse_broken_headers(request: httpx.Request) -> None:
    """Before a connection is looked for: aiohttp finds a line break in a header only while it sends."""
    told = b"".join([part for header in request.headers.raw for part in header])
    if not told.isascii() or b"\r" in told or b"\n" in told or b"\0" in told:
        raise httpx.LocalProtocolError("a header holds a line break, NUL or non-ASCII", request=request)


def _timeout_of(request: httpx.Request) -> aiohttp.ClientTimeout:
    """aiohttp has one limit for waiting in the pool and connecting together: theirs is the sum of httpx's two."""
    limits: dict[str, float | None] = request.extensions.get("timeout", {})
    return _client_timeout(limits.get("connect"), limits.get("pool"), limits.get("read"))


@lru_cache(maxsize=64)
def _client_timeout(connect: float | None, pool: float | None, read: float | None) -> aiohttp.ClientTimeout:
    together = None if connect is None or pool is None else connect + pool
    return aiohttp.ClientTimeout(total=None, connect=together, sock_connect=connect, sock_read=read)


@lru_cache(maxsize=1024)
def _parsed(url: str) -> URL:
    return URL(url, encoded=True)


@cache
def _authorities() -> ssl.SSLContext:
    """certifi's, or those of SSL_CERT_FILE. Tens of milliseconds: not within the first request's deadline."""
    return httpx.create_ssl_context()


def _tracing() -> aiohttp.TraceConfig:
    async def connecting(_session: aiohttp.ClientSession, context: SimpleNamespace, _told: object) -> None:
        await context.trace_request_ctx.reach(_Phase.CONNECTING, "connection.connect_tcp.started")

    async def sending(_session: aiohttp.ClientSession, context: SimpleNamespace, _told: object) -> None:
        await context.trace_request_ctx.reach(_Phase.SENT, "http11.send_request_headers.started")

    config = aiohttp.TraceConfig()
    config.on_connection_create_start.append(connecting)
    config.on_request_headers_sent.append(sending)
    return config
