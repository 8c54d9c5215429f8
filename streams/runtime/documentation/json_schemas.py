"""docs/schemas: one JSON Schema file for each kind of message and for the configuration."""

import json
from typing import Any

from schemas.configuration import json_schema
from streams.runtime.documentation.catalogue import MESSAGES

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def files() -> dict[str, str]:
    """Return path below docs/ and content of each file."""
    schemas = {message.name: {"$schema": DIALECT, **message.schema()} for message in MESSAGES}
    for message in MESSAGES:
        schemas[message.name]["examples"] = [message.example]
    schemas["configuration"] = json_schema()
    return {f"schemas/{name}.json": _text(schema) for name, schema in schemas.items()}


def _text(schema: dict[str, Any]) -> str:
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
