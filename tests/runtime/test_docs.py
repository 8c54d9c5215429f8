"""The pages that are printed from the code are fresh, and what they say of messages and settings is true."""

import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it has no types

from schemas.configuration import parse
from schemas.deadletters import DeadLetter, PromptDeadLettered
from schemas.errors import ErrorCode, Reason
from schemas.progress import Answer, AttemptRedriven, RequestExpired
from streams.core import publish
from streams.core.publish import Output
from streams.runtime.documentation import asyncapi, pages, settings
from streams.runtime.documentation.catalogue import MESSAGES, Message
from streams.runtime.documentation.words import FIELDS
from tests.core.build import (
    ACME_PER_DAY,
    NOW,
    Desk,
    configuration,
    failed,
    outputs,
    prompt,
    succeeded,
    told,
)

PAGES = pages()
DOCS = Path(__file__).parents[2] / "docs"
REDRIVEN = AttemptRedriven(tenant="acme", request_id="r-1", attempt=1)
EXPIRED = RequestExpired(tenant="acme", request_id="r-1")
PUBLIC = [message for message in MESSAGES if not message.internal]
EVENTS = {message.name: message for message in MESSAGES if message.schema_class is not None}


def schema_file(name: str) -> Any:
    return json.loads((DOCS / "schemas" / f"{name}.json").read_text())


# --- fresh


@pytest.mark.parametrize("path", sorted(PAGES))
def test_a_printed_page_is_fresh(path: str) -> None:
    assert (DOCS / path).read_text() == PAGES[path], "run: python -m streams.runtime.documentation"


def test_no_schema_of_a_message_that_is_gone_is_left() -> None:
    assert {f"schemas/{file.name}" for file in (DOCS / "schemas").iterdir()} <= set(PAGES)


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_a_link_leads_to_a_file(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


# --- messages


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.name)
def test_the_example_of_a_message_is_one(message: Message) -> None:
    schema = schema_file(message.name)
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(message.example)
    if message.schema_class is not None:
        assert message.schema_class.model_validate(message.example)


@pytest.mark.parametrize("message", PUBLIC, ids=lambda message: message.name)
def test_every_field_of_a_public_message_is_described(message: Message) -> None:
    schema = message.schema()
    fields = [item for part in (schema, *schema.get("$defs", {}).values()) for item in part["properties"].items()]
    assert [name for name, field in fields if not field.get("description")] == []


def test_no_description_is_of_a_field_that_is_gone() -> None:
    schemas = [message.schema() for message in MESSAGES]
    parts = [part for schema in schemas for part in (schema, *schema.get("$defs", {}).values())]
    assert set(FIELDS) <= {name for part in parts for name in part["properties"]}


def real_outputs() -> list[Output]:
    """Return what the core publishes in a few lives of a request."""
    return [*_answered(), *_failed_after_a_lost_call(), *_late(), *_refused(), *_dead()]


def _desk(yaml: str = ACME_PER_DAY) -> Desk:
    desk = Desk(configuration(yaml))
    desk.ask(prompt(metadata={"team": "search"}))
    return desk


def _answered() -> list[Output]:
    call = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    answer = Answer(text="", tool_calls=(call,), finish_reason="tool_calls", logprobs={"content": []})
    event = succeeded(answer=answer, dropped_parameters=("seed",))
    return outputs(_desk().must_hear(event), event)


def _failed_after_a_lost_call() -> list[Output]:
    desk, event = _desk(), failed(attempt=2, again=False, elsewhere=False, http_status=500)
    return [*outputs(desk.must_hear(REDRIVEN), REDRIVEN), *outputs(desk.must_hear(event), event)]


def _late() -> list[Output]:
    desk, event = _desk(), succeeded()
    desk.must_hear(EXPIRED)
    return outputs(desk.must_hear(event), event)


def _refused() -> list[Output]:
    desk = Desk(configuration(ACME_PER_DAY.replace("0.01", "0.001")))
    refused = outputs(desk.ask())
    desk.settings = configuration(ACME_PER_DAY.replace("0.01", "0.02"))
    return [*refused, *outputs(desk.ask(prompt(request_id="r-2")))]


def _dead() -> list[Output]:
    def letter(value: bytes | None, header: bytes, request_id: str | None) -> Output:
        return publish.dead_letter(
            DeadLetter("not_json", "it is no JSON"),
            topic="prompt.requests",
            full_topic="eu.prompt.requests",
            partition=2,
            offset=9,
            time_ms=NOW,
            value=value,
            headers=(("h", header),),
            request_id=request_id,
            tenant=None if request_id is None else "acme",
        )

    return [letter(b"{", b"v", None), letter(None, b"v", "r-1"), letter(b"{", b"v" * 100_000, None)]


def test_what_the_core_publishes_follows_the_schemas_and_names_their_headers() -> None:
    found = real_outputs()
    for output in found:
        event = told(output)
        message = EVENTS[event["type"]]
        Draft202012Validator({**schema_file(event["type"]), "additionalProperties": False}).validate(event)
        assert message.schema_class is not None
        message.schema_class.model_validate_json(output.value)
        told_headers = {name for name, _ in output.headers}
        assert set(message.headers) <= told_headers, event["type"]
        assert told_headers <= {*message.headers, "traceparent"}
    of_the_core = {message.name for message in PUBLIC if message.schema_class} - {"model.health.v1"}
    assert {told(output)["type"] for output in found} == of_the_core


def test_a_dead_letter_whose_headers_did_not_fit_says_so() -> None:
    assert PromptDeadLettered.model_validate_json(_dead()[-1].value).headers_truncated


# --- AsyncAPI


def references(node: Any) -> list[str]:
    if isinstance(node, list):
        return [found for entry in node for found in references(entry)]
    if not isinstance(node, dict):
        return []
    own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
    return own + [found for entry in node.values() for found in references(entry)]


def test_every_reference_of_the_asyncapi_document_leads_somewhere() -> None:
    document = asyncapi.document()
    found = set(references(document))
    assert len(found) > 30
    for reference in found:
        node: Any = document
        for step in reference.removeprefix("#/").split("/"):
            node = node[step]
        assert node


def test_the_asyncapi_document_has_every_topic_but_the_tables() -> None:
    assert set(asyncapi.document()["channels"]) == {
        "prompt.requests",
        "prompt.progress",
        "prompt.responses",
        "prompt.errors",
        "prompt.costs",
        "prompt.deadletters",
        "ledger.entries",
        "model.observations",
        "model.health",
    }


# --- configuration


def test_the_example_with_every_key_is_a_configuration() -> None:
    assert parse(settings.example()).warnings == ()


def test_every_key_has_an_example_but_the_one_that_should_not_be_written() -> None:
    assert [key.path for key in settings.all_keys() if key.example is None] == ["kafka.security.password"]


def test_every_number_has_a_unit() -> None:
    assert [key.path for key in settings.all_keys() if key.numeric and not key.unit] == []


def test_the_environment_wins_as_the_page_shows() -> None:
    shown = re.findall(r"^    (ORCHESTRATOR_\w+)=(.*)$", settings.text(), re.MULTILINE)
    assert len(shown) == 4
    environ = {name: value.strip("'") for name, value in shown}

    made = parse("models: [{name: gpt-4, endpoint: 'https://api.openai.com/v1'}]", environ)

    assert (made.kafka.bootstrap_servers, made.kafka.partitions) == ("kafka:9092", 24)
    assert made.models[0].endpoint == "http://127.0.0.1:8080/v1"
    assert [(tenant.name, tenant.budgets[0].window) for tenant in made.tenants] == [("acme", "day")]


def test_the_warnings_on_the_page_are_those_that_there_are() -> None:
    (shown,) = re.findall(r"^\* `([^`]+)`: the section", settings.text(), re.MULTILINE)
    assert parse("cache: {enabled: true}").warnings == (shown,)


# --- troubleshooting

PAGE = (DOCS / "troubleshooting.md").read_text()
SOURCE = "\n".join(
    file.read_text() for name in ("agents", "streams", "schemas") for file in (DOCS.parent / name).rglob("*.py")
)


def said(rows: str) -> list[str]:
    """Return what stands in backticks in the first column of a table."""
    return [
        found
        for line in rows.splitlines()
        if line.startswith("| `")
        for found in re.findall(r"`([^`]+)`", line.split(" | ")[0])
    ]


@pytest.mark.parametrize("section", ["A worker ends", "A bug of ours"])
def test_what_the_page_for_the_night_quotes_is_what_the_log_says(section: str) -> None:
    quoted = said(PAGE.split(f"\n## {section}\n")[1].split("\n## ")[0])
    assert len(quoted) > 5
    assert [words for words in quoted if words not in SOURCE] == []


def test_the_page_for_the_night_tells_every_end_after_which_starting_again_does_not_help() -> None:
    ends = re.findall(r'\.exit\(\s*HOPELESS,\s*f?"([^"]*)"', SOURCE)
    assert len(ends) > 4
    quoted = said(PAGE)
    variables = [end for end in ends if end.startswith("{why}")]
    assert [end for end in ends if end not in variables and not any(words in end for words in quoted)] == []


def test_the_codes_and_reasons_on_the_page_for_the_night_exist() -> None:
    found = said(PAGE.split("\n## Requests fail\n")[1].split("\n## ")[0])
    words = {word for word in found if word != "circuit open"}
    assert words <= {*get_args(ErrorCode), *get_args(Reason)}
