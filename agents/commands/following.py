"""Reading topics as they grow, outside of every group, so that nobody else is disturbed."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import chain
from typing import Any, Final

import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from agents.commands.exits import FAILED, TRY_AGAIN, CommandError
from schemas.configuration import Configuration
from streams.runtime import clients

_POLL_MS: Final = 200

Event = dict[str, Any]


class Followed:
    """Some topics, followed from where they were opened."""

    def __init__(self, consumer: AIOKafkaConsumer, configuration: Configuration) -> None:
        """Made by `follow`."""
        self._consumer = consumer
        self._configuration = configuration

    async def events(self) -> list[tuple[str, Event]]:
        """Return what has arrived, as (topic, event); waits a moment where nothing has. Raises `CommandError` (75).

        Events are in order per partition, may be repeated (the same id), and what is no JSON object is left out.
        """
        try:
            batches = await self._consumer.getmany(timeout_ms=_POLL_MS)
        except KafkaError as error:
            raise unanswered(self._configuration, error) from error
        records = chain.from_iterable(batches.values())
        return [(record.topic, event) for record in records if (event := event_of(record.value)) is not None]


@asynccontextmanager
async def follow(
    configuration: Configuration, environ: Mapping[str, str], topics: Sequence[str], *, from_beginning: bool = False
) -> AsyncIterator[Followed]:
    """Open all partitions of `topics`, at what comes from now on unless told otherwise.

    Raises `CommandError`: 1 where a topic is missing, 75 where the cluster does not answer.
    """
    settings = clients.client_settings(configuration.kafka, environ)
    try:
        await clients.reach(settings)
    except clients.NoClusterError as error:
        raise CommandError(TRY_AGAIN, [str(error)]) from error
    consumer = AIOKafkaConsumer(**settings, group_id=None, enable_auto_commit=False, auto_offset_reset="earliest")
    try:
        try:
            await consumer.start()
            await _open(consumer, topics, from_beginning)
        except (KafkaError, TimeoutError) as error:
            raise unanswered(configuration, error) from error
        yield Followed(consumer, configuration)
    finally:
        with suppress(KafkaError, OSError, TimeoutError):
            await consumer.stop()


async def _open(consumer: AIOKafkaConsumer, topics: Sequence[str], from_beginning: bool) -> None:
    cluster = await consumer._client.fetch_all_metadata()
    found = {topic: cluster.partitions_for_topic(topic) or set() for topic in topics}
    if missing := [topic for topic, partitions in found.items() if not partitions]:
        raise CommandError(FAILED, [f"{topic}: missing; `orchestrator topics apply` creates it" for topic in missing])
    everywhere = [TopicPartition(topic, partition) for topic, partitions in found.items() for partition in partitions]
    consumer.assign(everywhere)
    if not from_beginning:
        for partition, end in (await consumer.end_offsets(everywhere)).items():
            consumer.seek(partition, end)


def event_of(value: bytes | None) -> Event | None:
    """Return the event that a record holds; None for what is none: others may write to these topics too."""
    try:
        event = orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return None
    return event if isinstance(event, dict) and isinstance(event.get("id"), str) else None


def unanswered(configuration: Configuration, error: Exception) -> CommandError:
    """Return the error that ends a command to which the cluster has stopped answering."""
    servers = ", ".join(clients.servers_of(configuration.kafka))
    return CommandError(TRY_AGAIN, [f"the Kafka cluster at {servers} gave no answer: {type(error).__name__}"])


def on_one_line(text: str, most: int) -> str:
    """Return text that came from elsewhere as one line without control characters, at most so long."""
    line = "".join(c if c.isprintable() else "�" for c in " ".join(text.split()))
    return line if len(line) <= most else line[: most - 1] + "…"


def distinct(events: Iterable[Event]) -> dict[str, Event]:
    """Return events by id: a repeated one counts once."""
    return {event["id"]: event for event in events}
