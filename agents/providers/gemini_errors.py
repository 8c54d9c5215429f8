"""What an error of Google's APIs means: `google.rpc.Status` as JSON. Pure.

Source, read 2026-11-24: google.rpc `error_details.proto`, "Troubleshooting" and "Rate limits" of ai.google.dev.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from agents.providers import refusals
from agents.providers.dialect import are_objects
from agents.providers.refusals import NO_MONEY_COOLDOWN_S, RETRY_AFTER_CAP_S, Verdict

_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)s")


def verdict_on(status: int, document: object) -> Verdict:
    """Return what a complete answer other than 2xx means.

    A wrong key is a 400 here, with a reason of its own; so is a region that is not served (`FAILED_PRECONDITION`). A
    429 says in its details how long to wait, and whether a quota per day is used up: then waiting is no use. A gateway
    may wrap the 429 into a 5xx.
    """
    error = refusals.error_of(document)
    details = list(_details(document))
    words = {str(detail.get("reason", "")) for detail in details}
    if status == 400 and ("API_KEY_INVALID" in words or "failed_precondition" in error.words):
        return refusals.AUTH
    if status == 429 or (status >= 500 and _code(document) == 429):
        return _used_up(refusals.verdict_on(429, error), details)
    return refusals.verdict_on(status, error)


def _used_up(verdict: Verdict, details: list[dict[str, Any]]) -> Verdict:
    waits = [seconds for detail in details if (seconds := _seconds(detail.get("retryDelay"))) is not None]
    wait_s = min(max(waits), RETRY_AFTER_CAP_S) if waits else verdict.retry_after_s
    if any("PerDay" in quota for detail in details for quota in _quotas(detail)):
        return replace(refusals.NO_MONEY, retry_after_s=max(wait_s or 0.0, NO_MONEY_COOLDOWN_S))
    return replace(verdict, retry_after_s=wait_s)


def _error(document: object) -> dict[str, Any]:
    if isinstance(document, list) and document:
        document = document[0]
    error = document.get("error") if isinstance(document, dict) else None
    return error if isinstance(error, dict) else {}


def _code(document: object) -> object:
    return _error(document).get("code")


def _details(document: object) -> Iterator[dict[str, Any]]:
    details = _error(document).get("details")
    if isinstance(details, list):
        yield from (detail for detail in details if isinstance(detail, dict))


def _quotas(detail: dict[str, Any]) -> Iterator[str]:
    violations = detail.get("violations")
    if isinstance(violations, list) and are_objects(violations):
        yield from (str(violation.get("quotaId", "")) for violation in violations)


def _seconds(told: object) -> float | None:
    """Read a `google.protobuf.Duration`: `"37s"`, `"0.500s"`."""
    duration = _DURATION.fullmatch(told) if isinstance(told, str) else None
    seconds = float(duration[1]) if duration else math.nan
    return seconds if math.isfinite(seconds) else None
