"""docs/asyncapi.yaml: topics, messages, keys and headers as an AsyncAPI 3.0 document."""

from typing import Any

import yaml

from streams.runtime.documentation.catalogue import MESSAGES, Message
from streams.runtime.topics import Topic, Topics, definitions

Node = dict[str, Any]

GROUP = "orchestrator"
_BINDING = "0.5.0"
_KEYS: dict[str, Node] = {
    "prompt.requests": {"description": "The producer's own; it says nothing to the orchestrator."},
    "prompt.deadletters": {"type": ["string", "null"], "description": "The request id, or none."},
    "prompt.responses": {"type": "string", "description": "The request id."},
    "prompt.errors": {"type": "string", "description": "The request id."},
    "prompt.progress": {"type": "string", "description": "The request id."},
    "prompt.costs": {"type": "string", "description": "The tenant."},
    "ledger.entries": {"type": "string", "description": "The tenant; the partition is the request's home."},
    "model.health": {"type": "string", "description": "The deployment id; the topic is compacted."},
    "model.observations": {"type": "string", "description": "The deployment id."},
}
_HEADERS = {
    "ce_specversion": {"const": "1.0"},
    "ce_id": {"type": "string", "format": "uuid", "description": "The value's `id`."},
    "ce_type": {"type": "string", "description": "The value's `type`."},
    "ce_source": {"const": "prompt-orchestrator"},
    "ce_time": {"type": "string", "format": "date-time", "description": "The value's `time`."},
    "content-type": {"const": "application/json"},
    "traceparent": {"type": "string", "description": "W3C trace context, version 00, of the request."},
}


def text() -> str:
    """Return the document."""
    head = "# Printed by `python -m streams.runtime.documentation`.\n"
    return head + yaml.dump(document(), Dumper=_Plain, sort_keys=False, allow_unicode=True, width=120)


def document() -> Node:
    """Return the document as plain data, complete in itself."""
    topics = [topic for topic in definitions(Topics("", GROUP), 3) if topic.name in _KEYS]
    parts: dict[str, Node] = {}
    messages = {message.name: _message(message, parts) for message in MESSAGES}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Prompt Orchestrator",
            "version": "1.0.0",
            "description": "Prompts are asked on `prompt.requests`; answers, errors, costs and bookings are told on"
            " other topics. Deliveries may repeat: deduplicate on `id`. Ignore fields that you do not know. Names are"
            " those without `kafka.topic_prefix`. What is tagged `internal` may change with any version.",
            "license": {"name": "MIT", "url": "https://opensource.org/license/mit"},
        },
        "defaultContentType": "application/json",
        "servers": {"cluster": {"host": "localhost:9092", "protocol": "kafka", "description": "Your Kafka cluster."}},
        "channels": {topic.name: _channel(topic) for topic in topics},
        "operations": {_operation_name(topic): _operation(topic) for topic in topics},
        "components": {"messages": messages, "schemas": parts},
    }


def _channel(topic: Topic) -> Node:
    config = {
        "cleanup.policy": [topic.config["cleanup.policy"]],
        **({"retention.ms": int(topic.config["retention.ms"])} if "retention.ms" in topic.config else {}),
        "max.message.bytes": int(topic.config["max.message.bytes"]),
    }
    binding = {"topic": topic.name, "partitions": 12, "topicConfiguration": config, "bindingVersion": _BINDING}
    return {
        "address": topic.name,
        "description": f"{topic.holds[0].upper()}{topic.holds[1:]}. Kept: {topic.kept}.",
        "messages": {m.name: {"$ref": f"#/components/messages/{m.name}"} for m in _messages(topic)},
        **({"tags": [{"name": "internal"}]} if _internal(topic) else {}),
        "bindings": {"kafka": binding},
    }


def _operation_name(topic: Topic) -> str:
    """Operations are what the orchestrator does."""
    verb = "hear" if topic.name == "prompt.requests" else "tell"
    return f"{verb}.{topic.name}"


def _operation(topic: Topic) -> Node:
    return {
        "action": "receive" if topic.name == "prompt.requests" else "send",
        "channel": {"$ref": f"#/channels/{topic.name}"},
        "summary": f"{'Understand' if topic.name == 'prompt.requests' else 'Publish'}: {topic.holds}.",
        "messages": [{"$ref": f"#/channels/{topic.name}/messages/{m.name}"} for m in _messages(topic)],
    }


def _messages(topic: Topic) -> list[Message]:
    return [message for message in MESSAGES if message.topic == topic.name]


def _internal(topic: Topic) -> bool:
    return all(message.internal for message in _messages(topic))


def _message(message: Message, parts: dict[str, Node]) -> Node:
    schema = message.schema()
    for name, part in schema.pop("$defs", {}).items():
        parts[name] = _moved(part)
    headers = {name: _HEADERS[name] for name in message.headers}
    typed_headers = {"type": "object", "properties": headers, "required": list(headers)} if headers else None
    return {
        "name": message.name,
        "title": message.name,
        "summary": message.says,
        "contentType": "application/json",
        **({"headers": typed_headers} if typed_headers else {}),
        "payload": _moved(schema),
        "bindings": {"kafka": {"key": _KEYS[message.topic], "bindingVersion": _BINDING}},
        "examples": [{"payload": message.example}],
    }


def _moved(node: Any) -> Any:
    """Point references to parts at where this document keeps them."""
    if isinstance(node, list):
        return [_moved(entry) for entry in node]
    if not isinstance(node, dict):
        return node
    return {
        name: content.replace("#/$defs/", "#/components/schemas/")
        if name == "$ref" and isinstance(content, str)
        else _moved(content)
        for name, content in node.items()
    }


class _Plain(yaml.SafeDumper):
    """Repeats what is the same instead of anchoring it."""

    def ignore_aliases(self, data: Any) -> bool:
        return True
