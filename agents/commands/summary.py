"""What `orchestrator config check` tells about a valid configuration: rows of (what, details)."""

from collections.abc import Mapping

from schemas.configuration import Configuration, Deployment, RateLimit

Rows = list[tuple[str, str]]


def rows(configuration: Configuration, environ: Mapping[str, str]) -> Rows:
    """Return the summary, a row each: version, cluster, models, tenants. No secret is in it."""
    kafka, service = configuration.kafka, configuration.orchestrator
    security = "no login" if kafka.security is None else kafka.security.protocol
    return [
        ("version", configuration.version()),
        ("kafka", f"{kafka.bootstrap_servers}, {security}, {kafka.partitions} partitions, {_copies(configuration)}"),
        ("group", kafka.topic_prefix + kafka.group),
        ("service", f"{service.workers} workers, timeout {service.timeout:g} s, {service.max_retries} retries"),
        *((f"model {model.name}", _model(model, environ)) for model in configuration.models),
        *((f"tenant {tenant.name}", _tenant(configuration, tenant.name)) for tenant in configuration.tenants),
        ("other tenants", _others(configuration)),
    ]


def _copies(configuration: Configuration) -> str:
    copies = configuration.kafka.replication_factor
    return f"{copies} {'copy' if copies == 1 else 'copies'}"


def _model(model: Deployment, environ: Mapping[str, str]) -> str:
    parts = [] if model.id == model.name else [f"id {model.id}"]
    parts += [f"{model.provider} at {model.endpoint}", _price(model)]
    if model.api_key_env is not None:
        parts.append(f"key in {model.api_key_env} ({'set' if environ.get(model.api_key_env) else 'not set'})")
    return ", ".join(parts)


def _price(model: Deployment) -> str:
    if model.cost_per_token is not None:
        return f"{model.cost_per_token:f} USD per token"
    if model.price is not None:
        rates = model.price
        return f"{rates.input_usd_per_million:f} and {rates.output_usd_per_million:f} USD per million tokens"
    return "public price list"


def _tenant(configuration: Configuration, name: str) -> str:
    rules = configuration.tenant(name)
    if rules is None:  # a named tenant has rules
        return "refused"
    budgets = [f"{budget.usd:f} USD per {budget.window}" for budget in rules.budgets] or ["no budget"]
    models = [] if rules.models is None else [f"models {', '.join(sorted(rules.models))}"]
    return ", ".join([*budgets, _rate(rules.rate_limit), *models])


def _others(configuration: Configuration) -> str:
    if configuration.unknown_tenants == "refuse":
        return "refused"
    return f"allowed, no budget, {_rate(configuration.rate_limit)}"


def _rate(limit: RateLimit | None) -> str:
    if limit is None:
        return "no rate limit"
    return f"{limit.requests_per_minute} requests per minute, burst {limit.burst_size}"
