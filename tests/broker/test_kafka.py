"""The broker of the tests does what the tests rely on."""

import asyncio

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.broker.kafka import Kafka, KafkaBroker

pytestmark = pytest.mark.broker


async def create(bootstrap: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 1, 1)])
    await admin.close()


async def write(bootstrap: str, topic: str, value: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True) as producer:
        await producer.send_and_wait(topic, value)


async def read(bootstrap: str, topic: str) -> bytes | None:
    async with AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest") as consumer:
        value: bytes | None = (await asyncio.wait_for(consumer.getone(), 30)).value
        return value


async def test_a_record_comes_back(kafka: Kafka, topic_prefix: str) -> None:
    await create(kafka.bootstrap, topic_prefix + "echo")
    await write(kafka.bootstrap, topic_prefix + "echo", b"hello")
    assert await read(kafka.bootstrap, topic_prefix + "echo") == b"hello"


async def test_an_acknowledged_record_outlives_a_broker_crash(crashable_kafka: KafkaBroker) -> None:
    await create(crashable_kafka.bootstrap, "echo")
    await write(crashable_kafka.bootstrap, "echo", b"hello")
    await asyncio.to_thread(crashable_kafka.kill)
    await asyncio.to_thread(crashable_kafka.start)
    assert await read(crashable_kafka.bootstrap, "echo") == b"hello"
