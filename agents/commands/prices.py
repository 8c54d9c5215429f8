"""`orchestrator prices`: what a call on each deployment is priced at, and why."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import orjson

from agents.commands.exits import WRONG, CommandError
from schemas.configuration import Configuration
from schemas.configuration import Deployment as Configured
from streams.core.prices import Rates
from streams.runtime.registry import registry_of


@dataclass(frozen=True, slots=True)
class Priced:
    """A deployment's rates on a day; None: no price is known, and requests for it are refused with `no_price`."""

    deployment: str
    model: str
    provider: str
    provider_model: str
    day: date
    why: str
    rates: Rates | None

    def lines(self) -> list[str]:
        """Return the rates for people: USD per million tokens, a line per price list."""
        if self.rates is None:
            return ["none: requests are refused with no_price"]
        lists = [("", self.rates), *((f"above {above:,} input tokens: ", rates) for above, rates in self.rates.steps)]
        return [prefix + ", ".join(f"{c} {rate}" for c, rate in r.price.rates.items()) for prefix, r in lists]

    def as_dict(self) -> dict[str, object]:
        """Return it for programs: rates are exact decimal strings, USD per million tokens, `per_request` in USD."""
        rates = self.rates
        known = {} if rates is None else {"source": rates.source, "version": rates.version, "rates": rates.price.rates}
        steps = [] if rates is None else [{"above_input_tokens": n, "rates": r.price.rates} for n, r in rates.steps]
        return {
            "deployment": self.deployment,
            "model": self.model,
            "provider": self.provider,
            "provider_model": self.provider_model,
            "date": self.day.isoformat(),
            "why": self.why,
            "source": None,
            "version": None,
            "rates": None,
            **known,
            "steps": steps,
        }


def prices(configuration: Configuration, model: str | None, day_ms: int, day: date) -> list[Priced]:
    """Return the deployments of `model` (a name or a deployment's id), or all. Raises `CommandError` (2).

    `day_ms`: a moment of the UTC `day` that prices are asked for.
    """
    registry = registry_of(configuration)(day_ms)
    rates = {deployment.id: deployment.rates for deployment in registry.deployments}
    chosen = [m for m in configuration.models if model is None or model in {m.name, m.id}]
    if not chosen:
        known = ", ".join(sorted({m.name for m in configuration.models})) or "none"
        raise CommandError(WRONG, [f"{model or 'models'}: no such model in the configuration; known: {known}"])
    return [Priced(m.id, m.name, m.provider, m.provider_model, day, _why(m, rates[m.id]), rates[m.id]) for m in chosen]


COLUMNS = ("deployment", "model", "date", "rates", "source", "version", "why")
"""Of `table`."""


def table(found: Sequence[Priced]) -> list[tuple[str, ...]]:
    """Return rows for people."""
    return [
        (
            p.deployment,
            p.model,
            p.day.isoformat(),
            "\n".join(p.lines()),
            "-" if p.rates is None else p.rates.source,
            "-" if p.rates is None else p.rates.version,
            p.why,
        )
        for p in found
    ]


def to_json(found: Sequence[Priced]) -> bytes:
    """Write all for programs."""
    return orjson.dumps([priced.as_dict() for priced in found])


def _why(model: Configured, rates: Rates | None) -> str:
    if model.cost_per_token is not None:
        return "cost_per_token of the configuration: input and output at one rate"
    if model.price is not None:
        return "price of the configuration"
    asked = f"{model.provider} {model.provider_model}"
    if rates is None:
        return f"neither cost_per_token nor price is configured, and genai-prices has no price of {asked}"
    return f"neither cost_per_token nor price is configured: genai-prices for {asked}"
