"""Parts of topics, for operators: one record at its coordinates, some partitions, what came after a moment."""

from collections.abc import Collection
from dataclasses import replace
from typing import Final

from aiokafka import TopicPartition
from aiokafka.structs import ConsumerRecord

from streams.core.story import Place
from streams.runtime.reading import Reader, Span, no_progress

REDRIVEN_FROM: Final = "orchestrator-redriven-from"
"""Header of a record that `orchestrator deadletters redrive` published again: TOPIC/PARTITION/OFFSET of the letter."""


def part(span: Span, partitions: Collection[int]) -> Span:
    """Return the span of some partitions."""
    return Span(
        span.topic,
        {p: begin for p, begin in span.begins.items() if p in partitions},
        {p: end for p, end in span.ends.items() if p in partitions},
    )


async def since(reader: Reader, span: Span, time_ms: int) -> Span:
    """Return the part of a span that begins with the first record at or after a moment (broker time)."""
    asked = {TopicPartition(span.topic, p): time_ms for p in span.begins}
    found = await reader.consumer.offsets_for_times(asked)
    begins = {tp.partition: span.ends[tp.partition] if at is None else at.offset for tp, at in found.items()}
    return Span(span.topic, {p: min(begins[p], end) for p, end in span.ends.items()}, span.ends)


async def fetch(reader: Reader, span: Span, partition: int, offset: int) -> ConsumerRecord | None:
    """Read one record; None where there is none: retention took it, or the log does not reach that far."""
    if not span.begins.get(partition, 0) <= offset < span.ends.get(partition, 0):
        return None
    quiet = replace(reader, advance=no_progress)
    async for records in quiet.read(Span(span.topic, {partition: offset}, {partition: offset + 1})):
        for record in records:
            if record.offset == offset:
                return record
    return None


def place_of(record: ConsumerRecord) -> Place:
    """Return where a record stands."""
    return Place(record.topic, record.partition, record.offset)
