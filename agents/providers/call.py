"""One HTTP exchange with a provider: what is asked goes in, an answer or the meaning of its failure comes out.

No retries, no failover, no tables: those are decisions of the log (DESIGN §3).
"""

import asyncio
import logging
import re
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, Literal

import httpx
import orjson

from agents.providers import anthropic_messages, gemini, openai_chat, refusals
from agents.providers.dialect import CannotSayError, Conversation, Dialect, Reading
from agents.providers.refusals import Verdict
from agents.providers.transport import USER_AGENT, GarbledResponse
from schemas.errors import ErrorCode, Reason
from schemas.progress import Answer
from schemas.usage import Usage

log = logging.getLogger(__name__)

DIALECTS: Final[Mapping[str, Dialect]] = {
    "openai": openai_chat,
    "anthropic": anthropic_messages,
    "google": gemini,
}

UNCLASSIFIED: Final[Counter[str]] = Counter()
"""Failures of a class that nobody foresaw, by its name. More than none of them is a mistake of this module."""

ERROR_BODY_BYTES = 65_536
"""As much of an error's body is read; of a larger one the status alone tells."""
PATIENCE_S = 1.0
"""Running out of a shorter deadline than this says nothing about the model: no tenant can blame it in a hurry."""
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_KEY = re.compile(r"[!-~]+")
_REQUEST_ID_HEADERS = ("x-request-id", "request-id", "apim-request-id")
_REQUEST_ID = re.compile(r"[!-~]{1,128}")


@dataclass(frozen=True, slots=True)
class Call:
    """Everything that one exchange needs.

    `timeout_s` is for all of it; `max_answer_bytes` counts decoded bytes; `dialect` is a key of `DIALECTS`.
    """

    endpoint: str
    provider: str
    provider_model: str
    api_key: str | None = field(repr=False)
    request: Conversation = field(repr=False)
    max_tokens: int
    timeout_s: float
    max_answer_bytes: int
    traceparent: str | None = None
    dialect: str = "openai"


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer. `usage` is None where the provider told none, or one that cannot be.

    `dropped_parameters`: what was asked for and not sent, because the dialect has no words for it.
    """

    answer: Answer
    usage: Usage | None
    duration_s: float
    provider_request_id: str | None
    dropped_parameters: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Refusal:
    """No answer, and what that means (CONTRACT §2).

    `billed`: `none`; `usage` (the failure told what it cost); `uncertain` (book the bound). `again`: the same
    deployment may be tried again. `elsewhere`: another one may do better. `message` holds none of the provider's text.
    """

    code: ErrorCode
    reason: Reason
    message: str
    billed: Literal["none", "uncertain", "usage"]
    usage: Usage | None
    again: bool
    elsewhere: bool
    blames_model: bool
    retry_after_s: float | None
    http_status: int | None
    provider_request_id: str | None
    duration_s: float


@dataclass(slots=True)
class _Course:
    """How far an exchange has come: what its failure means depends on it. Seconds are the event loop's."""

    began_s: float
    connecting: bool = False
    sent_s: float | None = None
    status: int | None = None
    request_id: str | None = None
    retry_after_s: float | None = None
    dropped: tuple[str, ...] = ()

    async def trace(self, event: str, _told: dict[str, Any]) -> None:
        """httpx's `trace` extension. From the first header on, the provider may work and bill."""
        if event.startswith("connection.connect_tcp.started"):
            self.connecting = True
        elif event.endswith(".send_request_headers.started"):
            self.sent_s = asyncio.get_running_loop().time()

    def note(self, response: httpx.Response) -> None:
        self.status = response.status_code
        told = next((response.headers[name] for name in _REQUEST_ID_HEADERS if name in response.headers), "")
        self.request_id = told if _REQUEST_ID.fullmatch(told) else None
        if not response.is_success:
            self.retry_after_s = refusals.retry_after_of(response.headers, datetime.now(UTC))

    def duration_s(self) -> float:
        """First byte sent, or else the beginning, to now."""
        return asyncio.get_running_loop().time() - (self.began_s if self.sent_s is None else self.sent_s)


async def exchange(client: httpx.AsyncClient, call: Call) -> Reply | Refusal:
    """Ask a provider once. Raises nothing but `CancelledError`; a cancelled exchange gives its connection up."""
    course = _Course(asyncio.get_running_loop().time())
    deadline = asyncio.timeout(call.timeout_s)
    try:
        async with deadline:
            reading = await _ask(client, call, course)
    except Exception as error:  # noqa: BLE001  # whatever it is, the request must get an outcome
        late = deadline.expired() and isinstance(error, TimeoutError)
        reading = Reading(_verdict_of_deadline(call, course) if late else _verdict_of(error, course))
    if isinstance(reading.outcome, Answer):
        return Reply(reading.outcome, reading.usage, course.duration_s(), course.request_id, course.dropped)
    return _refusal(reading.outcome, reading.usage, course)


async def _ask(client: httpx.AsyncClient, call: Call, course: _Course) -> Reading:
    if call.api_key is not None and not _KEY.fullmatch(call.api_key):
        return Reading(replace(refusals.AUTH, message="The key that is configured cannot be a key"))
    dialect = DIALECTS[call.dialect]
    url = _url_of(call.dialect, call.endpoint, call.provider_model)
    try:
        written = dialect.write(
            call.request, provider_model=call.provider_model, max_tokens=call.max_tokens, host=url.host
        )
    except CannotSayError as unsaid:
        return Reading(replace(refusals.UNSAYABLE, message=f"{refusals.UNSAYABLE.message}: {unsaid}"))
    course.dropped = written.dropped
    told = {"trace": course.trace, "timeout": client.timeout.as_dict()}
    request = httpx.Request("POST", url, headers=_headers_of(call, dialect), content=written.body, extensions=told)
    response = await client.send(request, stream=True, follow_redirects=False)
    try:
        course.note(response)
        if not response.is_success:
            return await _read_error(response, call, dialect)
        answer = await _read_body(response, call.max_answer_bytes)
    finally:
        await response.aclose()
    if isinstance(answer, Verdict):
        return Reading(answer)
    framed = "content-length" in response.headers or "transfer-encoding" in response.headers
    return dialect.read(answer, framed=framed, may_be_empty="stop" in call.request.parameters)


@lru_cache(maxsize=1024)
def _url_of(dialect: str, endpoint: str, provider_model: str) -> httpx.URL:
    return DIALECTS[dialect].url_of(endpoint, provider_model)


def _headers_of(call: Call, dialect: Dialect) -> dict[str, str]:
    headers = {
        "user-agent": USER_AGENT,
        "content-type": "application/json",
        "accept": "application/json",
        "accept-encoding": "identity",
        **dialect.headers_of(call.api_key),
    }
    if call.traceparent is not None and _TRACEPARENT.fullmatch(call.traceparent):
        headers["traceparent"] = call.traceparent  # the standard says to ignore any other
    return headers


async def _read_error(response: httpx.Response, call: Call, dialect: Dialect) -> Reading:
    body = b"" if response.is_redirect else await _read_body(response, min(ERROR_BODY_BYTES, call.max_answer_bytes))
    try:
        document = None if isinstance(body, Verdict) else orjson.loads(body)
    except orjson.JSONDecodeError:
        document = None  # a proxy's page, not the provider's
    return Reading(dialect.read_error(response.status_code, document))


async def _read_body(response: httpx.Response, limit: int) -> bytes | Verdict:
    """Read and decode the body, never holding more than `limit` bytes and a chunk: a bomb is not unpacked.

    Identity is asked for and gzip understood all the same.
    """
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"identity", "gzip", "x-gzip", ""}:
        return refusals.MALFORMED
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16) if encoding.endswith("gzip") else None
    body = bytearray()
    async for chunk in response.aiter_raw():
        try:
            body += unpacker.decompress(chunk, limit + 1 - len(body)) if unpacker else chunk
        except zlib.error:
            return refusals.MALFORMED
        if len(body) > limit:
            return refusals.TOO_LARGE
    if unpacker is not None and not unpacker.eof:
        return refusals.TRUNCATED
    return bytes(body)


def _verdict_of_deadline(call: Call, course: _Course) -> Verdict:
    if course.sent_s is None:
        verdict = refusals.CONNECT if course.connecting else refusals.OUR_POOL
    else:
        verdict = refusals.PROVIDER_TIMEOUT
    return replace(verdict, blames_model=verdict.blames_model and call.timeout_s >= PATIENCE_S)


def _verdict_of(error: Exception, course: _Course) -> Verdict:
    return _verdict_before_sending(error) if course.sent_s is None else _verdict_after_sending(error)


def _verdict_before_sending(error: Exception) -> Verdict:
    match error:
        case httpx.PoolTimeout():
            return refusals.OUR_POOL
        case (
            httpx.LocalProtocolError() | httpx.UnsupportedProtocol() | httpx.InvalidURL() | UnicodeError() | TypeError()
        ):
            return refusals.UNSENDABLE
        case httpx.TransportError():
            return refusals.CONNECT
        case _:
            return _verdict_of_unknown(error)


def _verdict_after_sending(error: Exception) -> Verdict:
    match error:
        case httpx.TimeoutException():
            return refusals.PROVIDER_TIMEOUT
        case GarbledResponse():
            return refusals.MALFORMED
        case httpx.TransportError():
            return refusals.CONNECTION_LOST
        case _:
            return _verdict_of_unknown(error)


def _verdict_of_unknown(error: Exception) -> Verdict:
    name = type(error).__name__
    UNCLASSIFIED[name] += 1
    log.error("unclassified failure of a call to a provider: %s", name)  # its text may hold a key or a prompt
    return refusals.UNCLASSIFIED


def _refusal(verdict: Verdict, usage: Usage | None, course: _Course) -> Refusal:
    status = f" (HTTP {course.status})" if course.status is not None else ""
    return Refusal(
        code=verdict.code,
        reason=verdict.reason,
        message=f"{verdict.message}{status}",
        billed="usage" if usage else verdict.billed,
        usage=usage,
        again=verdict.again,
        elsewhere=verdict.elsewhere,
        blames_model=verdict.blames_model,
        retry_after_s=verdict.retry_after_s if course.retry_after_s is None else course.retry_after_s,
        http_status=course.status,
        provider_request_id=course.request_id,
        duration_s=course.duration_s(),
    )
