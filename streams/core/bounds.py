"""Upper bounds of an attempt's tokens: what its hold is computed from (CONTRACT §2 "Exactly how much").

A byte-level tokenizer never makes more tokens than bytes, and a serialised message has at least the bytes of its text.
The bound of the input only decides about money: it never refuses a request.
"""

import json
from collections.abc import Sequence
from typing import Any

import orjson

TOKENS_PER_MESSAGE = 8


def payload_bytes(messages: Sequence[Any], tools: Sequence[Any] | None) -> int:
    """Return the UTF-8 bytes of the compact JSON of `messages`, and of `tools` if there are any: once per request."""
    return _bytes_of(messages) + (_bytes_of(tools) if tools else 0)


def input_bound(
    messages: Sequence[Any], tools: Sequence[Any] | None, *, template_tokens: int, context_window: int | None
) -> int:
    """Return a number of tokens that the input does not exceed at one deployment."""
    return input_bound_of(
        payload_bytes(messages, tools), len(messages), template_tokens=template_tokens, context_window=context_window
    )


def input_bound_of(payload: int, messages: int, *, template_tokens: int, context_window: int | None) -> int:
    """Return the same from `payload_bytes` and the number of messages; cheap, for each deployment of a request."""
    bound = payload + TOKENS_PER_MESSAGE * messages + template_tokens
    return bound if context_window is None else min(bound, context_window)


def output_bound(requested: int | None, *, default: int, max_output: int | None, context_window: int | None) -> int:
    """Return the `max_tokens` to send, which bounds the output.

    What was asked for stands: a deployment with a lower `max_output_tokens` is no candidate. Otherwise the default, at
    most what the deployment can put out, which is never more than its context window.
    """
    if requested is not None:
        return requested
    return min(limit for limit in (default, max_output, context_window) if limit is not None)


def _bytes_of(value: Sequence[Any]) -> int:
    try:
        return len(orjson.dumps(value))
    except TypeError:  # integers beyond 64 bits are valid JSON, but not to orjson
        return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass"))
