"""`orchestrator budgets lift`: tells a tenant's home that it may go on after an overrun."""

from collections.abc import Mapping
from uuid import uuid4

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from agents.commands.exits import FAILED, TRY_AGAIN, WRONG, CommandError
from schemas.configuration import Configuration
from schemas.lifts import BudgetLifted
from streams.core.homes import home_of
from streams.runtime import clients
from streams.runtime.topics import Topics


async def lift(configuration: Configuration, environ: Mapping[str, str], tenant: str) -> str:
    """Publish the lift and return a line that says where. Raises `CommandError`: 1, 2, 75."""
    rules = configuration.tenant(tenant)
    if rules is None or not rules.budgets:
        raise CommandError(WRONG, [f"{tenant}: has no budget here, so no overrun can stop it"])
    kafka = configuration.kafka
    topic = Topics(kafka.topic_prefix, kafka.group).progress
    home = home_of(tenant, "", limited=True, partitions=kafka.partitions)
    event = BudgetLifted(tenant=tenant, lift_id=uuid4().hex)
    settings = clients.client_settings(kafka, environ)
    try:
        embedded = await clients.reach(settings)
        producer = AIOKafkaProducer(**settings, acks="all", enable_idempotence=not embedded)
        await producer.start()
        try:
            found = len(await producer.partitions_for(topic))
            if found != kafka.partitions:
                problem = f"{topic}: has {found} partitions, `kafka.partitions` is {kafka.partitions}"
                raise CommandError(FAILED, [problem])
            stored = await producer.send_and_wait(
                topic, event.model_dump_json().encode(), key=tenant.encode(), partition=home
            )
        finally:
            await producer.stop()
    except clients.NoClusterError as error:
        raise CommandError(TRY_AGAIN, [str(error)]) from error
    except (KafkaError, TimeoutError) as error:
        servers = ", ".join(clients.servers_of(kafka))
        problem = f"the Kafka cluster at {servers} gave no answer: {type(error).__name__}; it is safe to lift again"
        raise CommandError(TRY_AGAIN, [problem]) from error
    return f"{tenant} may go on once its home has read {topic}[{stored.partition}]@{stored.offset}"
