"""One home partition in memory: rows as bytes, two logs, and what was published. It reads, decides and writes in the
same steps as `streams.runtime.pipeline`, one record at a time."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from schemas.configuration import Configuration
from schemas.progress import Progress, progress_of
from schemas.requests import PromptRequest
from streams.core import admission, outcome, publish, rows
from streams.core.account import Account
from streams.core.case import Case, Verdict
from streams.core.facts import Answered, AttemptStarted
from streams.core.forwarding import First
from streams.core.publish import Output
from streams.core.registry import Deployment, Registry
from streams.core.request import Request
from tests.core.build import PARTITION, TRACEPARENT, told

Event = dict[str, Any]
Topic = Literal["prompt.requests", "prompt.progress"]


@dataclass(slots=True)
class HomePartition:
    """Everything of partition 3, as it would survive a crash, and the log of its outputs."""

    settings: Configuration
    deployments: tuple[Deployment, ...]
    rows: dict[bytes, bytes] = field(default_factory=dict)
    requests: list[tuple[PromptRequest, int]] = field(default_factory=list)
    progress: list[tuple[bytes, int]] = field(default_factory=list)
    decided: dict[tuple[Topic, int], list[Output]] = field(default_factory=dict)
    published: dict[str, Output] = field(default_factory=dict)
    spent: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    reserved: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    holds: set[tuple[str, str, int, str]] = field(default_factory=set)
    seq: int = 0

    # --- records

    def ask(self, prompt: PromptRequest, *, time_ms: int, now_ms: int) -> Request | None:
        """Publish a request and decide on it; return it where an attempt has to start now."""
        self.requests.append((prompt, time_ms))
        return self.deliver_request(len(self.requests) - 1, now_ms)

    def tell(self, event: Progress, *, time_ms: int, now_ms: int) -> Request | None:
        """Publish a progress event and decide on it; return its request where an attempt has to start now."""
        self.progress.append((event.model_dump_json().encode(), time_ms))
        return self.deliver_progress(len(self.progress) - 1, now_ms)

    def deliver_request(self, offset: int, now_ms: int) -> Request | None:
        """Deliver a record of `prompt.requests`, perhaps again."""
        prompt, time_ms = self.requests[offset]
        request = self.request(prompt.tenant, prompt.request_id)
        if request is None:
            verdict = admission.decide(
                self._case("prompt.requests", offset, time_ms, now_ms, prompt.tenant),
                prompt,
                Registry(self.settings, self.deployments),
                partition=PARTITION,
                received_ms=time_ms,
                traceparent=TRACEPARENT,
            )
            return self._write(verdict, None)
        if request.intake.digest != prompt.digest.hex():
            first = First(PARTITION, offset, time_ms, forwarded=False)
            conflict = publish.conflict(prompt, first, TRACEPARENT)
            self._publish([conflict], again=("prompt.requests", offset) in self.decided)
            self.decided["prompt.requests", offset] = []
            return None
        decided = request.decision_at("prompt.requests", offset)
        if decided is not None:
            self._repeat("prompt.requests", offset, publish.outputs_of(request, decided, None))
        elif request.terminal is not None:
            answered = any(isinstance(fact, Answered) for fact in request.terminal.facts)
            event = progress_of(self.progress[request.terminal.offset][0]) if answered else None
            output = publish.terminal_of(request, request.terminal, event)
            assert output is not None
            self._publish([output], again=True)
        return None

    def deliver_progress(self, offset: int, now_ms: int) -> Request | None:
        """Deliver a record of `prompt.progress`, perhaps again."""
        value, time_ms = self.progress[offset]
        event = progress_of(value)
        request = self.request(event.tenant, event.request_id)
        assert request is not None
        decided = request.decision_at("prompt.progress", offset)
        if decided is not None:
            self._repeat("prompt.progress", offset, publish.outputs_of(request, decided, event))
            return None
        verdict = outcome.decide(self._case("prompt.progress", offset, time_ms, now_ms, event.tenant), request, event)
        return None if verdict is None else self._write(verdict, event)

    # --- rows

    def request(self, tenant: str, request_id: str) -> Request | None:
        """Read a request."""
        found = [rows.open_key(tenant, request_id), rows.done_key(tenant, request_id)]
        values = [self.rows[key] for key in found if key in self.rows]
        assert len(values) <= 1, "a request is open and done at once"
        return rows.decode_request(values[0]) if values else None

    def all_requests(self) -> Iterator[Request]:
        """Read every request."""
        for key, value in self.rows.items():
            if key.startswith((rows.OPEN_PREFIX, rows.DONE_PREFIX)):
                yield rows.decode_request(value)

    def accounts(self) -> Iterator[Account]:
        """Read every account."""
        for key, value in self.rows.items():
            if key.startswith(rows.ACCOUNT_PREFIX):
                yield rows.decode_account(value)

    def _case(self, topic: Topic, offset: int, time_ms: int, now_ms: int, tenant: str) -> Case:
        home, account = self.rows.get(rows.HOME_KEY), self.rows.get(rows.account_key(tenant))
        return Case(
            topic,
            offset,
            time_ms,
            now_ms,
            rows.Home() if home is None else rows.decode_home(home),
            Account(tenant) if account is None else rows.decode_account(account),
            self.settings,
        )

    def _write(self, verdict: Verdict, event: Progress | None) -> Request | None:
        request = verdict.request
        tenant, request_id = request.intake.tenant, request.intake.request_id
        self.rows.pop(rows.open_key(tenant, request_id), None)
        key = rows.done_key if request.state == "done" else rows.open_key
        self.rows[key(tenant, request_id)] = rows.encode_request(request)
        self.rows[rows.account_key(tenant)] = rows.encode_account(verdict.account)
        self.rows[rows.HOME_KEY] = rows.encode_home(verdict.home)
        assert self.request(tenant, request_id) == request, "the row is not the fold of its decisions"
        outputs = publish.outputs_of(request, verdict.decision, event)
        self.decided[verdict.decision.topic, verdict.decision.offset] = outputs
        self._publish(outputs, again=False)
        starts = AttemptStarted(request.attempt) in verdict.decision.facts and request.state == "pending"
        return request if starts else None

    # --- outputs

    def _repeat(self, topic: Topic, offset: int, outputs: list[Output]) -> None:
        assert outputs == self.decided[topic, offset], "a repeated record publishes something else"
        self._publish(outputs, again=True)

    def _publish(self, outputs: list[Output], *, again: bool) -> None:
        for output in outputs:
            event = told(output)
            if again:
                assert self.published[event["id"]] == output, "an event is repeated with other bytes"
                continue
            assert event["id"] not in self.published, "two events have one id"
            self.published[event["id"]] = output
            if output.channel == "ledger":
                self._book(event)

    def _book(self, entry: Event) -> None:
        """Fold one ledger entry, by nothing but what it says."""
        window, amount = (entry["tenant"], entry["window"]), entry["amount_nano_usd"]
        hold = (entry["tenant"], entry.get("request_id", ""), entry["attempt"], entry["window"])
        self.seq += 1
        assert entry["seq"] == self.seq, "the ledger has a gap"
        self.spent[window] += amount
        match entry["type"]:
            case "hold.placed.v1":
                assert hold not in self.holds, "an attempt has two holds"
                self.holds.add(hold)
                self.reserved[window] += entry["hold_nano_usd"]
            case "hold.settled.v1" | "hold.released.v1":
                self.holds.remove(hold)
                self.reserved[window] -= entry["hold_nano_usd"]
            case _:
                pass
        assert entry["spent_after_nano_usd"] == self.spent[window]
        assert entry["reserved_after_nano_usd"] == self.reserved[window]
        assert self.reserved[window] >= 0, "more is given back than was reserved"
        if entry["limit_nano_usd"] is not None:
            total = self.spent[window] + self.reserved[window]
            assert total <= entry["limit_nano_usd"], "a budget is overrun"

    def events(self, channel: str) -> list[Event]:
        """Return the distinct events of a channel."""
        return [told(output) for output in self.published.values() if output.channel == channel]
