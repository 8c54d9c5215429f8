"""Reads what a provider says it counted. Nothing is priced from a number that was not checked here.

Each function returns None where the count is missing, contradictory or absurd: then the bound is booked, `estimated`
(CONTRACT §2). An honest overrun of the output limit is no absurdity; it is booked in full.
"""

from schemas.usage import Usage

LARGEST_COUNT = 1_000_000_000
"""No call of any model comes near: a count above it is a wrong unit or a joke."""


def usage_of_openai(told: object) -> Usage | None:
    """Read the `usage` object of a chat completion.

    `prompt_tokens` includes cached ones, `completion_tokens` includes reasoning. Some compatible servers (xAI, Gemini)
    leave reasoning out of `completion_tokens` but not out of `total_tokens`; then it is added. Any other total that is
    not the sum is a contradiction.
    """
    if not isinstance(told, dict):
        return None
    prompt, completion = _count(told.get("prompt_tokens")), _count(told.get("completion_tokens"))
    cached = _detail(told.get("prompt_tokens_details"), "cached_tokens")
    reasoning = _detail(told.get("completion_tokens_details"), "reasoning_tokens")
    if not prompt or completion is None or cached is None or reasoning is None:  # a chat prompt is never 0 tokens
        return None
    output = _output_of(told.get("total_tokens"), prompt, completion, reasoning)
    if output is None or reasoning > output or cached > prompt:
        return None
    return Usage(input_tokens=prompt, cache_read_input_tokens=cached, output_tokens=output, reasoning_tokens=reasoning)


def _output_of(total: object, prompt: int, completion: int, reasoning: int) -> int | None:
    if total is None or total == prompt + completion:
        return completion
    return completion + reasoning if _count(total) == prompt + completion + reasoning else None


def _count(told: object) -> int | None:
    """A count of tokens, or None: `true`, `3.0` and `"3"` are none, though Python would add them up."""
    return told if type(told) is int and 0 <= told <= LARGEST_COUNT else None


def _detail(details: object, name: str) -> int | None:
    if details is None:
        return 0
    if not isinstance(details, dict):
        return None
    told = details.get(name)
    return 0 if told is None else _count(told)
