"""The deployments of a configuration, priced for a day: from the configuration itself, else from the public price
list."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from functools import lru_cache

from schemas import configuration as settings
from streams.core.prices import Rates
from streams.core.registry import Deployment, Registry
from streams.runtime import pricelist
from streams.runtime.tokens import counter_of

DIALECTS = {"anthropic": "anthropic", "google": "google"}
"""Dialects of the providers that have one of their own. All others are taken to speak OpenAI's chat API."""


def registry_of(configuration: settings.Configuration) -> Callable[[int], Registry]:
    """Return a function from a moment (milliseconds) to the registry of its UTC day."""
    version = configuration.version()

    @lru_cache(maxsize=4)
    def of_day(day: date) -> Registry:
        return Registry(configuration, tuple(_deployment(model, day, version) for model in configuration.models))

    return lambda moment_ms: of_day(datetime.fromtimestamp(moment_ms // 1000, UTC).date())


def _deployment(model: settings.Deployment, day: date, version: str) -> Deployment:
    return Deployment(
        id=model.id,
        name=model.name,
        endpoint=model.endpoint,
        provider=model.provider,
        provider_model=model.provider_model,
        dialect=_dialect_of(model),
        api_key_env=model.api_key_env,
        capabilities=frozenset(model.capabilities),
        context_window=model.max_tokens,
        max_output_tokens=model.max_output_tokens,
        template_tokens=model.template_tokens,
        timeout_s=model.timeout,
        paid_health_checks=model.paid_health_checks,
        rates=_rates(model, day, version),
        count=counter_of(model),
        image_tokens=model.image_tokens,
        weight=model.weight,
        priority=model.priority,
        quota=model.quota,
        max_concurrency=model.max_concurrency,
    )


def _dialect_of(model: settings.Deployment) -> str:
    """Google serves both APIs on one host: the OpenAI-compatible one below a path that ends in `/openai`."""
    if model.provider == "google" and model.endpoint.endswith("/openai"):
        return "openai"
    return DIALECTS.get(model.provider, "openai")


def _rates(model: settings.Deployment, day: date, version: str) -> Rates | None:
    if model.cost_per_token is not None:
        return Rates.flat(model.cost_per_token, version)
    if model.price is not None:
        return Rates.of_price(model.price, version)
    return pricelist.rates_of(model.provider, model.provider_model, day)
