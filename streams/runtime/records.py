"""Reading record batches whatever their headers are named.

Kafka does not look at the bytes of a header's name, and aiokafka raises where they are not UTF-8: one such record would
stop its partition for ever. Here its odd bytes become U+FFFD, and the record is read.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Any, SupportsIndex, overload

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import DefaultRecordBatch, _DefaultRecordBatchPy
from aiokafka.record.memory_records import _MemoryRecordsPy


class _Lenient(bytearray):
    """Bytes whose slices become text without fail."""

    @overload
    def __getitem__(self, index: SupportsIndex, /) -> int: ...
    @overload
    def __getitem__(self, index: slice, /) -> bytearray: ...
    def __getitem__(self, index: Any, /) -> Any:
        found = super().__getitem__(index)
        return _Lenient(found) if isinstance(index, slice) else found

    def decode(self, encoding: str = "utf-8", errors: str = "replace") -> str:
        return bytes(self).decode(encoding, errors)


class _LenientBatch(_DefaultRecordBatchPy):  # type: ignore[misc]  # aiokafka is not typed
    """aiokafka's reader in Python, about twenty times slower than its compiled one."""

    _buffer: Any

    def _maybe_uncompress(self) -> None:
        super()._maybe_uncompress()
        self._buffer = _Lenient(self._buffer)


class TolerantBatch:
    """A batch as aiokafka's fetcher uses it; the compiled reader's, until that meets a name that is no text."""

    def __init__(self, batch: Any, raw: bytes) -> None:
        self._batch, self._raw = batch, raw

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        read = 0
        try:
            for record in self._batch:
                yield record
                read += 1
        except UnicodeDecodeError:
            yield from islice(_LenientBatch(self._raw), read, None)


class TolerantRecords(_MemoryRecordsPy):  # type: ignore[misc]  # aiokafka is not typed
    """The batches of a fetched partition."""

    def next_batch(self, *args: Any) -> Any:
        """Return the next batch, None after the last."""
        raw = self._next_slice
        batch = super().next_batch(*args)
        return TolerantBatch(batch, raw) if isinstance(batch, DefaultRecordBatch) else batch


def tolerate_header_names() -> None:
    """Let every consumer of this process read records whose header names are not UTF-8."""
    fetcher.MemoryRecords = TolerantRecords
