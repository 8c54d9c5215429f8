"""The event that a record without a better answer leaves behind (CONTRACT §2, §5)."""

from base64 import b64decode
from typing import Any

import pytest

from schemas.deadletters import DeadLetter, dead_letter_event

NOT_JSON = DeadLetter("not_json", "The value is not RFC 8259 JSON.")


def event_of(value: bytes | None, **known: Any) -> dict[str, Any]:
    return dead_letter_event(
        NOT_JSON,
        event_id="7d9f6c1e-5a35-5b43-8d36-0f2f8d0f3a01",
        time_ms=1_795_399_200_007,
        topic="prompt.requests",
        partition=3,
        offset=17,
        value=value,
        **known,
    )


def test_a_dead_letter_tells_where_the_record_is_and_why_it_was_not_understood() -> None:
    assert event_of(b"hello", headers=[("trace", b"\x00\xff"), ("trace", b""), ("none", None)]) == {
        "id": "7d9f6c1e-5a35-5b43-8d36-0f2f8d0f3a01",
        "type": "prompt.dead_lettered.v1",
        "time": "2026-11-23T02:00:00.007Z",
        "topic": "prompt.requests",
        "partition": 3,
        "offset": 17,
        "reason": "not_json",
        "message": "The value is not RFC 8259 JSON.",
        "sha256": "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
        "size": 5,
        "value_base64": "aGVsbG8=",
        "headers": [["trace", "AP8="], ["trace", ""], ["none", None]],
    }


@pytest.mark.parametrize(("value", "value_base64"), [(None, None), (b"", "")])
def test_a_tombstone_has_no_value_and_an_empty_value_is_one(value: bytes | None, value_base64: str | None) -> None:
    event = event_of(value)
    assert event["value_base64"] == value_base64
    assert event["size"] == 0
    assert event["sha256"] == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert event["headers"] == []


def test_the_first_64_kib_of_a_value_are_kept_and_all_of_it_is_counted() -> None:
    whole, longer = event_of(b"a" * 65_536), event_of(b"a" * 65_536 + b"b")
    assert b64decode(whole["value_base64"]) == b"a" * 65_536
    assert b64decode(longer["value_base64"]) == b"a" * 65_536
    assert (whole["size"], longer["size"]) == (65_536, 65_537)
    assert whole["sha256"] != longer["sha256"]


def test_tenant_request_id_and_metadata_are_there_where_they_are_known() -> None:
    event = event_of(b"{}", tenant="acme", request_id="r-1", metadata={"team": "search"})
    assert (event["tenant"], event["request_id"], event["metadata"]) == ("acme", "r-1", {"team": "search"})
    assert not event_of(b"{}").keys() & {"tenant", "request_id", "metadata"}
    assert event_of(b"{}", metadata={})["metadata"] == {}


def test_headers_beyond_64_kib_are_left_out_and_that_is_said() -> None:
    fits = [("a", b"x" * 65_535)]
    assert "headers_truncated" not in event_of(b"x", headers=fits)
    event = event_of(b"x", headers=[*fits, ("b", b""), ("c", b"")])
    assert [name for name, _ in event["headers"]] == ["a"]
    assert event["headers_truncated"] is True
