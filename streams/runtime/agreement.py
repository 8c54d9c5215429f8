"""Whether the workers of a group agree on what decides a home (DESIGN §3): each carries the digest in its client id.

What decides a home changes only with all workers stopped, so a worker that differs from those that run must not join.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

DIGEST_DIGITS = 12
COORDINATOR_S = 20.0
PAUSE_S = 0.2
_PREFIX = "orchestrator-"


def client_id(home_digest: str) -> str:
    """Return the client id of a worker with this digest; Kafka shows it for each member of the group."""
    return f"{_PREFIX}{home_digest[:DIGEST_DIGITS]}"


def strangers(client_ids: Iterable[str], home_digest: str) -> list[str]:
    """Return the client ids of members that place requests by other rules."""
    mine = client_id(home_digest)
    return sorted(c for c in client_ids if c.startswith(_PREFIX) and not c.startswith(mine))


async def members_of(group: str, connection: Mapping[str, Any]) -> list[str]:
    """Return the client ids of the group's members. A cluster that is new makes its coordinator first: bounded wait."""
    admin = AIOKafkaAdminClient(**connection)
    await admin.start()
    deadline = time.monotonic() + COORDINATOR_S
    try:
        while True:
            try:
                (answer,) = await admin.describe_consumer_groups([group])
                return [member[1] for described in answer.groups for member in described[5]]
            except KafkaError as error:
                if not error.retriable or time.monotonic() > deadline:
                    raise
                await asyncio.sleep(PAUSE_S)
    finally:
        await admin.close()
