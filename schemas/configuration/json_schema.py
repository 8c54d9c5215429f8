"""The configuration as JSON Schema, for editors and `orchestrator config schema`."""

import json
from typing import Any

from schemas.configuration.configuration import Configuration

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of the file; each key's description ends with its default."""
    schema = Configuration.model_json_schema(mode="validation")
    for section in [schema, *schema.get("$defs", {}).values()]:
        for part in [section, *section.get("anyOf", ())]:
            _describe_defaults(part)
    return {"$schema": DIALECT, **schema, "title": "Configuration of the orchestrator"}


def _describe_defaults(section: dict[str, Any]) -> None:
    for name, key in section.get("properties", {}).items():
        if name in section.get("required", ()):
            key["description"] += " Required."
        elif "Default: " not in key["description"]:
            key["description"] += f" Default: {_default(key['default'])}."


def _default(value: object) -> str:
    return f"{value:.16g}" if isinstance(value, float) else json.dumps(value)
