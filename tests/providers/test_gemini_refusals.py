"""What each failure of Google's means, one row per symptom (CONTRACT §2), over real sockets."""

import json
from typing import Any

import httpx
import pytest

from agents.providers.call import UNCLASSIFIED, Refusal, exchange
from schemas.usage import Usage
from tests.providers.calls import call_to
from tests.providers.raw import RawServer
from tests.providers.test_refusals import (
    AUTH,
    CONTEXT,
    EMPTY,
    EMPTY_TOLD,
    ERROR_BODY,
    FILTERED,
    GATEWAY,
    MALFORMED,
    MALFORMED_TOLD,
    NO_MONEY,
    NOT_FOUND,
    OVERLOADED,
    RATE_LIMIT,
    REJECTED,
    SERVER_ERROR,
    TRUNCATED_TOLD,
    Means,
    means,
)

FILTERED_TOLD = Means(
    "INVALID_REQUEST", "content_filter", again=False, elsewhere=False, billed="usage", blames_model=False
)


def answering(status: int, body: str) -> RawServer:
    content = body.encode()
    head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    return RawServer(head.encode() + content)


async def refusal_of(client: httpx.AsyncClient, status: int, body: str) -> Refusal:
    async with answering(status, body) as server:
        refusal = await exchange(client, call_to(server.url, dialect="google", api_key="AIza-canary"))
    assert isinstance(refusal, Refusal), refusal
    assert not UNCLASSIFIED
    return refusal


def error(code: int, status: str, *details: dict[str, Any], message: str = "as told") -> str:
    return json.dumps({"error": {"code": code, "message": message, "status": status, "details": list(details)}})


def reason(word: str) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": word, "domain": "googleapis.com"}


def quota(name: str) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": name}]}


def retry(delay: Any) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}


PER_MINUTE = quota("GenerateRequestsPerMinutePerProjectPerModel-FreeTier")
PER_DAY = quota("GenerateRequestsPerDayPerProjectPerModel-FreeTier")
TOO_LONG = "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."

STATUSES: dict[str, tuple[int, str, Means]] = {
    "400": (400, error(400, "INVALID_ARGUMENT"), REJECTED),
    "400, a wrong key": (400, error(400, "INVALID_ARGUMENT", reason("API_KEY_INVALID")), AUTH),
    "400, a region": (400, error(400, "FAILED_PRECONDITION"), AUTH),
    "400, context": (400, error(400, "INVALID_ARGUMENT", message=TOO_LONG), CONTEXT),
    "402": (402, error(402, "PAYMENT_REQUIRED"), NO_MONEY),
    "403": (403, error(403, "PERMISSION_DENIED"), AUTH),
    "404": (404, error(404, "NOT_FOUND"), NOT_FOUND),
    "429": (429, error(429, "RESOURCE_EXHAUSTED"), RATE_LIMIT),
    "429, per minute": (429, error(429, "RESOURCE_EXHAUSTED", PER_MINUTE, retry("37s")), RATE_LIMIT),
    "429, per day": (429, error(429, "RESOURCE_EXHAUSTED", PER_DAY, retry("36000s")), NO_MONEY),
    "429, in a list": (429, f"[{error(429, 'RESOURCE_EXHAUSTED', PER_DAY)}]", NO_MONEY),
    "429, within a 503": (503, error(429, "RESOURCE_EXHAUSTED"), RATE_LIMIT),
    "500": (500, error(500, "INTERNAL"), SERVER_ERROR),
    "503": (503, error(503, "UNAVAILABLE"), SERVER_ERROR),
    "503, says so": (503, error(503, "UNAVAILABLE", message="The model is overloaded. Try later."), OVERLOADED),
    "504": (504, error(504, "DEADLINE_EXCEEDED"), GATEWAY),
    "a page": (500, "<html>busy</html>", SERVER_ERROR),
    "details that are none": (429, json.dumps({"error": {"code": 429, "details": [5, {"violations": 5}]}}), RATE_LIMIT),
    "an error that is none": (500, json.dumps({"error": "busy"}), SERVER_ERROR),
}


@pytest.mark.parametrize(("status", "body", "expected"), STATUSES.values(), ids=STATUSES)
async def test_a_status_means(client: httpx.AsyncClient, status: int, body: str, expected: Means) -> None:
    refusal = await refusal_of(client, status, body)
    assert means(refusal) == expected
    assert refusal.http_status == status
    assert "as told" not in refusal.message
    assert "canary" not in repr(refusal)


WAITS: dict[str, tuple[list[dict[str, Any]], float | None]] = {
    "nothing told": ([], None),
    "seconds": ([PER_MINUTE, retry("37s")], 37.0),
    "a fraction": ([retry("0.500s")], 0.5),
    "absurd": ([retry("999999999s")], 3600.0),
    "negative": ([retry("-5s")], None),
    "no duration": ([retry("soon"), retry(5)], None),
    "a quota per day is left alone for a quarter of an hour at least": ([PER_DAY, retry("37s")], 900.0),
    "or as long as told": ([PER_DAY, retry("2400s")], 2400.0),
}


@pytest.mark.parametrize(("details", "expected"), WAITS.values(), ids=WAITS)
async def test_a_provider_asks_to_wait(
    client: httpx.AsyncClient, details: list[dict[str, Any]], expected: float | None
) -> None:
    refusal = await refusal_of(client, 429, error(429, "RESOURCE_EXHAUSTED", *details))
    assert refusal.retry_after_s == expected


TOLD = {"promptTokenCount": 9, "cachedContentTokenCount": 5, "candidatesTokenCount": 3, "totalTokenCount": 12}
TEXT = {"text": "Hello"}


def said(*parts: Any, **changes: Any) -> dict[str, Any]:
    return {"content": {"role": "model", "parts": list(parts)}, "finishReason": "STOP"} | changes


def body(*candidates: Any, **changes: Any) -> str:
    return json.dumps({"candidates": list(candidates), "usageMetadata": TOLD} | changes)


DEEP = json.loads('{"x":' * 70 + "{}" + "}" * 70)
BLOCKED = {"blockReason": "PROHIBITED_CONTENT"}

BODIES: dict[str, tuple[str, Means]] = {
    "nothing": ("", EMPTY),
    "a page": ("<html>busy</html>", MALFORMED),
    "a list": ("[]", MALFORMED),
    "an error": (error(503, "UNAVAILABLE"), ERROR_BODY),
    "a blocked prompt, billed": (body(promptFeedback=BLOCKED), FILTERED_TOLD),
    "a blocked prompt, not billed": (json.dumps({"promptFeedback": BLOCKED}), FILTERED),
    "feedback without a block": (body(promptFeedback={"safetyRatings": []}), EMPTY_TOLD),
    "no candidates": (json.dumps({"modelVersion": "m"}), EMPTY),
    "candidates of another type": (body(candidates="x"), MALFORMED_TOLD),
    "a candidate of another type": (body("x"), MALFORMED_TOLD),
    "no parts": (body(said()), EMPTY_TOLD),
    "thoughts alone": (body(said({"text": "Hm.", "thought": True})), EMPTY_TOLD),
    "a broken function call": (body(said(finishReason="MALFORMED_FUNCTION_CALL")), EMPTY_TOLD),
    "content of another type": (body(said(content="Hello")), MALFORMED_TOLD),
    "a part of another type": (body(said("Hello")), MALFORMED_TOLD),
    "a text of another type": (body(said({"text": 5})), MALFORMED_TOLD),
    "a call of another type": (body(said({"functionCall": "f"})), MALFORMED_TOLD),
    "a call without a name": (body(said(TEXT, {"functionCall": {"args": {}}})), MALFORMED_TOLD),
    "arguments of another type": (body(said({"functionCall": {"name": "f", "args": [1]}})), MALFORMED_TOLD),
    "arguments too deep": (body(said({"functionCall": {"name": "f", "args": DEEP}})), MALFORMED_TOLD),
    "logprobs of another type": (body(said(TEXT, logprobsResult=[])), MALFORMED_TOLD),
    "no finish reason": (body(said(TEXT, finishReason=None)), TRUNCATED_TOLD),
    "a finish reason of another type": (body(said(TEXT, finishReason=1)), MALFORMED_TOLD),
    "no parts, usage contradictory": (body(said(), usageMetadata=TOLD | {"totalTokenCount": 13}), EMPTY),
}


@pytest.mark.parametrize(("text", "expected"), BODIES.values(), ids=BODIES)
async def test_a_complete_success_without_an_answer_means(
    client: httpx.AsyncClient, text: str, expected: Means
) -> None:
    refusal = await refusal_of(client, 200, text)
    assert means(refusal) == expected
    told = Usage(input_tokens=9, cache_read_input_tokens=5, output_tokens=3)
    assert refusal.usage == (told if expected.billed == "usage" else None)
