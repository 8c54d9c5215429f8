"""What a chat request may say: OpenAI's messages and parameters, as rules.

Source: the request body of OpenAI's "Create chat completion", without what is deprecated (`functions`, role
`function`), without audio, and without streaming, which is the gateway's (CONTRACT §1).
"""

from collections.abc import Mapping
from typing import Any, Final

from schemas.request_rules import (
    Problems,
    Rule,
    any_object,
    anything,
    boolean,
    kind,
    list_of,
    matching,
    number,
    one_of,
    only,
    record,
    shown,
    tagged,
    text,
    whole_number,
)
from schemas.strict_json import Json

_INT64: Final = 2**63
_NAME: Final = matching(r"[A-Za-z0-9_-]{1,64}", "must be 1 to 64 letters, digits, `_` or `-`")
_FILLED: Final = text(least=1)

# --- messages -------------------------------------------------------------------------------------------------------

_TEXT_PART: Final = record({"type": anything, "text": text()}, required=("text",))
_REFUSAL_PART: Final = record({"type": anything, "refusal": text()}, required=("refusal",))
_IMAGE_PART: Final = record(
    {
        "type": anything,
        "image_url": record(
            {
                "url": matching(r"(?is)(?:https?://|data:).+", "must be an http, https or data URL"),
                "detail": one_of("auto", "low", "high"),
            },
            required=("url",),
        ),
    },
    required=("image_url",),
)


def _content(parts: Mapping[str, Rule]) -> Rule:
    """A string, or a list of parts of these types."""
    part_list = list_of(tagged("type", parts), least=1)

    def rule(value: Json, path: str, problems: Problems) -> Any:
        if isinstance(value, str):
            return value
        if isinstance(value, list):
            return part_list(value, path, problems)
        problems.add(path, f"must be a string or a list of parts, not {kind(value)}")
        return value

    return rule


_ONLY_TEXT: Final = _content({"text": _TEXT_PART})
_PARTICIPANT: Final = text(256, least=1)
_INSTRUCTION: Final = record({"role": anything, "content": _ONLY_TEXT, "name": _PARTICIPANT}, required=("content",))
_USER: Final = record(
    {"role": anything, "content": _content({"text": _TEXT_PART, "image_url": _IMAGE_PART}), "name": _PARTICIPANT},
    required=("content",),
)
_TOOL: Final = record(
    {"role": anything, "content": _ONLY_TEXT, "tool_call_id": _FILLED, "name": _PARTICIPANT},
    required=("content", "tool_call_id"),
)
_TOOL_CALL: Final = record(
    {
        "id": _FILLED,
        "type": one_of("function"),
        "function": record({"name": _FILLED, "arguments": text()}, required=("name", "arguments")),
    },
    required=("id", "type", "function"),
)
_SAID: Final = record(
    {
        "role": anything,
        "content": _content({"text": _TEXT_PART, "refusal": _REFUSAL_PART}),
        "refusal": text(),
        "name": _PARTICIPANT,
        "tool_calls": list_of(_TOOL_CALL, most=128),
        "annotations": list_of(anything),
    }
)


def _assistant(value: Json, path: str, problems: Problems) -> Any:
    """An earlier answer. It may come back as a provider gave it: empty `tool_calls` and `annotations` are dropped."""
    said = _SAID(value, path, problems)
    said.pop("annotations", None)
    if not said.get("tool_calls", True):
        del said["tool_calls"]
    if isinstance(value, dict) and all(value.get(name) in (None, []) for name in ("content", "tool_calls", "refusal")):
        problems.add(f"{path}.content", "is required where there are no tool_calls")
    return said


MESSAGES: Final = list_of(
    tagged(
        "role",
        {"system": _INSTRUCTION, "developer": _INSTRUCTION, "user": _USER, "assistant": _assistant, "tool": _TOOL},
        refused={"function": "`function` is not supported; use `tool`"},
    ),
    least=1,
)

# --- parameters -----------------------------------------------------------------------------------------------------

_FUNCTION: Final = record(
    {"name": _NAME, "description": text(), "parameters": any_object, "strict": boolean}, required=("name",)
)
_JSON_SCHEMA: Final = record(
    {"name": _NAME, "description": text(), "schema": any_object, "strict": boolean}, required=("name",)
)
_STOPS: Final = list_of(_FILLED, most=4)
_BIAS: Final = number(least=-100, most=100)
_CHOICES: Final = one_of("none", "auto", "required")
_CHOSEN_TOOL: Final = record(
    {"type": one_of("function"), "function": record({"name": _NAME}, required=("name",))}, required=("type", "function")
)


def _stop(value: Json, path: str, problems: Problems) -> Any:
    """A string, or a list of at most four."""
    if isinstance(value, list):
        return _STOPS(value, path, problems)
    if not isinstance(value, str) or not value:
        problems.add(path, "must be a string that is not empty, or a list of at most 4 such strings")
    return value


def _logit_bias(value: Json, path: str, problems: Problems) -> Any:
    """Token ids, written as strings, to numbers from -100 to 100."""
    if not isinstance(value, dict):
        problems.add(path, f"must be an object, not {kind(value)}")
        return {}
    for token, bias in value.items():
        if not (token.isascii() and token.isdigit()):
            problems.add(f"{path}.{shown(token)}", "is no token id: its name must be a whole number")
        elif bias is not None:
            _BIAS(bias, f"{path}.{shown(token)}", problems)
    return {token: bias for token, bias in value.items() if bias is not None}


def _tool_choice(value: Json, path: str, problems: Problems) -> Any:
    """A word, or an object that names one function."""
    return _CHOSEN_TOOL(value, path, problems) if isinstance(value, dict) else _CHOICES(value, path, problems)


OUTPUT_LIMIT: Final = whole_number(1, _INT64 - 1)

PARAMETERS: Final[Mapping[str, Rule]] = {
    "temperature": number(least=0, most=2),
    "top_p": number(least=0, most=1),
    "stop": _stop,
    "seed": whole_number(-_INT64, _INT64 - 1),
    "presence_penalty": number(least=-2, most=2),
    "frequency_penalty": number(least=-2, most=2),
    "logprobs": boolean,
    "top_logprobs": whole_number(0, 20),
    "logit_bias": _logit_bias,
    "response_format": tagged(
        "type",
        {
            "text": record({"type": anything}),
            "json_object": record({"type": anything}),
            "json_schema": record({"type": anything, "json_schema": _JSON_SCHEMA}, required=("json_schema",)),
        },
    ),
    "tools": list_of(
        tagged("type", {"function": record({"type": anything, "function": _FUNCTION}, required=("function",))}),
        most=128,
    ),
    "tool_choice": _tool_choice,
    "parallel_tool_calls": boolean,
    "reasoning_effort": one_of("none", "minimal", "low", "medium", "high", "xhigh", "max"),
    "service_tier": one_of("auto", "default", "flex", "scale", "priority"),
    "user": text(512),
}
"""Parameters that are passed on, translated for other dialects. The output limit is not here: it bounds money."""

FIXED: Final[Mapping[str, Rule]] = {
    "n": only(1, "must be 1: a request has one answer"),
    "stream": only(False, "must be false: streams are the gateway's"),
}
"""Parameters that may only say what is done anyway; nothing of them is kept."""
