"""Reading topics for a command: connects, and ends the command in one line where it cannot."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from aiokafka.errors import KafkaError

from agents.commands.exits import FAILED, TRY_AGAIN, CommandError
from schemas.configuration import Configuration
from streams.runtime import clients
from streams.runtime.reading import MissingTopicError, Progress, Reader, StalledError, reader
from streams.runtime.topics import Topics


@asynccontextmanager
async def reading(
    configuration: Configuration, environ: Mapping[str, str], advance: Progress
) -> AsyncIterator[tuple[Reader, Topics]]:
    """Give a reader and the topics' names. Raises `CommandError`: 1 for a missing topic, 75 without an answer."""
    kafka = configuration.kafka
    try:
        async with reader(clients.client_settings(kafka, environ), kafka.partitions, advance) as found:
            yield found, Topics(kafka.topic_prefix, kafka.group)
    except (clients.NoClusterError, StalledError) as error:
        raise CommandError(TRY_AGAIN, [str(error)]) from error
    except MissingTopicError as error:
        raise CommandError(FAILED, [str(error)]) from error
    except (KafkaError, TimeoutError) as error:
        servers = ", ".join(clients.servers_of(kafka))
        raise CommandError(
            TRY_AGAIN, [f"the Kafka cluster at {servers} gave no answer: {type(error).__name__}"]
        ) from error
