"""What may be seen of values in a log line: plain data, bounded, without secrets and content."""

import base64
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from pathlib import PurePath
from typing import Any, Final
from urllib.parse import quote, quote_plus
from uuid import UUID

from pydantic import ValidationError

MASK: Final = "***"
_DEEPEST: Final = 8
_MOST_INTEGER_BITS: Final = 1024
_LEAST_SEXTETS: Final = 4
_LONGEST_KEY: Final = 512
"""Characters of a key of well-known shape that are looked at, at the place where a long text is cut."""

_SECRET_NAME: Final = re.compile(
    r"passw|pwd|secret|credential|authori[sz]ation|bearer|cookie|api_?key|private_?key|(?:^|[_-])(?:key|token)$",
    re.IGNORECASE,
)
_CONTENT_NAME: Final = re.compile(
    r"(?:^|[_-])(?:messages?|prompts?|texts?|values?|contents?|bod(?:y|ies)|payloads?|answers?|completions?|tool_calls)$",
    re.IGNORECASE,
)
_KEY_LIKE: Final = re.compile(
    r"\b(?:sk|pk|rk|gsk|hf|ghp|xox[a-z]|AIza)[-_A-Za-z0-9]{16,}"
    r"|(?<=Bearer )[^\s\"',]+|(?<=Basic )[A-Za-z0-9+/=]{8,}"
    r"|(?<=://)[^/\s@]+(?=@)"
)
"""A second net for keys that nobody registered: well-known shapes, `Authorization` values, user info in URLs."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Most characters of one string, and most entries of one container."""

    text: int
    entries: int


class _Hidden:
    """The registered secrets, as one pattern with every spelling of each; the longest first."""

    def __init__(self) -> None:
        self.spellings: frozenset[str] = frozenset()
        self.pattern: re.Pattern[str] | None = None
        self.longest = 0

    def add(self, secret: str) -> None:
        self.spellings |= _spellings(secret)
        longest_first = sorted(self.spellings, key=lambda spelling: (-len(spelling), spelling))
        self.longest = len(longest_first[0])
        self.pattern = re.compile("|".join(map(re.escape, longest_first)))


_hidden: Final = _Hidden()


def hide(secret: str) -> None:
    """Mask `secret` from now on in every line, as it is and quoted, escaped or in Base64. Empty ones are ignored."""
    if secret:
        _hidden.add(secret)


def _spellings(secret: str) -> frozenset[str]:
    raw = secret.encode("utf-8", "surrogateescape")
    spellings = {secret, quote(raw, safe=""), quote_plus(raw)}
    for _ in range(2):  # an exception's text is often the repr of a repr, or of a piece of JSON
        spellings |= {form for spelling in spellings for form in _escaped(spelling)}
    whole_sextets = len(raw) * 8 // 6  # what follows depends on the bytes behind the secret
    if whole_sextets >= _LEAST_SEXTETS:
        spellings |= {encode(raw).decode()[:whole_sextets] for encode in (base64.b64encode, base64.urlsafe_b64encode)}
    return frozenset(filter(None, spellings))


def _escaped(text: str) -> Iterator[str]:
    yield repr(text)[1:-1]
    yield repr(text.encode("utf-8", "surrogateescape"))[2:-1]
    yield json.dumps(text)[1:-1]
    yield json.dumps(text, ensure_ascii=False)[1:-1]


def masked(text: str) -> str:
    """Return `text` with everything masked that is registered or looks like a key."""
    if _hidden.pattern is not None:
        text = _hidden.pattern.sub(MASK, text)
    return _KEY_LIKE.sub(MASK, text)


def plain(value: Any, bounds: Bounds) -> Any:
    """Return `value` as bounded JSON data in which nothing has to be hidden. Never raises, whatever it holds.

    What is neither plain data nor an exception shows its type only: a repr may hold a prompt. Bytes show their number.
    """
    try:
        return _plain(value, bounds, 0)
    except Exception as failure:  # noqa: BLE001 - an object with a broken method must not cost the line
        return f"<{type(value).__qualname__}: {type(failure).__name__}>"


def said(error: BaseException) -> str:
    """Return what an exception says, without the input that pydantic would quote."""
    try:
        if isinstance(error, ValidationError):
            problems = error.errors(include_url=False, include_input=False, include_context=False)
            return "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['type']}" for each in problems[:10])
        return str(error)
    except Exception as failure:  # noqa: BLE001 - nor an exception with a broken text
        return f"(no text: {type(failure).__name__})"


def _plain(value: Any, bounds: Bounds, depth: int) -> Any:
    match value:
        case None | bool():
            return value
        case Enum():
            return _plain(value.value, bounds, depth)
        case int() | float():
            return _number(value)
        case str():
            return _text(value, bounds)
        case bytes() | bytearray() | memoryview():
            return f"<{len(value)} bytes>"
        case Mapping() | list() | tuple() | set() | frozenset() if depth >= _DEEPEST:
            return "<deeper>"
        case Mapping():
            return _mapping(value, bounds, depth)
        case list() | tuple() | set() | frozenset():
            return _items(value, len(value), bounds, depth)
        case Decimal() | datetime() | date() | timedelta() | UUID() | PurePath() | IPv4Address() | IPv6Address():
            return _text(str(value), bounds)
        case BaseException():
            return _text(f"{type(value).__name__}: {said(value)}", bounds)
        case _:
            return f"<{type(value).__qualname__}>"


def _number(value: float) -> Any:
    if isinstance(value, int) and value.bit_length() > _MOST_INTEGER_BITS:
        return f"<integer of {value.bit_length()} bits>"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return MASK if masked(str(value)) != str(value) else value


def _text(text: str, bounds: Bounds) -> str:
    """Mask, then cut: half a secret would not be found any more. Lone surrogates are no JSON.

    Only what may be shown is searched, and as much more as a secret is long: a megabyte costs no more than a page.
    """
    margin = max(_LONGEST_KEY, _hidden.longest)
    searched = text[: bounds.text + margin]
    found = masked(searched)
    if len(searched) < len(text):
        found = found[: max(0, len(found) - margin)]  # its end may be half a secret
    shown = found[: bounds.text].encode("utf-8", "replace").decode()
    return shown if len(text) <= bounds.text else f"{shown}… ({len(text)} characters)"


def _mapping(mapping: Mapping[Any, Any], bounds: Bounds, depth: int) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for name, value in mapping.items():
        if len(shown) == bounds.entries:
            shown["…"] = f"{len(mapping) - bounds.entries} more"
            break
        key = str(_plain(name if isinstance(name, str | int) else str(name), Bounds(128, 0), depth))
        shown[key] = MASK if _is_hidden(key, value) else _plain(value, bounds, depth + 1)
    return shown


def _is_hidden(name: str, value: object) -> bool:
    """Whether a detail of this name is masked. No number is a prompt, but a password may be one."""
    if value is None:
        return False
    return bool(_SECRET_NAME.search(name)) or (
        not isinstance(value, bool | int | float) and bool(_CONTENT_NAME.search(name))
    )


def _items(items: Iterable[Any], count: int, bounds: Bounds, depth: int) -> list[Any]:
    shown = [_plain(item, bounds, depth + 1) for item, _ in zip(items, range(bounds.entries), strict=False)]
    return shown if count <= bounds.entries else [*shown, f"… {count - bounds.entries} more"]
