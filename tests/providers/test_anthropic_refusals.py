"""What each failure of Anthropic's means, one row per symptom (CONTRACT §2), over real sockets."""

import json
from typing import Any

import httpx
import pytest

from agents.providers.call import UNCLASSIFIED, Refusal, exchange
from schemas.usage import Usage
from tests.providers.calls import call_to
from tests.providers.fake import Behaviour, FakeProvider
from tests.providers.test_refusals import (
    AUTH,
    CONTEXT,
    EMPTY,
    EMPTY_TOLD,
    ERROR_BODY,
    GATEWAY,
    MALFORMED,
    MALFORMED_TOLD,
    MAX_TOKENS,
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

INVALID = "invalid_request_error"

STATUSES: dict[str, tuple[int, dict[str, Any], Means]] = {
    "400": (400, {"type": INVALID, "message": "messages.0.content: Input should be a valid string"}, REJECTED),
    "400, of a model without temperature": (
        400,
        {"type": INVALID, "message": "`temperature` is deprecated for this model"},
        REJECTED,
    ),
    "400, context": (400, {"type": INVALID, "message": "prompt is too long: 208310 tokens > 200000 maximum"}, CONTEXT),
    "400, context with the output": (
        400,
        {
            "type": INVALID,
            "message": "input length and `max_tokens` exceed context limit: 188240 + 21333 > 200000, decrease …",
        },
        CONTEXT,
    ),
    "400, max_tokens": (
        400,
        {"type": INVALID, "message": "max_tokens: 10000 > 8192, which is the maximum allowed number of output tokens"},
        MAX_TOKENS,
    ),
    "400, no credit": (
        400,
        {"type": INVALID, "message": "Your credit balance is too low to access the Anthropic API."},
        NO_MONEY,
    ),
    "401": (401, {"type": "authentication_error", "message": "invalid x-api-key"}, AUTH),
    "402": (402, {"type": "billing_error"}, NO_MONEY),
    "403": (403, {"type": "permission_error"}, AUTH),
    "404": (404, {"type": "not_found_error", "message": "model: claude-9"}, NOT_FOUND),
    "413": (413, {"type": "request_too_large"}, REJECTED),
    "429": (429, {"type": "rate_limit_error"}, RATE_LIMIT),
    "429, spend limit": (429, {"type": "enforced_spend_limit_reached"}, NO_MONEY),
    "500": (500, {"type": "api_error"}, SERVER_ERROR),
    "504": (504, {"type": "timeout_error"}, GATEWAY),
    "529": (529, {"type": "overloaded_error"}, OVERLOADED),
}


@pytest.mark.parametrize(("status", "error", "expected"), STATUSES.values(), ids=STATUSES)
async def test_a_status_means(
    fake: FakeProvider, client: httpx.AsyncClient, status: int, error: dict[str, Any], expected: Means
) -> None:
    fake.behaviour = Behaviour(status=status, error={"message": "as told"} | error)
    refusal = await exchange(client, call_to(fake.endpoint, dialect="anthropic", api_key="sk-ant-canary"))
    assert means(refusal) == expected
    assert isinstance(refusal, Refusal)
    assert refusal.http_status == status
    assert "as told" not in refusal.message
    assert "canary" not in repr(refusal)
    assert not UNCLASSIFIED


TOLD = {"input_tokens": 4, "cache_read_input_tokens": 5, "output_tokens": 3}
TEXT = {"type": "text", "text": "Hello"}
USE = {"type": "tool_use", "id": "t", "name": "f", "input": {}}


def body(*content: Any, **changes: Any) -> str:
    told = {"type": "message", "content": list(content), "stop_reason": "end_turn", "usage": TOLD}
    return json.dumps(told | changes)


DEEP = json.loads('{"x":' * 70 + "{}" + "}" * 70)

BODIES: dict[str, tuple[str, Means]] = {
    "nothing": ("", EMPTY),
    "a page": ("<html>busy</html>", MALFORMED),
    "a list": ("[]", MALFORMED),
    "an error": (json.dumps({"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}), ERROR_BODY),
    "an error of OpenAI's": (json.dumps({"error": {"message": "busy"}}), ERROR_BODY),
    "no content": (json.dumps({"type": "message"}), EMPTY),
    "content empty": (body(), EMPTY_TOLD),
    "content of thoughts alone": (body({"type": "thinking", "thinking": "Hm."}), EMPTY_TOLD),
    "content with an empty text": (body({"type": "text", "text": ""}), EMPTY_TOLD),
    "content of another type": (body(content="Hello"), MALFORMED_TOLD),
    "a block of another type": (body("Hello"), MALFORMED_TOLD),
    "a text of another type": (body({"type": "text", "text": 5}), MALFORMED_TOLD),
    "a tool use without input": (body(TEXT, USE | {"input": None}), MALFORMED_TOLD),
    "a tool use without a name": (body(USE | {"name": None}), MALFORMED_TOLD),
    "a tool use too deep to be passed on": (body(USE | {"input": DEEP}), MALFORMED_TOLD),
    "no stop reason": (body(TEXT, stop_reason=None), TRUNCATED_TOLD),
    "a stop reason of another type": (body(TEXT, stop_reason=5), MALFORMED_TOLD),
    "content empty, usage contradictory": (body(usage=TOLD | {"input_tokens": -1}), EMPTY),
}


@pytest.mark.parametrize(("text", "expected"), BODIES.values(), ids=BODIES)
async def test_a_complete_success_without_an_answer_means(
    fake: FakeProvider, client: httpx.AsyncClient, text: str, expected: Means
) -> None:
    fake.behaviour = Behaviour(body=text)
    refusal = await exchange(client, call_to(fake.endpoint, dialect="anthropic"))
    assert means(refusal) == expected
    assert isinstance(refusal, Refusal)
    told = Usage(input_tokens=9, cache_read_input_tokens=5, output_tokens=3)
    assert refusal.usage == (told if expected.billed == "usage" else None)


async def test_a_provider_asks_to_wait(fake: FakeProvider, client: httpx.AsyncClient) -> None:
    fake.behaviour = Behaviour(status=429, error={"type": "rate_limit_error"}, headers={"retry-after": "12"})
    refusal = await exchange(client, call_to(fake.endpoint, dialect="anthropic"))
    assert isinstance(refusal, Refusal)
    assert refusal.retry_after_s == 12.0
