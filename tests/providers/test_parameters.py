"""One table says what becomes of each parameter in each dialect; this is the whole of it, tried."""

import json
from typing import Any

import pytest

from agents.providers.call import DIALECTS
from agents.providers.dialect import CannotSayError
from agents.providers.parameters import FATES
from schemas.request_chat import PARAMETERS
from tests.providers.calls import Said

TOOL = {"type": "function", "function": {"name": "f"}}

EXAMPLES: dict[str, Any] = {
    "temperature": 0.7,
    "top_p": 0.9,
    "stop": ["END"],
    "seed": 1,
    "presence_penalty": 0.5,
    "frequency_penalty": 0.5,
    "logprobs": True,
    "top_logprobs": 3,
    "logit_bias": {"50256": -100},
    "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
    "tools": [TOOL],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "parallel_tool_calls": False,
    "reasoning_effort": "low",
    "service_tier": "flex",
    "user": "u-1",
}
NOTHING: dict[str, Any] = {
    "presence_penalty": 0,
    "frequency_penalty": 0.0,
    "logprobs": False,
    "parallel_tool_calls": True,
    "response_format": {"type": "text"},
    "service_tier": "auto",
}
OTHERS = sorted(DIALECTS.keys() - {"openai"})


def tried(dialect: str, **parameters: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    written = DIALECTS[dialect].write(Said(parameters=parameters), provider_model="m", max_tokens=7, host="h")
    return json.loads(written.body), written.dropped


def test_every_parameter_of_a_request_is_in_the_table_for_every_dialect() -> None:
    assert FATES.keys() == EXAMPLES.keys() == PARAMETERS.keys()
    assert all(sorted(fates) == OTHERS for fates in FATES.values())


@pytest.mark.parametrize("dialect", OTHERS)
@pytest.mark.parametrize("name", EXAMPLES)
def test_a_parameter_is_translated_dropped_or_refused_as_the_table_says(dialect: str, name: str) -> None:
    company = {"tools": [TOOL]} if name in {"tool_choice", "parallel_tool_calls"} else {}
    without, _ = tried(dialect, **company)
    asked = company | {name: EXAMPLES[name]}
    match FATES[name][dialect]:
        case "translated":
            body, dropped = tried(dialect, **asked)
            assert body != without
            assert dropped == ()
        case "dropped":
            assert tried(dialect, **asked) == (without, (name,))
        case "refused":
            with pytest.raises(CannotSayError, match=f"^{name} has no equivalent"):
                tried(dialect, **asked)


@pytest.mark.parametrize("dialect", OTHERS)
def test_a_value_that_asks_for_nothing_is_never_refused_or_told(dialect: str) -> None:
    assert tried(dialect, **NOTHING) == tried(dialect)


@pytest.mark.parametrize("dialect", OTHERS)
def test_a_parameter_that_the_table_does_not_know_is_refused(dialect: str) -> None:
    with pytest.raises(CannotSayError, match="something_new has no equivalent"):
        tried(dialect, something_new=1)


def test_openai_s_dialect_says_everything() -> None:
    body, dropped = tried("openai", **EXAMPLES)
    assert {name: body[name] for name in EXAMPLES} == EXAMPLES
    assert dropped == ()


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
@pytest.mark.parametrize(
    "said",
    [Said(({"role": "user", "content": "\ud800"},)), Said(parameters={"top_p": 2**70}), Said(extra_body={"x": b""})],
    ids=["a lone surrogate", "an integer beyond 64 bits", "bytes"],
)
def test_what_json_cannot_hold_raises_a_type_error(dialect: str, said: Said) -> None:
    with pytest.raises(TypeError):
        DIALECTS[dialect].write(said, provider_model="m", max_tokens=7, host="h")
