"""The configuration file: `parse` it, or print its `json_schema`. CONTRACT §3 is its specification."""

from schemas.configuration.configuration import Configuration
from schemas.configuration.deployments import Deployment, Price
from schemas.configuration.endpoints import is_private_address, is_private_host
from schemas.configuration.json_schema import json_schema
from schemas.configuration.kafka import Kafka, KafkaSecurity
from schemas.configuration.mistakes import ConfigurationError, Mistake
from schemas.configuration.parsing import parse
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
from schemas.configuration.tenants import Budget, RateLimit, Tenant, TenantRules

__all__ = [
    "Budget",
    "Cache",
    "Configuration",
    "ConfigurationError",
    "Deployment",
    "Health",
    "Idempotency",
    "Kafka",
    "KafkaSecurity",
    "Limits",
    "LoadBalancer",
    "Mistake",
    "Network",
    "Orchestrator",
    "Price",
    "RateLimit",
    "State",
    "Tenant",
    "TenantRules",
    "is_private_address",
    "is_private_host",
    "json_schema",
    "parse",
]
