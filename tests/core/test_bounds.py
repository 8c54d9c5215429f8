"""Bounds of tokens: never below what a byte-level tokenizer makes of the text."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core.bounds import input_bound, input_bound_of, output_bound, payload_bytes

HI = [{"role": "user", "content": "Hi"}]  # [{"role":"user","content":"Hi"}]: 32 bytes
TOOL = [{"type": "function"}]  # [{"type":"function"}]: 21 bytes


def test_the_input_bound_counts_bytes_messages_and_the_template() -> None:
    assert input_bound(HI, None, template_tokens=64, context_window=8192) == 104  # 32 + 8 + 64


def test_bytes_are_counted_and_not_characters() -> None:
    assert payload_bytes([{"role": "user", "content": "é😀"}], None) == 36


def test_tools_count_where_there_are_any() -> None:
    assert payload_bytes(HI, TOOL) == 53
    assert payload_bytes(HI, []) == 32


def test_each_message_counts_8_more() -> None:
    assert input_bound_of(32, 3, template_tokens=0, context_window=None) == 56


@pytest.mark.parametrize(("context_window", "bound"), [(103, 103), (104, 104), (105, 104), (None, 104)])
def test_the_input_bound_is_at_most_the_context_window(context_window: int | None, bound: int) -> None:
    assert input_bound(HI, None, template_tokens=64, context_window=context_window) == bound


def test_integers_beyond_64_bits_are_counted_too() -> None:
    assert payload_bytes([], [{"maximum": 10**30}]) == 2 + 45  # [{"maximum":1000000000000000000000000000000}]


@given(st.lists(st.fixed_dictionaries({"role": st.just("user"), "content": st.text()}), max_size=5))
def test_no_text_has_more_bytes_than_the_bound(messages: list[dict[str, Any]]) -> None:
    text = sum(len(message["content"].encode()) for message in messages)

    assert input_bound(messages, None, template_tokens=0, context_window=None) >= text


@pytest.mark.parametrize(
    ("requested", "max_output", "context_window", "sent"),
    [
        (None, None, None, 1024),
        (None, 4096, 8192, 1024),
        (None, 1023, 8192, 1023),
        (None, None, 512, 512),
        (256, 4096, 8192, 256),
        (4096, 4096, 8192, 4096),
        (2000, None, None, 2000),
    ],
)
def test_the_output_bound_is_what_was_asked_for_else_the_default_within_the_models_limits(
    requested: int | None, max_output: int | None, context_window: int | None, sent: int
) -> None:
    assert output_bound(requested, default=1024, max_output=max_output, context_window=context_window) == sent
