"""`orchestrator submit`: publishes prompts straight to their homes, and may wait for what becomes of them."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from agents.commands.exits import FAILED, TRY_AGAIN, CommandError
from agents.commands.outcomes import Outcomes
from agents.commands.prompts import Prompt
from schemas.configuration import Configuration
from schemas.requests import work_key
from streams.core.homes import home_of
from streams.core.tracing import TRACEPARENT
from streams.runtime import clients
from streams.runtime.topics import Topics

GRACE_S: Final = 30.0
"""How long after the last request's time an outcome may still be waited for: workers may be recovering."""
_CLOSE_S: Final = 5.0
_AT_ONCE: Final = 1_000
_POLL_MS: Final = 500
_LEAST_REQUEST: Final = 1024 * 1024
_FRAMING: Final = 64 * 1024

Tell = Callable[[bytes], None]
"""Takes one line for standard output, without its end."""


@dataclass(frozen=True, slots=True)
class Errand:
    """One call of the command: what to publish where. Progress is told to `advance` as (ended, all)."""

    configuration: Configuration
    environ: Mapping[str, str]
    prompts: Sequence[Prompt]
    tell: Tell
    advance: Callable[[int, int], None]

    @property
    def topics(self) -> Topics:
        """The names of the topics."""
        return Topics(self.configuration.kafka.topic_prefix, self.configuration.kafka.group)

    @property
    def patience_s(self) -> float:
        """How long outcomes are waited for after the last request was published."""
        default = self.configuration.orchestrator.timeout
        return max(prompt.request.timeout_s or default for prompt in self.prompts) + GRACE_S


async def publish(errand: Errand) -> None:
    """Publish every prompt and tell its request id once the broker has it. Raises `CommandError` (1, 75)."""
    async with _producer(errand) as producer:
        for start in range(0, len(errand.prompts), _AT_ONCE):
            some = errand.prompts[start : start + _AT_ONCE]
            await _send(producer, errand, some)
            for prompt in some:
                errand.tell(prompt.request.request_id.encode())


async def publish_and_wait(errand: Errand) -> None:
    """Publish every prompt and tell each outcome, once, as it arrives.

    Raises `CommandError`: 1 if one has failed or has no outcome in time, 75 where the cluster does not answer.
    """
    outcomes = Outcomes(prompt.request for prompt in errand.prompts)
    async with _producer(errand) as producer, _results(errand) as consumer:
        for start in range(0, len(errand.prompts), _AT_ONCE):
            for stored in await _send(producer, errand, errand.prompts[start : start + _AT_ONCE]):
                outcomes.published(*stored)
        await _follow(consumer, errand, outcomes)
    if missing := outcomes.missing:
        raise CommandError(FAILED, [f"no outcome within {errand.patience_s:g} s: {name}" for name in missing])
    if outcomes.failed:
        raise CommandError(FAILED, [f"{outcomes.failed} of {outcomes.expected} failed"])


async def _send(
    producer: AIOKafkaProducer, errand: Errand, prompts: Sequence[Prompt]
) -> list[tuple[tuple[str, int, int], Prompt]]:
    """Return where each prompt is stored: topic, partition, offset."""
    sent = []
    try:
        for prompt in prompts:
            sent.append(
                await producer.send(
                    errand.topics.requests,
                    value=prompt.value,
                    key=prompt.request.request_id.encode(),
                    partition=_home(errand.configuration, prompt),
                    headers=[(TRACEPARENT, _new_trace())],
                )
            )
        stored = await asyncio.gather(*sent)
    except (KafkaError, TimeoutError) as error:
        raise _unanswered(errand, f"it is unknown which prompts are stored: {type(error).__name__}") from error
    return [((at.topic, at.partition, at.offset), prompt) for at, prompt in zip(stored, prompts, strict=True)]


def _home(configuration: Configuration, prompt: Prompt) -> int:
    tenant = prompt.request.tenant
    return home_of(
        tenant,
        work_key(prompt.request),
        limited=configuration.is_limited(tenant),
        partitions=configuration.kafka.partitions,
    )


def _new_trace() -> bytes:
    """Return a new, sampled `traceparent` (https://www.w3.org/TR/trace-context/, version 00); no id is all zeros."""
    return f"00-{secrets.randbits(128) | 1:032x}-{secrets.randbits(64) | 1:016x}-01".encode()


async def _follow(consumer: AIOKafkaConsumer, errand: Errand, outcomes: Outcomes) -> None:
    """Tell outcomes until all have ended or patience has."""
    errand.advance(0, outcomes.expected)
    deadline = time.monotonic() + errand.patience_s
    while not outcomes.complete and time.monotonic() < deadline:
        try:
            batches = await consumer.getmany(timeout_ms=_POLL_MS)
        except KafkaError as error:
            raise _unanswered(errand, type(error).__name__) from error
        for record in chain.from_iterable(batches.values()):
            event = outcomes.heard(record.value)
            if event is not None:
                errand.tell(event)
                errand.advance(outcomes.ended, outcomes.expected)


@asynccontextmanager
async def _producer(errand: Errand) -> AsyncIterator[AIOKafkaProducer]:
    """Connect, and check that the topics are there with the configured P: else no home would be right."""
    settings = clients.client_settings(errand.configuration.kafka, errand.environ)
    try:
        embedded = await clients.reach(settings)
    except clients.NoClusterError as error:
        raise CommandError(TRY_AGAIN, [str(error)]) from error
    producer = AIOKafkaProducer(
        **settings,
        acks="all",
        enable_idempotence=not embedded,
        max_request_size=max(_LEAST_REQUEST, errand.configuration.limits.max_request_bytes + _FRAMING),
        linger_ms=3,
        compression_type="lz4",
    )
    try:
        try:
            await producer.start()
            cluster = await producer.client.fetch_all_metadata()
        except (KafkaError, TimeoutError) as error:
            raise _unanswered(errand, type(error).__name__) from error
        topics = (errand.topics.requests, errand.topics.responses, errand.topics.errors, errand.topics.deadletters)
        found = {topic: len(cluster.partitions_for_topic(topic) or ()) for topic in topics}
        if wrong := _wrong_topics(found, errand.configuration.kafka.partitions):
            raise CommandError(FAILED, wrong)
        yield producer
    finally:
        await _close(producer)


def _wrong_topics(found: Mapping[str, int], partitions: int) -> list[str]:
    return [
        f"{topic}: missing; `orchestrator topics apply` creates it"
        if count == 0
        else f"{topic}: has {count} partitions, `kafka.partitions` is {partitions}"
        for topic, count in found.items()
        if count != partitions
    ]


@asynccontextmanager
async def _results(errand: Errand) -> AsyncIterator[AIOKafkaConsumer]:
    """Read what is published from now on to where outcomes are told; no group, so nobody else is disturbed."""
    names = (errand.topics.responses, errand.topics.errors, errand.topics.deadletters)
    everywhere = [
        TopicPartition(name, partition) for name in names for partition in range(errand.configuration.kafka.partitions)
    ]
    settings = clients.client_settings(errand.configuration.kafka, errand.environ)
    consumer = AIOKafkaConsumer(**settings, group_id=None, enable_auto_commit=False, auto_offset_reset="earliest")
    try:
        try:
            await consumer.start()
            consumer.assign(everywhere)
            for partition, end in (await consumer.end_offsets(everywhere)).items():
                consumer.seek(partition, end)
        except (KafkaError, TimeoutError) as error:
            raise _unanswered(errand, type(error).__name__) from error
        yield consumer
    finally:
        await _close(consumer)


async def _close(client: Any) -> None:
    """Close a client; one that cannot say goodbye to a broker that is away is left behind."""
    with suppress(KafkaError, OSError, TimeoutError):
        async with asyncio.timeout(_CLOSE_S):
            await client.stop()


def _unanswered(errand: Errand, what: str) -> CommandError:
    servers = ", ".join(clients.servers_of(errand.configuration.kafka))
    return CommandError(TRY_AGAIN, [f"the Kafka cluster at {servers} gave no answer: {what}"])
