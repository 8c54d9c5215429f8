"""The deployments that may serve a request, and what an attempt on them can cost at most."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from schemas.configuration import Configuration, TenantRules
from schemas.errors import ErrorCode, Reason
from schemas.requests import AUTO, PromptRequest
from streams.core.bounds import (
    Counter,
    counted_prompt,
    counted_tokens,
    input_bound_of,
    output_bound,
    payload_bytes,
    without_images,
)
from streams.core.costs import bound_of
from streams.core.prices import Rates

_TOOL_PROMPT_TOKENS = {"anthropic": 1024}
"""What a provider says to the model by itself where there are tools, by dialect: Anthropic documents up to 530 tokens
(Claude 3 Opus, "Tool use pricing and tokens"); about twice that, for models to come."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """One endpoint and provider's model. `dialect` None: nobody here speaks it. `rates` None: no price is known.

    `count`: the model's own tokenizer, None: not known, so that bytes count. `image_tokens`: what an image is billed as
    at most, None: not known, so that images are refused.
    """

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
    count: Counter | None = None
    image_tokens: int | None = None
    weight: float = 1.0
    priority: int = 0
    quota: str | None = None
    max_concurrency: int | None = None

    @property
    def scope(self) -> str:
        """Whose provider's limit its calls count against: deployments of one scope cool down together."""
        return f"deployment/{self.id}" if self.quota is None else f"quota/{self.quota}"


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

    What rules a deployment out, in this order: its name, the tenant's list, a capability, images (unless their tokens
    have a bound), its output limit, its context window, its price, its dialect. The byte bound never refuses, exact
    counts do (CONTRACT §2).
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
    if not capable:
        what = f"no deployment offers {_listed(sorted(needed))}"
        return _unservable("INVALID_REQUEST", "no_candidate", what, registry, asked)
    seeing = [d for d in capable if not request.images or d.image_tokens is not None]
    if not seeing:
        what = "no deployment says with image_tokens what an image may cost, so that images cannot be bounded"
        return _unservable("INVALID_REQUEST", "no_candidate", what, registry, asked)
    roomy = [d for d in seeing if _gives(d, request.max_tokens)]
    if not roomy:
        limits = {d.id: d.max_output_tokens or d.context_window for d in seeing}
        message = f"max_tokens {request.max_tokens} is above the limit of every deployment"
        return Unservable("TOKEN_LIMIT_EXCEEDED", "max_tokens", message, {"model": _listed(asked), "limits": limits})
    fitting, too_long = _fitting(roomy, request)
    if not fitting:
        message = "the prompt and max_tokens together are above the context window of every deployment"
        return Unservable("TOKEN_LIMIT_EXCEEDED", "context", message, {"model": _listed(asked), "needed": too_long})
    priced = [d for d in fitting if d.rates is not None]
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


def _fitting(deployments: list[Deployment], request: PromptRequest) -> tuple[list[Deployment], dict[str, int]]:
    """Return the deployments that the request is not known to be too long for, and the tokens that others would need.

    Without `max_tokens` nobody asked for more than an answer: only a prompt that leaves no room for one is too long.
    """
    prompts: dict[Counter, int] = {}
    fitting, too_long = [], {}
    for d in deployments:
        if d.count is None or d.context_window is None:
            fitting.append(d)
            continue
        if d.count not in prompts:
            prompts[d.count] = counted_prompt(request.messages, d.count)
        needed = prompts[d.count] + (request.max_tokens or 1)
        if needed > d.context_window:
            too_long[d.id] = needed
        else:
            fitting.append(d)
    return fitting, too_long


def _output_bound(deployment: Deployment, request: PromptRequest, default: int) -> int:
    return output_bound(
        request.max_tokens,
        default=default,
        max_output=deployment.max_output_tokens,
        context_window=deployment.context_window,
    )


def bounded(deployments: list[Deployment], request: PromptRequest, default_output: int) -> tuple[Candidate, ...]:
    """Return the deployments whose price is known, with what an attempt of this request on them is bound by."""
    messages = without_images(request.messages) if request.images else request.messages
    tools, form = request.tools, request.response_format  # providers turn its schema into tokens as well
    size = payload_bytes(messages, tools) + (0 if form is None else payload_bytes([form], None))
    counts: dict[Counter, int] = {}
    found = []
    for d in deployments:
        if d.rates is None:
            continue
        if d.count is not None and d.count not in counts:
            counts[d.count] = counted_tokens(messages, [told for told in (tools, form) if told], d.count)
        format_tokens = d.template_tokens if tools or form else 0  # how a model is told of them has no exact rule
        tool_prompt = _TOOL_PROMPT_TOKENS.get(d.dialect or "", 0) if tools else 0
        tokens_in = input_bound_of(
            size,
            len(messages),
            template_tokens=d.template_tokens + tool_prompt,
            context_window=d.context_window,
            counted=None if d.count is None else counts[d.count] + format_tokens,
            images=request.images * (d.image_tokens or 0),
        )
        tokens_out = _output_bound(d, request, default_output)
        found.append(Candidate(d, tokens_in, tokens_out, bound_of(tokens_in, tokens_out, d.rates)))
    return tuple(found)


def _listed(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(names)


def _unservable(
    code: ErrorCode, reason: Reason, message: str, registry: Registry, asked: tuple[str, ...]
) -> Unservable:
    return Unservable(code, reason, message, {"model": _listed(asked), "models": registry.names})
