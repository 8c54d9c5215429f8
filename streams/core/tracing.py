"""W3C trace context: an incoming `traceparent` is continued, else one is derived from the request, always the same."""

import re
from hashlib import blake2b

from streams.core.identity import netstrings

TRACEPARENT = "traceparent"
_VALID = re.compile(rb"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def traceparent_of(headers: tuple[tuple[str, bytes], ...], tenant: str, request_id: str) -> str:
    """Return the trace context of a request (https://www.w3.org/TR/trace-context/, version 00)."""
    given = next((value for name, value in headers if name == TRACEPARENT), None)
    if given is not None and _VALID.fullmatch(given):
        return given.decode()
    raw = blake2b(netstrings(tenant, request_id).encode(), digest_size=24).hexdigest()
    return f"00-{raw[:32]}-{raw[32:]}-01"
