"""A prompt request as JSON Schema, for producers and their tools.

The rules that count are in `schemas.requests`; a test holds both against the same cases. What JSON Schema cannot say is
left to the rules: `null` counts as absent, `5.0` is no whole number, `timeout_s` is at most `limits.max_timeout_s`.
"""

from typing import Any, Final

from schemas.requests import BOUNDED_ELSEWHERE

Schema = dict[str, Any]

_LARGEST: Final = 2**63 - 1
_TEXT: Final[Schema] = {"type": "string"}
_FILLED: Final[Schema] = {"type": "string", "minLength": 1}
_FLAG: Final[Schema] = {"type": "boolean"}
_OBJECT: Final[Schema] = {"type": "object"}
_FUNCTION_NAME: Final[Schema] = {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"}
_MODEL_NAME: Final[Schema] = {
    "type": "string",
    "minLength": 1,
    "maxLength": 256,
    "pattern": r"^[^\u0000-\u001f\u2028]+$",
}


def request_schema() -> Schema:
    """Return the JSON Schema (draft 2020-12) of a record's value on `prompt.requests` (CONTRACT §1)."""
    properties = {name: {**schema, "description": said} for name, (said, schema) in _fields().items()}
    passed_on = sorted({*properties, *BOUNDED_ELSEWHERE})
    properties["extra_body"] = {
        "type": "object",
        "propertyNames": {"not": {"enum": passed_on}},
        "description": "The provider's own parameters, passed on as they are; no field of the request, nothing that"
        " bounds what it may cost.",
    }
    return {
        **_record(properties),
        "title": "PromptRequest",
        "description": "What a tenant asks: one JSON object, of which only `messages` or `prompt` is required."
        " `null` counts as absent; types are not coerced.",
        "allOf": [
            {"oneOf": [{"required": ["messages"]}, {"required": ["prompt"]}]},
            {"not": {"required": ["max_tokens", "max_completion_tokens"]}},
        ],
    }


def _fields() -> dict[str, tuple[str, Schema]]:
    return {**_ENVELOPE, **_CONVERSATION, **_PARAMETERS}


def _record(properties: dict[str, Any], *required: str) -> Schema:
    schema: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return schema | ({"required": list(required)} if required else {})


def _list(items: Schema, least: int = 0, most: int | None = None) -> Schema:
    schema: Schema = {"type": "array", "items": items}
    return schema | ({"minItems": least} if least else {}) | ({} if most is None else {"maxItems": most})


def _number(least: float, most: float) -> Schema:
    return {"type": "number", "minimum": least, "maximum": most}


def _whole(least: int, most: int) -> Schema:
    return {"type": "integer", "minimum": least, "maximum": most}


def _words(*words: str) -> Schema:
    return {"enum": list(words)}


def _parts(*kinds: Schema) -> Schema:
    """A string, or parts of these kinds."""
    return {"anyOf": [_TEXT, _list({"anyOf": list(kinds)}, least=1)]}


_IDENTIFIER: Final[Schema] = {"type": "string", "pattern": "^[!-~]{1,128}$"}
_MONEY: Final[Schema] = {
    "anyOf": [
        {"type": "string", "pattern": r"^[0-9]{1,9}(\.[0-9]{1,9})?$"},
        {"type": "number", "minimum": 0, "exclusiveMaximum": 1_000_000_000, "multipleOf": 1e-9},
    ]
}
_ENVELOPE: Final[dict[str, tuple[str, Schema]]] = {
    "request_id": ("Unique per tenant; absent: `p<partition>-<offset>` of the record.", _IDENTIFIER),
    "tenant": ("Who pays; absent: `default`.", _IDENTIFIER),
    "model": (
        "A model name, a list in order of preference, or `auto`; absent: `auto`.",
        {"anyOf": [_MODEL_NAME, _list(_MODEL_NAME, 1, 100)]},
    ),
    "needs": (
        "What the model must offer, and what the answer may cost and take.",
        _record(
            {
                "capabilities": _list(_MODEL_NAME, most=100),
                "max_cost_usd": _MONEY,
                "max_latency_s": {"type": "number", "exclusiveMinimum": 0},
            }
        ),
    ),
    "priority": ("What goes first where requests wait.", _words("high", "normal", "low")),
    "timeout_s": (
        "Seconds from the record's broker time to the outcome; absent: `orchestrator.timeout`.",
        {"type": "number", "exclusiveMinimum": 0},
    ),
    "cache": (
        "Whether the answer may be shared and cached, and how many seconds it is kept.",
        _record(
            {
                "mode": _words("default", "on", "refresh", "off"),
                "ttl_s": {"type": "number", "exclusiveMinimum": 0, "maximum": 1_000_000_000},
            }
        ),
    ),
    "metadata": (
        "Echoed in every event of the request.",
        {
            "type": "object",
            "maxProperties": 16,
            "propertyNames": {"maxLength": 64},
            "additionalProperties": {"type": "string", "maxLength": 512},
        },
    ),
}

_TEXT_PART: Final = _record({"type": {"const": "text"}, "text": _TEXT}, "type", "text")
_REFUSAL_PART: Final = _record({"type": {"const": "refusal"}, "refusal": _TEXT}, "type", "refusal")
_URL: Final[Schema] = {"type": "string", "pattern": "^([Hh][Tt][Tt][Pp][Ss]?://|[Dd][Aa][Tt][Aa]:)."}
_IMAGE: Final = _record({"url": _URL, "detail": _words("auto", "low", "high")}, "url")
_IMAGE_PART: Final = _record({"type": {"const": "image_url"}, "image_url": _IMAGE}, "type", "image_url")
_PARTICIPANT: Final[Schema] = {"type": "string", "minLength": 1, "maxLength": 256}
_CALLED: Final = _record({"name": _FILLED, "arguments": _TEXT}, "name", "arguments")
_TOOL_CALL: Final = _record(
    {"id": _FILLED, "type": {"const": "function"}, "function": _CALLED}, "id", "type", "function"
)
_SAID: Final = _record(
    {
        "role": {"const": "assistant"},
        "content": _parts(_TEXT_PART, _REFUSAL_PART),
        "refusal": _TEXT,
        "name": _PARTICIPANT,
        "tool_calls": _list(_TOOL_CALL, most=128),
        "annotations": {"type": "array"},
    },
    "role",
)
_ASSISTANT: Final[Schema] = _SAID | {
    "anyOf": [
        {"required": ["content"]},
        {"required": ["refusal"]},
        {"required": ["tool_calls"], "properties": {"tool_calls": {"minItems": 1}}},
    ]
}


def _message(role: Schema, content: Schema, **more: Schema) -> Schema:
    return _record({"role": role, "content": content, "name": _PARTICIPANT, **more}, "role", "content", *more)


_MESSAGE: Final[Schema] = {
    "anyOf": [
        _message(_words("system", "developer"), _parts(_TEXT_PART)),
        _message({"const": "user"}, _parts(_TEXT_PART, _IMAGE_PART)),
        _ASSISTANT,
        _message({"const": "tool"}, _parts(_TEXT_PART), tool_call_id=_FILLED),
    ]
}
_CONVERSATION: Final[dict[str, tuple[str, Schema]]] = {
    "messages": ("The conversation, as OpenAI's chat completions take it; this or `prompt`.", _list(_MESSAGE, least=1)),
    "prompt": ("One user message; this or `messages`.", _TEXT),
}

_FUNCTION: Final = _record(
    {"name": _FUNCTION_NAME, "description": _TEXT, "parameters": _OBJECT, "strict": _FLAG}, "name"
)
_JSON_SCHEMA: Final = _record(
    {"name": _FUNCTION_NAME, "description": _TEXT, "schema": _OBJECT, "strict": _FLAG}, "name"
)
_FORMATS: Final[Schema] = {
    "anyOf": [
        _record({"type": _words("text", "json_object")}, "type"),
        _record({"type": {"const": "json_schema"}, "json_schema": _JSON_SCHEMA}, "type", "json_schema"),
    ]
}
_CHOSEN: Final = _record(
    {"type": {"const": "function"}, "function": _record({"name": _FUNCTION_NAME}, "name")}, "type", "function"
)
_TOOL: Final = _record({"type": {"const": "function"}, "function": _FUNCTION}, "type", "function")
_BIAS: Final[Schema] = {
    "type": "object",
    "propertyNames": {"pattern": "^[0-9]+$"},
    "additionalProperties": _number(-100, 100),
}
_PARAMETERS: Final[dict[str, tuple[str, Schema]]] = {
    "max_tokens": ("Output tokens at most; absent: `limits.default_max_tokens`.", _whole(1, _LARGEST)),
    "max_completion_tokens": ("Another name of `max_tokens`.", _whole(1, _LARGEST)),
    "temperature": ("Absent: the provider's own default.", _number(0, 2)),
    "top_p": ("Nucleus sampling.", _number(0, 1)),
    "stop": ("Where the answer ends.", {"anyOf": [_FILLED, _list(_FILLED, most=4)]}),
    "seed": ("For repeatable sampling, as far as the provider goes.", _whole(-_LARGEST - 1, _LARGEST)),
    "presence_penalty": ("OpenAI's.", _number(-2, 2)),
    "frequency_penalty": ("OpenAI's.", _number(-2, 2)),
    "logprobs": ("Whether the answer brings log probabilities.", _FLAG),
    "top_logprobs": ("How many alternatives at each token.", _whole(0, 20)),
    "logit_bias": ("Token ids to biases.", _BIAS),
    "response_format": ("The form that the answer must have.", _FORMATS),
    "tools": ("Functions that the model may call.", _list(_TOOL, most=128)),
    "tool_choice": ("Whether and what the model calls.", {"anyOf": [_words("none", "auto", "required"), _CHOSEN]}),
    "parallel_tool_calls": ("Whether it may call several at once.", _FLAG),
    "reasoning_effort": (
        "How long it may think.",
        _words("none", "minimal", "low", "medium", "high", "xhigh", "max"),
    ),
    "service_tier": ("The provider's own.", _words("auto", "default", "flex", "scale", "priority")),
    "user": ("Passed to the provider.", {"type": "string", "maxLength": 512}),
    "n": ("One answer per request.", {"const": 1}),
    "stream": ("Streams are not for Kafka.", {"const": False}),
}
