"""What can go wrong with a request, as callers see it (CONTRACT §2, table of codes)."""

from typing import Any, Literal

from schemas.envelope import Value

ErrorCode = Literal[
    "SERVICE_UNAVAILABLE",
    "MODEL_UNAVAILABLE",
    "RATE_LIMIT_EXCEEDED",
    "INVALID_REQUEST",
    "MODEL_ERROR",
    "TIMEOUT_ERROR",
    "TOKEN_LIMIT_EXCEEDED",
    "INVALID_RESPONSE",
    "BUDGET_EXCEEDED",
    "UNAUTHENTICATED",
    "FORBIDDEN",
]

Reason = Literal[
    "fields",
    "request_id_conflict",
    "unknown_model",
    "no_candidate",
    "unknown_tenant",
    "model_not_allowed",
    "budget",
    "max_cost",
    "overrun",
    "requests",
    "tokens",
    "no_price",
    "no_dialect",
    "queue_full",
    "deadline",
    "circuit_open",
    "cooldown",
    "connect",
    "provider_auth",
    "no_key",
    "unknown_to_provider",
    "rate_limit",
    "provider_rejected",
    "content_filter",
    "context",
    "max_tokens",
    "server_error",
    "overloaded",
    "gateway",
    "provider_timeout",
    "connection_lost",
    "empty",
    "truncated",
    "malformed",
    "too_large",
    "error_body",
    "redirect",
]
"""Closed, so that a reason can label a metric."""

RETRYABLE_BY_CALLER: frozenset[str] = frozenset(
    {
        "budget",
        "overrun",
        "requests",
        "tokens",
        "queue_full",
        "deadline",
        "circuit_open",
        "cooldown",
        "connect",
        "rate_limit",
        "server_error",
        "overloaded",
        "gateway",
        "provider_timeout",
        "connection_lost",
        "empty",
        "truncated",
        "malformed",
        "error_body",
    }
)
"""Reasons after which the caller may hope for more with the same request later (CONTRACT §5)."""


class Error(Value):
    """The seed's error: a code, a sentence, details with the `reason` and what helps to mend it."""

    code: ErrorCode
    message: str
    details: dict[str, Any]

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later."""
        return self.details.get("reason") in RETRYABLE_BY_CALLER
