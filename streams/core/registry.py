"""The deployments that may serve a request, and what an attempt on them can cost at most."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from schemas.configuration import Configuration, TenantRules
from schemas.errors import ErrorCode, Reason
from schemas.requests import AUTO, PromptRequest
from streams.core.bounds import input_bound_of, output_bound, payload_bytes
from streams.core.costs import bound_of
from streams.core.prices import Rates


@dataclass(frozen=True, slots=True)
class Deployment:
    """One endpoint and provider's model. `dialect` None: nobody here speaks it. `rates` None: no price is known."""

    id: str
    name: str
    endpoint: str
    provider: str
    provider_model: str
    dialect: str | None
    api_key_env: str | None
    capabilities: frozenset[str]
    context_window: int | None
    max_output_tokens: int | None
    template_tokens: int
    timeout_s: float | None
    paid_health_checks: bool
    rates: Rates | None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A deployment that may serve a request; token bounds, and the nano-USD that one attempt on it costs at most."""

    deployment: Deployment
    input_bound: int
    output_bound: int
    bound_nano_usd: int


@dataclass(frozen=True, slots=True)
class Unservable:
    """No deployment may serve the request, and why: what the error says."""

    code: ErrorCode
    reason: Reason
    message: str
    details: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Registry:
    """All deployments of one configuration, priced for one day."""

    configuration: Configuration
    deployments: tuple[Deployment, ...]

    def deployment(self, name: str) -> Deployment | None:
        """Find a deployment by its id."""
        return next((d for d in self.deployments if d.id == name), None)

    @property
    def names(self) -> list[str]:
        """The model names that a request may ask for."""
        return sorted({d.name for d in self.deployments})


def candidates_for(
    request: PromptRequest, registry: Registry, rules: TenantRules
) -> tuple[Candidate, ...] | Unservable:
    """Return who may serve the request, in order of its preference, then of the configuration; or why nobody may.

    What rules a deployment out, in this order: its name, the tenant's list, a capability, images (their tokens have no
    known bound), its output limit, its price, its dialect. The byte bound never refuses (CONTRACT §2).
    """
    asked = request.models
    known = registry.deployments if asked == AUTO else _named(asked, registry)
    if not known:
        return _unservable("INVALID_REQUEST", "unknown_model", f"no model is called {_listed(asked)}", registry, asked)
    allowed = [d for d in known if rules.models is None or d.name in rules.models]
    if not allowed:
        details = {"model": _listed(asked), "allowed": sorted(rules.models or ())}
        return Unservable("FORBIDDEN", "model_not_allowed", "the tenant may not use this model", details)
    needed = frozenset(request.needs.capabilities)
    capable = [d for d in allowed if needed <= d.capabilities]
    if not capable or request.images:
        what = "counts image tokens" if capable else f"offers {_listed(sorted(needed))}"
        return _unservable("INVALID_REQUEST", "no_candidate", f"no deployment {what}", registry, asked)
    roomy = [d for d in capable if _gives(d, request.max_tokens)]
    if not roomy:
        limits = {d.id: d.max_output_tokens or d.context_window for d in capable}
        message = f"max_tokens {request.max_tokens} is above the limit of every deployment"
        return Unservable("TOKEN_LIMIT_EXCEEDED", "max_tokens", message, {"model": _listed(asked), "limits": limits})
    priced = [d for d in roomy if d.rates is not None]
    if not priced:
        return _unservable("MODEL_UNAVAILABLE", "no_price", "no price is known", registry, asked)
    spoken = [d for d in priced if d.dialect is not None]
    if not spoken:
        return _unservable("MODEL_UNAVAILABLE", "no_dialect", "nobody here speaks its API", registry, asked)
    return bounded(spoken, request, registry.configuration.limits.default_max_tokens)


def _named(asked: tuple[str, ...], registry: Registry) -> tuple[Deployment, ...]:
    return tuple(d for name in asked for d in registry.deployments if d.name == name)


def _gives(deployment: Deployment, max_tokens: int | None) -> bool:
    limits = [limit for limit in (deployment.max_output_tokens, deployment.context_window) if limit is not None]
    return max_tokens is None or all(max_tokens <= limit for limit in limits)


def bounded(deployments: list[Deployment], request: PromptRequest, default_output: int) -> tuple[Candidate, ...]:
    """Return the deployments whose price is known, with what an attempt of this request on them is bound by."""
    form = request.response_format  # providers turn its schema into tokens as well
    size = payload_bytes(request.messages, request.tools) + (0 if form is None else payload_bytes([form], None))
    found = []
    for d in deployments:
        if d.rates is None:
            continue
        tokens_in = input_bound_of(
            size, len(request.messages), template_tokens=d.template_tokens, context_window=d.context_window
        )
        tokens_out = output_bound(
            request.max_tokens,
            default=default_output,
            max_output=d.max_output_tokens,
            context_window=d.context_window,
        )
        found.append(Candidate(d, tokens_in, tokens_out, bound_of(tokens_in, tokens_out, d.rates)))
    return tuple(found)


def _listed(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(names)


def _unservable(
    code: ErrorCode, reason: Reason, message: str, registry: Registry, asked: tuple[str, ...]
) -> Unservable:
    return Unservable(code, reason, message, {"model": _listed(asked), "models": registry.names})
