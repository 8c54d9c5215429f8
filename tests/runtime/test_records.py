"""Records whose headers have names that are no text are read like all others."""

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder, _DefaultRecordBatchBuilderPy

from streams.runtime.records import TolerantRecords


class _Odd(str):
    """A header name that is encoded as bytes that are no UTF-8."""

    __slots__ = ()

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return b"\xff" + super().encode()


def batch(names: list[str], compression: int = 0) -> bytes:
    builder = _DefaultRecordBatchBuilderPy(2, compression, 0, -1, -1, 0, 1 << 20)
    for number, name in enumerate(names):
        builder.append(number, None, b"key", b"%d" % number, [(name, b"value")])
    return bytes(builder.build())


@pytest.mark.parametrize("compression", [0, 3])
def test_a_record_with_an_odd_header_name_is_read_and_those_beside_it(compression: int) -> None:
    records = TolerantRecords(batch(["a", _Odd("b"), "c"], compression) + batch(["d"], compression))
    found = []
    while records.has_next():
        read = records.next_batch()
        assert not read.is_control_batch
        found += [(bytes(one.value), list(one.headers)) for one in read]
    assert found == [
        (b"0", [("a", b"value")]),
        (b"1", [("\ufffdb", b"value")]),
        (b"2", [("c", b"value")]),
        (b"0", [("d", b"value")]),
    ]


def test_the_compiled_reader_alone_would_raise() -> None:
    from aiokafka.record.memory_records import MemoryRecords  # noqa: PLC0415 - what everybody else uses

    assert DefaultRecordBatchBuilder is not _DefaultRecordBatchBuilderPy
    with pytest.raises(UnicodeDecodeError):
        list(MemoryRecords(batch([_Odd("b")])).next_batch())
