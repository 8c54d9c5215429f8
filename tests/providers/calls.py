"""Calls with valid defaults: a test shows only what matters to it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agents.providers.call import Call


@dataclass(frozen=True, slots=True)
class Said:
    """A conversation as `exchange` needs it."""

    messages: Sequence[Mapping[str, Any]] = ({"role": "user", "content": "Hi"},)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    extra_body: Mapping[str, Any] = field(default_factory=dict)


def call_to(endpoint: str, content: str = "Hi", **changes: Any) -> Call:
    """A patient call with one user message. `parameters` and `extra_body` are of the conversation."""
    request = Said(
        changes.pop("messages", ({"role": "user", "content": content},)),
        changes.pop("parameters", {}),
        changes.pop("extra_body", {}),
    )
    defaults = {
        "provider": "openai",
        "provider_model": "gpt-4",
        "api_key": None,
        "max_tokens": 64,
        "timeout_s": 20.0,
        "max_answer_bytes": 65_536,
    }
    return Call(endpoint=endpoint, request=request, **defaults | changes)
