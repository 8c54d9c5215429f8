"""`orchestrator bill`: what was booked, from the topic of cost events alone."""

import csv
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from agents.commands.exits import FAILED, WRONG, CommandError
from agents.commands.reading import reading
from schemas.configuration import Configuration
from schemas.units import usd
from streams.core.bills import Bill, Row, Selection, total_of
from streams.core.cost_join import parts_for
from streams.runtime.reading import Progress

_MONTH = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])")
_COLUMNS = ("calls", "input_tokens", "output_tokens", "cost_nano_usd", "uncertain_nano_usd", "saved_nano_usd")


@dataclass(frozen=True, slots=True)
class Statement:
    """A bill as of now. `rows` by (tenant, group), in order; `aged`: the topic has lost its oldest events."""

    selection: Selection
    rows: Mapping[tuple[str, str], Row]
    total: Row
    aged: bool

    @property
    def group(self) -> str:
        """What the rows are grouped by: a column's name."""
        return self.selection.by or "group"

    def table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Return columns and rows for people, in US dollars; the last row is the total."""
        by = (self.group,) if self.selection.by else ()
        columns = ("tenant", *by, "calls", "input tokens", "output tokens", "cost", "of it uncertain", "saved")
        rows = [(tenant, *((group,) if by else ()), *_cells(row)) for (tenant, group), row in self.rows.items()]
        return columns, [*rows, ("total", *("" for _ in by), *_cells(self.total))]

    def to_json(self) -> bytes:
        """Write it for programs, exact."""
        rows = [
            {"tenant": tenant, **({self.group: group} if self.selection.by else {}), **_amounts(row)}
            for (tenant, group), row in self.rows.items()
        ]
        return orjson.dumps({"rows": rows, "total": _amounts(self.total), "complete": not self.aged})

    def to_csv(self) -> str:
        """Write it for spreadsheets: a line per row, without the total."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        by = (self.group,) if self.selection.by else ()
        writer.writerow(("tenant", *by, *_COLUMNS, "cost_usd"))
        for (tenant, group), row in self.rows.items():
            amounts = _amounts(row)
            named = (group,) if self.selection.by else ()
            writer.writerow((tenant, *named, *(amounts[column] for column in _COLUMNS), amounts["cost_usd"]))
        return out.getvalue().rstrip("\n")


def selection(tenant: str | None, month: str | None, by: str | None) -> Selection:
    """Return what was asked for. Raises `CommandError` (2)."""
    wrong = []
    if month is not None and not _MONTH.fullmatch(month):
        wrong.append(f"--month: {month!r} is no month; write 2026-11")
    if by is not None and by not in {"model", "day"} and not re.fullmatch(r"metadata\..{1,64}", by):
        wrong.append(f"--by: {by!r} is none of model, day, metadata.KEY")
    if wrong:
        raise CommandError(WRONG, wrong)
    return Selection(tenant, month, by)


async def bill(
    configuration: Configuration, environ: Mapping[str, str], selected: Selection, advance: Progress
) -> Statement:
    """Add up the cost events as of now. Raises `CommandError`: 1 where one cannot be read, 75 without an answer."""
    rows: dict[tuple[str, str], Row] = {}
    problems = 0
    async with reading(configuration, environ, advance) as (reader, topics):
        span = await reader.span(topics.costs)
        parts = parts_for(span.count)
        for part in range(parts):
            fold = Bill(selected, part, parts)
            async for records in reader.read(span):
                for record in records:
                    fold.add(record.value or b"")
            for key, row in fold.rows.items():
                rows.setdefault(key, Row()).add(row)
            problems += fold.problems
    if problems:
        raise CommandError(FAILED, [f"{topics.costs}: {problems} records are no cost events; there is no bill"])
    return Statement(selected, dict(sorted(rows.items())), total_of(rows), any(span.begins.values()))


def _cells(row: Row) -> tuple[str, ...]:
    counts = (f"{count:,}" for count in (row.calls, row.input_tokens, row.output_tokens))
    return (*counts, usd(row.cost), usd(row.uncertain), usd(row.saved))


def _amounts(row: Row) -> dict[str, int | str]:
    return {
        "calls": row.calls,
        "input_tokens": row.input_tokens,
        "output_tokens": row.output_tokens,
        "cost_nano_usd": row.cost,
        "cost_usd": usd(row.cost),
        "uncertain_nano_usd": row.uncertain,
        "saved_nano_usd": row.saved,
    }
