"""Whether the workers of a group agree on what decides a home (DESIGN §3): each carries the digest in its client id.

What decides a home changes only with all workers stopped, so a worker that differs from those that run must not join.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient

DIGEST_DIGITS = 12
_PREFIX = "orchestrator-"


def client_id(home_digest: str) -> str:
    """Return the client id of a worker with this digest; Kafka shows it for each member of the group."""
    return f"{_PREFIX}{home_digest[:DIGEST_DIGITS]}"


def strangers(client_ids: Iterable[str], home_digest: str) -> list[str]:
    """Return the client ids of members that place requests by other rules."""
    mine = client_id(home_digest)
    return sorted(c for c in client_ids if c.startswith(_PREFIX) and not c.startswith(mine))


async def members_of(group: str, connection: Mapping[str, Any]) -> list[str]:
    """Return the client ids of the group's members."""
    admin = AIOKafkaAdminClient(**connection)
    await admin.start()
    try:
        (answer,) = await admin.describe_consumer_groups([group])
        return [member[1] for described in answer.groups for member in described[5]]
    finally:
        await admin.close()
