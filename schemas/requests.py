"""What a tenant asks: a record of `prompt.requests`, understood or not (CONTRACT §1, §5).

Pure: bytes in, one of three results out. Never raises, whatever the bytes.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from hashlib import blake2b
from typing import Any, Final, Literal, cast

import orjson

from schemas.deadletters import DeadLetter
from schemas.request_chat import FIXED, MESSAGES, OUTPUT_LIMIT, PARAMETERS
from schemas.request_rules import (
    FieldProblem,
    Problems,
    Rule,
    kind,
    list_of,
    nearest,
    number,
    one_of,
    printable,
    record,
    shown,
    text,
)
from schemas.strict_json import Json, JsonObject, decode_object
from schemas.units import NANO

__all__ = [
    "AUTO",
    "CachePolicy",
    "DeadLetter",
    "FieldProblem",
    "Limits",
    "Needs",
    "PromptRequest",
    "WrongFields",
    "content_digest",
    "fingerprint",
    "shareable",
    "understand",
    "work_key",
]

Priority = Literal["high", "normal", "low"]
CacheMode = Literal["default", "on", "refresh", "off"]

AUTO: Final = ("auto",)
"""`models` of a request that leaves the choice to us."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The part of the configuration that bounds a request: section `limits`."""

    max_request_bytes: int
    max_timeout_s: float


@dataclass(frozen=True, slots=True)
class Needs:
    """What a model must offer, and what the answer may cost and take. None: no such wish."""

    capabilities: tuple[str, ...] = ()
    max_cost_nano_usd: int | None = None
    max_latency_s: float | None = None


@dataclass(frozen=True, slots=True)
class CachePolicy:
    """Whether the answer may be shared and cached, and for how long; None: as long as the cache keeps answers."""

    mode: CacheMode = "default"
    ttl_s: float | None = None


@dataclass(frozen=True, slots=True)
class PromptRequest:
    """A request in which nothing is wrong. Nulls are gone, names that mean the same are one.

    `models`: names in order of preference without repetitions, or `AUTO`. `messages`: OpenAI chat messages; a `prompt`
    has become one user message. `parameters`: the chat parameters that were given, `tools` and `response_format` among
    them, by OpenAI's names, without the output limit, which is `max_tokens`. `images`: image parts in `messages`; their
    tokens have nothing to do with their bytes. `digest`: of the content; equal content, equal digest.
    The JSON inside is shared, not copied: read it only.
    """

    request_id: str
    tenant: str
    models: tuple[str, ...]
    messages: tuple[JsonObject, ...]
    max_tokens: int | None
    parameters: JsonObject
    extra_body: JsonObject
    needs: Needs
    priority: Priority
    timeout_s: float | None
    cache: CachePolicy
    metadata: dict[str, str]
    images: int
    digest: bytes

    @property
    def tools(self) -> list[JsonObject]:
        """The tools that the model may call; none: an empty list."""
        return cast("list[JsonObject]", self.parameters.get("tools", []))

    @property
    def response_format(self) -> JsonObject | None:
        """The form that the answer must have, None: text."""
        return cast("JsonObject | None", self.parameters.get("response_format"))

    @property
    def temperature(self) -> float | None:
        """As given; None is the provider's own default, which is not 0."""
        return cast("float | None", self.parameters.get("temperature"))


@dataclass(frozen=True, slots=True)
class WrongFields:
    """A JSON object that is no request. `fields`: one entry per wrong field, at most 50, the first ones.

    A wrong `request_id` counts as absent, a wrong `tenant` as `default`, wrong `metadata` as empty, so that the error
    can be addressed. Nothing is claimed by it: a corrected request under the same id is no conflict.
    """

    request_id: str
    tenant: str
    metadata: dict[str, str]
    fields: tuple[FieldProblem, ...]


def understand(
    value: bytes | None, *, default_request_id: str, limits: Limits
) -> PromptRequest | WrongFields | DeadLetter:
    """Return the request that `value` is, or which of its fields are wrong, or why it is no request at all.

    `default_request_id` is `p<partition>-<offset>` of the record as first published. The same bytes always give the
    same result.
    """
    body = decode_object(value, max_bytes=limits.max_request_bytes)
    if isinstance(body, DeadLetter):
        return body
    problems = Problems()
    given = _check_each(body, problems)
    _check_together(given, body, problems, limits)
    request_id: str = given.get("request_id") or default_request_id
    tenant: str = given.get("tenant") or "default"
    if problems.by_field:
        return WrongFields(request_id, tenant, given.get("metadata", {}), problems.as_fields())
    return _assemble(given, request_id, tenant)


def content_digest(request: PromptRequest) -> bytes:
    """Return 32 bytes that stand for the content: all but request id, tenant, metadata, priority, timeout and cache."""
    return request.digest


def fingerprint(request: PromptRequest) -> str:
    """Return the content digest as lower-case hexadecimal; it covers the model names and every parameter."""
    return request.digest.hex()


def shareable(request: PromptRequest) -> bool:
    """Whether another request of the tenant with the same content may be answered with this one's answer."""
    match request.cache.mode:
        case "on" | "refresh":
            return True
        case "off":
            return False
        case "default":
            return request.parameters.get("temperature") == 0 and "tools" not in request.parameters


def work_key(request: PromptRequest) -> str:
    """Return what decides the home of a request whose tenant has no limits: equal work meets there (DESIGN §3)."""
    return fingerprint(request) if shareable(request) else request.request_id


# --- the fields of the envelope -------------------------------------------------------------------------------------

_IDENTIFIER: Final = re.compile(r"[!-~]{1,128}")
_MAX_METADATA, _MAX_KEY, _MAX_VALUE = 16, 64, 512
_DECIMAL_USD: Final = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?")
_NAME: Final = printable(256)
_NAMES: Final = list_of(_NAME, least=1, most=100)


def _identifier(value: Json, path: str, problems: Problems) -> str | None:
    if isinstance(value, str) and _IDENTIFIER.fullmatch(value):
        return value
    problems.add(path, "must be a string of 1 to 128 printable ASCII characters without spaces")
    return None


def _model(value: Json, path: str, problems: Problems) -> tuple[str, ...]:
    if isinstance(value, str):
        return (_NAME(value, path, problems),)
    if isinstance(value, list):
        return tuple(dict.fromkeys(name for name in _NAMES(value, path, problems) if isinstance(name, str)))
    problems.add(path, f"must be a model name, a list of them, or `auto`, not {kind(value)}")
    return AUTO


def _metadata(value: Json, path: str, problems: Problems) -> dict[str, str]:
    """Strings to strings; all of it or nothing: one wrong entry leaves none to echo."""
    if not isinstance(value, dict):
        problems.add(path, f"must be an object of strings, not {kind(value)}")
        return {}
    entries = {key: entry for key, entry in value.items() if entry is not None}
    if len(entries) > _MAX_METADATA:
        problems.add(path, f"must have at most {_MAX_METADATA} entries")
        return {}
    kept: dict[str, str] = {}
    for key, entry in entries.items():
        if len(key) > _MAX_KEY:
            problems.add(f"{path}.{shown(key)}", f"is a key of more than {_MAX_KEY} characters")
        elif not isinstance(entry, str):
            problems.add(f"{path}.{shown(key)}", f"must be a string, not {kind(entry)}")
        elif len(entry) > _MAX_VALUE:
            problems.add(f"{path}.{shown(key)}", f"must have at most {_MAX_VALUE} characters")
        else:
            kept[key] = entry
    return kept if len(kept) == len(entries) else {}


def _nano_usd(value: Json, path: str, problems: Problems) -> int:
    """US dollars as a decimal string or a number, exact in nano-dollars."""
    written = value
    if isinstance(value, int | float) and not isinstance(value, bool):
        written = f"{Decimal(repr(value)):f}"  # the shortest decimal that means this number
    if isinstance(written, str) and _DECIMAL_USD.fullmatch(written):
        return int(Decimal(written) * NANO)
    problems.add(path, 'must be an amount like "0.01": not negative, below 1000000000, at most 9 decimals')
    return 0


def _extra_body(value: Json, path: str, problems: Problems) -> JsonObject:
    """Passed as it is, nulls included: a null that we would drop may mean something to the provider."""
    if not isinstance(value, dict):
        problems.add(path, f"must be an object, not {kind(value)}")
        return {}
    for name in value:
        if name in _RULES:
            problems.add(f"{path}.{name}", "is not passed through: it is a field of the request itself")
        elif name in BOUNDED_ELSEWHERE:
            problems.add(f"{path}.{name}", "is not passed through: the orchestrator sets or bounds it")
    return value


BOUNDED_ELSEWHERE: Final = frozenset(
    {
        # OpenAI's, and what its compatible servers call the same
        *("stream_options", "functions", "function_call", "best_of", "input", "instructions"),
        *("max_output_tokens", "max_new_tokens", "max_tokens_to_sample", "num_predict", "n_predict"),
        # other dialects' names for messages, output limit and number of answers
        *("system", "contents", "systemInstruction", "system_instruction", "cachedContent", "cached_content"),
        *("generationConfig", "generation_config", "maxOutputTokens", "candidateCount", "candidate_count"),
    }
)
"""Names that would change behind our back what the money bound rests on: input, output limit, number of answers."""

_RULES: Final[Mapping[str, Rule]] = {
    "request_id": _identifier,
    "tenant": _identifier,
    "model": _model,
    "messages": MESSAGES,
    "prompt": text(),
    "max_tokens": OUTPUT_LIMIT,
    "max_completion_tokens": OUTPUT_LIMIT,
    **PARAMETERS,
    **FIXED,
    "needs": record(
        {
            "capabilities": list_of(_NAME, most=100),
            "max_cost_usd": _nano_usd,
            "max_latency_s": number(above=0),
        }
    ),
    "priority": one_of("high", "normal", "low"),
    "timeout_s": number(above=0),
    "cache": record({"mode": one_of("default", "on", "refresh", "off"), "ttl_s": number(above=0, most=1e9)}),
    "metadata": _metadata,
    "extra_body": _extra_body,
}


def _check_each(body: JsonObject, problems: Problems) -> dict[str, Any]:
    """Return the fields that are not null, each as its rule returns it."""
    given: dict[str, Any] = {}
    for name, content in body.items():
        if content is None:
            continue
        rule = _RULES.get(name)
        if rule is not None:
            given[name] = rule(content, name, problems)
        elif not problems.are_full:
            problems.add(shown(name), _why_unknown(name))
    return given


def _why_unknown(name: str) -> str:
    if name == "stream_options":
        return "is not known: streams are the gateway's"
    return f"is not known; a provider's own parameters go into `extra_body`{nearest(name, _RULES)}"


def _check_together(given: Mapping[str, Any], body: JsonObject, problems: Problems, limits: Limits) -> None:
    """Check what no field can tell alone. Of two fields that exclude each other the second is named (CONTRACT §5)."""
    if "prompt" in given and "messages" in given:
        problems.add("messages", "must not stand beside `prompt`")
    elif "prompt" not in given and "messages" not in given:
        problems.add("messages", "is required, or `prompt`")
    if "max_tokens" in given and "max_completion_tokens" in given:
        problems.add("max_completion_tokens", "must not stand beside `max_tokens`")
    timeout_s = body.get("timeout_s")
    if isinstance(timeout_s, int | float) and timeout_s > limits.max_timeout_s:
        problems.add("timeout_s", f"must be at most {limits.max_timeout_s}, the limit of this orchestrator")


# --- putting it together --------------------------------------------------------------------------------------------


def _assemble(given: dict[str, Any], request_id: str, tenant: str) -> PromptRequest:
    """Build the request from fields in which nothing is wrong."""
    messages = [{"role": "user", "content": given["prompt"]}] if "prompt" in given else given["messages"]
    parameters = {name: content for name, content in given.items() if name in PARAMETERS and content not in ([], {})}
    max_tokens = given.get("max_tokens", given.get("max_completion_tokens"))
    models: tuple[str, ...] = given.get("model", AUTO)
    extra_body = given.get("extra_body", {})
    needs = _NO_NEEDS if "needs" not in given else _needs(given["needs"])
    return PromptRequest(
        request_id=request_id,
        tenant=tenant,
        models=models,
        messages=tuple(messages),
        max_tokens=max_tokens,
        parameters=parameters,
        extra_body=extra_body,
        needs=needs,
        priority=given.get("priority", "normal"),
        timeout_s=given.get("timeout_s"),
        cache=_ANY_CACHE if "cache" not in given else CachePolicy(**given["cache"]),
        metadata=given.get("metadata", {}),
        images=_count_images(messages),
        digest=_digest(messages, [models, max_tokens, parameters, extra_body, *_wishes(needs)]),
    )


_NO_NEEDS: Final = Needs()
_ANY_CACHE: Final = CachePolicy()


def _needs(given: Mapping[str, Any]) -> Needs:
    return Needs(tuple(given.get("capabilities", ())), given.get("max_cost_usd"), given.get("max_latency_s"))


def _wishes(needs: Needs) -> tuple[Any, ...]:
    return needs.capabilities, needs.max_cost_nano_usd, needs.max_latency_s


def _count_images(messages: list[dict[str, Any]]) -> int:
    contents = (message.get("content") for message in messages)
    return sum(part["type"] == "image_url" for content in contents if isinstance(content, list) for part in content)


_EMPTY_DIGEST: Final = blake2b(digest_size=32, person=b"prompt.content.1")
_PERHAPS_WHOLE: Final = re.compile(rb"[0-9](?:\.0|e)")


def _digest(messages: list[Any], rest: list[Any]) -> bytes:
    """Hash parsed JSON so that neither key order nor the spelling of a number matters: 1, 1.0 and 1e0 are one.

    `messages` hold no numbers, so only the rest is searched for them. Two arrays in a row cannot be read in two ways.
    """
    canonical = orjson.dumps(rest, option=orjson.OPT_SORT_KEYS)
    if _PERHAPS_WHOLE.search(canonical):
        canonical = orjson.dumps(_with_whole_numbers(rest), option=orjson.OPT_SORT_KEYS)
    digest = _EMPTY_DIGEST.copy()
    digest.update(canonical)
    digest.update(orjson.dumps(messages, option=orjson.OPT_SORT_KEYS))
    return digest.digest()


def _with_whole_numbers(value: Any) -> Any:
    """Write every float that is a 64-bit whole number as that number. Recursion is bounded by the decoder's depth."""
    match value:
        case float() if value.is_integer() and -(2**63) <= value < 2**64:
            return int(value)
        case list() | tuple():
            return [_with_whole_numbers(entry) for entry in value]
        case dict():
            return {key: _with_whole_numbers(entry) for key, entry in value.items()}
        case _:
            return value
