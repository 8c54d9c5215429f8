"""Whatever happens to requests, in whatever order and however often: the books are right and everybody is told once."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from schemas.progress import AttemptDue, AttemptRedriven, Progress, RequestExpired
from streams.core.account import window_id
from streams.core.prices import Rates
from streams.core.request import Request
from tests.core.build import NOW, configuration, deployment, failed, incurred, prompt, succeeded, uncertain
from tests.core.home import HomePartition

YAML = """
orchestrator: {{timeout: 60, max_retries: 2}}
tenants:
  - {{name: free}}
  - {{name: total, budgets: [{{usd: "{0}", window: total}}]}}
  - name: windows
    budgets:
      - {{usd: "{0}", window: minute}}
      - {{usd: "{0}", window: hour}}
      - {{usd: "{1}", window: day}}
      - {{usd: "{1}", window: month}}
      - {{usd: "1", window: total}}
  - name: waits
    rate_limit: {{requests_per_minute: 6, burst_size: 1, mode: wait}}
    budgets: [{{usd: "{0}", window: hour}}]
  - name: refused
    rate_limit: {{requests_per_minute: 6, burst_size: 1}}
    budgets: [{{usd: "{1}", window: minute}}]
"""
SETTINGS = configuration(YAML.format("0.006", "0.01"))
RAISED = configuration(YAML.format("0.009", "0.02"))
DEPLOYMENTS = (
    deployment("gpt-4"),
    deployment("cheap", rates=Rates.flat(Decimal("0.000001"), "v1")),
    deployment("local", rates=Rates.flat(Decimal(0), "v1")),
)
TENANTS = ("free", "total", "windows", "waits", "refused")

picks = st.integers(0, 10_000)
"""One of those that there are, modulo their number."""
shares = st.sampled_from([0.0, 0.01, 0.5, 1.0])
jumps_ms = st.sampled_from([0, 0, 0, 61_000, -61_000, 86_400_000, -86_400_000])
steps_ms = st.sampled_from([1, 499, 5_000, 10_000, 61_000, 3_600_000, 2_700_000_000])


@dataclass(slots=True)
class Call:
    """One physical call. `invoiced`: what the provider charges for it, None while it runs; `told`: certainly known."""

    tenant: str
    request_id: str
    attempt: int
    hold: int
    invoiced: int | None = None
    told: bool = False

    def names(self) -> dict[str, Any]:
        """Return what its events have in common."""
        return {"tenant": self.tenant, "request_id": self.request_id, "attempt": self.attempt}


class Histories(RuleBasedStateMachine):
    """Requests of five tenants in one home partition, with a provider that keeps to `max_tokens`."""

    def __init__(self) -> None:
        super().__init__()
        self.home = HomePartition(SETTINGS, DEPLOYMENTS)
        self.calls: list[Call] = []
        self.honest: list[Progress] = []
        self.clock_ms = NOW
        self.jitter_ms = self.wall_ahead_ms = 0
        self.event_times: Counter[str] = Counter()

    # --- what callers do

    @initialize(tenants=st.lists(st.sampled_from(TENANTS), min_size=3, max_size=8))
    def begin(self, tenants: list[str]) -> None:
        """Some are in flight from the start."""
        for tenant in tenants:
            self.ask(tenant, "gpt-4")

    @rule(tenant=st.sampled_from(TENANTS), model=st.sampled_from(["gpt-4", "gpt-4", "cheap", "local", "auto"]))
    def ask(self, tenant: str, model: str) -> None:
        """A new request in which nothing is wrong."""
        self._ask(request_id=f"r-{len(self.home.requests)}", tenant=tenant, model=model, timeout_s=3_600)

    @rule(
        tenant=st.sampled_from(TENANTS),
        number=st.integers(0, 5),
        fields=st.sampled_from(
            [
                {"model": "unknown"},
                {"model": ["gpt-4", "cheap"], "timeout_s": 5},
                {"max_tokens": 101},
                {"max_tokens": None},
                {"timeout_s": 0.001},
                {"needs": {"max_cost_usd": "0.001"}, "model": "auto"},
                {"needs": {"max_cost_usd": "0.001"}},
            ]
        ),
    )
    def ask_oddly(self, tenant: str, number: int, fields: dict[str, Any]) -> None:
        """A request that is refused or bounded, or reuses an id: there are few."""
        self._ask(request_id=f"r-{number}", tenant=tenant, **fields)

    @precondition(lambda self: self.home.requests)
    @rule(pick=picks)
    def ask_again(self, pick: int) -> None:
        """The same request at a new offset."""
        asked, _ = self.home.requests[pick % len(self.home.requests)]
        self._start(self.home.ask(asked, time_ms=self.time_ms, now_ms=self.now_ms))

    # --- what providers do

    @precondition(lambda self: self.running())
    @rule(pick=picks, share=shares, estimated=st.booleans())
    def answers(self, pick: int, share: float, estimated: bool) -> None:
        """A call brings an answer; without usage it is booked at its bound."""
        call = self._end_of(self.running(), pick, share)
        call.told = True
        booked = incurred(call.hold, usage_source="estimated") if estimated else incurred(call.invoiced or 0)
        self._tell(succeeded(charge=booked, **call.names()))

    @precondition(lambda self: self.running())
    @rule(
        pick=picks,
        share=shares,
        kind=st.sampled_from(["none", "incurred", "uncertain"]),
        again=st.sampled_from([True, True, True, False]),
        elsewhere=st.sampled_from([True, True, True, False]),
        retry_after_s=st.sampled_from([None, 0.0, 2.0, 100.0]),
        of=st.sampled_from(["gpt-4", "cheap", "local", None]),
    )
    def fails(  # noqa: PLR0917 - what a failure says
        self,
        pick: int,
        share: float,
        kind: str,
        again: bool,
        elsewhere: bool,
        retry_after_s: float | None,
        of: str | None,
    ) -> None:
        """A call brings none."""
        call = self._end_of(self.running(), pick, 0.0 if kind == "none" else share)
        call.told = kind != "uncertain"
        charge = {
            "none": failed().charge,
            "incurred": incurred(call.invoiced or 0),
            "uncertain": uncertain(call.hold),
        }[kind]
        self._tell(
            failed(
                charge=charge,
                again=again,
                elsewhere=elsewhere,
                retry_after_s=retry_after_s,
                deployment=of,
                **call.names(),
            )
        )

    @precondition(lambda self: self.running())
    @rule(pick=picks, share=shares)
    def is_lost(self, pick: int, share: float) -> None:
        """A call is charged, and its worker dies before it can say so."""
        self._end_of(self.running(), pick, share)

    @precondition(lambda self: self.untold())
    @rule(pick=picks, answered=st.booleans())
    def comes_late(self, pick: int, answered: bool) -> None:
        """The truth about a lost or uncertain call arrives."""
        call = self.untold()[pick % len(self.untold())]
        call.told = True
        charge = incurred(call.invoiced or 0)
        self._tell(succeeded(charge=charge, **call.names()) if answered else failed(charge=charge, **call.names()))

    # --- what workers do

    @precondition(lambda self: self.open("pending"))
    @rule(pick=picks)
    def is_redriven(self, pick: int) -> None:
        """A new owner finds an attempt that it does not run."""
        request = self.open("pending")[pick % len(self.open("pending"))]
        self._tell(AttemptRedriven(**_names(request), attempt=request.attempt))

    @precondition(lambda self: self.open("waiting"))
    @rule(pick=picks)
    def is_due(self, pick: int) -> None:
        """A timer fires."""
        request = self.open("waiting")[pick % len(self.open("waiting"))]
        self._tell(AttemptDue(**_names(request), attempt=request.attempt))

    @precondition(lambda self: self.open())
    @rule(pick=picks, really=st.sampled_from([False, False, False, True]))
    def expires(self, pick: int, really: bool) -> None:
        """Its time is up, not too often."""
        if not really:
            return
        self._tell(RequestExpired(**_names(self.open()[pick % len(self.open())])))

    @precondition(lambda self: self.honest)
    @rule(pick=picks)
    def is_told_again(self, pick: int) -> None:
        """An event is published again at a new offset: nothing may change."""
        before = dict(self.home.rows)
        event = self.honest[pick % len(self.honest)]
        assert self.home.tell(event, time_ms=self.time_ms, now_ms=self.now_ms) is None
        assert self.home.rows == before

    @precondition(lambda self: self.open())
    @rule(pick=picks, ahead=st.integers(1, 3), answered=st.booleans())
    def is_unheard_of(self, pick: int, ahead: int, answered: bool) -> None:
        """The outcome of an attempt that was never let go: nothing may change."""
        request, before = self.open()[pick % len(self.open())], dict(self.home.rows)
        make = succeeded if answered else failed
        event = make(request.attempt + ahead, incurred(1), **_names(request))
        assert self.home.tell(event, time_ms=self.time_ms, now_ms=self.now_ms) is None
        assert self.home.rows == before
        self.home.progress.pop()

    @precondition(lambda self: self.open("waiting"))
    @rule(pick=picks, share=shares)
    def starts_too_early(self, pick: int, share: float) -> None:
        """An attempt is called while its row says that it waits."""
        request = self.open("waiting")[pick % len(self.open("waiting"))]
        self.calls.append(_call(request))
        call = self._end_of(self.calls, -1, share)
        call.told = True
        self._tell(failed(charge=incurred(call.invoiced or 0), retry_after_s=1.0, **call.names()))

    @rule(requests_from=picks, progress_from=picks)
    def are_delivered_again(self, requests_from: int, progress_from: int) -> None:
        """Both stages start again from an earlier offset: the same bytes, and no row changes."""
        before = dict(self.home.rows)
        for offset in range(requests_from % (len(self.home.requests) + 1), len(self.home.requests)):
            assert self.home.deliver_request(offset, self.now_ms) is None
        for offset in range(progress_from % (len(self.home.progress) + 1), len(self.home.progress)):
            assert self.home.deliver_progress(offset, self.now_ms) is None
        assert self.home.rows == before

    @rule(step_ms=steps_ms, jitter_ms=st.sampled_from([0, 1, 2_000]))
    def time_passes(self, step_ms: int, jitter_ms: int) -> None:
        """The wall clock moves on; the broker's may lag behind."""
        self.clock_ms += step_ms
        self.jitter_ms = jitter_ms

    @rule(broker_back_ms=jumps_ms, wall_ahead_ms=jumps_ms)
    def clocks_jump(self, broker_back_ms: int, wall_ahead_ms: int) -> None:
        """Another broker leads the partition, another machine decides: their clocks are hours off, or right again."""
        self.jitter_ms, self.wall_ahead_ms = broker_back_ms, wall_ahead_ms

    @precondition(lambda self: self.home.settings is not RAISED)
    @rule()
    def budgets_are_raised(self) -> None:
        """An operator gives more."""
        self.home.settings = RAISED

    # --- what must be true at any moment

    @invariant()
    def accounts_are_the_fold_of_the_ledger(self) -> None:
        for account in self.home.accounts():
            for window in account.windows:
                key = (account.tenant, window.id)
                assert (window.spent, window.reserved) == (self.home.spent[key], self.home.reserved[key])
        kept = {(a.tenant, w.id) for a in self.home.accounts() for w in a.windows}
        assert {key for key, amount in self.home.reserved.items() if amount} <= kept

    @invariant()
    def event_time_never_runs_backwards(self) -> None:
        for account in self.home.accounts():
            assert account.clock_ms >= self.event_times[account.tenant]
            self.event_times[account.tenant] = account.clock_ms
            current = {window.kind: window.id for window in reversed(account.windows)}
            assert all(window_id(kind, account.clock_ms) == name for kind, name in current.items())

    @invariant()
    def windows_know_how_many_truths_they_wait_for(self) -> None:
        waits = Counter(
            (request.intake.tenant, window)
            for request in self.home.all_requests()
            for booking in request.bookings
            if not booking.certain
            for window in request.windows[booking.attempt]
        )
        assert waits == Counter({(a.tenant, w.id): w.uncertain for a in self.home.accounts() for w in a.windows})

    @invariant()
    def costs_holds_and_ledger_agree(self) -> None:
        billed: Counter[tuple[str, str]] = Counter()
        for cost in self.home.events("costs"):
            billed[cost["tenant"], cost["request_id"]] += cost["cost_nano_usd"]
            assert cost["cost_nano_usd"] == sum(line["nano_usd"] for line in cost["lines"])
        booked: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        for entry in self.home.events("ledger"):
            if "request_id" in entry:
                kind = entry["window"].partition(":")[0]
                booked[entry["tenant"], entry["request_id"]][kind] += entry["amount_nano_usd"]
        for request in self.home.all_requests():
            key = (request.intake.tenant, request.intake.request_id)
            assert set(booked[key].values()) == {request.booked} == {billed[key]}

    @invariant()
    def nothing_is_below_what_the_provider_charged(self) -> None:
        requests = {(r.intake.tenant, r.intake.request_id): r for r in self.home.all_requests()}
        for call in self.calls:
            booking = requests[call.tenant, call.request_id].booking(call.attempt)
            if booking is None:
                assert not call.told
                assert requests[call.tenant, call.request_id].hold is not None
            else:
                assert booking.amount >= (call.invoiced or 0)

    @invariant()
    def everybody_is_told_once_and_when_done(self) -> None:
        told = Counter((e["tenant"], e["request_id"]) for e in self._terminals())
        done = [r for r in self.home.all_requests() if r.state == "done"]
        assert told == Counter((r.intake.tenant, r.intake.request_id) for r in done)

    def teardown(self) -> None:
        """Whatever is still open expires; then no hold is left."""
        for request in self.open():
            self._tell(RequestExpired(**_names(request)))
        assert not self.open()
        assert all(w.reserved == 0 for a in self.home.accounts() for w in a.windows)
        assert not any(self.home.reserved.values())
        assert not self.home.holds, "a hold was never closed"
        self.costs_holds_and_ledger_agree()
        self.nothing_is_below_what_the_provider_charged()
        self.everybody_is_told_once_and_when_done()

    # --- shortcuts

    @property
    def time_ms(self) -> int:
        return self.clock_ms - self.jitter_ms

    @property
    def now_ms(self) -> int:
        return self.clock_ms + 7 + self.wall_ahead_ms

    def running(self) -> list[Call]:
        return [call for call in self.calls if call.invoiced is None]

    def untold(self) -> list[Call]:
        return [call for call in self.calls if call.invoiced is not None and not call.told]

    def open(self, *states: str) -> list[Request]:
        return [r for r in self.home.all_requests() if r.state in (states or ("pending", "waiting"))]

    def _terminals(self) -> list[dict[str, Any]]:
        conflicts = [e for e in self.home.events("errors") if e["error"]["details"]["reason"] == "request_id_conflict"]
        errors = [e for e in self.home.events("errors") if e not in conflicts]
        return errors + self.home.events("responses")

    def _ask(self, **fields: Any) -> None:
        asked = prompt(metadata={"team": "é"}, **fields)
        self._start(self.home.ask(asked, time_ms=self.time_ms, now_ms=self.now_ms))

    def _start(self, request: Request | None) -> None:
        if request is not None:
            self.calls.append(_call(request))

    def _tell(self, event: Progress) -> None:
        self.honest.append(event)
        self._start(self.home.tell(event, time_ms=self.time_ms, now_ms=self.now_ms))

    def _end_of(self, calls: list[Call], pick: int, share: float) -> Call:
        call = calls[pick % len(calls)]
        call.invoiced = int(call.hold * share)
        return call


def _names(request: Request) -> dict[str, str]:
    return {"tenant": request.intake.tenant, "request_id": request.intake.request_id}


def _call(request: Request) -> Call:
    return Call(request.intake.tenant, request.intake.request_id, request.attempt, request.intake.hold)


TestHistories = Histories.TestCase
TestHistories.settings = settings(
    max_examples=40, stateful_step_count=60, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
