"""One consumed topic as a stage reads it, over a Faust stream."""

from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol

from faust.types import TP

from streams.runtime.ports import Record


class Acknowledging(Protocol):
    """What keeps the offsets to commit: the worker's consumer."""

    def acknowledge(self, tp: TP, offset: int, generation: int) -> None:
        """Let the offset of this record of this generation be committed, and all before it."""
        ...


class FaustSource:
    """`ports.Source` over an agent's stream. Faust acks nothing: `ack` alone decides what is committed."""

    def __init__(self, stream: Any, consumer: Acknowledging) -> None:
        self._queue = stream.channel.queue
        self._stream = stream.noack()
        self._consumer = consumer

    async def __aiter__(self) -> AsyncIterator[Record]:
        """Deliver records as the consumer hands them over: in offset order, not of an older generation."""
        async for event in self._stream.events():
            yield record_of(event.message)

    def idle(self) -> bool:
        """Whether no further record is at hand right now."""
        return bool(self._queue.empty())

    def ack(self, records: Sequence[Record]) -> None:
        """Let the offsets of `records`, in offset order per partition, be committed; those of a past generation not."""
        last = {record.partition: record for record in records}
        for record in last.values():
            self._consumer.acknowledge(TP(record.topic, record.partition), record.offset, record.generation)


def record_of(message: Any) -> Record:
    """Translate Faust's message; its time is a float of seconds that came from whole milliseconds."""
    return Record(
        topic=message.topic,
        partition=message.partition,
        offset=message.offset,
        time_ms=round(message.timestamp * 1000),
        key=message.key,
        value=message.value,
        headers=tuple(message.headers or ()),
        generation=message.generation_id,
    )
