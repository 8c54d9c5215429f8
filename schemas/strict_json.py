"""The one decoder for JSON from outside: size, encoding, grammar and depth are checked before anything reads it."""

from itertools import accumulate
from typing import Final, TypeAlias

import orjson

from schemas.deadletters import DeadLetter

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
JsonObject: TypeAlias = dict[str, Json]

MAX_DEPTH: Final = 64
"""Objects and arrays inside each other, the outermost counted (CONTRACT §1)."""

_BOM: Final = b"\xef\xbb\xbf"
_TOO_DEEP: Final = DeadLetter("too_deep", f"The value is nested deeper than {MAX_DEPTH} levels.")
_STEPS: Final = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")  # one level in, one level out as signed bytes
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))


def decode_object(value: bytes | None, *, max_bytes: int) -> JsonObject | DeadLetter:
    """Return the JSON object that `value` is, or why it is none. Never raises.

    RFC 8259 in UTF-8 and stricter where it leaves a choice: no byte order mark, no lone surrogate, no number beyond a
    double, at most `max_bytes` bytes and `MAX_DEPTH` levels. Of duplicate keys the last counts. A whole number
    beyond 64 bits becomes the nearest double.
    """
    if value is None:
        return DeadLetter("tombstone", "The record has no value.")
    if len(value) > max_bytes:
        return DeadLetter("too_large", f"The value has {len(value)} bytes, {max_bytes} are allowed.")
    try:
        decoded: Json = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        return _why_not(value, str(error))
    if _is_too_deep(value):
        return _TOO_DEEP
    if not isinstance(decoded, dict):
        return DeadLetter("not_an_object", "The value is JSON but no object.")
    return decoded


def _why_not(value: bytes, complaint: str) -> DeadLetter:
    """Name the reason behind orjson's `complaint`, which tells a position but never shows content."""
    if value.startswith(_BOM):
        return DeadLetter("bom", "The value starts with a byte order mark.")
    try:
        value.decode()
    except UnicodeDecodeError as error:
        return DeadLetter("not_utf8", f"The value is not UTF-8: {error.reason} at byte {error.start}.")
    if complaint.startswith("depth limit"):  # orjson's own limit of 1024 levels
        return _TOO_DEEP
    return DeadLetter("not_json", f"The value is not RFC 8259 JSON: {complaint[:200]}.")


def _is_too_deep(text: bytes) -> bool:
    """Whether valid JSON `text` has more than `MAX_DEPTH` levels. Works on the text, so no recursion can overflow."""
    if text.count(b"[") + text.count(b"{") <= MAX_DEPTH:
        return False
    without_escapes = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    outside_strings = b"".join(without_escapes.split(b'"')[::2])
    steps = memoryview(outside_strings.translate(_STEPS, _NO_BRACKETS)).cast("b")
    return max(accumulate(steps)) > MAX_DEPTH
