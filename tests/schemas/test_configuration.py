"""What a configuration file means."""

from decimal import Decimal

import pytest

from schemas.configuration import Configuration, ConfigurationError, RateLimit, TenantRules, parse

ORCHESTRATOR = """\
orchestrator:
  host: localhost
  port: 8000
  workers: 4
  timeout: 30
  max_retries: 3
"""
MODELS = """\
models:
  - name: gpt-4
    endpoint: https://api.openai.com/v1
    capabilities:
      - text-generation
      - code-completion
    max_tokens: 8192
    cost_per_token: 0.00003

  - name: claude-2
    endpoint: https://api.anthropic.com/v1
    capabilities:
      - text-generation
      - analysis
    max_tokens: 100000
    cost_per_token: 0.00002
"""
LOAD_BALANCER = """\
load_balancer:
  strategy: round-robin
  health_check_interval: 30
  max_failures: 3
  timeout: 5
"""
CACHE = """\
cache:
  enabled: true
  ttl: 3600
  max_size: 1000
  strategy: lru
"""
RATE_LIMIT = """\
rate_limit:
  enabled: true
  requests_per_minute: 100
  burst_size: 10
"""
SEED = ORCHESTRATOR + MODELS + LOAD_BALANCER + CACHE + RATE_LIMIT


def only_model(text: str) -> Configuration:
    """Parse one model with the given further keys, in flow style."""
    return parse(f"models: [{{name: m, endpoint: 'https://api.openai.com/v1'{text}}}]")


def test_the_seed_loads_as_it_is_written() -> None:
    configuration = parse(SEED)

    assert configuration.orchestrator.model_dump() == {
        "host": "localhost",
        "port": 8000,
        "workers": 4,
        "timeout": 30.0,
        "max_retries": 3,
    }
    gpt, claude = configuration.models
    assert (gpt.name, gpt.id, gpt.provider, gpt.api_key_env) == ("gpt-4", "gpt-4", "openai", "OPENAI_API_KEY")
    assert (gpt.capabilities, gpt.max_tokens) == (("text-generation", "code-completion"), 8192)
    assert (gpt.cost_per_token, claude.cost_per_token) == (Decimal("0.00003"), Decimal("0.00002"))
    assert (claude.provider, claude.api_key_env, claude.provider_model) == (
        "anthropic",
        "ANTHROPIC_API_KEY",
        "claude-2",
    )
    assert configuration.rate_limit == RateLimit(requests_per_minute=100, burst_size=10, mode="refuse")


@pytest.mark.parametrize("section", [ORCHESTRATOR, MODELS, LOAD_BALANCER, CACHE, RATE_LIMIT])
def test_each_section_of_the_seed_loads_alone(section: str) -> None:
    parse(section)


def test_an_absent_section_means_the_defaults_of_the_contract() -> None:
    configuration = parse("{}")

    assert (*configuration.models, *configuration.tenants, *configuration.warnings) == ()
    assert configuration.rate_limit is None
    assert configuration.unknown_tenants == "allow"
    assert configuration.model_dump(exclude={"models", "tenants", "rate_limit", "unknown_tenants"}) == {
        "orchestrator": {"host": "localhost", "port": 8000, "workers": 4, "timeout": 30, "max_retries": 3},
        "load_balancer": {"strategy": "round-robin", "health_check_interval": 30, "max_failures": 3, "timeout": 5},
        "cache": {"enabled": True, "ttl": 3600, "max_size": 1000, "strategy": "lru"},
        "kafka": {
            "bootstrap_servers": "localhost:9092",
            "partitions": 12,
            "replication_factor": 1,
            "topic_prefix": "",
            "group": "orchestrator",
            "session_timeout": 10,
            "security": None,
        },
        "state": {"directory": "state"},
        "health": {"port": 0},
        "network": {"allow_private_endpoints": True},
        "limits": {
            "max_request_bytes": 524288,
            "max_answer_bytes": 524288,
            "default_max_tokens": 1024,
            "max_timeout_s": 3600,
        },
        "idempotency": {"horizon": 86400},
    }


def test_null_counts_as_absent() -> None:
    assert parse("orchestrator: {port: null}\nmodels:\nkafka: ~\n") == parse("{}")


def test_our_own_model_keys_are_absent_unless_written() -> None:
    (model,) = only_model("").models

    assert (model.cost_per_token, model.price, model.max_tokens, model.max_output_tokens) == (None, None, None, None)
    assert (model.max_concurrency, model.quota, model.timeout) == (None, None, None)
    assert (model.template_tokens, model.weight, model.priority, model.paid_health_checks) == (64, 1.0, 0, False)


def test_prices_are_exact_decimals_whichever_way_they_are_written() -> None:
    price = ", price: {input_usd_per_million: '0.1', output_usd_per_million: 37.50, per_request_usd: 3e-5}"
    (model,) = only_model(price).models

    assert model.price is not None
    assert str(model.price.input_usd_per_million) == "0.1"
    assert str(model.price.output_usd_per_million) == "37.50"
    assert model.price.per_request_usd == Decimal("0.00003")
    assert model.price.cache_read_usd_per_million is None


def test_the_price_free_costs_nothing() -> None:
    (model,) = only_model(", price: free").models

    assert model.price is not None
    assert set(model.price.model_dump(exclude_none=True).values()) == {Decimal(0)}


def test_a_cost_of_nothing_per_token_is_allowed() -> None:
    assert only_model(", cost_per_token: 0").models[0].cost_per_token == 0


@pytest.mark.parametrize(
    ("endpoint", "provider", "variable"),
    [
        ("https://api.openai.com/v1", "openai", "OPENAI_API_KEY"),
        ("https://API.Anthropic.com/v1/", "anthropic", "ANTHROPIC_API_KEY"),
        ("https://generativelanguage.googleapis.com/v1beta", "google", "GEMINI_API_KEY"),
        ("http://api.openai.com/v1", "openai", None),
        ("https://api.openai.com.evil.example/v1", "openai", None),
        ("http://127.0.0.1:8080/v1", "openai", None),
    ],
)
def test_the_usual_key_goes_to_the_providers_own_host_only(endpoint: str, provider: str, variable: str | None) -> None:
    (model,) = parse(f"models: [{{name: m, endpoint: '{endpoint}'}}]").models

    assert (model.provider, model.api_key_env) == (provider, variable)


def test_a_named_provider_does_not_bring_its_key_to_another_host() -> None:
    (model,) = parse("models: [{name: m, endpoint: 'https://proxy.example/v1', provider: anthropic}]").models

    assert (model.provider, model.api_key_env) == ("anthropic", None)


def test_several_deployments_may_share_a_name_when_each_has_an_id() -> None:
    text = "models: [{name: m, id: a, endpoint: 'http://a'}, {name: m, endpoint: 'http://b'}]"

    assert [model.id for model in parse(text).models] == ["a", "m"]


def test_a_trailing_slash_of_an_endpoint_means_nothing() -> None:
    assert parse("models: [{name: m, endpoint: 'http://a/v1/'}]").models[0].endpoint == "http://a/v1"


@pytest.mark.parametrize(
    ("text", "warnings"),
    [
        ("cache: {}", ("cache has no effect yet",)),
        ("cache: {enabled: true}", ("cache has no effect yet",)),
        ("cache: {enabled: false}", ()),
        ("cache:", ()),
        ("{}", ()),
    ],
)
def test_a_cache_that_is_asked_for_warns_that_it_has_no_effect(text: str, warnings: tuple[str, ...]) -> None:
    assert parse(text).warnings == warnings


# Tenants


TENANTS = """\
rate_limit: {requests_per_minute: 100}
models: [{name: gpt-4, endpoint: "http://a"}]
tenants:
  - name: acme
    budgets: [{usd: "10", window: day}, {usd: 0.000000001, window: month}]
    rate_limit: {requests_per_minute: 6000, burst_size: 100}
    models: [gpt-4]
  - name: plain
  - name: free
    rate_limit: {enabled: false}
"""


def test_a_tenant_has_its_own_rules() -> None:
    acme = parse(TENANTS).tenant("acme")

    assert acme is not None
    assert [(budget.limit_nano_usd, budget.window) for budget in acme.budgets] == [
        (10_000_000_000, "day"),
        (1, "month"),
    ]
    assert acme.rate_limit == RateLimit(requests_per_minute=6000, burst_size=100)
    assert acme.models == frozenset({"gpt-4"})
    assert acme.limited


def test_a_tenant_without_a_rate_limit_has_the_global_one() -> None:
    assert parse(TENANTS).tenant("plain") == TenantRules("plain", rate_limit=RateLimit(requests_per_minute=100))


def test_a_disabled_rate_limit_is_none_for_that_tenant() -> None:
    assert parse(TENANTS).tenant("free") == TenantRules("free")


def test_a_disabled_global_rate_limit_is_none() -> None:
    configuration = parse("rate_limit: {enabled: false, requests_per_minute: 5}")

    assert configuration.rate_limit is None
    assert configuration.tenant("anyone") == TenantRules("anyone")


def test_an_unknown_tenant_gets_the_global_rules_or_is_refused() -> None:
    assert parse(TENANTS).tenant("nobody") == TenantRules("nobody", rate_limit=RateLimit(requests_per_minute=100))
    refusing = parse(TENANTS + "unknown_tenants: refuse\n")
    assert refusing.tenant("nobody") is None
    assert refusing.tenant("plain") is not None
    assert not refusing.is_limited("nobody")


# Digests


HOME = "tenants: [{name: a, budgets: [{usd: 1, window: day}]}, {name: b}]\n"


@pytest.mark.parametrize(
    "text",
    [
        "tenants: [{name: b}, {name: a, budgets: [{usd: 99, window: month}]}]\n",
        "tenants: [{name: a, rate_limit: {requests_per_minute: 1}}]\n",
        HOME + "orchestrator: {workers: 9}\nunknown_tenants: refuse\n",
    ],
)
def test_a_home_digest_stays_where_every_tenant_stays_at_home(text: str) -> None:
    assert parse(text).home_digest() == parse(HOME).home_digest()


@pytest.mark.parametrize(
    "text",
    [
        HOME + "kafka: {partitions: 13}\n",
        HOME + "rate_limit: {}\n",
        "tenants: [{name: a}, {name: b}]\n",
        "tenants: [{name: b, budgets: [{usd: 1, window: day}]}]\n",
    ],
)
def test_a_home_digest_changes_where_a_tenant_would_move(text: str) -> None:
    assert parse(text).home_digest() != parse(HOME).home_digest()


def test_exempting_a_tenant_from_the_global_rate_limit_moves_it() -> None:
    exempted = "rate_limit: {}\ntenants: [{name: a, rate_limit: {enabled: false}}]\n"

    assert parse(exempted).home_digest() != parse("rate_limit: {}\n").home_digest()


def test_home_digests_are_stable_across_releases() -> None:
    assert parse("{}").home_digest() == "dbf1ee14240b67e027415961b609cb786f85e39eb7cd05a6e9329e9fa2df41e2"


def test_a_version_is_the_same_for_another_spelling_and_another_for_another_meaning() -> None:
    version = parse("models: [{name: m, endpoint: 'http://a', cost_per_token: 0.00003}]").version()

    assert len(version) == 16
    assert parse('models: [{name: m, endpoint: http://a/, cost_per_token: "0.000030"}]\ncache: {}').version() == version
    assert parse("models: [{name: m, endpoint: 'http://a', cost_per_token: 0.00004}]").version() != version


# Kafka and its secrets


SECURE = "kafka: {security: {protocol: SASL_SSL, sasl_mechanism: PLAIN, username: u, password: canary-4711}}\n"


def test_a_password_is_readable_only_when_asked_for() -> None:
    configuration = parse(SECURE)
    security = configuration.kafka.security

    assert security is not None
    assert security.password is not None
    assert security.password.get_secret_value() == "canary-4711"
    for text in (repr(configuration), str(configuration), str(configuration.model_dump())):
        assert "canary-4711" not in text
    assert "canary-4711" not in configuration.model_dump_json()


def test_a_password_does_not_change_the_version() -> None:
    assert parse(SECURE).version() == parse(SECURE.replace("4711", "4712")).version()


# The environment


def test_the_environment_wins_over_the_file_in_any_case() -> None:
    environ = {
        "ORCHESTRATOR_KAFKA__PARTITIONS": "24",
        "orchestrator_models__0__endpoint": "http://other/v1",
        "Orchestrator_Models__0__Cost_Per_Token": "0.5",
        "ORCHESTRATOR_MODELS__2": "{name: third, endpoint: 'http://c', capabilities: [a, b]}",
        "ORCHESTRATOR_TENANTS__0__NAME": "acme",
    }
    configuration = parse(MODELS + "kafka: {partitions: 6, group: g}\n", environ)

    assert (configuration.kafka.partitions, configuration.kafka.group) == (24, "g")
    gpt, _, third = configuration.models
    assert (gpt.endpoint, gpt.cost_per_token, gpt.api_key_env) == ("http://other/v1", Decimal("0.5"), None)
    assert third.capabilities == ("a", "b")
    assert configuration.tenants[0].name == "acme"


def test_names_without_two_underscores_and_empty_values_are_no_settings() -> None:
    environ = {
        "ORCHESTRATOR_PORT": "tcp://10.0.0.1:8000",
        "ORCHESTRATOR_SERVICE_HOST": "10.0.0.1",
        "ORCHESTRATOR_KAFKA__PARTITIONS": "",
        "OTHER_KAFKA__PARTITIONS": "7",
    }
    assert parse("{}", environ) == parse("{}")


def test_a_password_from_the_environment_is_taken_as_it_is() -> None:
    environ = {"ORCHESTRATOR_KAFKA__SECURITY__PASSWORD": "*12: #3"}
    security = parse(SECURE, environ).kafka.security

    assert security is not None
    assert security.password is not None
    assert security.password.get_secret_value() == "*12: #3"


def test_a_mistake_of_the_file_is_healed_by_the_environment() -> None:
    broken = "orchestrator: {port: 99999}\n"
    with pytest.raises(ConfigurationError):
        parse(broken)
    assert parse(broken, {"ORCHESTRATOR_ORCHESTRATOR__PORT": "1"}).orchestrator.port == 1
