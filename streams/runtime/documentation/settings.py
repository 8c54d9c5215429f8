"""docs/configuration.md: every key of the configuration file, from its JSON Schema and one example with all of them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

import yaml

from schemas.configuration import json_schema

Schema = dict[str, Any]

UNITS: Final[dict[str, str]] = {
    "port": "TCP port",
    "workers": "processes",
    "timeout": "seconds",
    "max_retries": "tries",
    "health_check_interval": "seconds",
    "max_failures": "failures",
    "ttl": "seconds",
    "max_size": "answers",
    "max_tokens": "tokens",
    "cost_per_token": "USD per token",
    "input_usd_per_million": "USD per million tokens",
    "output_usd_per_million": "USD per million tokens",
    "cache_read_usd_per_million": "USD per million tokens",
    "cache_write_usd_per_million": "USD per million tokens",
    "cache_write_1h_usd_per_million": "USD per million tokens",
    "reasoning_usd_per_million": "USD per million tokens",
    "per_request_usd": "USD per request",
    "above_input_tokens": "tokens",
    "max_output_tokens": "tokens",
    "template_tokens": "tokens",
    "image_tokens": "tokens",
    "max_concurrency": "calls",
    "weight": "share",
    "priority": "rank",
    "requests_per_minute": "requests per minute",
    "burst_size": "requests",
    "tokens_per_minute": "tokens per minute",
    "partitions": "partitions",
    "replication_factor": "copies",
    "session_timeout": "seconds",
    "max_request_bytes": "bytes",
    "max_answer_bytes": "bytes",
    "default_max_tokens": "tokens",
    "max_timeout_s": "seconds",
    "horizon": "seconds",
    "usd": "USD",
}
"""What a number counts, by the name of its key: one name means one unit."""

_HEAD = """# Configuration

Printed by `python -m streams.runtime.documentation`, from the schema that the file is checked with. One YAML file,
given as `-c FILE` (default `orchestrator.yaml`). An unknown key is a mistake; `null` counts as absent. To check a file,
and see what counts:

    orchestrator config check -c orchestrator.yaml

For editors: `orchestrator config schema > orchestrator.schema.json` ([the same](schemas/configuration.json)); then
`# yaml-language-server: $schema=orchestrator.schema.json` as the first line of the file.
"""

_AFTER = """
## The environment

`ORCHESTRATOR_SECTION__KEY` wins over the file; items of lists are numbered from 0. Only names with `__` are settings:
a whole section cannot be one. Values are YAML; below `kafka.security` they are taken as they are. An empty value counts
as not set.

    ORCHESTRATOR_KAFKA__BOOTSTRAP_SERVERS=kafka:9092
    ORCHESTRATOR_KAFKA__PARTITIONS=24
    ORCHESTRATOR_MODELS__0__ENDPOINT=http://127.0.0.1:8080/v1
    ORCHESTRATOR_TENANTS__0='{name: acme, budgets: [{usd: "10", window: day}]}'

## Secrets

No secret has to be in the file: it names environment variables, and `config check` says whether they are set.

* Keys of providers: the variable that `models[].api_key_env` names. On a provider's own host over https it is by
  default the usual one (`OPENAI_API_KEY`, `ANTHROPIC_API_KEY`, `GEMINI_API_KEY`); any other host gets a key only where
  `api_key_env` says so. Whoever may change the configuration can send a key to a host of their choice.
* Kafka's password: the variable that `kafka.security.password_env` names.
* What these hold is masked wherever it would occur in a log; prompts and answers are not logged.

## What may not change while workers run

`kafka.partitions`, and which tenants have a budget or a rate limit, decide where each request lives. To change which
tenants are limited, stop all workers first; a worker that differs from those running refuses to join (exit 1).
`kafka.partitions` never changes for a set of topics: choose another `kafka.topic_prefix` instead. All else may differ
between workers for as long as a rolling restart takes.

## Warnings

What loads and does not do what one may expect is told by `config check` (`FILE: warning: …`) and by each worker as a
line of level WARNING:

* `cache has no effect yet`: the section `cache` is there and enabled. Nothing is cached.

## Everything at once

"""


@dataclass(frozen=True, slots=True)
class Key:
    """One key that holds a value, not a section. `default` is text for people; `required`: there is none."""

    path: str
    section: str
    type: str
    default: str
    says: str
    unit: str
    example: str | None
    numeric: bool


def text() -> str:
    """Return the page."""
    pages: dict[str, list[Key]] = {}
    for key in all_keys():
        pages.setdefault(key.section, []).append(key)
    return _HEAD + "".join(_section(name, found) for name, found in pages.items()) + _AFTER + _example_block()


def example() -> str:
    """Return a valid configuration that sets every key, but for those that exclude another."""
    return files("streams.runtime.documentation").joinpath("example.yaml").read_text("utf-8")


def all_keys() -> list[Key]:
    """Return every key, in the order of the file."""
    schema = json_schema()
    return list(_keys(schema, schema["$defs"], "", yaml.safe_load(example())))


def _keys(section: Schema, parts: Schema, prefix: str, shown: Any) -> Iterator[Key]:
    for name, field in section["properties"].items():
        path = f"{prefix}{name}"
        inner, many = _inner(field, parts)
        found = _first(shown, name)
        if inner is not None:
            yield from _keys(inner, parts, f"{path}{'[]' if many else ''}.", found)
            continue
        says, _, default = field["description"].removesuffix(" Required.").partition(" Default: ")
        yield Key(
            path=path,
            section=prefix.partition(".")[0].removesuffix("[]") or name,
            type=_type(field),
            default="required" if name in section.get("required", ()) else default.removesuffix("."),
            says=says,
            unit=UNITS.get(name, ""),
            example=None if found is None else json.dumps(found, ensure_ascii=False),
            numeric=_is_numeric(field),
        )


def _first(shown: Any, name: str) -> Any:
    """Return the first value of `name` in an example, which is a section or a list of them."""
    for entry in shown if isinstance(shown, list) else [shown]:
        if isinstance(entry, dict) and name in entry:
            return entry[name]
    return None


def _inner(field: Schema, parts: Schema) -> tuple[Schema | None, bool]:
    """Return the section that a key holds, if it does, and whether it holds a list of them."""
    for option in field.get("anyOf", [field]):
        if option.get("type") == "array":
            section, _ = _inner(option["items"], parts)
            return section, True
        if "$ref" in option:
            part = parts[option["$ref"].rpartition("/")[2]]
            sections = [alternative for alternative in part.get("anyOf", [part]) if "properties" in alternative]
            return sections[0], False
    return None, False


def _is_numeric(field: Schema) -> bool:
    return any(option.get("type") in ("integer", "number") for option in field.get("anyOf", [field]))


def _type(field: Schema) -> str:
    if "anyOf" in field:
        types = dict.fromkeys(_type(option) for option in field["anyOf"] if option.get("type") != "null")
        return "number or decimal string" if list(types) == ["number", "string"] else " or ".join(types)
    if "enum" in field or "const" in field:
        return ", ".join(f"`{word}`" for word in field.get("enum", [field.get("const")]))
    if field["type"] == "array":
        return f"list of {_type(field['items'])}s"
    return f"{field['type']}{_bounds(field)}"


def _bounds(field: Schema) -> str:
    if field["type"] not in ("integer", "number"):
        return ""
    least, above, most = (field.get(name) for name in ("minimum", "exclusiveMinimum", "maximum"))
    told = [f"≥ {least:,}" if least is not None else "", f"> {above:,}" if above is not None else ""]
    told.append(f"≤ {most:,}" if most is not None and most < 10**12 else "")
    return "".join(f", {bound}" for bound in told if bound)


def _section(name: str, found: list[Key]) -> str:
    schema = json_schema()
    says = schema["properties"][name]["description"].partition(" Default: ")[0]
    rows = "".join(_row(key) for key in found)
    head = "| key | type | default | unit | what it is | example |\n|---|---|---|---|---|---|\n"
    return f"\n## `{name}`\n\n{says}\n\n{head}{rows}"


def _row(key: Key) -> str:
    shown = "" if key.example is None else f"`{key.example}`"
    cells = (f"`{key.path}`", key.type, key.default, key.unit, key.says, shown)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _example_block() -> str:
    return f"Not a proposal: every key once, with the example of the tables.\n\n```yaml\n{example()}```\n"
