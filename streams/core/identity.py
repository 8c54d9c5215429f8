"""Ids that a repetition finds again."""

from hashlib import blake2b, sha1
from uuid import UUID

EVENT_NAMESPACE = UUID("6f1d3c0e-8a57-4b92-9e46-2c7a50d81b3f")
"""Drawn once for this project. Changing it changes every event's id: consumers would count a repeated event twice."""


_NAMESPACE = EVENT_NAMESPACE.bytes
_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
"""Of an RFC 9562 UUID: the two highest bits of this digit are 1 and 0."""


def netstrings(*parts: str) -> str:
    """Join `parts` so that no two different lists look alike: `4:acme3:r-1`. Lengths count characters."""
    return "".join([f"{len(part)}:{part}" for part in parts])


def event_id(  # noqa: PLR0917 - the parts in the order in which they are joined
    tenant: str, request_id: str, topic: str, partition: int, offset: int, what: str
) -> str:
    """Return the id of the event `what` that the record at these coordinates decides (DESIGN §3)."""
    name = netstrings(tenant, request_id, topic, str(partition), str(offset), what)
    raw = sha1(_NAMESPACE + name.encode(), usedforsecurity=False).hexdigest()
    variant = _VARIANT[raw[16]]  # what follows is `uuid5`, in a third of its time
    return f"{raw[:8]}-{raw[8:12]}-5{raw[13:16]}-{variant}{raw[17:20]}-{raw[20:32]}"


def default_request_id(partition: int, offset: int) -> str:
    """Return the id of a request that brings none, from the coordinates it was first published at (CONTRACT §1)."""
    return f"p{partition}-{offset}"


def draw(tenant: str, request_id: str, attempt: int) -> float:
    """Return a number in [0, 1) that is the same at every replay: the random draw of one attempt (DESIGN §2, G8)."""
    raw = blake2b(netstrings(tenant, request_id, str(attempt)).encode(), digest_size=6).digest()
    return int.from_bytes(raw) / 2**48
