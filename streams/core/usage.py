"""Reads what a provider says it counted. Nothing is priced from a number that was not checked here.

Each function returns None where the count is missing, contradictory or absurd: then the bound is booked, `estimated`
(CONTRACT §2). An honest overrun of the output limit is no absurdity; it is booked in full.
"""

from schemas.usage import Usage

LARGEST_COUNT = 1_000_000_000
"""No call of any model comes near: a count above it is a wrong unit or a joke."""


def usage_of_openai(told: object) -> Usage | None:
    """Read the `usage` object of a chat completion, OpenAI's own or a compatible server's.

    `prompt_tokens` includes cached ones, `completion_tokens` includes reasoning. Some compatible servers (xAI, Gemini)
    leave reasoning out of `completion_tokens` but not out of `total_tokens`; then it is added. Any other total that is
    not the sum is a contradiction. Cached and reasoning tokens go by several names (DeepSeek, Moonshot, LiteLLM,
    SGLang); where two of them tell different numbers, that is a contradiction too.
    """
    if not isinstance(told, dict):
        return None
    prompt, completion = _count(told.get("prompt_tokens")), _count(told.get("completion_tokens"))
    details, finer = _object(told.get("prompt_tokens_details")), _object(told.get("completion_tokens_details"))
    if not prompt or completion is None or details is None or finer is None:  # a chat prompt is never 0 tokens
        return None
    cached = _agreed(
        details.get("cached_tokens"),
        told.get("cached_tokens"),
        told.get("prompt_cache_hit_tokens"),
        told.get("cache_read_input_tokens"),
    )
    written = _agreed(
        details.get("cache_write_tokens"),
        details.get("cache_creation_tokens"),
        told.get("cache_creation_input_tokens"),
    )
    reasoning = _agreed(finer.get("reasoning_tokens"), told.get("reasoning_tokens"))
    if cached is None or written is None or reasoning is None:
        return None
    output = _output_of(told.get("total_tokens"), prompt, completion, reasoning)
    missed = told.get("prompt_cache_miss_tokens")
    if output is None or (missed is not None and missed != prompt - cached):
        return None
    return _usage(prompt, cached, written, output, reasoning)


def usage_of_anthropic(told: object) -> Usage | None:
    """Read the `usage` object of a message.

    There `input_tokens` counts only what was neither read from nor written to the cache; the total is the sum of the
    three. `output_tokens` includes thinking. Cache writes are told again by lifetime; then the two must agree.
    """
    if not isinstance(told, dict):
        return None
    fresh, output = _count(told.get("input_tokens")), _count(told.get("output_tokens"))
    read, lifetimes = _agreed(told.get("cache_read_input_tokens")), _object(told.get("cache_creation"))
    finer = _object(told.get("output_tokens_details"))
    if fresh is None or output is None or read is None or lifetimes is None or finer is None:
        return None
    by_lifetime = [_agreed(lifetimes.get(f"ephemeral_{lifetime}_input_tokens")) for lifetime in ("5m", "1h")]
    if None in by_lifetime:
        return None
    written = _agreed(told.get("cache_creation_input_tokens"), sum(count or 0 for count in by_lifetime))
    thinking = _agreed(finer.get("thinking_tokens"))
    if written is None or thinking is None:
        return None
    return _usage(fresh + read + written, read, written, output, thinking)


def usage_of_gemini(told: object) -> Usage | None:
    """Read the `usageMetadata` of generated content. Absent counts are 0, as in all of Google's JSON, but the prompt's.

    `promptTokenCount` includes what came from the cache; tokens of tool results that the provider fed to the model are
    input beside it. `candidatesTokenCount` leaves thoughts out, unless the total says that it does not.
    """
    if not isinstance(told, dict):
        return None
    prompt, candidates = _agreed(told.get("promptTokenCount")), _agreed(told.get("candidatesTokenCount"))
    cached, thoughts = _agreed(told.get("cachedContentTokenCount")), _agreed(told.get("thoughtsTokenCount"))
    fed = _agreed(told.get("toolUsePromptTokenCount"))
    if not prompt or candidates is None or cached is None or thoughts is None or fed is None or cached > prompt:
        return None
    total = told.get("totalTokenCount")
    if total is None or total == prompt + fed + candidates + thoughts:
        return _usage(prompt + fed, cached, 0, candidates + thoughts, thoughts)
    return _usage(prompt + fed, cached, 0, candidates, thoughts) if total == prompt + fed + candidates else None


def _usage(total_input: int, read: int, written: int, output: int, reasoning: int) -> Usage | None:
    """Return the usage, None where its parts are more than the whole, or too much for any model."""
    if not 0 < total_input <= LARGEST_COUNT or output > LARGEST_COUNT:
        return None
    if read + written > total_input or reasoning > output:
        return None
    return Usage(
        input_tokens=total_input,
        cache_read_input_tokens=read,
        cache_creation_input_tokens=written,
        output_tokens=output,
        reasoning_tokens=reasoning,
    )


def _output_of(total: object, prompt: int, completion: int, reasoning: int) -> int | None:
    if total is None or total == prompt + completion:
        return completion
    return completion + reasoning if _count(total) == prompt + completion + reasoning else None


def _count(told: object) -> int | None:
    """A count of tokens, or None: `true`, `3.0` and `"3"` are none, though Python would add them up."""
    return told if type(told) is int and 0 <= told <= LARGEST_COUNT else None


def _object(told: object) -> dict[str, object] | None:
    """A JSON object; an absent one is empty. None: it is something else."""
    return {} if told is None else told if isinstance(told, dict) else None


def _agreed(*told: object) -> int | None:
    """Return the count that one number goes by under several names, 0 where nobody tells it; None: they disagree.

    A 0 beside another number is a server that fills a field which it does not know.
    """
    counts = [_count(one) for one in told if one is not None]
    numbers = {count for count in counts if count}
    return None if None in counts or len(numbers) > 1 else max(numbers, default=0)
