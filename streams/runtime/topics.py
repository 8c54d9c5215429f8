"""Every topic of the orchestrator: one definition, from which they are created, compared and documented.

`python -m streams.runtime.topics` prints docs/topics.md.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

MAX_MESSAGE_BYTES = 2 * 1024 * 1024
"""The broker's limit for one batch in every topic of ours. The core checks sizes against less, before it produces."""

DAY_MS = 24 * 60 * 60 * 1000
VISIBLE_WITHIN_S = 30
NO_SECURITY: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Topics:
    """The full names of all topics: `prefix` verbatim before each; `group` as configured, without the prefix."""

    prefix: str
    group: str

    @property
    def app_id(self) -> str:
        """The consumer group, which is also Faust's app id: the changelogs are named after it."""
        return self.prefix + self.group

    @property
    def requests(self) -> str:
        return self.prefix + "prompt.requests"

    @property
    def progress(self) -> str:
        return self.prefix + "prompt.progress"

    @property
    def responses(self) -> str:
        return self.prefix + "prompt.responses"

    @property
    def errors(self) -> str:
        return self.prefix + "prompt.errors"

    @property
    def costs(self) -> str:
        return self.prefix + "prompt.costs"

    @property
    def deadletters(self) -> str:
        return self.prefix + "prompt.deadletters"

    @property
    def ledger(self) -> str:
        return self.prefix + "ledger.entries"

    @property
    def observations(self) -> str:
        return self.prefix + "model.observations"

    @property
    def health(self) -> str:
        return self.prefix + "model.health"

    @property
    def accounts_changelog(self) -> str:
        return self.app_id + "-accounts-changelog"

    @property
    def health_changelog(self) -> str:
        return self.app_id + "-health-changelog"


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic as it has to be. `key` and `partition` tell what producers do; the broker does not check them."""

    name: str
    holds: str
    key: str
    partition: str
    kept: str
    config: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Difference:
    """What is not as it has to be.

    `setting` is `topic` (missing), `partitions`, `replication factor` or the name of a configuration; `found` is None
    where there is nothing.
    """

    topic: str
    setting: str
    wanted: str
    found: str | None

    @property
    def mendable(self) -> bool:
        """Whether `apply` may mend it. Partitions decide who owns what; replicas are moved by whoever runs Kafka."""
        return self.setting not in ("partitions", "replication factor")

    def __str__(self) -> str:
        if self.setting == "topic":
            return f"{self.topic}: missing"
        return f"{self.topic}: {self.setting} is {self.found}, not {self.wanted}"


class TopicsRefusedError(Exception):
    """The topics cannot be made as they have to be; `reasons` has one readable line each."""

    def __init__(self, reasons: Iterable[str]) -> None:
        self.reasons = tuple(reasons)
        super().__init__("; ".join(self.reasons))


@dataclass(frozen=True, slots=True)
class _Found:
    """A topic as the cluster has it. `own`: the part of `config` set on the topic itself, not inherited."""

    partitions: int
    replication_factors: frozenset[int]
    config: Mapping[str, str | None] = field(default_factory=dict)
    own: Mapping[str, str | None] = field(default_factory=dict)


def definitions(topics: Topics, replication_factor: int) -> tuple[Topic, ...]:
    """Return every topic as it has to be on a cluster with so many replicas; all have P partitions (DESIGN §6)."""
    common = {
        "max.message.bytes": str(MAX_MESSAGE_BYTES),
        "min.insync.replicas": "2" if replication_factor >= 3 else "1",
        "unclean.leader.election.enable": "false",  # an old replica as leader would take back what was acknowledged
    }
    event_log = common | {
        "cleanup.policy": "delete",
        "retention.bytes": "-1",
        "message.timestamp.type": "LogAppendTime",
    }
    # Small segments, compacted early: only closed segments are compacted, and readers read the whole topic at start.
    compacted = common | {
        "cleanup.policy": "compact",
        "min.cleanable.dirty.ratio": "0.1",
        "segment.bytes": str(64 * 1024 * 1024),
        "segment.ms": str(60 * 60 * 1000),
    }
    # A worker that comes back with an old copy of a table has to see what was deleted since, so tombstones stay as long
    # as the requests.
    changelog = compacted | {"delete.retention.ms": str(7 * DAY_MS)}

    def days(count: int) -> dict[str, str]:
        return event_log | {"retention.ms": str(count * DAY_MS)}

    home = "the request's home, explicitly"
    by_key = "by key"
    return (
        Topic(topics.requests, "what is asked", "the producer's", "any", "7 days", days(7)),
        Topic(topics.progress, "what became of attempts; timers", "request id", home, "7 days", days(7)),
        Topic(topics.responses, "answers", "request id", by_key, "7 days", days(7)),
        Topic(topics.errors, "failures", "request id", by_key, "7 days", days(7)),
        Topic(topics.costs, "what each call cost", "tenant", by_key, "90 days", days(90)),
        Topic(topics.deadletters, "records not understood", "request id or none", by_key, "30 days", days(30)),
        Topic(topics.ledger, "holds and bookings", "tenant", home, "for ever", event_log | {"retention.ms": "-1"}),
        Topic(topics.observations, "calls, counted per worker and second", "deployment", by_key, "1 day", days(1)),
        Topic(
            topics.health,
            "the latest about each deployment",
            "deployment",
            by_key,
            "compacted",
            compacted | {"message.timestamp.type": "LogAppendTime"},
        ),
        Topic(
            topics.accounts_changelog, "table `accounts`", "the row's", "the table's partition", "compacted", changelog
        ),
        Topic(topics.health_changelog, "table `health`", "the row's", "the table's partition", "compacted", changelog),
    )


async def compare(
    bootstrap: str,
    *,
    partitions: int,
    replication_factor: int,
    prefix: str,
    group: str,
    security: Mapping[str, Any] = NO_SECURITY,
) -> list[Difference]:
    """Return what differs from the definition, in its order; nothing is changed or created.

    `security` is given to aiokafka's client as it is. Raises KafkaError where the cluster cannot be asked.
    """
    wanted = definitions(Topics(prefix, group), replication_factor)
    async with _admin(bootstrap, security) as admin:
        return _differences(wanted, await _find(admin, wanted), partitions, replication_factor)


async def apply(
    bootstrap: str,
    *,
    partitions: int,
    replication_factor: int,
    prefix: str,
    group: str,
    security: Mapping[str, Any] = NO_SECURITY,
) -> list[Difference]:
    """Create missing topics, set differing configurations, and return what was mended, once the cluster shows it.

    Where partitions or replication differ, raises TopicsRefusedError before anything is changed; also with the broker's
    words where it refuses. Configuration that the definition does not speak of is kept. May be repeated, and run twice
    at the same time.
    """
    wanted = definitions(Topics(prefix, group), replication_factor)
    async with _admin(bootstrap, security) as admin:
        found = await _find(admin, wanted)
        differences = _differences(wanted, found, partitions, replication_factor)
        if refused := [str(difference) for difference in differences if not difference.mendable]:
            raise TopicsRefusedError(refused)
        changed = {difference.topic for difference in differences}
        await _create(
            admin,
            [
                NewTopic(topic.name, partitions, replication_factor, topic_configs=dict(topic.config))
                for topic in wanted
                if topic.name not in found
            ],
        )
        await _configure(
            admin,
            {
                topic.name: {**found[topic.name].own, **topic.config}
                for topic in wanted
                if topic.name in changed and topic.name in found
            },
        )
        async with asyncio.timeout(VISIBLE_WITHIN_S):
            while _differences(wanted, await _find(admin, wanted), partitions, replication_factor):
                await asyncio.sleep(0.1)
    return differences


@asynccontextmanager
async def _admin(bootstrap: str, security: Mapping[str, Any]) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, **security)
    try:
        await admin.start()
        yield admin
    finally:
        await admin.close()


def _differences(
    wanted: Sequence[Topic], found: Mapping[str, _Found], partitions: int, replication_factor: int
) -> list[Difference]:
    differences = []
    for topic in wanted:
        actual = found.get(topic.name)
        if actual is None:
            differences.append(Difference(topic.name, "topic", "there", None))
            continue
        if actual.partitions != partitions:
            differences.append(Difference(topic.name, "partitions", str(partitions), str(actual.partitions)))
        if actual.replication_factors != {replication_factor}:
            factors = " and ".join(map(str, sorted(actual.replication_factors)))
            differences.append(Difference(topic.name, "replication factor", str(replication_factor), factors))
        differences += [
            Difference(topic.name, setting, value, actual.config.get(setting))
            for setting, value in topic.config.items()
            if actual.config.get(setting) != value
        ]
    return differences


async def _find(admin: AIOKafkaAdminClient, wanted: Sequence[Topic]) -> dict[str, _Found]:
    names = {topic.name for topic in wanted}
    # All topics are listed: to ask for a name that does not exist would create it on some clusters.
    described = {topic["topic"]: topic for topic in await admin.describe_topics() if topic["topic"] in names}
    for name, topic in described.items():
        _refuse_if(topic["error_code"], name, None)
    if not described:
        return {}
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in described]
    found = {}
    for response in await admin.describe_configs(resources):
        for code, message, _, name, entries in response.resources:
            _refuse_if(code, name, message)
            placed = described[name]["partitions"]
            found[name] = _Found(
                partitions=len(placed),
                replication_factors=frozenset(len(partition["replicas"]) for partition in placed),
                config={setting: value for setting, value, *_ in entries},
                own={setting: value for setting, value, _, source, *_ in entries if source == _SET_ON_THE_TOPIC},
            )
    return found


_SET_ON_THE_TOPIC = 1  # DescribeConfigs v1 and later, `config_source`: DYNAMIC_TOPIC_CONFIG


async def _create(admin: AIOKafkaAdminClient, missing: list[NewTopic]) -> None:
    if missing:
        response = await admin.create_topics(missing)
        _refuse_all((code, name, message) for name, code, message in response.topic_errors)


async def _configure(admin: AIOKafkaAdminClient, configs: Mapping[str, Mapping[str, str | None]]) -> None:
    """Set the whole configuration of each topic: this request resets what it does not name."""
    if configs:
        resources = [ConfigResource(ConfigResourceType.TOPIC, name, dict(config)) for name, config in configs.items()]
        responses = await admin.alter_configs(resources)
        _refuse_all((code, name, message) for answer in responses for code, message, _, name in answer.resources)


def _refuse_all(results: Iterable[tuple[int, str, str | None]]) -> None:
    reasons = [_reason(code, name, message) for code, name, message in results if code not in _FINE]
    if reasons:
        raise TopicsRefusedError(reasons)


_FINE = (0, TopicAlreadyExistsError.errno)  # somebody else creates the same topics at this moment


def _refuse_if(code: int, name: str, message: str | None) -> None:
    if code:
        raise TopicsRefusedError([_reason(code, name, message)])


def _reason(code: int, name: str, message: str | None) -> str:
    error: type[KafkaError] = for_code(code)
    return f"{name}: {message or error.description or error.__name__}"


def documentation() -> str:
    """Return docs/topics.md."""
    rows = "".join(
        f"| `{topic.name}` | {topic.holds} | {topic.key} | {topic.partition} | {topic.kept} |\n"
        for topic in definitions(Topics("", "orchestrator"), 3)
    )
    return f"""# Topics

Printed by `python -m streams.runtime.topics`. Names as they are with the default `kafka.group` and no
`kafka.topic_prefix`. Every topic has `kafka.partitions` partitions and takes batches of up to {MAX_MESSAGE_BYTES}
bytes. `orchestrator topics apply` creates them, `orchestrator topics check` compares.
All but the changelogs are `LogAppendTime`: a record's time is the broker's.

| topic | holds | key | partition | kept |
|---|---|---|---|---|
{rows}"""


if __name__ == "__main__":
    print(documentation(), end="")
