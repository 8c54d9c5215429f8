"""The pages of docs/ that are printed from the code.

`python -m streams.runtime.documentation` writes them; a test keeps them fresh.
"""

from streams.runtime import topics
from streams.runtime.documentation import asyncapi, events, json_schemas, settings


def pages() -> dict[str, str]:
    """Return the path below docs/ and the content of each."""
    return {
        "asyncapi.yaml": asyncapi.text(),
        "configuration.md": settings.text(),
        "events.md": events.text(),
        "topics.md": topics.documentation(),
        **json_schemas.files(),
    }
