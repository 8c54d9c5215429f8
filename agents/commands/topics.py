"""`orchestrator topics apply` and `topics check`."""

from collections.abc import Mapping
from typing import Any

from aiokafka.errors import KafkaError

from agents.commands.exits import FAILED, TRY_AGAIN, CommandError
from schemas.configuration import Configuration
from streams.runtime import clients, topics


async def apply(configuration: Configuration, environ: Mapping[str, str]) -> list[str]:
    """Create and mend; return one line per thing done. Raises `CommandError`: 1 where it must not or may not, 75."""
    arguments = await _reached(configuration, environ)
    try:
        done = await topics.apply(**arguments)
    except topics.TopicsRefusedError as refusal:
        raise CommandError(FAILED, refusal.reasons) from refusal
    except (KafkaError, TimeoutError) as error:
        raise _unanswered(configuration, error) from error
    return [f"{mended.topic}: {_done(mended.setting, mended.wanted)}" for mended in done]


async def check(configuration: Configuration, environ: Mapping[str, str]) -> list[str]:
    """Return one line per difference, none where all is as it has to be. Raises `CommandError` (1, 75)."""
    arguments = await _reached(configuration, environ)
    try:
        return [str(difference) for difference in await topics.compare(**arguments)]
    except topics.TopicsRefusedError as refusal:
        raise CommandError(FAILED, refusal.reasons) from refusal
    except (KafkaError, TimeoutError) as error:
        raise _unanswered(configuration, error) from error


def _done(setting: str, wanted: str) -> str:
    return "created" if setting == "topic" else f"{setting} set to {wanted}"


async def _reached(configuration: Configuration, environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the arguments of `topics.apply` and `compare` once the cluster answers."""
    kafka = configuration.kafka
    settings = clients.client_settings(kafka, environ)
    try:
        await clients.reach(settings)
    except clients.NoClusterError as error:
        raise CommandError(TRY_AGAIN, [str(error)]) from error
    return {
        "bootstrap": ",".join(settings["bootstrap_servers"]),
        "partitions": kafka.partitions,
        "replication_factor": kafka.replication_factor,
        "prefix": kafka.topic_prefix,
        "group": kafka.group,
        "security": {name: value for name, value in settings.items() if name != "bootstrap_servers"},
    }


def _unanswered(configuration: Configuration, error: Exception) -> CommandError:
    servers = ", ".join(clients.servers_of(configuration.kafka))
    return CommandError(TRY_AGAIN, [f"the Kafka cluster at {servers} gave no answer: {type(error).__name__}"])
