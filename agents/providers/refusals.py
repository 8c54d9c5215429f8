"""What each failure of a provider means: the middle columns of CONTRACT §2, *What went wrong*.

Classified by status and by the parsed `error.type` and `error.code`, never by the raw body: it may quote the prompt,
and a prompt that mentions 429 is no rate limit. `error.message` is read where a provider has no code for it, and only
beside a status that leaves no other harm: context length (400), overload (503), a request above the whole limit (429).
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal

from schemas.errors import ErrorCode, Reason

Billed = Literal["none", "uncertain"]

RETRY_AFTER_CAP_S = 3600.0
"""A longer wait than this is a mistake or malice: nobody's deployment is out for longer on one header."""
NO_MONEY_COOLDOWN_S = 900.0
"""An empty account does not fill within seconds."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a failure means. `billed` is `uncertain` where the provider may have worked; a told usage settles it."""

    code: ErrorCode
    reason: Reason
    message: str
    billed: Billed = "none"
    again: bool = False
    elsewhere: bool = False
    blames_model: bool = False
    retry_after_s: float | None = None


def _model(code: ErrorCode, reason: Reason, message: str, billed: Billed = "none") -> Verdict:
    """A fault of the model's or of the way to it: any attempt, here or elsewhere, may do better."""
    return Verdict(code, reason, message, billed, again=True, elsewhere=True, blames_model=True)


CONNECT = _model("MODEL_UNAVAILABLE", "connect", "No connection to the provider; nothing was sent")
OUR_POOL = Verdict("MODEL_UNAVAILABLE", "connect", "No free connection in our own pool; nothing was sent", again=True)
AUTH = Verdict("MODEL_UNAVAILABLE", "provider_auth", "The provider refused our key", elsewhere=True, blames_model=True)
NOT_FOUND = Verdict(
    "MODEL_UNAVAILABLE", "unknown_to_provider", "The provider has no such model", elsewhere=True, blames_model=True
)
RATE_LIMIT = Verdict(
    "MODEL_UNAVAILABLE", "rate_limit", "The provider's rate limit is reached", again=True, elsewhere=True
)
ABOVE_LIMIT = replace(RATE_LIMIT, message="The request alone is above the provider's rate limit", again=False)
NO_MONEY = replace(
    RATE_LIMIT,
    message="The provider's quota or credit is used up",
    again=False,
    retry_after_s=NO_MONEY_COOLDOWN_S,
)
REJECTED = Verdict("INVALID_REQUEST", "provider_rejected", "The provider rejected the request")
UNSENDABLE = Verdict("INVALID_REQUEST", "provider_rejected", "The request cannot be sent as HTTP and JSON")
UNSAYABLE = Verdict(
    "INVALID_REQUEST", "provider_rejected", "The request cannot be said in the provider's dialect", elsewhere=True
)
FILTERED = Verdict("INVALID_REQUEST", "content_filter", "The provider's content filter refused the prompt")
CONTEXT = Verdict(
    "TOKEN_LIMIT_EXCEEDED", "context", "The prompt does not fit the model's context window", elsewhere=True
)
MAX_TOKENS = Verdict(
    "TOKEN_LIMIT_EXCEEDED", "max_tokens", "The model cannot write as many tokens as asked for", elsewhere=True
)
SERVER_ERROR = _model("MODEL_ERROR", "server_error", "The provider failed")
OVERLOADED = _model("MODEL_ERROR", "overloaded", "The provider is overloaded")
UNCLASSIFIED = _model("MODEL_ERROR", "server_error", "The call failed in an unknown way", "uncertain")
GATEWAY = _model("MODEL_ERROR", "gateway", "A gateway before the provider gave up waiting", "uncertain")
PROVIDER_TIMEOUT = _model("TIMEOUT_ERROR", "provider_timeout", "The provider did not answer in time", "uncertain")
CONNECTION_LOST = _model(
    "MODEL_ERROR", "connection_lost", "The connection broke after the request was sent", "uncertain"
)
EMPTY = _model("INVALID_RESPONSE", "empty", "The provider's answer is empty", "uncertain")
TRUNCATED = _model("INVALID_RESPONSE", "truncated", "The provider's answer has no end", "uncertain")
MALFORMED = _model("INVALID_RESPONSE", "malformed", "The provider's answer cannot be read", "uncertain")
TOO_LARGE = _model("INVALID_RESPONSE", "too_large", "The provider's answer is larger than allowed", "uncertain")
ERROR_BODY = _model("INVALID_RESPONSE", "error_body", "The provider answered success with an error in it", "uncertain")
REDIRECT = _model("INVALID_RESPONSE", "redirect", "The provider redirects; redirects are not followed", "uncertain")


@dataclass(frozen=True, slots=True)
class ProviderError:
    """The parsed error object of a provider: its words in lower case, the message as it is."""

    words: frozenset[str] = frozenset()
    param: str | None = None
    message: str = ""


_NO_MONEY = frozenset(
    {
        "insufficient_quota",
        "billing_error",
        "billing_hard_limit_reached",
        "credit_balance_exhausted",
        "enforced_spend_limit_reached",
        "organization_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
        "project_spend_limit_exceeded",
    }
)
_CONTEXT = frozenset({"context_length_exceeded", "exceed_context_size_error", "string_above_max_length"})
_FILTER = frozenset(
    {"content_filter", "content_policy_violation", "moderation_blocked", "responsibleaipolicyviolation"}
)
_TOO_MANY = frozenset({"integer_above_max_value", "invalid_value"})
_CONTEXT_TEXT = re.compile(
    r"maximum context length (is|of) \d|prompt is too long"
    r"|exceeds? the (maximum number of tokens|available context size)",
    re.IGNORECASE,
)
_ABOVE_LIMIT_TEXT = re.compile(r"Limit (\d{1,12})\b.{0,40}?Requested (\d{1,12})\b")


def error_of(document: object) -> ProviderError:
    """Read an error body: OpenAI's `{"error": {…}}`, that in a list (Google), or flat (vLLM). Anything else: empty."""
    if isinstance(document, list) and document:
        document = document[0]
    if not isinstance(document, dict):
        return ProviderError()
    told = document.get("error", document)
    if not isinstance(told, dict):
        return ProviderError(message=told if isinstance(told, str) else "")
    inner = told.get("innererror")
    words = [told.get("type"), told.get("code"), told.get("status")]
    words += [inner.get("code")] if isinstance(inner, dict) else []
    param, message = told.get("param"), told.get("message")
    return ProviderError(
        words=frozenset(word.lower() for word in words if isinstance(word, str)),
        param=param if isinstance(param, str) else None,
        message=message if isinstance(message, str) else "",
    )


_BY_STATUS: Mapping[int, Verdict] = {
    401: AUTH,
    402: NO_MONEY,
    403: AUTH,
    404: NOT_FOUND,
    405: NOT_FOUND,
    408: GATEWAY,
    410: NOT_FOUND,
    502: GATEWAY,
    504: GATEWAY,
    529: OVERLOADED,
}


def verdict_on(status: int, error: ProviderError) -> Verdict:
    """Return what a complete answer other than 2xx means. Total: any status has a meaning."""
    if status == 429:
        return _verdict_on_429(error)
    return _BY_STATUS.get(status) or _verdict_on_class(status, error)


def _verdict_on_class(status: int, error: ProviderError) -> Verdict:
    match status // 100:
        case 3:
            return REDIRECT
        case 4:
            return _verdict_on_400(error)
        case 5:
            says_so = status == 503 and "overload" in " ".join((*error.words, error.message)).lower()
            return OVERLOADED if says_so else SERVER_ERROR
        case _:
            return MALFORMED  # no status that HTTP knows


def _verdict_on_400(error: ProviderError) -> Verdict:
    if error.words & _FILTER:
        return FILTERED
    if error.words & _CONTEXT or _CONTEXT_TEXT.search(error.message):
        return CONTEXT
    if error.param in {"max_tokens", "max_completion_tokens"} and error.words & _TOO_MANY:
        return MAX_TOKENS
    return NOT_FOUND if "model_not_found" in error.words else REJECTED


def _verdict_on_429(error: ProviderError) -> Verdict:
    if error.words & _NO_MONEY:
        return NO_MONEY
    told = _ABOVE_LIMIT_TEXT.search(error.message)
    return ABOVE_LIMIT if told and int(told[2]) > int(told[1]) else RATE_LIMIT


def retry_after_of(headers: Mapping[str, str], now: datetime) -> float | None:
    """Return the seconds to wait that `retry-after-ms` or else `retry-after` (seconds or an HTTP date) tells.

    At most `RETRY_AFTER_CAP_S`, 0 for a date gone by; negative, not finite or unreadable: None.
    """
    if (waits_ms := _number(headers.get("retry-after-ms", ""))) is not None:
        return min(waits_ms / 1000, RETRY_AFTER_CAP_S)
    told = headers.get("retry-after", "")
    waits_s = _number(told)
    if waits_s is None:
        waits_s = _seconds_until(told, now)
    return None if waits_s is None else min(waits_s, RETRY_AFTER_CAP_S)


def _number(told: str) -> float | None:
    try:
        number = float(told)
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _seconds_until(told: str, now: datetime) -> float | None:
    try:
        moment = parsedate_to_datetime(told)
        return max(0.0, (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now.timestamp())
    except (ValueError, OverflowError):
        return None
