"""Builders with valid defaults, so that a test of the core shows only what matters to it.

The one deployment has a context of 100 tokens and costs 10,000 nano-USD a token; a prompt asks for 100 tokens at most.
So a hold is (100 + 100) × 10,000 = 2,000,000 nano-USD: 0.002 USD.
"""

import json
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from schemas.configuration import Configuration, parse
from schemas.progress import Answer, AttemptFailed, AttemptSucceeded, Progress
from schemas.requests import Limits, PromptRequest, understand
from schemas.usage import NO_CHARGE, Charge, CostLine, Price, Usage
from streams.core import admission, outcome, publish
from streams.core.account import Account
from streams.core.case import Case, Verdict
from streams.core.facts import Answered, Failed
from streams.core.prices import Rates
from streams.core.publish import Output
from streams.core.registry import Deployment, Registry
from streams.core.request import Request
from streams.core.rows import Home

HOLD = 2_000_000
NOW = 1_795_399_200_000
"""2026-11-23T02:00:00.000Z."""
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
PARTITION = 3

ACME_PER_DAY = 'tenants: [{name: acme, budgets: [{usd: "0.01", window: day}]}]'
"""Room for five holds."""


def configuration(text: str = "{}") -> Configuration:
    """Read YAML."""
    return parse(text)


def deployment(name: str = "gpt-4", **changed: Any) -> Deployment:
    """Return the deployment of the module's docstring, with changes."""
    default = Deployment(
        id=name,
        name=name,
        endpoint="http://127.0.0.1:1/v1",
        provider="openai",
        provider_model=name,
        dialect="openai",
        api_key_env=None,
        capabilities=frozenset({"text-generation"}),
        context_window=100,
        max_output_tokens=None,
        template_tokens=64,
        timeout_s=None,
        paid_health_checks=False,
        rates=Rates.flat(Decimal("0.00001"), "v1"),
    )
    return replace(default, **changed)


def registry(settings: Configuration, *deployments: Deployment) -> Registry:
    """Return a registry; without deployments it has the default one."""
    return Registry(settings, deployments or (deployment(),))


def prompt(**fields: Any) -> PromptRequest:
    """Return what `acme` asks of `gpt-4` as `r-1`, with fields as CONTRACT §1 names them; None leaves one out."""
    given = {
        "request_id": "r-1",
        "tenant": "acme",
        "model": "gpt-4",
        "messages": [{"role": "user", "content": "Hi"}],
        "max_tokens": 100,
        **fields,
    }
    value = json.dumps({name: content for name, content in given.items() if content is not None}).encode()
    found = understand(value, default_request_id="p0-0", limits=Limits(524_288, 3600.0))
    assert isinstance(found, PromptRequest), found
    return found


def incurred(nano_usd: int = 120_000, *, usage_source: Any = "provider") -> Charge:
    """Return the charge of a call that told its usage: 9 tokens in, 3 out."""
    return Charge(
        certainty="incurred",
        nano_usd=nano_usd,
        lines=(
            CostLine(class_="input", tokens=9, usd_per_million="10", nano_usd=nano_usd - nano_usd // 4),
            CostLine(class_="output", tokens=3, usd_per_million="10", nano_usd=nano_usd // 4),
        ),
        usage=Usage(input_tokens=9, output_tokens=3),
        usage_source=usage_source,
        price=Price(source="configuration", version="v1", rates={"input": "10", "output": "10"}),
    )


def uncertain(nano_usd: int = HOLD) -> Charge:
    """Return the charge of a call of which nobody knows whether it was billed."""
    line = CostLine(class_="bound", nano_usd=nano_usd)
    return Charge(certainty="uncertain", nano_usd=nano_usd, lines=(line,), usage_source="estimated")


def succeeded(attempt: int = 1, charge: Charge | None = None, **changed: Any) -> AttemptSucceeded:
    """Return an answer."""
    fields: dict[str, Any] = {
        "tenant": "acme",
        "request_id": "r-1",
        "attempt": attempt,
        "model": "gpt-4",
        "deployment": "gpt-4",
        "provider": "openai",
        "answer": Answer(text="Hello!", finish_reason="stop", finish_reason_raw="stop", response_id="chatcmpl-1"),
        "charge": incurred() if charge is None else charge,
        "duration_s": 0.48,
        "queued_s": 0.012,
    }
    return AttemptSucceeded.model_validate(fields | changed)


def failed(attempt: int = 1, charge: Charge = NO_CHARGE, **changed: Any) -> AttemptFailed:
    """Return a 500 of the deployment: it may be tried again, there and elsewhere, and costs nothing."""
    fields: dict[str, Any] = {
        "tenant": "acme",
        "request_id": "r-1",
        "attempt": attempt,
        "model": "gpt-4",
        "deployment": "gpt-4",
        "provider": "openai",
        "code": "MODEL_ERROR",
        "reason": "server_error",
        "message": "the provider answered 500",
        "again": True,
        "elsewhere": True,
        "charge": charge,
    }
    return AttemptFailed.model_validate(fields | changed)


@dataclass(slots=True)
class Desk:
    """Decides one record after the other about one tenant, and keeps what every decision left behind.

    `now_ms` is the broker's clock, and the wall clock but for `wall_ahead_ms`; tests set them.
    """

    settings: Configuration = field(default_factory=configuration)
    deployments: tuple[Deployment, ...] = ()
    now_ms: int = NOW
    wall_ahead_ms: int = 0
    account: Account = field(default_factory=lambda: Account("acme"))
    home: Home = field(default_factory=Home)
    requests: dict[str, Request] = field(default_factory=dict)
    offsets: dict[str, int] = field(default_factory=lambda: {"prompt.requests": 41, "prompt.progress": 6})

    def _case(self, topic: Any) -> Case:
        self.offsets[topic] += 1
        wall_ms = self.now_ms + self.wall_ahead_ms
        return Case(topic, self.offsets[topic], self.now_ms, wall_ms, self.home, self.account, self.settings)

    def ask(self, asked: PromptRequest | None = None, *, received_ms: int | None = None) -> Verdict:
        """Decide on a request."""
        verdict = admission.decide(
            self._case("prompt.requests"),
            prompt() if asked is None else asked,
            registry(self.settings, *self.deployments),
            partition=PARTITION,
            received_ms=self.now_ms if received_ms is None else received_ms,
            traceparent=TRACEPARENT,
        )
        return self._kept(verdict)

    def hear(self, event: Progress) -> Verdict | None:
        """Decide on what became of a request; None where nothing changes."""
        verdict = outcome.decide(self._case("prompt.progress"), self.requests[event.request_id], event)
        return None if verdict is None else self._kept(verdict)

    def must_hear(self, event: Progress) -> Verdict:
        """Decide on what became of a request; it has to change something."""
        verdict = self.hear(event)
        assert verdict is not None
        return verdict

    def _kept(self, verdict: Verdict) -> Verdict:
        self.requests[verdict.request.intake.request_id] = verdict.request
        self.account, self.home = verdict.account, verdict.home
        return verdict

    def amounts(self) -> dict[str, tuple[int, int]]:
        """Return what is spent and reserved per window."""
        return {w.id: (w.spent, w.reserved) for w in self.account.windows}


def error_of(verdict: Verdict) -> Failed:
    """Return the error that a decision ends with."""
    fact = verdict.decision.facts[-1]
    assert isinstance(fact, Failed), fact
    return fact


def answer_of(verdict: Verdict) -> Answered:
    """Return the answer that a decision ends with."""
    fact = verdict.decision.facts[-1]
    assert isinstance(fact, Answered), fact
    return fact


def outputs(verdict: Verdict, event: Progress | None = None) -> list[Output]:
    """Return what a decision publishes."""
    return publish.outputs_of(verdict.request, verdict.decision, event)


def told(output: Output) -> dict[str, Any]:
    """Return the JSON of an event."""
    body: dict[str, Any] = json.loads(output.value)
    return body
