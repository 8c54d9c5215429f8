"""One worker process: assembles the pipeline, Faust and the providers from a configuration, and runs until it is
stopped."""

import asyncio
import gc
from collections.abc import Mapping
from pathlib import Path

import structlog
import uvloop

from agents import decide, finish, health
from agents.calls import ProviderCaller
from agents.providers.transport import client as provider_client
from schemas.configuration import Configuration
from streams.runtime.agreement import client_id, members_of, strangers
from streams.runtime.app import WorkerApp, WorkerSettings, build_app, serve
from streams.runtime.clients import client_settings
from streams.runtime.clock import SystemClock
from streams.runtime.concurrency import Places
from streams.runtime.health import HealthView, follow
from streams.runtime.metrics import Sources, page_of
from streams.runtime.pipeline import ACCOUNTS, HEALTH, Pipeline
from streams.runtime.probes import probes, serve_probes
from streams.runtime.process import HOPELESS, SystemProcess
from streams.runtime.registry import registry_of
from streams.runtime.slots import Slot, SlotInUseError, take_slot
from streams.runtime.topics import Topics

BAD_USAGE = 2
MOST_CONNECTIONS = 20_000
"""Calls in flight are bounded by what is admitted, not by the pool."""

log = structlog.get_logger()


def run(configuration: Configuration, environ: Mapping[str, str], worker: str | None) -> int:
    """Run a worker under the name `worker`, or the first free one. Returns 2 where it cannot have the name."""
    kafka = configuration.kafka
    root = Path(configuration.state.directory) / f"{kafka.topic_prefix}{kafka.group}"
    try:
        slot = take_slot(root, worker)
    except (SlotInUseError, OSError) as error:
        log.error("no place to work in", reason=str(error))
        return BAD_USAGE
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())  # for the consumer's thread, which makes its own loop
    uvloop.run(_run(configuration, environ, slot))
    return 0


async def _run(configuration: Configuration, environ: Mapping[str, str], slot: Slot) -> None:
    kafka, process, clock = configuration.kafka, SystemProcess(), SystemClock()
    topics = Topics(kafka.topic_prefix, kafka.group)
    app = build_app(_settings(configuration, environ, slot, topics), process)
    registry = registry_of(configuration)
    view = HealthView(
        clock,
        slot.name,
        max_failures=configuration.load_balancer.max_failures,
        check_interval_s=float(configuration.load_balancer.health_check_interval),
        scopes={d.id: d.scope for d in registry(clock.now_ms()).deployments},
    )
    client = provider_client(limit=MOST_CONNECTIONS)
    owned: list[int] = []
    places = Places(clock, lambda: len(owned), kafka.partitions)
    pipeline = Pipeline(
        registry=registry,
        topics=topics,
        log=app.kafka,
        store=app.store,
        clock=clock,
        process=process,
        caller=ProviderCaller(client, registry, view, clock, environ, places),
    )
    decide.attach(app, pipeline)
    finish.attach(app, pipeline)
    health.attach(app, pipeline)

    def ready(partitions: list[int]) -> None:
        owned[:] = partitions
        places.admit()
        _settle_garbage()
        log.info("ready", worker=slot.name, partitions=partitions)

    partitions = kafka.partitions
    app.host(pipeline, ready)
    app.beside("reading model.health", lambda: follow(view, app.connection, topics.health, partitions))
    app.beside(
        "publishing observations",
        lambda: health.publish_observations(view, app.kafka, topics.observations, partitions),
    )
    app.beside(
        "checking deployments",
        lambda: health.check_those_out(
            configuration,
            registry,
            view=view,
            owned=lambda: frozenset(owned),
            client=client,
            environ=environ,
            clock=clock,
            log=app.kafka,
            topic=topics.observations,
        ),
    )
    port = configuration.health.port
    if port:
        answering = probes(app.liveness, app.readiness, page_of(pipeline.counts, _sources(app, pipeline)))
        app.beside("answering probes", lambda: serve_probes(answering, configuration.orchestrator.host, port))
    app.before_joining(lambda: _require_agreement(app, configuration, topics))
    await serve(app)


def _sources(app: WorkerApp, pipeline: Pipeline) -> Sources:
    return Sources(
        calls=lambda: pipeline.calls_in_flight,
        open_requests=lambda: pipeline.open_requests,
        partitions=lambda: app.partitions_held,
        rebalances=lambda: app.rebalances,
        lag=app.lag,
        commit_age_s=app.commit_age_s,
        stored=lambda: pipeline.stored,
    )


def _settle_garbage() -> None:
    """Leave what was made at the start out of collections, and look for cycles less often: a request in flight has
    hundreds of objects and no cycles, and a full collection of ten thousand of them stops everything for long."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 100)


async def _require_agreement(app: WorkerApp, configuration: Configuration, topics: Topics) -> None:
    digest = configuration.home_digest()
    others = strangers(await members_of(topics.app_id, app.connection), digest)
    if others:
        why = "running workers place requests by other rules (kafka.partitions, limited tenants): stop them first"
        app.process.exit(HOPELESS, f"{why}; they are {', '.join(others)}")


def _settings(configuration: Configuration, environ: Mapping[str, str], slot: Slot, topics: Topics) -> WorkerSettings:
    kafka = configuration.kafka
    connection = client_settings(kafka, environ)
    return WorkerSettings(
        bootstrap_servers=tuple(connection.pop("bootstrap_servers")),
        group=topics.app_id,
        worker=slot.name,
        requests=topics.requests,
        progress=topics.progress,
        observations=topics.observations,
        tables={ACCOUNTS: topics.accounts_changelog, HEALTH: topics.health_changelog},
        partitions=kafka.partitions,
        state=slot.directory,
        session_timeout_s=float(kafka.session_timeout),
        client_id=client_id(configuration.home_digest()),
        security=connection,
    )
