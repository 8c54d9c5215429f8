"""The whole configuration, as it counts."""

import hashlib
import json
from decimal import Decimal
from functools import cached_property
from typing import Literal

from pydantic import Field, SecretStr, field_validator

from schemas.configuration.deployments import Deployment
from schemas.configuration.kafka import Kafka
from schemas.configuration.section import Section
from schemas.configuration.service import (
    Cache,
    Health,
    Idempotency,
    Limits,
    LoadBalancer,
    Network,
    Orchestrator,
    State,
)
from schemas.configuration.tenants import RateLimit, Tenant, TenantRules

CACHE_WARNING = "cache has no effect yet"


class Configuration(Section):
    """One configuration file with everything that it leaves out. Made by `parse`, which also checks across keys."""

    orchestrator: Orchestrator = Field(
        default_factory=Orchestrator, description="The service itself. Default: those of its keys."
    )
    models: tuple[Deployment, ...] = Field(
        default=(), description="The deployments, one entry each. Default: none, so nothing can be answered."
    )
    load_balancer: LoadBalancer = Field(
        default_factory=LoadBalancer, description="How deployments are chosen and watched. Default: those of its keys."
    )
    cache: Cache = Field(
        default_factory=Cache, description="The answer cache; no effect yet. Default: those of its keys."
    )
    rate_limit: RateLimit | None = Field(
        default=None, description="The rate limit of every tenant without its own. Default: none, no limit."
    )
    kafka: Kafka = Field(default_factory=Kafka, description="The Kafka cluster. Default: those of its keys.")
    state: State = Field(default_factory=State, description="Where tables are kept. Default: those of its keys.")
    health: Health = Field(default_factory=Health, description="Liveness and readiness. Default: those of its keys.")
    network: Network = Field(default_factory=Network, description="Allowed connections. Default: those of its keys.")
    limits: Limits = Field(default_factory=Limits, description="Bounds on sizes and times. Default: those of its keys.")
    idempotency: Idempotency = Field(
        default_factory=Idempotency, description="How long ids are remembered. Default: those of its keys."
    )
    tenants: tuple[Tenant, ...] = Field(default=(), description="Tenants with rules of their own. Default: none.")
    unknown_tenants: Literal["allow", "refuse"] = Field(
        default="allow", description="What becomes of tenants that `tenants` does not name."
    )

    @field_validator("rate_limit", mode="after")
    @classmethod
    def _disabled_is_none(cls, rate_limit: RateLimit | None) -> RateLimit | None:
        return _in_force(rate_limit)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What loads but does not do what one may expect."""
        return (CACHE_WARNING,) if "cache" in self.model_fields_set and self.cache.enabled else ()

    def tenant(self, name: str) -> TenantRules | None:
        """Return what counts for a tenant; None: it is unknown and refused."""
        known = self._tenants_by_name.get(name)
        if known is not None or self.unknown_tenants == "refuse":
            return known
        return TenantRules(name, rate_limit=self.rate_limit)

    def is_limited(self, name: str) -> bool:
        """Whether a tenant, known, unknown or refused, has one home for all its requests (DESIGN §3)."""
        rules = self.tenant(name)
        return rules is not None and rules.limited

    def home_digest(self) -> str:
        """Return what decides every home, as 64 hex digits: equal exactly where P and `is_limited` are equal."""
        default = self.unknown_tenants == "allow" and self.rate_limit is not None
        exceptions = sorted(name for name, rules in self._tenants_by_name.items() if rules.limited != default)
        return _digest([self.kafka.partitions, default, exceptions])

    def version(self) -> str:
        """Return 16 hex digits of all that counts, without secrets: the same for another spelling of the same."""
        return _digest(_canonical(self))[:16]

    @cached_property
    def _tenants_by_name(self) -> dict[str, TenantRules]:
        return {tenant.name: self._rules_of(tenant) for tenant in self.tenants}

    def _rules_of(self, tenant: Tenant) -> TenantRules:
        rate_limit = self.rate_limit if tenant.rate_limit is None else _in_force(tenant.rate_limit)
        models = None if tenant.models is None else frozenset(tenant.models)
        return TenantRules(tenant.name, tenant.budgets, rate_limit, models)


def _in_force(rate_limit: RateLimit | None) -> RateLimit | None:
    return rate_limit if rate_limit is not None and rate_limit.enabled else None


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _canonical(value: object) -> object:
    """Reduce settings to JSON: no secrets, nothing that is absent, one spelling for each number."""
    match value:
        case Section():
            fields = {name: getattr(value, name) for name in type(value).model_fields}
            kept = {name: field for name, field in fields.items() if not isinstance(field, SecretStr | None)}
            return {name: _canonical(field) for name, field in kept.items()}
        case tuple():
            return [_canonical(item) for item in value]
        case int() | float() | Decimal() if not isinstance(value, bool):
            return f"{Decimal(str(value)).normalize():f}"
        case _:
            return value
