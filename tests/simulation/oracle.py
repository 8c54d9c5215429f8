"""What a history must have shown, whatever went wrong in it: G1, G2, G3, G4 and G6 of DESIGN §2.

`broken(observed)` returns one sentence per broken promise; none: all were kept.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from schemas.deadletters import DeadLetter
from schemas.lifts import lift_of
from schemas.progress import (
    AttemptFailed,
    AttemptRedriven,
    AttemptSucceeded,
    Progress,
    RequestExpired,
    progress_of,
)
from schemas.requests import PromptRequest, WrongFields, understand
from streams.core.forgetting import FINISHED_PREFIX, decode_finished
from streams.core.forwarding import First, first_seen
from streams.core.rows import ACCOUNT_PREFIX, DONE_PREFIX, OPEN_PREFIX, decode_account, decode_request
from streams.runtime.ports import Record
from tests.simulation.history import LIMITS, PARTITIONS, TOPICS, Observed
from tests.simulation.owner import ACCOUNTS, PROGRESS, REQUESTS
from tests.simulation.world import fold_rows

Event = dict[str, Any]
Key = tuple[str, str]
"""Tenant, request id."""


def broken(observed: Observed) -> list[str]:
    """Return what was promised and not kept."""
    if not observed.at_rest:
        return [*observed.complaints, *_why_not_at_rest(observed)]
    return [
        *observed.complaints,
        *_nothing_is_lost(observed),
        *_nothing_is_forgotten(observed),
        *_nothing_is_told_twice(observed),
        *_no_budget_is_overrun(observed),
        *_the_bill_is_a_fold(observed),
        *_the_tables_are_the_log(observed),
        *_what_is_done_is_indexed(observed),
        *_calls_are_not_repeated(observed),
    ]


def _why_not_at_rest(observed: Observed) -> Iterator[str]:
    yield "G1 the history never comes to rest"
    for partition in range(PARTITIONS):
        for topic in (REQUESTS, PROGRESS):
            end = len(observed.world.records(topic, partition))
            read = observed.group.committed.get((topic, partition), 0)
            if read < end:
                yield f"G1 {topic}[{partition}] is read up to {read} of {end}"


def events(observed: Observed, topic: str) -> list[Event]:
    """Return the distinct events of a topic, each where it appeared first."""
    found: dict[str, Event] = {}
    for record in observed.world.all_records(topic):
        event = json.loads(record.value or b"")
        found.setdefault(event["id"], event)
    return list(found.values())


# --- G1


@dataclass(slots=True)
class _Asked:
    """What one tenant's request id has to bring, worked out from the log of `prompt.requests` alone.

    `times_ms`: of its records, by home; whichever comes a horizon after the first may find it forgotten.
    """

    homes: dict[int, str] = field(default_factory=dict)
    conflicts: int = 0
    wrong: int = 0
    times_ms: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))

    def most_terminals(self, horizon_ms: int) -> int:
        """Return how often the id can have been claimed: again at the earliest a horizon after the last time."""
        claims = 0
        for times in self.times_ms.values():
            claimed = -horizon_ms
            for time in times:
                if time - claimed >= horizon_ms:
                    claims, claimed = claims + 1, time
        return claims


def _nothing_is_lost(observed: Observed) -> Iterator[str]:
    asked, dead = _what_was_asked(observed)
    dead |= {(r.topic, r.partition, r.offset) for r in observed.world.all_records(PROGRESS) if _is_odd(r)}
    told: dict[Key, Counter[str]] = defaultdict(Counter)
    for event in [*events(observed, TOPICS.responses), *events(observed, TOPICS.errors)]:
        told[event["tenant"], event["request_id"]][_kind_of(event)] += 1
    for key in sorted({*asked, *told}):
        wanted, found = asked.get(key, _Asked()), told[key]
        if observed.forgets:
            yield from _between(observed, key, wanted, found)
            continue
        for kind, count in (
            ("terminal", len(wanted.homes)),
            ("request_id_conflict", wanted.conflicts),
            ("fields", wanted.wrong),
        ):
            if found[kind] != count:
                yield f"G1 {key}: {found[kind]} events of kind {kind}, not {count}"
    letters = Counter((e["topic"], e["partition"], e["offset"]) for e in events(observed, TOPICS.deadletters))
    late = _outcomes(observed) if observed.forgets else set()
    for place in sorted({*dead, *letters}):
        if letters[place] != (place in dead) and place not in late:
            yield f"G1 {place}: {letters[place]} dead letters, not {int(place in dead)}"


def _between(observed: Observed, key: Key, wanted: _Asked, found: Counter[str]) -> Iterator[str]:
    """Where ids are forgotten: each record brings something, and no id is claimed twice within the horizon."""
    most = max(wanted.most_terminals(observed.horizon_ms), len(wanted.homes))
    if not len(wanted.homes) <= found["terminal"] <= most:
        yield f"G1 {key}: {found['terminal']} terminal events, not {len(wanted.homes)} to {most}"
    records = sum(len(times) for times in wanted.times_ms.values())
    if found["terminal"] + found["request_id_conflict"] > max(records, len(wanted.homes)):
        yield f"G1 {key}: {found} from {records} records"
    if found["fields"] != wanted.wrong:
        yield f"G1 {key}: {found['fields']} events of kind fields, not {wanted.wrong}"


def _outcomes(observed: Observed) -> set[tuple[str, int, int]]:
    """Outcomes of calls, which become dead letters where they come after the request is forgotten."""
    return {
        (r.topic, r.partition, r.offset)
        for r in observed.world.all_records(PROGRESS)
        if isinstance(_progress(r), AttemptSucceeded | AttemptFailed)
    }


def _reused(observed: Observed) -> set[Key]:
    """Ids that were claimed more than once in a home: attempts of the same number are then different ones."""
    if not observed.forgets:
        return set()
    admitted = Counter(
        (e["tenant"], e["request_id"])
        for e in events(observed, TOPICS.ledger)
        if e["type"] in {"hold.placed.v1", "hold.refused.v1"} and e["attempt"] <= 1
    )
    windows = {t.name: max(1, len(t.budgets)) for t in observed.plan.registry.configuration.tenants}
    return {key for key, count in admitted.items() if count > windows.get(key[0], 1)}


def _is_odd(record: Record) -> bool:
    event = _progress(record)
    return (event is None and lift_of(record.value or b"") is None) or (
        isinstance(event, AttemptFailed) and event.request_id == "nobody"
    )


def _progress(record: Record) -> Progress | None:
    try:
        return progress_of(record.value or b"")
    except ValidationError:
        return None


def _nothing_is_forgotten(observed: Observed) -> Iterator[str]:
    """The deadline is a backstop: no request waits for it that an owner could have run, for this long."""
    moved: dict[tuple[str, str, int], float] = {}
    expired: dict[Key, tuple[float, str, int]] = {}
    for at_s, who, record in observed.world.appended:
        if record.topic == PROGRESS:
            fact = _progress(record)
            if isinstance(fact, RequestExpired):
                expired.setdefault((fact.tenant, fact.request_id), (at_s, who, record.partition))
            elif fact is not None:
                moved.setdefault((fact.tenant, fact.request_id, fact.attempt), at_s)
    placed = {
        (e["tenant"], e["request_id"], e["attempt"]): at_s
        for at_s, _, record in observed.world.appended
        if record.topic == TOPICS.ledger
        for e in (json.loads(record.value or b""),)
        if e["type"] == "hold.placed.v1"
    }
    reused = _reused(observed)
    for event in events(observed, TOPICS.errors):
        key = (event["tenant"], event["request_id"])
        attempt = (*key, event["attempts"])
        if _kind_of(event) != "terminal" or key not in expired or attempt in moved or key[0] == "hasty":
            continue
        if key in reused:
            continue
        at_s, who, partition = expired[key]
        since = [
            a.at_s for a in observed.fleet.assigned if a.partition == partition and a.process == who and a.at_s <= at_s
        ]
        began_s = max([placed.get(attempt, at_s), *since[-1:]])
        runs = any(
            observed.fleet.ended_at.get(call.process, at_s) > at_s - FORGOTTEN_S
            for call in observed.provider.calls
            if (call.tenant, call.request_id, call.attempt) == attempt
        )
        if at_s - began_s > FORGOTTEN_S and not runs:
            yield f"G1 {attempt} in {partition} expired after {at_s - began_s:.1f} s in which {who} did not run it"


FORGOTTEN_S = 9.5
"""Longer than the longest pause between attempts."""


def _kind_of(event: Event) -> str:
    reason = event.get("error", {}).get("details", {}).get("reason")
    return reason if reason in {"fields", "request_id_conflict"} else "terminal"


def _what_was_asked(observed: Observed) -> tuple[dict[Key, _Asked], set[tuple[str, int, int]]]:
    asked: dict[Key, _Asked] = defaultdict(_Asked)
    dead: set[tuple[str, int, int]] = set()
    seen: set[tuple[int, int]] = set()
    for record in observed.world.all_records(REQUESTS):
        first = first_seen(record.headers, record.partition, record.offset, record.time_ms)
        found = understand(record.value, default_request_id=f"p{first.partition}-{first.offset}", limits=LIMITS)
        match found:
            case DeadLetter():
                dead.add((record.topic, record.partition, record.offset))
            case WrongFields():
                asked[found.tenant, found.request_id].wrong += 1
            case PromptRequest() if observed.home_of(found) == record.partition:
                _count_at_home(asked[found.tenant, found.request_id], record, first, found, seen)
            case PromptRequest():
                asked[found.tenant, found.request_id].homes.setdefault(observed.home_of(found), "")
    return asked, dead


def _count_at_home(
    asked: _Asked, record: Record, first: First, found: PromptRequest, seen: set[tuple[int, int]]
) -> None:
    """The first content at home claims the id; every original record with other content is a conflict."""
    asked.times_ms[record.partition].append(record.time_ms)
    claimed = asked.homes.get(record.partition) or found.digest.hex()
    asked.homes[record.partition] = claimed
    original = (first.partition, first.offset)
    if claimed != found.digest.hex() and original not in seen:
        asked.conflicts += 1
    seen.add(original)


# --- G2


def _nothing_is_told_twice(observed: Observed) -> Iterator[str]:
    said: dict[str, tuple[str, Record]] = {}
    topics = (TOPICS.responses, TOPICS.errors, TOPICS.costs, TOPICS.ledger, TOPICS.deadletters)
    for topic in topics:
        for record in observed.world.all_records(topic):
            event_id = json.loads(record.value or b"")["id"]
            before = said.setdefault(event_id, (topic, record))[1]
            moved = record.key is not None and before.partition != record.partition
            if moved or (before.topic, before.key, before.value, before.headers) != (
                record.topic,
                record.key,
                record.value,
                record.headers,
            ):
                yield f"G2 {topic}: event {event_id} differs from its repetition at {record.partition}@{record.offset}"


# --- G3


@dataclass(slots=True)
class _Window:
    spent: int = 0
    reserved: int = 0
    limit: int | None = None
    overrun: bool = False

    def fold(self, entry: Event) -> None:
        """Apply one ledger entry."""
        hold, amount = entry["hold_nano_usd"], entry["amount_nano_usd"]
        match entry["type"]:
            case "hold.placed.v1":
                self.reserved += hold
            case "hold.settled.v1":
                self.reserved -= hold
                self.spent += amount
                self.overrun = self.overrun or amount > hold
            case "hold.released.v1":
                self.reserved -= hold
            case "booking.adjusted.v1":
                self.spent += amount
                self.overrun = self.overrun or amount > 0
            case _:
                pass  # refusals and new limits move no money
        self.limit = entry["limit_nano_usd"]


def ledger(observed: Observed, partition: int) -> list[Event]:
    """Return the distinct ledger entries of a partition in the order of their first appearance."""
    found: dict[str, Event] = {}
    for record in observed.world.records(TOPICS.ledger, partition):
        entry = json.loads(record.value or b"")
        found.setdefault(entry["id"], entry)
    return list(found.values())


def _no_budget_is_overrun(observed: Observed) -> Iterator[str]:
    for partition in range(PARTITIONS):
        windows: dict[Key, _Window] = defaultdict(_Window)
        entries = ledger(observed, partition)
        numbers = [entry["seq"] for entry in entries]
        if numbers != list(range(1, len(numbers) + 1)):
            yield f"G3 ledger[{partition}] is numbered {numbers}"
        for entry in sorted(entries, key=lambda entry: int(entry["seq"])):
            window = windows[entry["tenant"], entry["window"]]
            window.fold(entry)
            place = f"G3 ledger[{partition}] seq {entry['seq']}"
            after = (entry["spent_after_nano_usd"], entry["reserved_after_nano_usd"])
            if after != (window.spent, window.reserved):
                yield f"{place}: says {after}, the fold is {(window.spent, window.reserved)}"
            if window.limit is not None and window.spent + window.reserved > window.limit and not window.overrun:
                yield f"{place}: {window.spent} + {window.reserved} > {window.limit}"
        for key, window in windows.items():
            if window.reserved:
                yield f"G4 ledger[{partition}] {key}: {window.reserved} still reserved at rest"


# --- G4


def _the_bill_is_a_fold(observed: Observed) -> Iterator[str]:
    costs = events(observed, TOPICS.costs)
    billed: Counter[tuple[str, str, int]] = Counter()
    uncertain: set[tuple[str, str, int]] = set()
    for cost in costs:
        key = (cost["tenant"], cost["request_id"], cost["attempt"])
        billed[key] += cost["cost_nano_usd"]
        if cost["cost_nano_usd"] != sum(line["nano_usd"] for line in cost["lines"]):
            yield f"G4 {key}: the lines of {cost['id']} do not add up"
        if cost["type"] == "cost.uncertain.v1":
            uncertain.add(key)
        elif cost["type"] == "cost.adjusted.v1":
            uncertain.discard(key)
    yield from _ledger_is_the_bill(observed, billed)
    yield from _bill_covers_the_invoice(observed, billed, uncertain)
    yield from _told_costs(observed, costs)


def _ledger_is_the_bill(observed: Observed, billed: Counter[tuple[str, str, int]]) -> Iterator[str]:
    booked: dict[str, Counter[tuple[str, str, int]]] = defaultdict(Counter)
    for partition in range(PARTITIONS):
        for entry in ledger(observed, partition):
            if entry["amount_nano_usd"]:
                kind = entry["window"].partition(":")[0]
                booked[kind][entry["tenant"], entry["request_id"], entry["attempt"]] += entry["amount_nano_usd"]
    kinds_of: dict[str, list[str]] = {
        t.name: [*(b.window for b in t.budgets)] or ["none"] for t in observed.plan.registry.configuration.tenants
    }
    for key in sorted({*billed, *(k for amounts in booked.values() for k in amounts)}):
        for kind in kinds_of.get(key[0], ["none"]):
            if booked[kind][key] != billed[key]:
                yield f"G4 {key} in window {kind}: the ledger has {booked[kind][key]}, the bill {billed[key]}"


def _bill_covers_the_invoice(
    observed: Observed, billed: Counter[tuple[str, str, int]], uncertain: Iterable[tuple[str, str, int]]
) -> Iterator[str]:
    charged: Counter[tuple[str, str, int]] = Counter()
    above_bound: set[tuple[str, str, int]] = set()
    homes: dict[tuple[str, str, int], int] = {}
    several_homes: set[tuple[str, str, int]] = set()
    for call in observed.provider.calls:
        key = (call.tenant, call.request_id, call.attempt)
        charged[key] += call.nano_usd
        if call.nano_usd > call.hold:
            above_bound.add(key)
        if homes.setdefault(key, call.partition) != call.partition:
            several_homes.add(key)  # cost events do not tell the home apart
    unsure = set(uncertain)
    reused = _reused(observed)
    for key in sorted({*charged, *billed}):
        lower_bound = key in unsure or key in several_homes or key[:2] in reused
        if lower_bound and key not in above_bound and billed[key] < charged[key]:
            yield f"G4 {key}: billed {billed[key]}, the provider charges {charged[key]}"
        if not lower_bound and billed[key] != charged[key]:
            yield f"G4 {key}: billed {billed[key]}, the provider charges exactly {charged[key]}"


def _told_costs(observed: Observed, costs: list[Event]) -> Iterator[str]:
    """The terminal event tells at most what is booked in the end, unless a correction came later."""
    total: Counter[Key] = Counter()
    corrected: set[Key] = set()
    for cost in costs:
        key = (cost["tenant"], cost["request_id"])
        total[key] += cost["cost_nano_usd"]
        if cost["type"] == "cost.adjusted.v1":
            corrected.add(key)
    told: Counter[Key] = Counter()
    for event in [*events(observed, TOPICS.responses), *events(observed, TOPICS.errors)]:
        told[event["tenant"], event["request_id"]] += event["cost_nano_usd"]
    for key in sorted({*told, *total}):
        if key not in corrected and told[key] != total[key]:
            yield f"G4 {key}: its terminal event tells {told[key]}, booked are {total[key]}"


# --- tables


def _the_tables_are_the_log(observed: Observed) -> Iterator[str]:
    world = observed.world
    for partition in range(PARTITIONS):
        changelog = world.rows_of(ACCOUNTS, partition)
        table = fold_rows(changelog)
        for worker, disk in sorted(world.disks.items()):
            offset = disk.offsets.get((ACCOUNTS, partition), -1)
            if fold_rows(changelog[: offset + 1]) != disk.rows.get((ACCOUNTS, partition), {}):
                yield f"G4 store of {worker}[{partition}] is not its changelog up to {offset}"
        left = [key for key in table if key.startswith(OPEN_PREFIX)]
        if left:
            yield f"G4 open rows at rest in {partition}: {left}"
        yield from _accounts_are_the_ledger(observed, partition, table)


def _what_is_done_is_indexed(observed: Observed) -> Iterator[str]:
    """Every request that is done is in the index of what to forget, once, and windows wait for those doubts alone."""
    for partition in range(PARTITIONS):
        table = fold_rows(observed.world.rows_of(ACCOUNTS, partition))
        done = [decode_request(value) for key, value in table.items() if key.startswith(DONE_PREFIX)]
        there = sorted((r.intake.offset, r.intake.tenant, r.intake.request_id) for r in done)
        index = [decode_finished(key, value) for key, value in table.items() if key.startswith(FINISHED_PREFIX)]
        if there != sorted((f.offset, f.tenant, f.request_id) for f in index):
            yield f"G2 done in {partition}: {there}, in the index {sorted(index)}"
        doubts = Counter(
            (r.intake.tenant, window)
            for r in done
            for booking in r.bookings
            if not booking.certain
            for window in r.windows[booking.attempt]
        )
        accounts = [decode_account(value) for key, value in table.items() if key.startswith(ACCOUNT_PREFIX)]
        waits = Counter({(a.tenant, w.id): w.uncertain for a in accounts for w in a.windows})
        if +doubts != +waits:
            yield f"G4 accounts in {partition} wait for {+waits}, requests for {+doubts}"


def _accounts_are_the_ledger(observed: Observed, partition: int, table: dict[bytes, bytes]) -> Iterator[str]:
    windows: dict[Key, _Window] = defaultdict(_Window)
    for entry in ledger(observed, partition):
        windows[entry["tenant"], entry["window"]].fold(entry)
    accounts = [decode_account(value) for key, value in table.items() if key.startswith(ACCOUNT_PREFIX)]
    rows = {(account.tenant, w.id): (w.spent, w.reserved) for account in accounts for w in account.windows}
    for key, row in rows.items():
        if row != (windows[key].spent, windows[key].reserved):
            yield f"G4 account {key} in {partition}: row {row}, ledger {(windows[key].spent, windows[key].reserved)}"
    lasting = {key: w for key, w in windows.items() if key[1] in {"none", "total"} and w.spent}
    for key in sorted(lasting.keys() - rows.keys()):
        yield f"G4 account {key} in {partition}: no row, ledger {lasting[key].spent}"


# --- G6


def _calls_are_not_repeated(observed: Observed) -> Iterator[str]:
    reused = _reused(observed)
    calls = Counter(
        (c.partition, c.tenant, c.request_id, c.attempt)
        for c in observed.provider.calls
        if (c.tenant, c.request_id) not in reused
    )
    for key, count in sorted(calls.items()):
        if count > 1:
            yield f"G6 attempt {key} was called {count} times"
    senders = {(r.partition, r.offset): (at_s, who) for at_s, who, r in observed.world.appended if r.topic == PROGRESS}
    callers = {(c.partition, c.tenant, c.request_id, c.attempt): c.process for c in observed.provider.calls}
    for partition in range(PARTITIONS):
        outcomes: dict[tuple[str, str, int], int] = {}
        for record in observed.world.records(PROGRESS, partition):
            event = _progress(record)
            if event is None or (event.tenant, event.request_id) in reused:
                continue
            if isinstance(event, AttemptSucceeded | AttemptFailed):
                outcomes.setdefault((event.tenant, event.request_id, event.attempt), record.offset)
            elif isinstance(event, AttemptRedriven) and (partition, record.offset) not in observed.republished:
                attempt = (event.tenant, event.request_id, event.attempt)
                at_s, who = senders[partition, record.offset]
                ended = outcomes.get(attempt)
                if ended is not None and ended < _end_seen(observed, who, partition, at_s):
                    yield f"G6 {who} redrives {attempt} at {record.offset}, though it ended at {ended}"
                if ended is None and callers.get((partition, *attempt)) == who:
                    yield f"G6 {who} redrives {attempt}, which it runs itself"


def _end_seen(observed: Observed, who: str, partition: int, at_s: float) -> int:
    """Where the progress log ended when this process last got the partition before `at_s`."""
    ends = [
        a.progress_end
        for a in observed.fleet.assigned
        if a.process == who and a.partition == partition and a.at_s <= at_s
    ]
    return ends[-1] if ends else 0
