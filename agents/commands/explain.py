"""`orchestrator explain`: the whole life of one request, from the topics alone."""

import re
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from aiokafka.structs import ConsumerRecord

from agents.commands.exits import FAILED, WRONG, CommandError
from agents.commands.following import on_one_line
from agents.commands.reading import reading
from agents.commands.records import REDRIVEN_FROM, fetch, part, place_of
from schemas.configuration import Configuration
from schemas.deadletters import DeadLetter
from schemas.requests import Limits, PromptRequest, WrongFields, understand, work_key
from schemas.units import usd
from streams.core import story
from streams.core.forwarding import First, first_seen
from streams.core.homes import home_of, partition_of
from streams.core.identity import default_request_id
from streams.core.story import Moment, Story
from streams.runtime.reading import Progress, Reader, Span
from streams.runtime.topics import Topics

_DERIVED: Final = re.compile(r"p([0-9]{1,9})-([0-9]{1,18})")
_IDENTIFIER: Final = re.compile(r"[!-~]{1,128}")
_LONGEST_NOTE: Final = 300


@dataclass(frozen=True, slots=True)
class Explained:
    """One request and its story. `tenant` is None where nothing but a dead letter without a tenant tells of it."""

    request_id: str
    tenant: str | None
    story: Story

    def table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Return columns and rows for people; held and booked amounts in US dollars. No prompt or answer is in it."""
        columns = ("time", "what", "attempt", "deployment", "USD", "details")
        return columns, [
            (
                m.time[11:23],
                m.what,
                "" if m.attempt is None else str(m.attempt),
                m.deployment or "",
                "" if m.nano_usd is None else usd(m.nano_usd),
                on_one_line(m.note, _LONGEST_NOTE),
            )
            for m in self.story.moments
        ]

    def summary(self) -> str:
        """Return one line about the whole."""
        who = f"{self.tenant}/{self.request_id}" if self.tenant else self.request_id
        days = {m.time[:10] for m in self.story.moments}
        told = f"{self.story.attempts} attempts, {usd(self.story.booked_nano_usd)} USD booked"
        repeated = f", {self.story.repeated} repeated records" if self.story.repeated else ""
        return f"{who}: {self.story.state}, {told}{repeated}, {' to '.join(sorted({min(days), max(days)}))} (UTC)"

    def contents(self) -> list[str]:
        """Return prompt and answers, a line each."""
        return [
            f"{m.time[11:23]} {m.what}: {orjson.dumps(m.content).decode()}"
            for m in self.story.moments
            if m.content is not None
        ]

    def to_json(self, *, content: bool) -> bytes:
        """Write everything for programs; prompts and answers only with `content`."""
        moments = [
            {
                "time": m.time,
                "what": m.what,
                "topic": m.place.topic,
                "partition": m.place.partition,
                "offset": m.place.offset,
                "attempt": m.attempt,
                "deployment": m.deployment,
                "nano_usd": m.nano_usd,
                "details": m.note,
                "event": m.body,
                **({"content": m.content} if content else {}),
            }
            for m in self.story.moments
        ]
        return orjson.dumps(
            {
                "request_id": self.request_id,
                "tenant": self.tenant,
                "state": self.story.state,
                "attempts": self.story.attempts,
                "booked_nano_usd": self.story.booked_nano_usd,
                "booked_usd": usd(self.story.booked_nano_usd),
                "timeline": moments,
            }
        )


async def explain(
    configuration: Configuration, environ: Mapping[str, str], request_id: str, tenant: str | None, advance: Progress
) -> Explained:
    """Read what the topics hold about a request as of now.

    Raises `CommandError`: 1 where nothing tells of it, 2 where several tenants have such an id, 75 without an answer.
    """
    for name, value in (("REQUEST", request_id), ("--tenant", tenant or "-")):
        if not _IDENTIFIER.fullmatch(value):
            raise CommandError(WRONG, [f"{name}: must be 1 to 128 printable ASCII characters without spaces"])
    async with reading(configuration, environ, advance) as (reader, topics):
        found = (topics.responses, topics.errors, topics.deadletters, topics.costs)
        names = (*found, topics.requests, topics.ledger, topics.progress)
        spans = {name: await reader.span(name) for name in names}  # first: a fetch on its way makes questions wait
        search = _Search(configuration, reader, topics, spans, request_id, tenant)
        await search.run()
    tenants = sorted({t for t in search.found if t is not None})
    if len(tenants) > 1:
        raise CommandError(WRONG, [f"{request_id}: is a request of {', '.join(tenants)}; choose one with --tenant"])
    moments = [moment for these in search.found.values() for moment in these]
    if not moments:
        of = "" if tenant is None else f" of {tenant}"
        raise CommandError(FAILED, [f"{request_id}{of}: no record that is still kept tells of it"])
    return Explained(request_id, tenants[0] if tenants else None, story.told(moments))


@dataclass(slots=True)
class _Search:
    """Looks for one request. `found`: moments by tenant; None where a record names no tenant."""

    configuration: Configuration
    reader: Reader
    topics: Topics
    spans: Mapping[str, Span]
    request_id: str
    tenant: str | None
    found: dict[str | None, list[Moment]] = field(default_factory=dict)
    coordinates: set[tuple[int, int]] = field(default_factory=set)
    homes: dict[str, set[int]] = field(default_factory=dict)

    @property
    def needle(self) -> bytes:
        """What a JSON record that tells of the request holds, unless its producer escapes more than it must."""
        return orjson.dumps(self.request_id)[1:-1]

    async def run(self) -> None:
        """Read what is found by key first: it tells whose request it is, and so its home."""
        partitions = self.configuration.kafka.partitions
        by_key = [partition_of(self.request_id.encode(), partitions)]
        for topic in (self.topics.responses, self.topics.errors):
            await self._read(topic, by_key, story.ended)
        requests = self.spans[self.topics.requests]
        if derived := _DERIVED.fullmatch(self.request_id):
            self.coordinates.add((int(derived[1]), int(derived[2])))
            await self._fetch_first(requests, int(derived[1]), int(derived[2]))
        letters = await self._letters()
        everywhere = frozenset(range(partitions))
        tenants = {self.tenant} if self.tenant is not None else {*self.found, *(b.get("tenant") for _, b in letters)}
        named = {t for t in tenants if t is not None}
        likely = frozenset[int]().union(*(self._homes_of(t) for t in named))
        await self._read_homes(requests, likely)
        if not named or not all(self._is_complete(t) for t in named):
            await self._read_homes(requests, everywhere - likely)
        await self._first_records(requests)
        for record, body in letters:
            self._take_letter(record, body)
        payers = {t for t in self.found if t is not None} or named
        of_tenants = {partition_of(t.encode(), partitions) for t in payers} or everywhere
        await self._read(self.topics.costs, of_tenants, story.charged)

    def _homes_of(self, tenant: str) -> set[int]:
        """Return where requests of this id live, as far as is known: content that may be shared may be elsewhere."""
        limited, partitions = self.configuration.is_limited(tenant), self.configuration.kafka.partitions
        by_id = home_of(tenant, self.request_id, limited=limited, partitions=partitions)
        return {by_id, *self.homes.get(tenant, ())}

    def _is_complete(self, tenant: str) -> bool:
        """Whether what was read so far is all: the request was met at home, and every record that was wrong, too."""
        moments, homes = self.found.get(tenant, ()), self._homes_of(tenant)
        wrong = sum(m.channel == "terminal" and story.reason_of(m) == "fields" for m in moments)
        seen = sum(m.channel == "requests" and m.wrong for m in moments)
        at_home = any(m.channel in {"ledger", "progress"} for m in moments) or any(
            m.channel == "requests" and m.place.partition in homes for m in moments
        )
        return seen >= wrong and (at_home or seen > 0)

    async def _read_homes(self, requests: Span, partitions: Collection[int]) -> None:
        if not partitions:
            return
        async for records in self.reader.read(part(requests, partitions)):
            for record in records:
                self._take_request(record)
        await self._read(self.topics.ledger, partitions, story.entered)
        span = part(self.spans[self.topics.progress], partitions)
        async for records in self.reader.read(span):
            for record in records:
                body = self._body(record)
                if body is not None and "id" not in body:
                    moment = story.progressed(body, place=place_of(record), time_ms=record.timestamp)
                    self._add(body.get("tenant"), moment)

    async def _read(self, topic: str, partitions: Collection[int], moment_of: Callable[..., Moment]) -> None:
        async for records in self.reader.read(part(self.spans[topic], partitions)):
            for record in records:
                body = self._body(record)
                if body is None:
                    continue
                with suppress(KeyError, TypeError, ValueError):  # no event of ours: others may write there, too
                    self._add(body.get("tenant"), moment_of(body, place=place_of(record)))

    async def _letters(self) -> list[tuple[ConsumerRecord, dict[str, Any]]]:
        """Read all dead letters: one of a record that nobody understood has no key."""
        found = []
        async for records in self.reader.read(self.spans[self.topics.deadletters]):
            found += [(record, body) for record in records if (body := _json(record.value)) is not None]
        return [(record, body) for record, body in found if self._may_be_its_letter(body)]

    def _may_be_its_letter(self, body: Mapping[str, Any]) -> bool:
        return body.get("request_id") == self.request_id or (
            body.get("request_id") is None and body.get("topic") in {self.topics.requests, self.topics.progress}
        )

    def _take_letter(self, record: ConsumerRecord, body: dict[str, Any]) -> None:
        named = body.get("request_id") == self.request_id
        at = (body.get("partition"), body.get("offset"))
        if named or (body.get("topic") == self.topics.requests and at in self.coordinates):
            self._add(body.get("tenant"), story.set_aside(body, place=place_of(record)))

    def _take_request(self, record: ConsumerRecord) -> None:
        first = first_seen(record.headers, record.partition, record.offset, record.timestamp)
        derived = default_request_id(first.partition, first.offset)
        value = record.value or b""
        if derived != self.request_id and self.needle not in value and b"\\" not in value:
            return
        limits = self.configuration.limits
        bounds = Limits(limits.max_request_bytes, float(limits.max_timeout_s))
        found = understand(record.value, default_request_id=derived, limits=bounds)
        match found:
            case DeadLetter():
                if derived == self.request_id:
                    self._add(None, self._moment(None, first, record))
            case PromptRequest() if found.request_id == self.request_id:
                limited, partitions = self.configuration.is_limited(found.tenant), self.configuration.kafka.partitions
                home = home_of(found.tenant, work_key(found), limited=limited, partitions=partitions)
                self.homes.setdefault(found.tenant, set()).add(home)
                self._add(found.tenant, self._moment(found, first, record))
            case WrongFields() if found.request_id == self.request_id:
                self._add(found.tenant, self._moment(found, first, record))
            case _:
                pass

    def _moment(self, found: PromptRequest | WrongFields | None, first: First, record: ConsumerRecord) -> Moment:
        self.coordinates |= {(record.partition, record.offset), (first.partition, first.offset)}
        redriven = dict(record.headers).get(REDRIVEN_FROM)
        return story.requested(
            found,
            first,
            place=place_of(record),
            time_ms=record.timestamp,
            redriven_from=None if redriven is None else on_one_line(redriven.decode("utf-8", "replace"), 300),
        )

    async def _first_records(self, requests: Span) -> None:
        """Read the records that were forwarded or redriven where they were published first."""
        moments = [moment for these in self.found.values() for moment in these]
        known = {(m.place.partition, m.place.offset) for m in moments if m.channel == "requests"}
        for partition, offset in sorted(self.coordinates - known):
            await self._fetch_first(requests, partition, offset)

    async def _fetch_first(self, requests: Span, partition: int, offset: int) -> None:
        record = await fetch(self.reader, requests, partition, offset)
        if record is not None:
            self._take_request(record)

    def _body(self, record: ConsumerRecord) -> dict[str, Any] | None:
        value = record.value or b""
        body = _json(value) if self.needle in value else None
        return body if body is not None and body.get("request_id") == self.request_id else None

    def _add(self, tenant: Any, moment: Moment) -> None:
        if self.tenant is None or tenant in {None, self.tenant}:
            self.found.setdefault(tenant, []).append(moment)


def _json(value: bytes | None) -> dict[str, Any] | None:
    """Return the object that a record holds; None for anything else: others may write to these topics too."""
    try:
        body = orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return None
    return body if isinstance(body, dict) else None
