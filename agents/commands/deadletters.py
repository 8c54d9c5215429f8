"""`orchestrator deadletters list` and `show`: what could not be processed, and why."""

import hashlib
import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, get_args

import orjson
from aiokafka.structs import ConsumerRecord
from pydantic import ValidationError

from agents.commands.exits import FAILED, WRONG, CommandError
from agents.commands.following import on_one_line
from agents.commands.reading import reading
from agents.commands.records import REDRIVEN_FROM, fetch, place_of
from schemas.configuration import Configuration
from schemas.deadletters import DeadLetterReason, PromptDeadLettered
from streams.core.story import Place
from streams.runtime.reading import Progress, Reader, Span
from streams.runtime.topics import Topics

Headers = tuple[tuple[str, bytes | None], ...]

_AGE: Final = re.compile(r"([0-9]{1,6})([smhd])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_PLACE: Final = re.compile(r"(\S{1,249})/([0-9]{1,9})/([0-9]{1,18})")
_MOST_SHOWN: Final = 100


@dataclass(frozen=True, slots=True)
class Selection:
    """Which dead letters: of this topic (with or without the prefix), reason, since then (RFC 3339).

    `limit`: at most so many.
    """

    topic: str | None = None
    reason: str | None = None
    since: str | None = None
    limit: int | None = None

    def counts(self, letter: "Letter", prefix: str) -> bool:
        """Whether a dead letter belongs to it, but for the limit."""
        return (
            (self.topic is None or letter.event.topic in {self.topic, prefix + self.topic})
            and (self.reason is None or letter.event.reason == self.reason)
            and (self.since is None or letter.event.time >= self.since)
        )


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter and where it stands. `redriven_from`: the dead letter whose record was published again.

    `event` is without value and headers, which may be large: they are read when they are needed.
    """

    place: Place
    event: PromptDeadLettered
    redriven_from: str | None
    tombstone: bool

    @property
    def original(self) -> Place:
        """Where the record that was not understood stands."""
        return Place(self.event.topic, self.event.partition, self.event.offset)

    def as_dict(self) -> dict[str, object]:
        """Return it for programs, without the record's content."""
        event = self.event
        return {
            "dead_letter": str(self.place),
            "original": str(self.original),
            "time": event.time,
            "reason": event.reason,
            "message": event.message,
            "size": event.size,
            "sha256": event.sha256,
            "tenant": event.tenant,
            "request_id": event.request_id,
            "redriven_from": self.redriven_from,
        }


@dataclass(frozen=True, slots=True)
class Shown:
    """A dead letter and its record. `whole`: where the bytes come from, None where nobody has all of them any more."""

    letter: Letter
    whole: Literal["original", "dead letter"] | None
    key: bytes | None
    value: bytes | None
    headers: Headers

    def rows(self) -> list[tuple[str, str]]:
        """Return it for people; what producers wrote is on one line each."""
        known = self.letter.as_dict().items()
        told = [(name.replace("_", " "), on_one_line(str(value), 300)) for name, value in known if value is not None]
        whole = {"original": "read back", "dead letter": "gone; the dead letter holds all of it", None: "gone"}
        headers = [(f"header {on_one_line(n, 80)}", _readable(v)) for n, v in self.headers]
        size = "" if self.whole else f"the first {len(self.value or b'')} bytes: "
        return [
            *told,
            ("record", whole[self.whole]),
            ("key", _readable(self.key)),
            *headers,
            ("value", size + _readable(self.value)),
        ]

    def to_json(self) -> bytes:
        """Write it for programs: bytes as text, what is no UTF-8 escaped, and the value in base64 as well."""
        return orjson.dumps(
            {
                **self.letter.as_dict(),
                "whole": self.whole,
                "key": _text(self.key),
                "value": _text(self.value),
                "headers": [[name, _text(value)] for name, value in self.headers],
                "value_base64": None if self.value is None else b64encode(self.value).decode(),
            }
        )


def selection(topic: str | None, reason: str | None, since: str | None, limit: int | None) -> Selection:
    """Return what was asked for. `since`: RFC 3339, a date, or an age such as 2h. Raises `CommandError` (2)."""
    wrong = []
    if reason is not None and reason not in get_args(DeadLetterReason):
        wrong.append(f"--reason: {reason!r} is none of {', '.join(get_args(DeadLetterReason))}")
    if limit is not None and limit < 1:
        wrong.append("--limit: must be at least 1")
    moment = None
    if since is not None:
        try:
            moment = _moment(since)
        except ValueError:
            wrong.append(f"--since: {since!r} is no time; write 2h, 2026-11-23 or 2026-11-23T02:00:00Z")
    if wrong:
        raise CommandError(WRONG, wrong)
    return Selection(topic, reason, moment, limit)


async def listed(
    configuration: Configuration, environ: Mapping[str, str], selected: Selection, advance: Progress
) -> list[Letter]:
    """Return dead letters by time; with a limit the newest ones. Raises `CommandError` (1, 75)."""
    async with reading(configuration, environ, advance) as (reader, topics):
        letters = await letters_of(reader, await reader.span(topics.deadletters))
    found = [letter for letter in letters if selected.counts(letter, topics.prefix)]
    return found if selected.limit is None else found[-selected.limit :]


async def show(configuration: Configuration, environ: Mapping[str, str], where: str, advance: Progress) -> Shown:
    """Return one dead letter with its record, by its own coordinates or by those of the original.

    Raises `CommandError`: 1 where there is none, 2 for what is no TOPIC/PARTITION/OFFSET, 75 without an answer.
    """
    parsed = _PLACE.fullmatch(where)
    if parsed is None:
        raise CommandError(WRONG, [f"{where!r}: is no TOPIC/PARTITION/OFFSET"])
    async with reading(configuration, environ, advance) as (reader, topics):
        names = {parsed[1], topics.prefix + parsed[1]}
        at = (int(parsed[2]), int(parsed[3]))
        archive = await archive_of(reader, topics)
        for letter in reversed(await letters_of(reader, archive.spans[topics.deadletters])):
            for place in (letter.place, letter.original):
                if place.topic in names and (place.partition, place.offset) == at:
                    return await archive.shown(letter)
    raise CommandError(FAILED, [f"{where}: no dead letter that is still kept has these coordinates"])


COLUMNS: Final = ("time", "original", "reason", "size", "request", "redriven from", "message")
"""Of `table`."""


def table(letters: Iterable[Letter]) -> list[tuple[str, ...]]:
    """Return rows for people."""
    return [
        (
            letter.event.time[:19].replace("T", " "),
            str(letter.original),
            letter.event.reason,
            f"{letter.event.size:,}",
            "/".join(part for part in (letter.event.tenant, letter.event.request_id) if part) or "-",
            on_one_line(letter.redriven_from or "-", 200),
            on_one_line(letter.event.message, _MOST_SHOWN),
        )
        for letter in letters
    ]


def to_json(letters: Iterable[Letter]) -> bytes:
    """Write all for programs, without content."""
    return orjson.dumps([letter.as_dict() for letter in letters])


async def letters_of(reader: Reader, span: Span) -> list[Letter]:
    """Read all dead letters by time, a repeated one once; what is none is left out."""
    found: dict[str, Letter] = {}
    async for records in reader.read(span):
        for record in records:
            event = _event(record)
            if event is not None:
                found.setdefault(event.id, _letter(place_of(record), event))
    return sorted(found.values(), key=lambda letter: (letter.event.time, str(letter.place)))


@dataclass(slots=True)
class Archive:
    """Reads records back. `spans`: what each topic holds, asked once (made by `archive_of`)."""

    reader: Reader
    topics: Topics
    spans: dict[str, Span]

    @property
    def sources(self) -> frozenset[str]:
        """The topics that dead letters come from. A forged one must not make anybody read or write elsewhere."""
        return frozenset({self.topics.requests, self.topics.progress, self.topics.observations})

    async def shown(self, letter: Letter) -> Shown:
        """Return the whole record: from where it stands, else from the dead letter if that has all of it."""
        at, place = letter.original, letter.place
        if at.topic in self.sources:
            record = await fetch(self.reader, self.spans[at.topic], at.partition, at.offset)
            if record is not None and _is_it(record.value, letter):
                return Shown(letter, "original", record.key, record.value, tuple(record.headers))
        stored = await fetch(self.reader, self.spans[place.topic], place.partition, place.offset)
        event = letter.event if stored is None else _event(stored) or letter.event
        kept = None if event.value_base64 is None else b64decode(event.value_base64)
        whole = _is_it(kept, letter) and not event.headers_truncated and at.topic in self.sources
        key = None if event.request_id is None else event.request_id.encode()
        return Shown(letter, "dead letter" if whole else None, key, kept, _headers(event))


async def archive_of(reader: Reader, topics: Topics) -> Archive:
    """Ask once what the topics hold. A dead letter that comes later is not read, nor its original."""
    names = (topics.deadletters, topics.requests, topics.progress, topics.observations)
    return Archive(reader, topics, {name: await reader.span(name) for name in names})


def _letter(place: Place, event: PromptDeadLettered) -> Letter:
    redriven_from = next((value for name, value in _headers(event) if name == REDRIVEN_FROM), None)
    return Letter(
        place,
        event.model_copy(update={"value_base64": None, "headers": ()}),
        None if redriven_from is None else redriven_from.decode("utf-8", "replace"),
        event.value_base64 is None,
    )


def _event(record: ConsumerRecord) -> PromptDeadLettered | None:
    """Read a dead letter; None for what is none: others may write to this topic, too."""
    try:
        return PromptDeadLettered.model_validate_json(record.value or b"")
    except ValidationError:
        return None


def _headers(event: PromptDeadLettered) -> Headers:
    pairs = ((name or "", value) for name, value in event.headers)
    return tuple((name, None if value is None else b64decode(value)) for name, value in pairs)


def _is_it(value: bytes | None, letter: Letter) -> bool:
    """Whether these bytes are those of the record that became this dead letter: coordinates alone may be reused."""
    whole, event = value or b"", letter.event
    same = len(whole) == event.size and hashlib.sha256(whole).hexdigest() == event.sha256
    return same and (value is None) == letter.tombstone


def _readable(raw: bytes | None) -> str:
    if raw is None:
        return "-"
    return on_one_line(raw.decode("utf-8", "backslashreplace"), max(1, 6 * len(raw)))


def _text(raw: bytes | None) -> str | None:
    """Return bytes as text; what is no UTF-8 is escaped."""
    return None if raw is None else raw.decode("utf-8", "backslashreplace")


def _moment(given: str) -> str:
    """Return a moment as events write it. Raises `ValueError`."""
    if age := _AGE.fullmatch(given):
        when = datetime.now(UTC) - timedelta(**{_UNITS[age[2]]: int(age[1])})
    else:
        when = datetime.fromisoformat(given)
        when = when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
    return f"{when:%Y-%m-%dT%H:%M:%S}.{when.microsecond // 1000:03d}Z"
