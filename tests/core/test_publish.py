"""The JSON, keys, partitions and headers of every event, as other programs rely on them (CONTRACT §2, §5)."""

from typing import Any

import pytest

from schemas.costs import CostEvent
from schemas.deadletters import DeadLetter
from schemas.envelope import Event
from schemas.errors import RETRYABLE_BY_CALLER
from schemas.ledger import LedgerEntry
from schemas.progress import Answer, AttemptFailed, AttemptRedriven, AttemptSucceeded, Progress, RequestExpired
from schemas.requests import Limits, WrongFields, understand
from schemas.results import PromptAnswered, PromptFailed
from streams.core import publish
from streams.core.case import Verdict
from streams.core.forwarding import First
from streams.core.publish import Output, terminal_of
from streams.core.rows import decode_request, encode_request
from tests.core.build import (
    ACME_PER_DAY,
    NOW,
    TRACEPARENT,
    Desk,
    configuration,
    deployment,
    failed,
    incurred,
    outputs,
    prompt,
    succeeded,
    told,
    uncertain,
)

TEAM = {"team": "search"}
USAGE = {
    "input_tokens": 9,
    "cache_read_input_tokens": 0,
    "cache_creation_input_tokens": 0,
    "output_tokens": 3,
    "reasoning_tokens": 0,
}
PRICE = {"source": "configuration", "version": "v1", "rates": {"input": "10", "output": "10"}}
REDRIVEN = AttemptRedriven(tenant="acme", request_id="r-1", attempt=1)
EXPIRED = RequestExpired(tenant="acme", request_id="r-1")

SCHEMAS: dict[str, type[Event]] = {
    "responses": PromptAnswered,
    "errors": PromptFailed,
    "costs": CostEvent,
    "ledger": LedgerEntry,
}


def acme(yaml: str = ACME_PER_DAY) -> Desk:
    return Desk(configuration(yaml))


def asked(yaml: str = ACME_PER_DAY) -> Desk:
    """Return a desk where the first attempt of `r-1` runs."""
    desk = acme(yaml)
    desk.ask(prompt(metadata=TEAM))
    return desk


def bodies(verdict: Verdict, event: Progress | None = None) -> list[dict[str, Any]]:
    """Return the events of a decision without their ids, each checked against its schema."""
    found = []
    for output in outputs(verdict, event):
        SCHEMAS[output.channel].model_validate_json(output.value)
        body = told(output)
        assert body.pop("id")
        found.append(body)
    return found


def entry(type_: str, attempt: int | None, **amounts: Any) -> dict[str, Any]:
    """Return a ledger entry of `r-1` in the day's window, in which nothing is spent or reserved."""
    return {
        "type": type_,
        "time": "2026-11-23T02:00:00.000Z",
        "tenant": "acme",
        "request_id": "r-1",
        "attempt": attempt,
        "window": "day:2026-11-23",
        "hold_nano_usd": 0,
        "amount_nano_usd": 0,
        "spent_after_nano_usd": 0,
        "reserved_after_nano_usd": 0,
        "limit_nano_usd": 10_000_000,
        "partition": 3,
        **amounts,
    }


def cost(type_: str, **told_: Any) -> dict[str, Any]:
    """Return a cost event of the first attempt of `r-1`, where nobody knows whom it called."""
    return {
        "type": type_,
        "time": "2026-11-23T02:00:00.000Z",
        "tenant": "acme",
        "request_id": "r-1",
        "attempt": 1,
        "model": None,
        "deployment": None,
        "provider": None,
        "price": None,
        "metadata": TEAM,
        **told_,
    }


# --- every event, literally


def test_a_placed_hold() -> None:
    desk = acme()

    (output,) = outputs(desk.ask(prompt(metadata=TEAM)))

    assert told(output) == entry(
        "hold.placed.v1", 1, hold_nano_usd=2_000_000, reserved_after_nano_usd=2_000_000, seq=1
    ) | {"id": "15d46425-e486-52e1-866d-75dd79656d32"}
    assert output == Output(
        "ledger",
        b"acme",
        output.value,
        (
            ("ce_specversion", b"1.0"),
            ("ce_id", b"15d46425-e486-52e1-866d-75dd79656d32"),
            ("ce_type", b"hold.placed.v1"),
            ("ce_source", b"prompt-orchestrator"),
            ("ce_time", b"2026-11-23T02:00:00.000Z"),
            ("content-type", b"application/json"),
            ("traceparent", TRACEPARENT.encode()),
        ),
        3,
    )


def test_an_answer_with_its_settlement_and_its_cost() -> None:
    event = succeeded()

    assert bodies(asked().must_hear(event), event) == [
        entry(
            "hold.settled.v1",
            1,
            hold_nano_usd=2_000_000,
            amount_nano_usd=120_000,
            spent_after_nano_usd=120_000,
            seq=2,
        ),
        cost(
            "cost.incurred.v1",
            model="gpt-4",
            deployment="gpt-4",
            provider="openai",
            usage=USAGE,
            usage_source="provider",
            cost_nano_usd=120_000,
            cost_usd="0.000120000",
            lines=[
                {"class": "input", "tokens": 9, "usd_per_million": "10", "nano_usd": 90_000},
                {"class": "output", "tokens": 3, "usd_per_million": "10", "nano_usd": 30_000},
            ],
            price=PRICE,
        ),
        {
            "type": "prompt.answered.v1",
            "time": "2026-11-23T02:00:00.000Z",
            "tenant": "acme",
            "request_id": "r-1",
            "model": "gpt-4",
            "deployment": "gpt-4",
            "provider": "openai",
            "text": "Hello!",
            "tool_calls": [],
            "finish_reason": "stop",
            "finish_reason_raw": "stop",
            "response_id": "chatcmpl-1",
            "response_model": None,
            "usage": USAGE,
            "usage_source": "provider",
            "cost_nano_usd": 120_000,
            "cost_usd": "0.000120000",
            "source": "provider",
            "attempts": 1,
            "queued_s": 0.012,
            "duration_s": 0.48,
            "metadata": TEAM,
        },
    ]


def test_an_answer_brings_its_tool_calls_and_the_logprobs_that_were_asked_for() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    answer = Answer(text="", tool_calls=(call,), finish_reason="tool_calls", logprobs={"content": []})
    event = succeeded(answer=answer)

    told_ = bodies(asked().must_hear(event), event)[-1]

    assert (told_["text"], told_["tool_calls"], told_["finish_reason"], told_["finish_reason_raw"]) == (
        "",
        [call],
        "tool_calls",
        None,
    )
    assert told_["logprobs"] == {"content": []}


def test_a_missing_usage_is_booked_at_the_bound_and_called_estimated() -> None:
    event = succeeded(charge=incurred(2_000_000, usage_source="estimated"))

    _, cost_event, answered = bodies(asked().must_hear(event), event)

    assert (cost_event["type"], cost_event["usage_source"]) == ("cost.incurred.v1", "estimated")
    assert answered["usage_source"] == "estimated"


def test_a_lost_attempt_is_an_uncertain_cost_with_one_line_and_the_next_hold() -> None:
    assert bodies(asked().must_hear(REDRIVEN), REDRIVEN) == [
        entry(
            "hold.settled.v1",
            1,
            hold_nano_usd=2_000_000,
            amount_nano_usd=2_000_000,
            spent_after_nano_usd=2_000_000,
            seq=2,
        ),
        cost(
            "cost.uncertain.v1",
            usage=None,
            usage_source="estimated",
            cost_nano_usd=2_000_000,
            cost_usd="0.002000000",
            lines=[{"class": "bound", "nano_usd": 2_000_000}],
        ),
        entry(
            "hold.placed.v1",
            2,
            hold_nano_usd=2_000_000,
            spent_after_nano_usd=2_000_000,
            reserved_after_nano_usd=2_000_000,
            seq=3,
        ),
    ]


def test_an_uncertain_failure_names_the_deployment_that_may_have_billed() -> None:
    event = failed(code="TIMEOUT_ERROR", reason="provider_timeout", charge=uncertain(1_500_000))

    assert bodies(asked().must_hear(event), event)[1] == cost(
        "cost.uncertain.v1",
        model="gpt-4",
        deployment="gpt-4",
        provider="openai",
        usage=None,
        usage_source="estimated",
        cost_nano_usd=1_500_000,
        cost_usd="0.001500000",
        lines=[{"class": "bound", "nano_usd": 1_500_000}],
    )


def test_a_late_truth_is_a_signed_difference_without_usage() -> None:
    desk, event = asked(), succeeded()
    desk.must_hear(EXPIRED)

    assert bodies(desk.must_hear(event), event) == [
        entry("booking.adjusted.v1", 1, amount_nano_usd=-1_880_000, spent_after_nano_usd=120_000, seq=3),
        cost(
            "cost.adjusted.v1",
            model="gpt-4",
            deployment="gpt-4",
            provider="openai",
            usage_source="provider",
            cost_nano_usd=-1_880_000,
            cost_usd="-0.001880000",
            lines=[{"class": "adjustment", "nano_usd": -1_880_000}],
            price=PRICE,
        ),
    ]


def test_a_failure_that_cost_nothing_releases_its_hold_and_leaves_no_cost_event() -> None:
    event = failed(again=False, elsewhere=False, http_status=500)

    assert bodies(asked().must_hear(event), event) == [
        entry("hold.released.v1", 1, hold_nano_usd=2_000_000, seq=2),
        {
            "type": "prompt.failed.v1",
            "time": "2026-11-23T02:00:00.000Z",
            "tenant": "acme",
            "request_id": "r-1",
            "attempts": 1,
            "retryable": True,
            "error": {
                "code": "MODEL_ERROR",
                "message": "the provider answered 500",
                "details": {
                    "reason": "server_error",
                    "model": "gpt-4",
                    "deployment": "gpt-4",
                    "provider_status": 500,
                },
            },
            "cost_nano_usd": 0,
            "cost_usd": "0.000000000",
            "metadata": TEAM,
        },
    ]


def test_a_refusal_leaves_an_entry_of_amount_0_and_an_error() -> None:
    desk = acme(ACME_PER_DAY.replace("0.01", "0.001"))

    assert bodies(desk.ask()) == [
        entry("hold.refused.v1", 0, hold_nano_usd=2_000_000, limit_nano_usd=1_000_000, seq=1),
        {
            "type": "prompt.failed.v1",
            "time": "2026-11-23T02:00:00.000Z",
            "tenant": "acme",
            "request_id": "r-1",
            "attempts": 0,
            "retryable": True,
            "error": {
                "code": "BUDGET_EXCEEDED",
                "message": "the budget day:2026-11-23 has 0.001000000 USD left and this request may cost"
                " 0.002000000 USD",
                "details": {
                    "reason": "budget",
                    "window": "day:2026-11-23",
                    "left_usd": "0.001000000",
                    "needed_usd": "0.002000000",
                    "resets_at": "2026-11-24T00:00:00.000Z",
                    "retry_after_s": 79_200.0,
                },
            },
            "cost_nano_usd": 0,
            "cost_usd": "0.000000000",
            "metadata": {},
        },
    ]


def test_a_tenant_without_budget_has_the_window_none_and_no_limit() -> None:
    assert bodies(acme("{}").ask()) == [
        entry(
            "hold.placed.v1",
            1,
            window="none",
            limit_nano_usd=None,
            hold_nano_usd=2_000_000,
            reserved_after_nano_usd=2_000_000,
            seq=1,
        )
    ]


def test_a_changed_budget_is_an_entry_of_no_request() -> None:
    desk = asked()
    desk.settings = configuration(ACME_PER_DAY.replace("0.01", "0.02"))
    expected = entry(
        "budget.set.v1",
        None,
        reserved_after_nano_usd=2_000_000,
        limit_nano_usd=20_000_000,
        limit_before_nano_usd=10_000_000,
        seq=2,
    )
    del expected["request_id"]

    assert bodies(desk.ask(prompt(request_id="r-2")))[0] == expected


WINDOWS = [
    ("minute", "minute:2026-11-23T02:00"),
    ("hour", "hour:2026-11-23T02"),
    ("day", "day:2026-11-23"),
    ("month", "month:2026-11"),
    ("total", "total"),
]


def test_an_account_of_five_windows_has_five_entries_in_the_order_of_its_budgets() -> None:
    budgets = ", ".join(f'{{usd: "1", window: {kind}}}' for kind, _ in WINDOWS)

    entries = bodies(acme(f"tenants: [{{name: acme, budgets: [{budgets}]}}]").ask())

    assert [(e["window"], e["seq"]) for e in entries] == [(name, i) for i, (_, name) in enumerate(WINDOWS, 1)]


# --- events that leave no row


def test_the_error_of_wrong_fields_names_each_of_them() -> None:
    limits = Limits(max_request_bytes=1_000, max_timeout_s=10.0)
    wrong = understand(
        b'{"tenant": "acme", "prompt": "Hi", "n": 2, "max_tokens": 0}', default_request_id="p1-7", limits=limits
    )
    assert isinstance(wrong, WrongFields)

    output = publish.wrong_fields(wrong, partition=1, offset=7, time_ms=NOW, traceparent=TRACEPARENT)

    PromptFailed.model_validate_json(output.value)
    body = told(output)
    assert (output.channel, output.key, output.partition) == ("errors", b"p1-7", None)
    assert (body["tenant"], body["request_id"], body["attempts"], body["retryable"]) == ("acme", "p1-7", 0, False)
    assert body["error"]["code"] == "INVALID_REQUEST"
    assert body["error"]["details"]["reason"] == "fields"
    assert [f["field"] for f in body["error"]["details"]["fields"]] == ["n", "max_tokens"]
    assert all(set(f) == {"field", "problem"} for f in body["error"]["details"]["fields"])


def test_a_conflict_gets_an_error_of_its_own_by_the_coordinates_where_it_was_first_published() -> None:
    def conflict(first: First) -> dict[str, Any]:
        output = publish.conflict(prompt(metadata=TEAM), first, TRACEPARENT)
        PromptFailed.model_validate_json(output.value)
        return told(output)

    once = conflict(First(1, 50, NOW, forwarded=True))

    assert (once["error"]["code"], once["error"]["details"]) == (
        "INVALID_REQUEST",
        {"reason": "request_id_conflict"},
    )
    assert (once["time"], once["retryable"], once["metadata"]) == ("2026-11-23T02:00:00.000Z", False, TEAM)
    assert conflict(First(1, 50, NOW, forwarded=False)) == once
    assert conflict(First(1, 51, NOW, forwarded=True))["id"] != once["id"]
    assert conflict(First(2, 50, NOW, forwarded=True))["id"] != once["id"]


def test_a_dead_letter_has_the_coordinates_and_no_trace_of_a_request() -> None:
    output = publish.dead_letter(
        DeadLetter("not_json", "it is no JSON"),
        topic="prompt.requests",
        full_topic="eu.prompt.requests",
        partition=2,
        offset=9,
        time_ms=NOW,
        value=b"{",
        headers=(("h", b"v"),),
    )

    body = told(output)
    assert (output.channel, output.key, output.partition) == ("deadletters", None, None)
    assert dict(output.headers)["ce_type"] == b"prompt.dead_lettered.v1"
    assert "traceparent" not in dict(output.headers)
    assert body.pop("id")
    assert body == {
        "type": "prompt.dead_lettered.v1",
        "time": "2026-11-23T02:00:00.000Z",
        "topic": "eu.prompt.requests",
        "partition": 2,
        "offset": 9,
        "reason": "not_json",
        "message": "it is no JSON",
        "sha256": "021fb596db81e6d02bf3d2586ee3981fe519f275c0ac9ca76bbcf2ebb4097d96",
        "size": 1,
        "value_base64": "ew==",
        "headers": [["h", "dg=="]],
    }


# --- keys, partitions, ids, repetition


def test_costs_and_ledger_are_keyed_by_tenant_results_by_request_and_only_the_ledger_names_its_partition() -> None:
    event = succeeded()

    found = outputs(asked().must_hear(event), event)

    assert [(o.channel, o.key, o.partition) for o in found] == [
        ("ledger", b"acme", 3),
        ("costs", b"acme", None),
        ("responses", b"r-1", None),
    ]


def test_headers_tell_what_the_body_tells() -> None:
    event = succeeded()

    for output in outputs(asked().must_hear(event), event):
        body, headers = told(output), dict(output.headers)
        assert (headers["ce_id"], headers["ce_type"], headers["ce_time"]) == (
            body["id"].encode(),
            body["type"].encode(),
            body["time"].encode(),
        )


def test_the_time_of_an_event_is_that_of_the_record_it_was_decided_on() -> None:
    desk, event = asked(), succeeded()
    desk.now_ms += 1_234

    assert {told(o)["time"] for o in outputs(desk.must_hear(event), event)} == {"2026-11-23T02:00:01.234Z"}


@pytest.mark.parametrize("event", [succeeded(), failed(charge=uncertain()), REDRIVEN, EXPIRED])
def test_a_row_that_was_written_and_read_publishes_the_same_bytes(
    event: AttemptSucceeded | AttemptFailed | AttemptRedriven | RequestExpired,
) -> None:
    desk = asked()
    verdict = desk.must_hear(event)

    again = decode_request(encode_request(verdict.request))

    assert again == verdict.request
    assert publish.outputs_of(again, again.decisions[-1], event) == outputs(verdict, event)


def test_a_repeated_request_gets_its_terminal_event_and_nothing_else() -> None:
    event = succeeded()
    verdict = asked().must_hear(event)
    assert verdict.request.terminal is not None

    assert terminal_of(verdict.request, verdict.request.terminal, event) == outputs(verdict, event)[-1]
    assert terminal_of(verdict.request, verdict.request.decisions[0], None) is None


def test_a_repeated_refusal_needs_no_event_to_be_told_again() -> None:
    verdict = Desk(deployments=(deployment(rates=None),)).ask()
    assert verdict.request.terminal is not None

    assert terminal_of(verdict.request, verdict.request.terminal, None) == outputs(verdict)[-1]


@pytest.mark.parametrize(
    ("reason", "retryable"),
    [
        ("budget", True),
        ("overrun", True),
        ("max_cost", False),
        ("requests", True),
        ("queue_full", True),
        ("deadline", True),
        ("circuit_open", True),
        ("cooldown", True),
        ("rate_limit", True),
        ("server_error", True),
        ("connection_lost", True),
        ("fields", False),
        ("request_id_conflict", False),
        ("unknown_model", False),
        ("no_candidate", False),
        ("no_price", False),
        ("unknown_tenant", False),
        ("model_not_allowed", False),
        ("provider_rejected", False),
        ("context", False),
        ("max_tokens", False),
    ],
)
def test_retryable_says_whether_the_same_request_may_do_better_later(reason: str, retryable: bool) -> None:
    assert (reason in RETRYABLE_BY_CALLER) is retryable
