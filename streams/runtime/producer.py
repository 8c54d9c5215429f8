"""Producers of our own: idempotent, and fenced at the last moment before a request leaves."""

from collections.abc import Mapping
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.protocol.produce import ProduceRequest

from streams.runtime.fence import Fence
from streams.runtime.ports import Process, Rows
from streams.runtime.process import TRY_AGAIN

MAX_ROWS_BYTES = 1_000_000
"""Most uncompressed bytes of one batch of rows; a broker takes 1,048,588 by default (`max.message.bytes`)."""
REQUEST_TIMEOUT_MS = 30_000


class RowsTooLargeError(ValueError):
    """Rows that have to be stored together do not fit into one record batch; none of them was sent."""


class Gate:
    """aiokafka's client, as the sender uses it, with the fence before every produce request."""

    def __init__(self, client: Any, fence: Fence) -> None:
        self._client = client
        self._fence = fence

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def send(self, node_id: int, request: object, **options: Any) -> Any:
        """Send one request. A connection is made before the check, so that only the write itself follows it.

        Without a connection nothing will be written; aiokafka tries again.
        """
        if isinstance(request, ProduceRequest) and await self._client.ready(node_id):
            await self._fence.confirm()
        return await self._client.send(node_id, request, **options)


class Producer(AIOKafkaProducer):  # type: ignore[misc]  # aiokafka is not typed
    """One idempotent producer; with a `fence`, one that a zombie cannot write with.

    aiokafka has one request in flight per broker and one batch per partition in it, so order holds across retries.
    A fatal error (out of sequence) ends its sender for good: then the process ends.
    """

    def __init__(
        self, connection: Mapping[str, Any], process: Process, *, fence: Fence | None = None, idempotent: bool = True
    ) -> None:
        super().__init__(
            **connection,
            acks="all",
            enable_idempotence=idempotent,
            linger_ms=3,
            max_batch_size=256 * 1024,
            max_request_size=2 * 1024 * 1024,
            compression_type="lz4",
            request_timeout_ms=REQUEST_TIMEOUT_MS,
        )
        self._process = process
        if fence is not None:
            self._sender.client = Gate(self.client, fence)

    async def start(self) -> None:
        """Connect and get a producer id; raises `KafkaError` where there is no cluster."""
        await super().start()
        self._sender.sender_task.add_done_callback(self._sender_ended)

    def _sender_ended(self, task: Any) -> None:
        if self._closed or task.cancelled():
            return
        self._process.exit(TRY_AGAIN, f"the producer has failed for good: {task.exception()!r}")

    async def send_rows(self, topic: str, partition: int, rows: Rows) -> Any:
        """Queue `rows` as one record batch; return the future of its metadata (base offset).

        Waits while an earlier batch of the partition is still queued. Two callers must not wait at once: who is woken
        first is not who came first.
        """
        batch = batch_of(rows, self._message_accumulator._compression_type)
        return await self.send_batch(batch, topic, partition=partition)


def batch_of(rows: Rows, compression: int = 0) -> BatchBuilder:
    """Put rows into one record batch and close it, so that nothing is added to it later."""
    batch = BatchBuilder(MAX_ROWS_BYTES, compression)
    for key, value in rows:
        if batch.append(timestamp=None, key=key, value=value) is None:
            raise RowsTooLargeError(f"{len(rows)} rows exceed one record batch of {MAX_ROWS_BYTES} bytes")
    if batch.size() > MAX_ROWS_BYTES:
        raise RowsTooLargeError(f"a row exceeds one record batch of {MAX_ROWS_BYTES} bytes")
    batch.close()
    return batch
