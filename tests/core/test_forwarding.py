"""A forwarded record tells where it was first published; nobody who forges that reaches further than himself."""

import pytest

from streams.core.forwarding import First, first_seen, forwarding_headers
from tests.core.build import NOW

FORWARDED = (
    ("orchestrator-first-topic", b"prompt.requests"),
    ("orchestrator-first-partition", b"5"),
    ("orchestrator-first-offset", b"17"),
    ("orchestrator-first-timestamp", b"1795399199000"),
)


def changed(name: str, value: bytes) -> tuple[tuple[str, bytes], ...]:
    return tuple((n, value if n == name else v) for n, v in FORWARDED)


def test_a_record_without_headers_is_where_it_was_first_published() -> None:
    assert first_seen((("traceparent", b"x"),), 2, 9, NOW) == First(2, 9, NOW, forwarded=False)


def test_a_forwarded_record_keeps_its_first_coordinates_and_time() -> None:
    assert first_seen(FORWARDED, 2, 9, NOW) == First(5, 17, 1_795_399_199_000, forwarded=True)


def test_forwarding_adds_four_headers_and_keeps_the_others() -> None:
    headers = (("traceparent", b"x"), ("orchestrator-first-offset", b"forged"))

    forwarded = forwarding_headers(headers, "prompt.requests", First(5, 17, 1_795_399_199_000, forwarded=False))

    assert forwarded == (("traceparent", b"x"), *FORWARDED)
    assert first_seen(forwarded, 2, 9, NOW) == First(5, 17, 1_795_399_199_000, forwarded=True)


def test_a_first_time_after_the_records_own_is_impossible() -> None:
    later = changed("orchestrator-first-timestamp", b"1795399200001")

    assert first_seen(later, 2, 9, NOW).time_ms == NOW


@pytest.mark.parametrize("name", [name for name, _ in FORWARDED[1:]])
@pytest.mark.parametrize("value", [b"", b"-1", b"1.0", b" 1", b"\xff", b"1" * 19, "\u0663".encode()])
def test_odd_headers_count_as_absent(name: str, value: bytes) -> None:
    assert first_seen(changed(name, value), 2, 9, NOW) == First(2, 9, NOW, forwarded=False)


@pytest.mark.parametrize("missing", [1, 2, 3])
def test_half_of_the_headers_count_as_none(missing: int) -> None:
    half = FORWARDED[:missing] + FORWARDED[missing + 1 :]

    assert first_seen(half, 2, 9, NOW) == First(2, 9, NOW, forwarded=False)
