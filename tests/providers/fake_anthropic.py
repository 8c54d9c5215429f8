"""What the fake provider needs to speak Anthropic's messages: it is as strict about requests as Anthropic is."""

import json
from collections.abc import Mapping
from typing import Any

_KNOWN = frozenset(
    {
        *("model", "max_tokens", "messages", "system", "metadata", "stop_sequences", "stream", "temperature", "top_p"),
        *("tools", "tool_choice", "thinking", "output_config", "service_tier", "top_k"),
    }
)
_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}


def check(body: Mapping[str, Any], headers: Mapping[str, str]) -> None:
    """Raises `ValueError` for what Anthropic refuses with 400."""
    if "anthropic-version" not in headers:
        raise ValueError("anthropic-version: header is required")
    if unknown := body.keys() - _KNOWN:
        raise ValueError(f"{', '.join(sorted(unknown))}: Extra inputs are not permitted")
    if type(body.get("max_tokens")) is not int or not body["messages"]:
        raise ValueError("max_tokens and messages are required")
    roles = [message["role"] for message in body["messages"]]
    if roles != [("user", "assistant")[place % 2] for place in range(len(roles))]:
        raise ValueError('messages: roles must alternate between "user" and "assistant"')


def message_of(completion: Mapping[str, Any]) -> dict[str, Any]:
    """Return a completion of OpenAI's as a message of Anthropic's: same id, same text, same counts."""
    choice, usage = completion["choices"][0], completion["usage"]
    said = choice["message"]
    content = [{"type": "text", "text": said["content"]}] if said["content"] else []
    for call in said.get("tool_calls", ()):
        function = call["function"]
        given = json.loads(function["arguments"])
        content.append({"type": "tool_use", "id": call["id"], "name": function["name"], "input": given})
    return {
        "id": f"msg_{completion['id'][9:]}",
        "type": "message",
        "role": "assistant",
        "model": completion["model"],
        "content": content,
        "stop_reason": _STOP_REASONS.get(choice["finish_reason"], choice["finish_reason"]),
        "stop_sequence": None,
        "usage": {
            "input_tokens": usage["prompt_tokens"],
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": usage["completion_tokens"],
        },
    }


def counted(usage: object) -> dict[str, Any]:
    """Return the totals that a usage block of Anthropic's charges for, by OpenAI's names."""
    told = usage if isinstance(usage, dict) else {}
    parts = [told.get(f"{name}input_tokens") or 0 for name in ("", "cache_read_", "cache_creation_")]
    sums = {} if "input_tokens" not in told else {"prompt_tokens": sum(parts)}
    return sums if "output_tokens" not in told else sums | {"completion_tokens": told["output_tokens"]}
