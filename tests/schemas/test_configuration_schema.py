"""The JSON Schema of the configuration file."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from schemas.configuration import json_schema

SEED = """\
orchestrator: {host: localhost, port: 8000, workers: 4, timeout: 30, max_retries: 3}
models:
  - {name: gpt-4, endpoint: "https://api.openai.com/v1", capabilities: [text-generation, code-completion],
     max_tokens: 8192, cost_per_token: 0.00003}
  - {name: claude-2, endpoint: "https://api.anthropic.com/v1", capabilities: [text-generation, analysis],
     max_tokens: 100000, cost_per_token: 0.00002}
load_balancer: {strategy: round-robin, health_check_interval: 30, max_failures: 3, timeout: 5}
cache: {enabled: true, ttl: 3600, max_size: 1000, strategy: lru}
rate_limit: {enabled: true, requests_per_minute: 100, burst_size: 10}
"""


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    """Yield every schema of a mapping inside `schema`."""
    if isinstance(schema, dict):
        if "properties" in schema and isinstance(schema.get("type"), str):
            yield schema
        for part in schema.values():
            yield from objects(part)
    if isinstance(schema, list):
        for part in schema:
            yield from objects(part)


def errors(document: object) -> list[str]:
    """Return what an independent validator finds wrong."""
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(json_schema())
    return [error.message for error in jsonschema.Draft202012Validator(json_schema()).iter_errors(document)]


def test_it_names_its_dialect() -> None:
    assert json_schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_every_mapping_is_closed_and_every_key_described_with_its_default() -> None:
    found = list(objects(json_schema()))
    assert len(found) == 17
    for mapping in found:
        assert mapping["additionalProperties"] is False
        for name, key in mapping["properties"].items():
            text = key["description"]
            assert text.endswith("."), name
            assert ("Default: " in text) != (name in mapping.get("required", ())), name


def test_descriptions_carry_units_and_defaults() -> None:
    definitions = json_schema()["$defs"]
    assert definitions["LoadBalancer"]["properties"]["timeout"]["description"] == (
        "Seconds that a health check may take; a request's time is `orchestrator.timeout`. Default: 5."
    )
    assert definitions["Kafka"]["properties"]["topic_prefix"]["description"] == (
        'Text put verbatim before the name of every topic and of the group. Default: "".'
    )
    assert definitions["Budget"]["properties"]["usd"]["description"] == (
        "US dollars, with at most nine decimals. Required."
    )


def test_it_accepts_the_seed() -> None:
    assert errors(yaml.safe_load(SEED)) == []


@pytest.mark.parametrize("price", ["free", {"input_usd_per_million": "30", "output_usd_per_million": 60.5}])
def test_it_accepts_both_ways_to_write_a_price(price: object) -> None:
    assert errors({"models": [{"name": "m", "endpoint": "http://h", "price": price}]}) == []


@pytest.mark.parametrize(
    "document",
    [
        {"modles": []},
        {"orchestrator": {"wrokers": 1}},
        {"orchestrator": {"port": "80"}},
        {"models": [{"name": "m"}]},
        {"models": [{"name": "m", "endpoint": "http://h", "price": "cheap"}]},
        {"models": [{"name": "m", "endpoint": "http://u@h"}]},
        {"models": [{"name": "auto", "endpoint": "http://h"}]},
        {"models": [{"name": "m", "endpoint": "http://h", "cost_per_token": "lots"}]},
        {"kafka": {"security": {"protocol": "TLS"}}},
        {"tenants": [{"name": "a b"}]},
        {"warnings": []},
    ],
)
def test_it_refuses_what_the_parser_refuses(document: object) -> None:
    assert errors(document)
