"""Who may serve a request, why nobody may, and what an attempt costs at most."""

from decimal import Decimal
from typing import Any

import pytest

from schemas.configuration import TenantRules
from streams.core.prices import Rates
from streams.core.registry import Candidate, Deployment, Unservable, candidates_for
from tests.core.build import configuration, deployment, prompt, registry

ANYBODY = TenantRules("acme")


def found(*deployments: Deployment, rules: TenantRules = ANYBODY, **asked: Any) -> tuple[Candidate, ...] | Unservable:
    return candidates_for(prompt(**asked), registry(configuration(), *deployments), rules)


def names(*deployments: Deployment, rules: TenantRules = ANYBODY, **asked: Any) -> list[str]:
    candidates = found(*deployments, rules=rules, **asked)
    assert not isinstance(candidates, Unservable), candidates
    return [c.deployment.id for c in candidates]


def reason(*deployments: Deployment, rules: TenantRules = ANYBODY, **asked: Any) -> str:
    unservable = found(*deployments, rules=rules, **asked)
    assert isinstance(unservable, Unservable)
    return unservable.reason


def test_bounds_are_bytes_and_template_in_and_max_tokens_out() -> None:
    # [{"role":"user","content":"Hi"}] has 32 bytes; 8 for the message, 64 for the template
    (candidate,) = found(deployment(context_window=1_000))  # type: ignore[misc]

    assert (candidate.input_bound, candidate.output_bound, candidate.bound_nano_usd) == (104, 100, 2_040_000)


def test_the_input_bound_is_at_most_the_context_window() -> None:
    (candidate,) = found(deployment(), messages=[{"role": "user", "content": "x" * 10_000}])  # type: ignore[misc]

    assert (candidate.input_bound, candidate.bound_nano_usd) == (100, 2_000_000)


@pytest.mark.parametrize(
    ("changed", "bound"),
    [
        ({"context_window": None}, 1_024),
        ({"context_window": None, "max_output_tokens": 300}, 300),
        ({"context_window": 500, "max_output_tokens": 700}, 500),
    ],
)
def test_without_max_tokens_the_default_is_sent_at_most_what_the_deployment_gives(
    changed: dict[str, Any], bound: int
) -> None:
    (candidate,) = found(deployment(**changed), max_tokens=None)  # type: ignore[misc]

    assert candidate.output_bound == bound


def test_several_deployments_serve_one_name() -> None:
    eu, us = deployment("gpt-4", id="eu"), deployment("gpt-4", id="us")

    assert names(eu, us) == ["eu", "us"]


def test_auto_means_whoever_meets_the_needs() -> None:
    coder = deployment("coder", capabilities=frozenset({"code-completion", "text-generation"}))
    needs = {"capabilities": ["code-completion"]}

    assert names(deployment(), coder, model="auto") == ["gpt-4", "coder"]
    assert names(deployment(), coder, model="auto", needs=needs) == ["coder"]
    assert reason(deployment(), coder, model="gpt-4", needs=needs) == "no_candidate"


def test_a_tenant_gets_the_models_it_is_allowed() -> None:
    rules = TenantRules("acme", models=frozenset({"b"}))

    assert names(deployment("a"), deployment("b"), rules=rules, model="auto") == ["b"]
    assert names(deployment("a"), deployment("b"), rules=rules, model=["a", "b"]) == ["b"]
    assert reason(deployment("a"), deployment("b"), rules=rules, model="a") == "model_not_allowed"


def test_a_deployment_that_gives_less_than_asked_for_is_no_candidate() -> None:
    short, long = deployment("short", max_output_tokens=99), deployment("long", context_window=None)

    assert names(short, long, model="auto", max_tokens=100) == ["long"]
    assert names(short, long, model="auto", max_tokens=99) == ["short", "long"]
    assert reason(short, model="short", max_tokens=100) == "max_tokens"


def test_a_deployment_without_price_or_dialect_is_passed_over_while_there_is_another() -> None:
    unpriced, mute = deployment("unpriced", rates=None), deployment("mute", dialect=None)

    assert names(unpriced, mute, deployment(), model="auto") == ["gpt-4"]
    assert reason(unpriced, mute, model="auto") == "no_dialect"
    assert reason(unpriced, model="auto") == "no_price"


def test_a_free_deployment_costs_nothing_at_most() -> None:
    (candidate,) = found(deployment(rates=Rates.flat(Decimal(0), "v1")))  # type: ignore[misc]

    assert candidate.bound_nano_usd == 0


def test_images_count_by_what_their_deployment_says_and_not_by_their_bytes() -> None:
    def asked(url: str) -> list[dict[str, Any]]:
        image = {"type": "image_url", "image_url": {"url": url}}
        return [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, image, image]}]

    seeing = deployment(context_window=10_000, image_tokens=1_445)
    (small,) = found(seeing, messages=asked("https://example.com/cat.png"))  # type: ignore[misc]
    (large,) = found(seeing, messages=asked("data:image/png;base64," + "A" * 50_000))  # type: ignore[misc]

    # without what stands in the two `"url":""` the JSON has 154 bytes; 8 for the message, 64 for the template
    assert small.input_bound == large.input_bound == 226 + 2 * 1_445


def test_a_deployment_that_says_nothing_of_images_gets_none() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}

    assert names(
        deployment(id="blind"),
        deployment(id="seeing", image_tokens=1_445),
        messages=[{"role": "user", "content": [image]}],
    ) == ["seeing"]


TOOL = {"type": "function", "function": {"name": "now"}}  # [{"type":"function","function":{"name":"now"}}]: 47 bytes


def test_tools_and_the_form_of_the_answer_count_as_input() -> None:
    large = deployment(context_window=10_000)
    schema = {"type": "json_schema", "json_schema": {"name": "now"}}  # in brackets, as tools are: 53 bytes
    (plain,) = found(large)  # type: ignore[misc]
    (with_tool,) = found(large, tools=[TOOL])  # type: ignore[misc]
    (with_form,) = found(large, response_format=schema)  # type: ignore[misc]

    assert with_tool.input_bound - plain.input_bound == 47
    assert with_form.input_bound - plain.input_bound == 53


def test_what_anthropic_tells_its_models_of_tools_is_bounded_too() -> None:
    claude = deployment(context_window=10_000, dialect="anthropic")
    (plain,) = found(claude)  # type: ignore[misc]
    (with_tool,) = found(claude, tools=[TOOL])  # type: ignore[misc]

    assert with_tool.input_bound - plain.input_bound == 47 + 1_024


def test_logprobs_are_no_tokens_and_change_no_bound() -> None:
    (plain,) = found()  # type: ignore[misc]
    (with_logprobs,) = found(logprobs=True, top_logprobs=20)  # type: ignore[misc]

    assert with_logprobs == plain
