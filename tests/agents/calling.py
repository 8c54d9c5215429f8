"""A caller over real sockets, with everything around it made up."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from agents.calls import ProviderCaller
from agents.providers.transport import client
from schemas.configuration import Configuration, parse
from schemas.progress import AttemptFailed, AttemptSucceeded
from streams.core.request import Start
from streams.runtime.concurrency import Places
from streams.runtime.health import HealthView
from streams.runtime.registry import registry_of
from tests.core.build import NOW, TRACEPARENT, prompt


@dataclass
class Clock:
    """A clock that stands until it is moved."""

    ms: int = NOW

    def now_ms(self) -> int:
        return self.ms

    async def sleep_until(self, moment_ms: int) -> None:
        self.ms = max(self.ms, moment_ms)


@dataclass
class Bench:
    """One worker's caller. `models` are the configuration's entries, by id."""

    models: Mapping[str, Mapping[str, Any]]
    balancer: Mapping[str, Any] = field(default_factory=dict)
    clock: Clock = field(default_factory=Clock)
    most_waiting: int = 10_000
    owned: int = 12

    def __post_init__(self) -> None:
        self.configuration: Configuration = parse(_yaml(self.models, self.balancer))
        self.registry = registry_of(self.configuration)
        scopes = {d.id: d.scope for d in self.registry(NOW).deployments}
        self.health = HealthView(self.clock, "w0", max_failures=3, check_interval_s=30, scopes=scopes)
        self.client = client(limit=100)
        self.places = Places(self.clock, lambda: self.owned, 12, most_waiting=self.most_waiting)
        self.caller = ProviderCaller(self.client, self.registry, self.health, self.clock, {}, self.places)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.aclose()

    async def call(
        self, request_id: str = "r-1", *, tried: str = "", attempt: int = 1, after: str | None = None, **asked: Any
    ) -> AttemptSucceeded | AttemptFailed:
        """Make one attempt that all deployments may serve. `after`: how the last one failed."""
        request = prompt(request_id=request_id, **{"model": "m", "max_tokens": 8, **asked})
        return await self.caller.call(
            replace(
                start(request_id, attempt, tuple(self.models)),
                tried=tuple(tried.split()),
                last_reason=after or ("server_error" if tried else None),
            ),
            request,
        )


def start(request_id: str, attempt: int, candidates: tuple[str, ...]) -> Start:
    return Start(
        tenant="acme",
        request_id=request_id,
        partition=0,
        offset=0,
        attempt=attempt,
        received_ms=NOW,
        decided_ms=NOW,
        deadline_ms=NOW + 30_000,
        traceparent=TRACEPARENT,
        candidates=candidates,
        tried=(),
        hold=1,
    )


def _yaml(models: Mapping[str, Mapping[str, Any]], balancer: Mapping[str, Any]) -> str:
    entries = [{"name": "m", "cost_per_token": 0.00001, "id": name, **told} for name, told in models.items()]
    return json.dumps({"models": entries, "load_balancer": dict(balancer)})
