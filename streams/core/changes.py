"""Changed copies of immutable values, cheap enough for the hot path."""

from typing import Any, TypeVar

T = TypeVar("T")


def changed(value: T, **changes: Any) -> T:
    """Return what `dataclasses.replace` would, in a tenth of its time: every fact of a decision makes a new value.

    For frozen dataclasses without slots and without `__post_init__`. Names are not checked.
    """
    copy = object.__new__(type(value))
    copy.__dict__.update(value.__dict__)
    copy.__dict__.update(changes)
    return copy
