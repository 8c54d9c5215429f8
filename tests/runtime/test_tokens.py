"""Whose tokens can be counted, and that no honest provider bills more than a hold, counted or by bytes."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.configuration import parse
from schemas.configuration.tenants import TenantRules
from schemas.requests import PromptRequest
from schemas.usage import Usage
from streams.core.bounds import Counter, payload_bytes
from streams.core.costs import cost_of
from streams.core.prices import Rates
from streams.core.registry import Candidate, Unservable, candidates_for
from streams.runtime import tokens
from streams.runtime.registry import registry_of
from streams.runtime.tokens import counter_of, encoding_of
from tests.core.build import NOW, configuration, deployment, prompt, registry


def counter(**fields: str) -> Counter | None:
    given = {"name": "gpt-4o", "endpoint": "https://api.openai.com/v1", "cost_per_token": 0.00001, **fields}
    (model,) = parse(json.dumps({"models": [given]})).models
    return counter_of(model)


def known(encoding: str) -> Counter:
    found = counter(tokenizer=encoding, endpoint="http://127.0.0.1:1/v1")
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("model", "encoding"),
    [
        ("gpt-4", "cl100k_base"),
        ("gpt-4-0613", "cl100k_base"),
        ("gpt-4-turbo-2024-04-09", "cl100k_base"),
        ("gpt-3.5-turbo", "cl100k_base"),
        ("gpt-4o", "o200k_base"),
        ("gpt-4o-mini-2024-07-18", "o200k_base"),
        ("chatgpt-4o-latest", "o200k_base"),
        ("gpt-4.1-nano", "o200k_base"),
        ("gpt-5", "o200k_base"),
        ("o1", "o200k_base"),
        ("o3-mini", "o200k_base"),
        ("o4-mini-2025-04-16", "o200k_base"),
        ("ft:gpt-4o-mini-2024-07-18:acme::abc", "o200k_base"),
        ("ft:gpt-3.5-turbo:acme", "cl100k_base"),
        ("gpt-40", None),
        ("gpt-6", None),
        ("o11", None),
        ("claude-sonnet-4-5", None),
    ],
)
def test_a_family_has_its_encoding_and_an_unknown_model_has_none(model: str, encoding: str | None) -> None:
    assert encoding_of(model) == encoding


@pytest.mark.parametrize(
    ("encoding", "text", "count"),
    [
        ("cl100k_base", "hello world", 2),
        ("o200k_base", "hello world", 2),
        ("cl100k_base", "antidisestablishmentarianism", 6),  # the example of OpenAI's cookbook
        ("o200k_base", "antidisestablishmentarianism", 6),
        ("cl100k_base", "お誕生日おめでとう", 9),
        ("o200k_base", "お誕生日おめでとう", 8),
        ("cl100k_base", "2 + 2 = 4", 7),
        ("cl100k_base", "", 0),
    ],
)
def test_counts_are_those_of_the_cookbook(encoding: str, text: str, count: int) -> None:
    assert known(encoding)(text) == count


def test_special_tokens_in_a_text_are_text() -> None:
    assert known("cl100k_base")("<|endoftext|>") > 1


def test_only_openai_itself_is_known_to_use_its_tokenizers() -> None:
    assert counter() is not None
    assert counter(endpoint="https://eu.api.openai.com/v1") is not None
    assert counter(endpoint="http://127.0.0.1:8080/v1") is None
    assert counter(endpoint="https://api.openai.com.example.org/v1") is None
    assert counter(provider_model="their-own-model") is None


def test_another_server_is_told_its_tokenizer() -> None:
    told = counter(endpoint="http://127.0.0.1:8080/v1", tokenizer="o200k_base")

    assert told is counter()  # one function for one encoding, so that a prompt is counted once


def test_without_the_extra_bytes_count(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens._counter.cache_clear()
    with monkeypatch.context() as patched:
        patched.setattr(tokens, "find_spec", lambda name: None)
        assert counter() is None
        assert counter(tokenizer="o200k_base") is None
    tokens._counter.cache_clear()


def test_a_text_that_is_too_long_for_the_tokenizer_counts_by_its_bytes() -> None:
    assert known("o200k_base")("é" * 1_000_000) == 2_000_000


def test_a_registry_knows_what_its_deployments_count() -> None:
    models = [
        {"name": "gpt-4o", "endpoint": "https://api.openai.com/v1", "cost_per_token": 0, "image_tokens": 1445},
        {"name": "mine", "endpoint": "http://127.0.0.1:1/v1", "cost_per_token": 0},
    ]
    settings = parse(json.dumps({"models": models}))
    gpt, mine = registry_of(settings)(NOW).deployments

    assert gpt.count is not None
    assert (gpt.count("hello world"), gpt.image_tokens) == (2, 1445)
    assert (mine.count, mine.image_tokens) == (None, None)


def served(request: PromptRequest, **changed: Any) -> Candidate | Unservable:
    found = candidates_for(
        request, registry(configuration(), deployment(**{"context_window": None, **changed})), TenantRules("acme")
    )
    return found if isinstance(found, Unservable) else found[0]


def test_the_bound_is_the_exact_count_and_8_for_each_message() -> None:
    messages = [{"role": "system", "content": "hello world"}, {"role": "user", "content": "hello world", "name": "bob"}]

    candidate = served(prompt(messages=messages), count=known("cl100k_base"))

    assert isinstance(candidate, Candidate)
    assert candidate.input_bound == (1 + 2) + (1 + 2 + 1) + 16


def test_only_an_exact_count_refuses_a_prompt_that_is_too_long() -> None:
    words = prompt(messages=[{"role": "user", "content": "hello " * 99 + "hello"}], max_tokens=20)
    counted = {"count": known("cl100k_base")}

    fits, too_long = served(words, context_window=120, **counted), served(words, context_window=119, **counted)

    assert isinstance(fits, Candidate)
    assert isinstance(too_long, Unservable)
    assert (too_long.code, too_long.reason) == ("TOKEN_LIMIT_EXCEEDED", "context")
    assert too_long.details["needed"] == {"gpt-4": 120}
    assert isinstance(served(words, context_window=119), Candidate)


def test_a_deployment_whose_tokens_are_not_counted_may_still_take_a_long_prompt() -> None:
    words = prompt(messages=[{"role": "user", "content": "hello " * 500}])
    counting, other = deployment(count=known("cl100k_base")), deployment(id="other")

    found = candidates_for(words, registry(configuration(), counting, other), TenantRules("acme"))

    assert not isinstance(found, Unservable)
    assert [c.deployment.id for c in found] == ["other"]


def test_without_max_tokens_only_a_prompt_that_leaves_no_room_at_all_is_too_long() -> None:
    def asked(words: int) -> PromptRequest:
        return prompt(messages=[{"role": "user", "content": "hello " * (words - 1) + "hello"}], max_tokens=None)

    exact = {"count": known("cl100k_base"), "context_window": 100}

    assert isinstance(served(asked(99), **exact), Candidate)
    assert isinstance(served(asked(100), **exact), Unservable)


# --- no answer of an honest provider costs more than its hold -------------------------------------------------------


def openai_counts(request: PromptRequest, count: Counter, function_tokens: int) -> int:
    """What OpenAI bills as input: "How to count tokens with tiktoken", §6 and §7, of its cookbook (2024-07)."""
    total = 3
    for message in request.messages:
        total += 3
        for field, value in message.items():
            total += count(str(value)) + (field == "name")
    for tool in request.tools:
        function: Any = tool["function"]
        total += function_tokens + count(f"{function['name']}:{function.get('description', '').rstrip('.')}")
        properties = function["parameters"]["properties"]
        total += 3 if properties else 0
        for name, described in properties.items():
            total += 3 + count(f"{name}:{described['type']}:{described['description'].rstrip('.')}")
            if "enum" in described:
                total += -3 + sum(3 + count(item) for item in described["enum"])
    return total + (12 if request.tools else 0)


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=60) | st.sampled_from(
    [
        "",
        "<|im_start|>system<|im_end|>",
        " " * 50,
        "\n\n\n",
        "aaaaaaaaaaaaaaaa",
        "😀🏽‍🚀",
        "ſ̈́͝",
        '{"a":[1,2,3]}',
        "''\\\"",
    ]
)
name = st.from_regex(r"[A-Za-z0-9_-]{1,12}", fullmatch=True)
said = st.fixed_dictionaries({"role": st.sampled_from(["system", "user"]), "content": text}, optional={"name": name})
described = st.fixed_dictionaries(
    {"type": st.sampled_from(["string", "integer"]), "description": text},
    optional={"enum": st.lists(text, min_size=1, max_size=3)},
)
tool = st.builds(
    lambda name, description, properties: {
        "type": "function",
        "function": {
            "name": name,
            "description": description,
            "parameters": {"type": "object", "properties": properties},
        },
    },
    name,
    text,
    st.dictionaries(name, described, max_size=3),
)
rate = st.decimals(0, 100, places=4)
rates = st.builds(Rates.flat, st.decimals(0, Decimal("0.001"), places=9), st.just("v1")) | st.builds(
    Rates,
    rate,
    rate,
    st.just("v1"),
    cache_read=st.none() | rate,
    cache_write=st.none() | rate,
    reasoning=st.none() | rate,
    per_request=st.decimals(0, 1, places=6),
)


@given(
    told=st.tuples(st.lists(said, min_size=1, max_size=4), st.lists(tool, max_size=3)),
    price=rates,
    model=st.sampled_from([("cl100k_base", 10), ("o200k_base", 7)]),
    exact=st.booleans(),
    shares=st.tuples(*[st.floats(0, 1)] * 4),
)
def test_no_answer_of_an_honest_provider_costs_more_than_its_hold(
    told: tuple[list[dict[str, Any]], list[dict[str, Any]]],
    price: Rates,
    model: tuple[str, int],
    exact: bool,
    shares: tuple[float, float, float, float],
) -> None:
    (messages, tools), count = told, known(model[0])
    request = prompt(messages=messages, tools=tools or None, max_tokens=50)
    candidate = served(request, rates=price, count=count if exact else None)
    assert isinstance(candidate, Candidate)

    billed_input = openai_counts(request, count, model[1])
    output = round(50 * shares[0])
    read = round(billed_input * shares[1])
    usage = Usage(
        input_tokens=billed_input,
        cache_read_input_tokens=read,
        cache_creation_input_tokens=round((billed_input - read) * shares[2]),
        output_tokens=output,
        reasoning_tokens=round(output * shares[3]),
    )

    assert billed_input <= candidate.input_bound
    assert candidate.input_bound <= payload_bytes(request.messages, request.tools) + 8 * len(messages) + 64
    assert cost_of(usage, price)[0] <= candidate.bound_nano_usd
