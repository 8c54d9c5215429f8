"""docs/events.md: every topic and every message on it."""

import json
from collections.abc import Iterator
from typing import Any

from streams.runtime.documentation.catalogue import MESSAGES, Message
from streams.runtime.topics import Topic, Topics, definitions

Schema = dict[str, Any]

_HEAD = """# Events

Printed by `python -m streams.runtime.documentation`. The same for programs: [asyncapi.yaml](asyncapi.yaml), and a JSON
Schema of each message in [schemas/](schemas). How topics are set up: [topics.md](topics.md). Programs that ask and
hear: [clients.md](clients.md).

* Values are UTF-8 JSON objects. Deliveries may repeat; a repetition has the same `id` and the same bytes: deduplicate
  on `id`.
* A new meaning gets a new type (`.v2`); new fields may come at any time: ignore those that you do not know.
* Headers, where a message has them: CloudEvents 1.0 (`ce_specversion`, `ce_id`, `ce_type`, `ce_source`, `ce_time`,
  `content-type`), and `traceparent` where there is a request. What a producer sends as `traceparent` is continued.
* `prompt.progress` and `model.observations` are internal: they may change with any version, and are here for who
  debugs. Whoever may write them can forge outcomes; [the ACLs](../deploy/kafka/acls.sh) keep others away.
"""


def text() -> str:
    """Return the page."""
    known = {message.topic for message in MESSAGES}
    topics = [topic for topic in definitions(Topics("", "orchestrator"), 3) if topic.name in known]
    return _HEAD + "".join(_topic(topic) for topic in topics)


def _topic(topic: Topic) -> str:
    messages = [message for message in MESSAGES if message.topic == topic.name]
    internal = " (internal)" if messages[0].internal else ""
    facts = f"Key: {topic.key}. Partition: {topic.partition}. Kept: {topic.kept}."
    shared = _shared(messages)
    return f"\n## `{topic.name}`{internal}\n\n{topic.holds[0].upper()}{topic.holds[1:]}. {facts}\n" + "".join(
        _message(message, fields=shared is None or message is messages[-1]) for message in messages
    )


def _shared(messages: list[Message]) -> type | None:
    """Return the class of all these messages where it is one: then one table serves them all."""
    classes = {message.schema_class for message in messages}
    return classes.pop() if len(messages) > 1 and len(classes) == 1 else None


def _message(message: Message, *, fields: bool) -> str:
    example = json.dumps(message.example, indent=1, ensure_ascii=False)
    schema = message.schema()
    table = "".join(_row(*row) for row in _rows(schema, schema.get("$defs", {}), "")) if fields else ""
    head = "\n| field | type | meaning |\n|---|---|---|\n" if fields else ""
    return f"\n### `{message.name}`\n\n{message.says}\n\n```json\n{example}\n```\n{head}{table}"


def _row(name: str, type_: str, meaning: str) -> str:
    return f"| `{name}` | {type_} | {meaning} |\n"


def _rows(schema: Schema, parts: Schema, prefix: str) -> Iterator[tuple[str, str, str]]:
    """Yield field, type and meaning; a part's own fields follow it, once, with its name before theirs."""
    required = schema.get("required", ())
    for name, field in schema.get("properties", {}).items():
        absent = "" if name in required or prefix else ", may be absent"
        yield prefix + name, _type(field, parts) + absent, str(field.get("description", "")).replace("|", "\\|")
        part, many = _part(field, parts)
        if part is not None:
            yield from _rows(part, parts, f"{prefix}{name}{'[]' if many else ''}.")


def _part(field: Schema, parts: Schema) -> tuple[Schema | None, bool]:
    """Return the schema of the object that a field holds, if it does, and whether it holds a list of them."""
    for option in field.get("anyOf", [field]):
        if option.get("type") == "array":
            part, _ = _part(option.get("items", {}), parts)
            return part, True
        if "$ref" in option:
            found: Schema = parts[option["$ref"].rpartition("/")[2]]
            return found, False
    return None, False


def _type(field: Schema, parts: Schema) -> str:
    if field.get("type") == "object":
        return "object"
    options = field.get("anyOf") or field.get("oneOf")
    if options:
        return " or ".join(dict.fromkeys(_type(option, parts) for option in options))
    if "enum" in field:
        return ", ".join(f"`{json.dumps(word)}`" for word in field["enum"])
    if "const" in field:
        return f"`{json.dumps(field['const'])}`"
    if "$ref" in field:
        return "object"
    kind = field.get("type")
    return f"list of {_type(field.get('items', {}), parts)}" if kind == "array" else str(kind or "anything")
