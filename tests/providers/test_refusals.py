"""What each failure of a provider means, one row per symptom (CONTRACT §2), over real sockets."""

import asyncio
import gzip
import json
import socket
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from agents.providers.call import UNCLASSIFIED, Refusal, Reply, exchange
from agents.providers.refusals import ProviderError, error_of, retry_after_of, verdict_on
from agents.providers.transport import AiohttpTransport
from schemas.usage import Usage
from tests.providers.calls import call_to
from tests.providers.fake import Behaviour, FakeProvider
from tests.providers.raw import CHUNKED, OK, RawServer, Step, pause, reset, stay_silent

CANARY = "sk-canary-0123456789"


@pytest.fixture(autouse=True)
def nothing_is_unclassified() -> Iterator[None]:
    UNCLASSIFIED.clear()
    yield
    assert not UNCLASSIFIED


@dataclass(frozen=True, slots=True)
class Means:
    """The columns of CONTRACT §2 and of our own."""

    code: str
    reason: str
    again: bool
    elsewhere: bool
    billed: str
    blames_model: bool


def means(refusal: Reply | Refusal) -> Means:
    assert isinstance(refusal, Refusal)
    return Means(refusal.code, refusal.reason, refusal.again, refusal.elsewhere, refusal.billed, refusal.blames_model)


Y, N = True, False

#                          code                    reason             again elsewhere billed   blames the model
CONNECT = Means("MODEL_UNAVAILABLE", "connect", Y, Y, "none", Y)
OUR_POOL = Means("MODEL_UNAVAILABLE", "connect", Y, N, "none", N)
AUTH = Means("MODEL_UNAVAILABLE", "provider_auth", N, Y, "none", Y)
NOT_FOUND = Means("MODEL_UNAVAILABLE", "unknown_to_provider", N, Y, "none", Y)
RATE_LIMIT = Means("MODEL_UNAVAILABLE", "rate_limit", Y, Y, "none", N)
NO_MONEY = Means("MODEL_UNAVAILABLE", "rate_limit", N, Y, "none", N)
REJECTED = Means("INVALID_REQUEST", "provider_rejected", N, N, "none", N)
FILTERED = Means("INVALID_REQUEST", "content_filter", N, N, "none", N)
CONTEXT = Means("TOKEN_LIMIT_EXCEEDED", "context", N, Y, "none", N)
MAX_TOKENS = Means("TOKEN_LIMIT_EXCEEDED", "max_tokens", N, Y, "none", N)
SERVER_ERROR = Means("MODEL_ERROR", "server_error", Y, Y, "none", Y)
OVERLOADED = Means("MODEL_ERROR", "overloaded", Y, Y, "none", Y)
GATEWAY = Means("MODEL_ERROR", "gateway", Y, Y, "uncertain", Y)
TIMEOUT = Means("TIMEOUT_ERROR", "provider_timeout", Y, Y, "uncertain", Y)
HASTY_TIMEOUT = Means("TIMEOUT_ERROR", "provider_timeout", Y, Y, "uncertain", N)
LOST = Means("MODEL_ERROR", "connection_lost", Y, Y, "uncertain", Y)
EMPTY = Means("INVALID_RESPONSE", "empty", Y, Y, "uncertain", Y)
EMPTY_TOLD = Means("INVALID_RESPONSE", "empty", Y, Y, "usage", Y)
TRUNCATED = Means("INVALID_RESPONSE", "truncated", Y, Y, "uncertain", Y)
TRUNCATED_TOLD = Means("INVALID_RESPONSE", "truncated", Y, Y, "usage", Y)
MALFORMED = Means("INVALID_RESPONSE", "malformed", Y, Y, "uncertain", Y)
MALFORMED_TOLD = Means("INVALID_RESPONSE", "malformed", Y, Y, "usage", Y)
TOO_LARGE = Means("INVALID_RESPONSE", "too_large", Y, Y, "uncertain", Y)
ERROR_BODY = Means("INVALID_RESPONSE", "error_body", Y, Y, "uncertain", Y)
ERROR_BODY_TOLD = Means("INVALID_RESPONSE", "error_body", Y, Y, "usage", Y)
REDIRECT = Means("INVALID_RESPONSE", "redirect", Y, Y, "uncertain", Y)

STATUSES: dict[str, tuple[int, dict[str, Any], Means]] = {
    "400": (400, {"type": "invalid_request_error", "param": "temperature"}, REJECTED),
    "413": (413, {"type": "request_too_large"}, REJECTED),
    "422": (422, {"type": "unprocessable"}, REJECTED),
    "409": (409, {}, REJECTED),
    "400, code in words of a prompt about 429": (400, {"message": "429 rate limit, overloaded"}, REJECTED),
    "400, filter": (400, {"code": "content_filter", "innererror": {}}, FILTERED),
    "400, Azure's filter": (400, {"innererror": {"code": "ResponsibleAIPolicyViolation"}}, FILTERED),
    "400, context": (400, {"code": "context_length_exceeded"}, CONTEXT),
    "400, llama.cpp's context": (400, {"code": 400, "type": "exceed_context_size_error"}, CONTEXT),
    "400, vLLM's context": (400, {"code": 400, "message": "maximum context length is 2048 tokens."}, CONTEXT),
    "400, limit": (400, {"param": "max_tokens", "code": "invalid_value", "type": "invalid_request_error"}, MAX_TOKENS),
    "400, other limit": (400, {"param": "max_tokens", "code": "unsupported_parameter"}, REJECTED),
    "400, model": (400, {"code": "model_not_found"}, NOT_FOUND),
    "401": (401, {"code": "invalid_api_key", "message": f"Incorrect API key provided: {CANARY}"}, AUTH),
    "403": (403, {}, AUTH),
    "402": (402, {"type": "billing_error"}, NO_MONEY),
    "404": (404, {"code": "model_not_found"}, NOT_FOUND),
    "405": (405, {}, NOT_FOUND),
    "408": (408, {}, GATEWAY),
    "429": (429, {"type": "tokens", "code": "rate_limit_exceeded"}, RATE_LIMIT),
    "429, no money": (429, {"type": "insufficient_quota", "code": "credit_balance_exhausted"}, NO_MONEY),
    "429, too large": (429, {"message": "Request too large. Limit 10000, Requested 12000."}, NO_MONEY),
    "429, not too large": (429, {"message": "Limit 10000, Used 9000, Requested 1200."}, RATE_LIMIT),
    "500": (500, {"type": "api_error"}, SERVER_ERROR),
    "501": (501, {}, SERVER_ERROR),
    "503": (503, {"type": "service_unavailable"}, SERVER_ERROR),
    "503, says so": (503, {"code": "server_is_overloaded"}, OVERLOADED),
    "503, says so in words": (503, {"message": "The engine is currently overloaded"}, OVERLOADED),
    "502": (502, {}, GATEWAY),
    "504": (504, {}, GATEWAY),
    "529": (529, {"type": "overloaded_error"}, OVERLOADED),
    "599": (599, {}, SERVER_ERROR),
    "304": (304, {}, REDIRECT),
    "307": (307, {}, REDIRECT),
}


@pytest.mark.parametrize(("status", "error", "expected"), STATUSES.values(), ids=STATUSES)
async def test_a_status_means(
    fake: FakeProvider, client: httpx.AsyncClient, status: int, error: dict[str, Any], expected: Means
) -> None:
    fake.behaviour = Behaviour(status=status, error={"message": "as told"} | error)
    refusal = await exchange(client, call_to(fake.endpoint, api_key=CANARY))
    assert means(refusal) == expected
    assert isinstance(refusal, Refusal)
    assert refusal.http_status == status
    assert "as told" not in refusal.message
    assert CANARY not in repr(refusal)


TOLD = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}


def choice(**changes: Any) -> dict[str, Any]:
    return {"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"} | changes


def body(*choices: Any, **changes: Any) -> str:
    return json.dumps({"id": "c-1", "model": "gpt-4-0613", "choices": list(choices), "usage": TOLD} | changes)


DEEP = json.loads("[" * 70 + "]" * 70)

BODIES: dict[str, tuple[str, Means]] = {
    "nothing": ("", EMPTY),
    "white space": (" \n", EMPTY),
    "a page": ("<html>busy</html>", MALFORMED),
    "cut JSON": ('{"choices": [', MALFORMED),
    "NaN": ('{"choices": NaN}', MALFORMED),
    "a lone surrogate": ('{"id": "\\ud800"}', MALFORMED),
    "nesting without end": ("[" * 60_000, MALFORMED),
    "a list": ("[]", MALFORMED),
    "an error object": (json.dumps({"error": {"code": 429, "message": "busy"}}), ERROR_BODY),
    "an error that was billed": (body(error={"message": "busy"}), ERROR_BODY_TOLD),
    "an error in the choice": (body(choice(finish_reason="error", error={"code": 502})), ERROR_BODY_TOLD),
    "no choices": (json.dumps({"id": "c-1"}), EMPTY),
    "choices null": (json.dumps({"choices": None}), EMPTY),
    "choices empty, billed": (body(), EMPTY_TOLD),
    "choices of another type": (body(choices="x"), MALFORMED_TOLD),
    "a choice of another type": (body("x"), MALFORMED_TOLD),
    "no message": (body(choice(message=None)), EMPTY_TOLD),
    "content null": (body(choice(message={"role": "assistant", "content": None})), EMPTY_TOLD),
    "content empty": (body(choice(message={"role": "assistant", "content": ""})), EMPTY_TOLD),
    "content of another type": (body(choice(message={"content": 5})), MALFORMED_TOLD),
    "tool calls of another type": (body(choice(message={"content": None, "tool_calls": "x"})), MALFORMED_TOLD),
    "too deep to be passed on": (body(choice(logprobs={"content": DEEP})), MALFORMED_TOLD),
    "no finish reason": (body(choice(finish_reason=None)), TRUNCATED_TOLD),
    "a finish reason of another type": (body(choice(finish_reason=5)), MALFORMED_TOLD),
    "content null, absurd usage": (
        body(choice(message={"content": None}), usage={"prompt_tokens": 10**18, "completion_tokens": 1}),
        EMPTY,
    ),
    "more than allowed": (body(choice(message={"content": "x" * 70_000})), TOO_LARGE),
}


@pytest.mark.parametrize(("text", "expected"), BODIES.values(), ids=BODIES)
async def test_a_complete_success_without_an_answer_means(
    fake: FakeProvider, client: httpx.AsyncClient, text: str, expected: Means
) -> None:
    fake.behaviour = Behaviour(body=text)
    refusal = await exchange(client, call_to(fake.endpoint))
    assert means(refusal) == expected
    assert isinstance(refusal, Refusal)
    assert refusal.usage == (Usage(input_tokens=9, output_tokens=3) if expected.billed == "usage" else None)


JSON = OK + b"Content-Type: application/json\r\n"
ZIPPED = JSON + b"Content-Encoding: gzip\r\nConnection: close\r\n\r\n"
BOMB = gzip.compress(b" " * 50_000_000)

CONNECTIONS: dict[str, tuple[tuple[Step, ...], Means]] = {
    "closed before any byte": ((), LOST),
    "reset": ((reset,), LOST),
    "closed in the headers": ((OK + b"Content-Le",), LOST),
    "closed in a counted body": ((JSON + b"Content-Length: 90\r\n\r\n{",), LOST),
    "closed in a chunked body": ((CHUNKED + b"1\r\n{\r\n",), LOST),
    "reset in the body": ((JSON + b"Content-Length: 90\r\n\r\n{", pause, reset), LOST),
    "reset in the body of an error": ((b"HTTP/1.1 500 No\r\nContent-Length: 9\r\n\r\n{", pause, reset), LOST),
    "garbage": ((b"\x16\x03\x01garbage\r\n\r\n",), MALFORMED),
    "two lengths": ((OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",), MALFORMED),
    "a bad chunk": ((CHUNKED + b"1\r\n{\r\n", pause, b"ZZ\r\n", stay_silent), MALFORMED),
    "a body without length, cut": ((JSON + b"\r\n" + b'{"choices": [',), TRUNCATED),
    "a length without a body": ((JSON + b"Content-Length: 0\r\n\r\n",), EMPTY),
    "204": ((b"HTTP/1.1 204 Nothing\r\n\r\n",), EMPTY),
    "a bomb": ((ZIPPED + BOMB,), TOO_LARGE),
    "broken gzip": ((ZIPPED + b"no gzip at all",), MALFORMED),
    "cut gzip": ((ZIPPED + gzip.compress(b'{"choices": []}')[:-6],), TRUNCATED),
    "an encoding that nobody asked for": ((JSON + b"Content-Encoding: br\r\n\r\nxx",), MALFORMED),
    "invalid UTF-8": ((JSON + b'Content-Length: 5\r\n\r\n{"\xff"}',), MALFORMED),
    "a proxy's page with 500": ((b"HTTP/1.1 500 No\r\nContent-Length: 6\r\n\r\n<html>",), SERVER_ERROR),
    "an endless error": ((b"HTTP/1.1 429 No\r\n\r\n" + b"x" * 200_000,), RATE_LIMIT),
}


@pytest.mark.parametrize(("steps", "expected"), CONNECTIONS.values(), ids=CONNECTIONS)
async def test_a_connection_means(client: httpx.AsyncClient, steps: tuple[Step, ...], expected: Means) -> None:
    async with RawServer(*steps) as server:
        assert means(await exchange(client, call_to(server.url))) == expected
    assert len(server.requests) == 1


async def test_a_bomb_is_not_unpacked(client: httpx.AsyncClient) -> None:
    async with RawServer(ZIPPED + BOMB) as server:
        tracemalloc.start()
        refusal = await exchange(client, call_to(server.url))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert means(refusal) == TOO_LARGE
    assert peak < 5_000_000


SILENT: dict[str, tuple[Step, ...]] = {
    "no first byte": (stay_silent,),
    "no end": (JSON + b"Content-Length: 90\r\n\r\n{", stay_silent),
    "no end of an error": (b"HTTP/1.1 500 No\r\nContent-Length: 90\r\n\r\n{", stay_silent),
}


@pytest.mark.parametrize("steps", SILENT.values(), ids=SILENT)
@pytest.mark.parametrize(("timeout_s", "expected"), [(0.4, HASTY_TIMEOUT), (1.0, TIMEOUT)])
async def test_an_answer_that_is_not_there_in_time_means(
    client: httpx.AsyncClient, steps: tuple[Step, ...], timeout_s: float, expected: Means
) -> None:
    async with RawServer(*steps) as server:
        assert means(await exchange(client, call_to(server.url, timeout_s=timeout_s))) == expected


async def test_a_trickle_does_not_outlive_the_deadline(client: httpx.AsyncClient) -> None:
    """Every read is quick, so no read timeout ever fires."""
    trickle: list[Step] = [JSON + b"Content-Length: 9999\r\n\r\n"]
    for _ in range(200):
        trickle += [b" ", pause]
    async with RawServer(*trickle) as server:
        assert means(await exchange(client, call_to(server.url, timeout_s=0.5))) == HASTY_TIMEOUT


async def test_nothing_listens(client: httpx.AsyncClient) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        refusal = await exchange(client, call_to(f"http://127.0.0.1:{unused.getsockname()[1]}/v1"))
    assert means(refusal) == CONNECT


@pytest.mark.parametrize(
    ("timeout_s", "expected"), [(0.1, Means("MODEL_UNAVAILABLE", "connect", Y, Y, "none", N)), (1.0, CONNECT)]
)
async def test_a_deadline_while_connecting_is_not_billed(
    client: httpx.AsyncClient, timeout_s: float, expected: Means
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:  # the kernel accepts; TLS never begins
        url = f"https://127.0.0.1:{listening.getsockname()[1]}"
        assert means(await exchange(client, call_to(url, timeout_s=timeout_s))) == expected


@pytest.mark.parametrize("pool_timeout_s", [0.05, None])
async def test_our_own_full_pool_blames_nobody(pool_timeout_s: float | None) -> None:
    timeout = httpx.Timeout(None, connect=0.05, pool=pool_timeout_s)
    server, full = RawServer(stay_silent), AiohttpTransport(limit=1)
    async with server, httpx.AsyncClient(transport=full, timeout=timeout) as client:
        first = asyncio.ensure_future(exchange(client, call_to(server.url)))
        while not server.requests:
            await asyncio.sleep(0)
        refusal = await exchange(client, call_to(server.url, timeout_s=1.0))
        first.cancel()
    assert means(refusal) == OUR_POOL
    assert len(server.requests) == 1


UNSENDABLE: dict[str, dict[str, Any]] = {
    "a lone surrogate": {"content": "\ud800"},
    "an integer that JSON cannot hold": {"parameters": {"seed": 2**70}},
    "bytes": {"extra_body": {"x": b"y"}},
    "an endpoint that is no URL": {"endpoint": "http://[::"},
    "an endpoint of another protocol": {"endpoint": "ftp://127.0.0.1/v1"},
}


@pytest.mark.parametrize("changes", UNSENDABLE.values(), ids=UNSENDABLE)
async def test_what_cannot_be_sent_is_rejected_and_not_billed(
    fake: FakeProvider, client: httpx.AsyncClient, changes: dict[str, Any]
) -> None:
    refusal = await exchange(client, call_to(**{"endpoint": fake.endpoint} | changes))
    assert means(refusal) == REJECTED
    assert fake.calls == []


@pytest.mark.parametrize("key", ["a\r\nX-Injected: b", "a b", "schlüssel", "\0", ""])
async def test_a_key_that_no_header_can_hold_is_our_mistake_and_goes_nowhere(
    fake: FakeProvider, client: httpx.AsyncClient, key: str
) -> None:
    assert means(await exchange(client, call_to(fake.endpoint, api_key=key))) == AUTH
    assert fake.calls == []


class Broken(httpx.AsyncBaseTransport):
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        raise ZeroDivisionError(CANARY)


async def test_a_failure_that_nobody_foresaw_is_booked_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    async with httpx.AsyncClient(transport=Broken()) as client:
        refusal = await exchange(client, call_to("http://127.0.0.1"))
    assert means(refusal) == Means("MODEL_ERROR", "server_error", Y, Y, "uncertain", Y)
    assert UNCLASSIFIED == {"ZeroDivisionError": 1}
    assert "ZeroDivisionError" in caplog.text
    assert CANARY not in caplog.text + repr(refusal)
    UNCLASSIFIED.clear()


NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)

WAITS: dict[str, tuple[dict[str, str], float | None]] = {
    "none": ({}, None),
    "seconds": ({"retry-after": "20"}, 20.0),
    "a fraction": ({"retry-after": "0.5"}, 0.5),
    "milliseconds win": ({"retry-after-ms": "1500", "retry-after": "20"}, 1.5),
    "unreadable milliseconds": ({"retry-after-ms": "soon", "retry-after": "20"}, 20.0),
    "a date": ({"retry-after": "Sun, 22 Nov 2026 12:00:30 GMT"}, 30.0),
    "a date gone by": ({"retry-after": "Sun, 22 Nov 2026 11:00:00 GMT"}, 0.0),
    "zero": ({"retry-after": "0"}, 0.0),
    "negative": ({"retry-after": "-5"}, None),
    "not a number": ({"retry-after": "nan"}, None),
    "infinite": ({"retry-after": "inf"}, None),
    "the longest": ({"retry-after": "3600"}, 3600.0),
    "longer": ({"retry-after": "3601"}, 3600.0),
    "absurd": ({"retry-after": "1e9"}, 3600.0),
    "an absurd date": ({"retry-after": "Sun, 22 Nov 9999 12:00:00 GMT"}, 3600.0),
    "words": ({"retry-after": "10h17m"}, None),
    "an impossible date": ({"retry-after": "Sun, 99 Nov 2026 12:00:00 GMT"}, None),
}


@pytest.mark.parametrize(("headers", "expected"), WAITS.values(), ids=WAITS)
def test_a_provider_asks_to_wait(headers: dict[str, str], expected: float | None) -> None:
    assert retry_after_of(httpx.Headers(headers), NOW) == expected


async def test_the_wait_and_the_provider_s_own_id_are_told(fake: FakeProvider, client: httpx.AsyncClient) -> None:
    fake.behaviour = Behaviour(status=429, headers={"Retry-After": "7", "X-Request-Id": "req-1"})
    refusal = await exchange(client, call_to(fake.endpoint))
    assert isinstance(refusal, Refusal)
    assert (refusal.retry_after_s, refusal.provider_request_id) == (7.0, "req-1")


async def test_an_empty_account_is_left_alone_for_a_quarter_of_an_hour(
    fake: FakeProvider, client: httpx.AsyncClient
) -> None:
    fake.behaviour = Behaviour(status=429, error={"type": "insufficient_quota"})
    refusal = await exchange(client, call_to(fake.endpoint))
    assert isinstance(refusal, Refusal)
    assert refusal.retry_after_s == 900.0


@pytest.mark.parametrize("document", [None, [], [5], "busy", {"error": None}, {"error": [1]}, {"error": {"type": 5}}])
def test_an_error_that_is_no_object_has_no_words(document: object) -> None:
    assert error_of(document).words == frozenset()


def test_an_error_in_a_list_or_without_an_envelope_is_read_too() -> None:
    assert error_of([{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED"}}]).words == {"resource_exhausted"}
    assert error_of({"object": "error", "message": "m", "type": "BadRequestError"}) == ProviderError(
        frozenset({"badrequesterror"}), None, "m"
    )


def test_every_status_means_something() -> None:
    assert all(verdict_on(status, ProviderError()).message for status in range(1000) if status // 100 != 2)
