"""Topics are created from one definition, compared with it, and never quietly bent."""

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import MessageSizeTooLargeError

from streams.runtime.topics import Difference, Topics, TopicsRefusedError, apply, compare
from tests.broker.kafka import Kafka

pytestmark = pytest.mark.broker

DAY_MS = 86_400_000


@dataclass(frozen=True)
class Place:
    """A cluster and a prefix, with the arguments that `apply` and `compare` take."""

    bootstrap: str
    prefix: str

    @property
    def topics(self) -> Topics:
        return Topics(self.prefix, "orchestrator")

    async def apply(self, **other: Any) -> list[Difference]:
        return await apply(self.bootstrap, **self._arguments(other))

    async def compare(self, **other: Any) -> list[str]:
        return [str(difference) for difference in await compare(self.bootstrap, **self._arguments(other))]

    def _arguments(self, other: dict[str, Any]) -> dict[str, Any]:
        return {"partitions": 3, "replication_factor": 1, "prefix": self.prefix, "group": "orchestrator"} | other

    async def create(self, name: str, partitions: int) -> None:
        admin = await self._admin()
        await admin.create_topics([NewTopic(name, partitions, 1)])
        async with asyncio.timeout(30):
            while name not in await admin.list_topics():
                await asyncio.sleep(0.05)
        await admin.close()

    async def delete(self, name: str) -> None:
        admin = await self._admin()
        await admin.delete_topics([name])
        async with asyncio.timeout(30):
            while name in await admin.list_topics():
                await asyncio.sleep(0.05)
        await admin.close()

    async def add_partitions(self, name: str, partitions: int) -> None:
        admin = await self._admin()
        await admin.create_partitions({name: NewPartitions(partitions)})
        async with asyncio.timeout(30):
            while len((await admin.describe_topics([name]))[0]["partitions"]) != partitions:
                await asyncio.sleep(0.05)
        await admin.close()

    async def set_config(self, name: str, config: dict[str, str]) -> None:
        admin = await self._admin()
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, config)])
        await admin.close()
        async with asyncio.timeout(30):
            while not config.items() <= (await self.config(name)).items():
                await asyncio.sleep(0.05)

    async def config(self, name: str) -> dict[str, str]:
        admin = await self._admin()
        (response,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
        await admin.close()
        return {setting: value for setting, value, *_ in response.resources[0][4]}

    async def names(self) -> set[str]:
        admin = await self._admin()
        names = await admin.list_topics()
        await admin.close()
        return {name.removeprefix(self.prefix) for name in names if name.startswith(self.prefix)}

    async def _admin(self) -> AIOKafkaAdminClient:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        return admin


@pytest.fixture
def place(kafka: Kafka, topic_prefix: str) -> Place:
    return Place(kafka.bootstrap, topic_prefix)


async def test_apply_creates_every_topic_under_the_prefix(place: Place) -> None:
    mended = await place.apply()
    assert {difference.setting for difference in mended} == {"topic"}
    assert await place.names() == {
        "prompt.requests",
        "prompt.progress",
        "prompt.responses",
        "prompt.errors",
        "prompt.costs",
        "prompt.deadletters",
        "ledger.entries",
        "model.observations",
        "model.health",
        "orchestrator-accounts-changelog",
        "orchestrator-health-changelog",
    }
    assert await place.compare() == []


async def test_the_broker_has_what_the_design_says(place: Place) -> None:
    await place.apply()
    days = {
        place.topics.requests: 7,
        place.topics.progress: 7,
        place.topics.responses: 7,
        place.topics.errors: 7,
        place.topics.costs: 90,
        place.topics.deadletters: 30,
        place.topics.observations: 1,
    }
    for name, kept in days.items():
        config = await place.config(name)
        assert (config["cleanup.policy"], config["retention.ms"]) == ("delete", str(kept * DAY_MS)), name
        assert config["message.timestamp.type"] == "LogAppendTime", name
        assert config["max.message.bytes"] == "2097152", name
    ledger = await place.config(place.topics.ledger)
    assert (ledger["cleanup.policy"], ledger["retention.ms"], ledger["retention.bytes"]) == ("delete", "-1", "-1")
    assert ledger["message.timestamp.type"] == "LogAppendTime"
    assert (await place.config(place.topics.health))["message.timestamp.type"] == "LogAppendTime"
    for name in (place.topics.health, place.topics.accounts_changelog, place.topics.health_changelog):
        config = await place.config(name)
        assert (config["cleanup.policy"], config["max.message.bytes"]) == ("compact", "2097152"), name


async def test_apply_again_changes_nothing(place: Place) -> None:
    await place.apply()
    assert await place.apply() == []


async def test_compare_finds_a_missing_topic_and_creates_none(place: Place) -> None:
    await place.apply()
    await place.delete(place.topics.costs)
    assert await place.compare() == [f"{place.topics.costs}: missing"]
    assert "prompt.costs" not in await place.names()


async def test_apply_brings_back_a_missing_topic(place: Place) -> None:
    await place.apply()
    await place.delete(place.topics.costs)
    assert [str(difference) for difference in await place.apply()] == [f"{place.topics.costs}: missing"]
    assert await place.compare() == []


async def test_compare_finds_another_number_of_partitions(place: Place) -> None:
    await place.apply()
    await place.add_partitions(place.topics.progress, 4)
    assert await place.compare() == [f"{place.topics.progress}: partitions is 4, not 3"]


async def test_apply_refuses_another_number_of_partitions_before_it_changes_anything(place: Place) -> None:
    await place.create(place.topics.requests, 2)
    with pytest.raises(TopicsRefusedError) as refusal:
        await place.apply()
    assert refusal.value.reasons == (f"{place.topics.requests}: partitions is 2, not 3",)
    assert await place.names() == {"prompt.requests"}


async def test_compare_finds_another_replication_factor(place: Place) -> None:
    await place.apply()
    found = await place.compare(replication_factor=2)
    assert f"{place.topics.ledger}: replication factor is 1, not 2" in found
    assert len(found) == 11


async def test_compare_finds_a_changed_and_a_removed_setting(place: Place) -> None:
    await place.apply()
    await place.set_config(place.topics.health, await place.config(place.topics.health) | {"cleanup.policy": "delete"})
    before = await place.config(place.topics.ledger)
    await place.set_config(place.topics.ledger, before | {"retention.ms": "604800000"})
    assert await place.compare() == [
        f"{place.topics.ledger}: retention.ms is 604800000, not -1",
        f"{place.topics.health}: cleanup.policy is delete, not compact",
    ]


async def test_apply_mends_settings_and_keeps_those_of_others(place: Place) -> None:
    await place.apply()
    await place.set_config(place.topics.ledger, {"retention.ms": "1000", "compression.type": "zstd"})
    assert "retention.ms" in {difference.setting for difference in await place.apply()}
    config = await place.config(place.topics.ledger)
    assert (config["retention.ms"], config["compression.type"]) == ("-1", "zstd")
    assert await place.compare() == []


async def test_apply_tells_why_the_broker_refuses(place: Place) -> None:
    with pytest.raises(TopicsRefusedError, match=r"prompt\.requests: .*replication factor of 3"):
        await place.apply(replication_factor=3)


async def test_two_at_once_both_succeed(place: Place) -> None:
    await asyncio.gather(place.apply(), place.apply())
    assert await place.compare() == []


async def test_the_largest_record_of_the_core_fits_and_one_above_the_limit_does_not(place: Place) -> None:
    await place.apply()
    async with AIOKafkaProducer(bootstrap_servers=place.bootstrap, max_request_size=4_000_000) as producer:
        await producer.send_and_wait(place.topics.responses, bytes(2_097_152 - 200))
        with pytest.raises(MessageSizeTooLargeError):
            await producer.send_and_wait(place.topics.responses, bytes(2_097_152))
