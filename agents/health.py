"""HEALTH: folds what workers see of each deployment, tells everybody, and checks those that are out."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import httpx

from agents.providers.check import check
from schemas.configuration import Configuration
from streams.core.homes import partition_of
from streams.core.registry import Deployment, Registry
from streams.runtime.app import WorkerApp
from streams.runtime.health import OBSERVE_EVERY_S, HealthView, tell
from streams.runtime.ports import Clock, Log, Source


class Observes(Protocol):
    """The pipeline's third stage."""

    async def observe(self, source: Source) -> None:
        """Fold records of `model.observations` in offset order; runs for ever."""
        ...


def attach(app: WorkerApp, pipeline: Observes) -> None:
    """Add the HEALTH agent to `app`."""

    @app.agent(app.observations, name="health")
    async def health(stream: Any) -> None:
        await pipeline.observe(app.source_of(stream))


async def publish_observations(view: HealthView, log: Log, topic: str, partitions: int) -> None:
    """Publish once a second what this worker has seen; runs for ever."""
    while True:
        await asyncio.sleep(OBSERVE_EVERY_S)
        await tell(view.take_observations(), log, topic, partitions)


async def check_those_out(
    configuration: Configuration,
    registry: Callable[[int], Registry],
    *,
    view: HealthView,
    owned: Callable[[], frozenset[int]],
    client: httpx.AsyncClient,
    environ: Mapping[str, str],
    clock: Clock,
    log: Log,
    topic: str,
) -> None:
    """Check every `health_check_interval` the deployments that are out and belong to a partition held here. Runs for
    ever."""
    rules, partitions = configuration.load_balancer, configuration.kafka.partitions
    while True:
        await asyncio.sleep(float(rules.health_check_interval))
        mine = [
            d
            for d in registry(clock.now_ms()).deployments
            if view.circuit_open(d.id) and partition_of(d.id.encode(), partitions) in owned()
        ]
        results = await asyncio.gather(*(_passes(client, d, environ, float(rules.timeout)) for d in mine))
        seen = [view.checked(d.id, "passed" if passes else "failed") for d, passes in zip(mine, results, strict=True)]
        await tell(seen, log, topic, partitions)


async def _passes(
    client: httpx.AsyncClient, deployment: Deployment, environ: Mapping[str, str], timeout_s: float
) -> bool:
    key = None if deployment.api_key_env is None else environ.get(deployment.api_key_env)
    return await check(client, deployment.endpoint, deployment.dialect or "openai", key, timeout_s)
