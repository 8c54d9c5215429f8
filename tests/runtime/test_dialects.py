"""Which API an endpoint is taken to speak."""

import pytest

from agents.providers.call import DIALECTS
from schemas.configuration import parse
from streams.runtime.registry import registry_of

MODEL = "models: [{{name: m, endpoint: '{endpoint}', cost_per_token: 0{provider}}}]"


def dialect_of(endpoint: str, provider: str | None = None) -> str | None:
    told = "" if provider is None else f", provider: {provider}"
    (deployment,) = registry_of(parse(MODEL.format(endpoint=endpoint, provider=told)))(0).deployments
    return deployment.dialect


@pytest.mark.parametrize(
    ("endpoint", "provider", "expected"),
    [
        ("https://api.openai.com/v1", None, "openai"),
        ("https://api.anthropic.com/v1", None, "anthropic"),
        ("https://generativelanguage.googleapis.com/v1beta", None, "google"),
        ("https://generativelanguage.googleapis.com/v1beta/openai/", None, "openai"),
        ("http://127.0.0.1:8080/v1", None, "openai"),
        ("http://127.0.0.1:8080/v1", "anthropic", "anthropic"),
        ("http://127.0.0.1:8080/v1beta", "google", "google"),
        ("https://api.mistral.ai/v1", "mistral", "openai"),
        ("https://api.anthropic.com/v1", "openai", "openai"),
    ],
)
def test_the_provider_decides_or_else_the_host(endpoint: str, provider: str | None, expected: str) -> None:
    assert dialect_of(endpoint, provider) == expected
    assert expected in DIALECTS
