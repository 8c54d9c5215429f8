"""`orchestrator deadletters redrive`: publishes records again once what was wrong with them is mended.

A redriven record goes to the topic it came from, with the header `orchestrator-redriven-from` (TOPIC/PARTITION/OFFSET
of the dead letter). A request keeps its first coordinates, and so the id derived from them, but its time begins anew;
since a record with first coordinates is not forwarded again, it goes straight home.
"""

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Final, Literal

import orjson
from aiokafka import AIOKafkaProducer

from agents.commands.deadletters import Archive, Headers, Letter, Selection, Shown, archive_of, letters_of
from agents.commands.exits import WRONG, CommandError
from agents.commands.following import on_one_line
from agents.commands.reading import reading
from agents.commands.records import REDRIVEN_FROM, place_of, since
from schemas.configuration import Configuration
from schemas.deadletters import DeadLetter
from schemas.requests import Limits, PromptRequest, WrongFields, understand, work_key
from streams.core.forwarding import First, first_seen, forwarding_headers
from streams.core.homes import home_of
from streams.core.identity import default_request_id
from streams.core.story import Place
from streams.runtime import clients
from streams.runtime.reading import Progress, Reader
from streams.runtime.topics import MAX_MESSAGE_BYTES

NEVER_LATE_MS: Final = 10**15
"""As the time of first publishing: later than any record, so that the record's own counts (`core.forwarding`)."""
_RATE: Final = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)(?:/s)?")
_KEPT: Final = "the original is gone; --kept-copies takes the dead letter's copy: nobody knows whether it was redriven"


@dataclass(frozen=True, slots=True)
class Redriven:
    """What became of one dead letter. `to`: the partition, and the offset once it is stored."""

    dead_letter: str
    original: str
    status: Literal["redriven", "would redrive", "refused", "skipped"]
    to: str | None
    note: str

    def line(self) -> str:
        """Return it for people."""
        to = f" to {self.to}" if self.to else ""
        note = f": {on_one_line(self.note, 300)}" if self.note else ""
        return f"{self.status} {self.original}{to}{note}"

    def to_json(self) -> bytes:
        """Write it for programs."""
        return orjson.dumps(asdict(self))


@dataclass(frozen=True, slots=True)
class Errand:
    """One redrive. `rate`: records per second at most; `kept_copies`: take what the dead letter kept where the original
    is gone; `again`: also what was redriven before."""

    selection: Selection
    dry_run: bool = False
    rate: float | None = None
    kept_copies: bool = False
    again: bool = False


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record to publish again, or why not (`refused`, `skipped`)."""

    letter: Letter
    partition: int
    key: bytes | None = None
    value: bytes | None = None
    headers: Headers = ()
    status: Literal["ready", "refused", "skipped"] = "ready"
    note: str = ""


def rate(given: str | None) -> float | None:
    """Return records per second, from `10` or `10/s`. Raises `CommandError` (2)."""
    if given is None:
        return None
    found = _RATE.fullmatch(given)
    if found is None or float(found[1]) == 0:
        raise CommandError(WRONG, [f"--rate: {given!r} is no rate; write 10/s"])
    return float(found[1])


async def redrive(
    configuration: Configuration,
    environ: Mapping[str, str],
    errand: Errand,
    *,
    confirm: Callable[[int, int], bool],
    tell: Callable[[Redriven], None],
    advance: Progress,
) -> int:
    """Publish records again, oldest first, and tell what became of each; return how many were refused.

    `confirm` is asked with (to publish, not to publish) unless it is a dry run. Raises `CommandError` (1, 75): what was
    told is stored, of the next one it is unknown.
    """
    async with reading(configuration, environ, advance) as (reader, topics):
        planner = _Planner(configuration, await archive_of(reader, topics), errand)
        plans = await planner.plans(reader)
        ready = sum(plan.status == "ready" for plan in plans)
        if errand.dry_run or not ready:
            for plan in plans:
                tell(_result(plan, "would redrive", f"{plan.letter.event.topic}/{plan.partition}"))
        elif not confirm(ready, len(plans) - ready):
            return 0
        else:
            plans = await _publish(configuration, environ, planner, plans, tell)
    return sum(plan.status == "refused" for plan in plans)


@dataclass(slots=True)
class _Planner:
    configuration: Configuration
    archive: Archive
    errand: Errand

    async def plans(self, reader: Reader) -> list[Outgoing]:
        """Return what to do with every selected dead letter, oldest first, at most as many as asked for.

        Without the records themselves: all of them together may be more than fits into memory.
        """
        selected = self.errand.selection
        topics = self.archive.topics
        letters = await letters_of(reader, self.archive.spans[topics.deadletters])
        chosen = [letter for letter in letters if selected.counts(letter, topics.prefix)]
        redriven = await self._redriven_before(reader, chosen)
        redriven |= {letter.redriven_from: letter.original for letter in letters if letter.redriven_from is not None}
        plans: list[Outgoing] = []
        taken = 0
        for letter in chosen:
            if selected.limit is not None and taken >= selected.limit:
                break
            before = redriven.get(str(letter.place))
            if before is not None and not self.errand.again:
                note = f"was redriven before, to {before}; --again does it once more"
                plans.append(Outgoing(letter, letter.event.partition, status="skipped", note=note))
                continue
            plan = await self.plan(letter)
            plans.append(replace(plan, key=None, value=None, headers=()))
            taken += plan.status == "ready"
        return plans

    async def _redriven_before(self, reader: Reader, letters: Sequence[Letter]) -> dict[str, Place]:
        """Return the dead letters whose records were published again already, and where those stand now."""
        found: dict[str, Place] = {}
        for topic in sorted({letter.event.topic for letter in letters} & self.archive.sources):
            oldest = min(_ms(letter.event.time) for letter in letters if letter.event.topic == topic)
            async for records in reader.read(await since(reader, self.archive.spans[topic], oldest)):
                for record in records:
                    for name, value in record.headers:
                        if name == REDRIVEN_FROM and value is not None:
                            found[value.decode("utf-8", "replace")] = place_of(record)
        return found

    async def plan(self, letter: Letter) -> Outgoing:
        """Return the record to publish, as it is read back now, or why not."""
        shown = await self.archive.shown(letter)
        refused = Outgoing(letter, letter.event.partition, status="refused")
        if shown.whole is None:
            return replace(refused, note="the original is gone, and the dead letter does not hold all of it")
        if shown.whole == "dead letter" and not self.errand.kept_copies:
            return replace(refused, note=_KEPT)
        partition, headers, note = letter.event.partition, shown.headers, ""
        if letter.event.topic == self.archive.topics.requests:
            first = self._first(shown)
            partition, note = self._home(shown.value, first, partition)
            headers = _told_first(headers, letter.event.topic, first)
        headers = (*((n, v) for n, v in headers if n != REDRIVEN_FROM), (REDRIVEN_FROM, str(letter.place).encode()))
        return Outgoing(letter, partition, shown.key, shown.value, headers, note=note)

    def _first(self, shown: Shown) -> First:
        """Return the first coordinates; the time of first publishing is past, and the request's time begins anew."""
        event = shown.letter.event
        known = tuple((name, value) for name, value in shown.headers if value is not None)
        return replace(first_seen(known, event.partition, event.offset, NEVER_LATE_MS), time_ms=NEVER_LATE_MS)

    def _home(self, value: bytes | None, first: First, own: int) -> tuple[int, str]:
        """Return where to publish: a record with first coordinates is not forwarded again, so straight home."""
        limits = self.configuration.limits
        bounds = Limits(limits.max_request_bytes, float(limits.max_timeout_s))
        derived = default_request_id(first.partition, first.offset)
        found = understand(value, default_request_id=derived, limits=bounds)
        match found:
            case PromptRequest():
                limited = self.configuration.is_limited(found.tenant)
                partitions = self.configuration.kafka.partitions
                home = home_of(found.tenant, work_key(found), limited=limited, partitions=partitions)
                return home, f"{found.tenant}/{found.request_id}"
            case WrongFields():
                return own, f"will fail: {len(found.fields)} fields are wrong"
            case DeadLetter():
                return own, f"will be a dead letter again unless the workers know better: {found.reason}"


def _told_first(headers: Headers, topic: str, first: First) -> Headers:
    """Return headers with the first coordinates in them; a header without a value stays."""
    told = forwarding_headers((), topic, first)
    names = {name for name, _ in told}
    return (*((name, value) for name, value in headers if name not in names), *told)


async def _publish(
    configuration: Configuration,
    environ: Mapping[str, str],
    planner: _Planner,
    plans: Iterable[Outgoing],
    tell: Callable[[Redriven], None],
) -> list[Outgoing]:
    """Publish one after the other, each told once it is stored; return the plans as they were in the end."""
    settings = clients.client_settings(configuration.kafka, environ)
    embedded = await clients.reach(settings)
    producer = AIOKafkaProducer(
        **settings, acks="all", enable_idempotence=not embedded, max_request_size=MAX_MESSAGE_BYTES
    )
    await producer.start()
    done: list[Outgoing] = []
    try:
        clock = asyncio.get_running_loop()
        turn = clock.time()
        for planned in plans:
            plan = await planner.plan(planned.letter) if planned.status == "ready" else planned
            done.append(plan)
            if plan.status != "ready":
                tell(_result(plan, "redriven", None))
                continue
            await asyncio.sleep(max(0.0, turn - clock.time()))
            turn = max(turn, clock.time()) + (1 / planner.errand.rate if planner.errand.rate else 0.0)
            stored = await producer.send_and_wait(
                plan.letter.event.topic, plan.value, key=plan.key, partition=plan.partition, headers=list(plan.headers)
            )
            tell(_result(plan, "redriven", str(Place(stored.topic, stored.partition, stored.offset))))
    finally:
        await producer.stop()
    return done


def _result(plan: Outgoing, done: Literal["redriven", "would redrive"], to: str | None) -> Redriven:
    status = done if plan.status == "ready" else plan.status
    to = to if plan.status == "ready" else None
    return Redriven(str(plan.letter.place), str(plan.letter.original), status, to, plan.note)


def _ms(time: str) -> int:
    return round(datetime.fromisoformat(time).timestamp() * 1000)
