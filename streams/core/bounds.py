"""Upper bounds of an attempt's tokens: what its hold is computed from (CONTRACT §2 "Exactly how much").

A byte-level tokenizer never makes more tokens than bytes, and a serialised message has at least the bytes of its text.
That bound of the input only decides about money: it never refuses a request. Where the model's own tokenizer is at
hand, its count is closer, and exact enough to say that a prompt does not fit.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import orjson

TOKENS_PER_MESSAGE = 8

Counter = Callable[[str], int]
"""Returns how many tokens a text is to one model. Special tokens written in a text are text."""


def payload_bytes(messages: Sequence[Any], tools: Sequence[Any] | None) -> int:
    """Return the UTF-8 bytes of the compact JSON of `messages`, and of `tools` if there are any: once per request."""
    return _bytes_of(messages) + (_bytes_of(tools) if tools else 0)


def without_images(messages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the messages without where their images are: tokens of an image have nothing to do with its bytes."""
    return [
        {**message, "content": [_blank(part) for part in message["content"]]}
        if isinstance(message.get("content"), list)
        else message
        for message in messages
    ]


def counted_tokens(messages: Sequence[Mapping[str, Any]], others: Sequence[Any], count: Counter) -> int:
    """Return the tokens of every text in the messages, and of the JSON of `others`: the tools and the answer's format.

    What the chat format adds to them is not in it.
    """
    texts = (text for message in messages for text in _texts(message))
    return sum(count(text) for text in texts) + sum(count(json_text(other)) for other in others)


def counted_prompt(messages: Sequence[Mapping[str, Any]], count: Counter) -> int:
    """Return the tokens that a model reads at least: the messages' contents alone."""
    return sum(count(text) for message in messages for text in _contents(message))


def input_bound(
    messages: Sequence[Any], tools: Sequence[Any] | None, *, template_tokens: int, context_window: int | None
) -> int:
    """Return a number of tokens that the input does not exceed at one deployment."""
    return input_bound_of(
        payload_bytes(messages, tools), len(messages), template_tokens=template_tokens, context_window=context_window
    )


def input_bound_of(
    payload: int,
    messages: int,
    *,
    template_tokens: int,
    context_window: int | None,
    counted: int | None = None,
    images: int = 0,
) -> int:
    """Return the same from `payload_bytes` and the number of messages; cheap, for each deployment of a request.

    `counted`: `counted_tokens` and what tools add, where the deployment's tokenizer is known; it makes the bound lower,
    never higher. `images`: tokens of all images.
    """
    bound = payload + TOKENS_PER_MESSAGE * messages + template_tokens
    if counted is not None:
        bound = min(bound, counted + TOKENS_PER_MESSAGE * messages)
    bound += images
    return bound if context_window is None else min(bound, context_window)


def output_bound(requested: int | None, *, default: int, max_output: int | None, context_window: int | None) -> int:
    """Return the `max_tokens` to send, which bounds the output.

    What was asked for stands: a deployment with a lower `max_output_tokens` is no candidate. Otherwise the default, at
    most what the deployment can put out, which is never more than its context window.
    """
    if requested is not None:
        return requested
    return min(limit for limit in (default, max_output, context_window) if limit is not None)


def json_text(value: Any) -> str:
    """Return compact JSON, integers beyond 64 bits included."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # integers beyond 64 bits are valid JSON, but not to orjson
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _bytes_of(value: Any) -> int:
    try:
        return len(orjson.dumps(value))
    except TypeError:
        return len(json_text(value).encode("utf-8", "surrogatepass"))


def _contents(message: Mapping[str, Any]) -> Iterator[str]:
    content = message.get("content")
    if isinstance(content, str):
        yield content
    elif isinstance(content, list):
        for part in content:
            yield from (part[kind] for kind in ("text", "refusal") if isinstance(part.get(kind), str))


def _texts(message: Mapping[str, Any]) -> Iterator[str]:
    """Every text of a message: its content, and role, name, tool calls and whatever else it says."""
    yield from _contents(message)
    for field, value in message.items():
        if field != "content" and value is not None:
            yield value if isinstance(value, str) else json_text(value)


def _blank(part: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**part, "image_url": {**part["image_url"], "url": ""}} if "image_url" in part else part
