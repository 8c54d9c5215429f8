"""What one worker has done since it started, counted in plain numbers: cheap to count, read by `metrics` when asked."""

from collections import Counter
from dataclasses import dataclass, field

ANSWERED = "answered"
OTHER = "other"
"""Stands for a deployment that could not be chosen, or that the configuration does not have."""


@dataclass(slots=True)
class Counts:
    """`decided`: by outcome and error code; `attempts`: by deployment and reason; `dead_letters`: by reason.

    `swept` stays 0: it counts requests that only the sweeper closed.
    """

    decided: Counter[tuple[str, str]] = field(default_factory=Counter)
    attempts: Counter[tuple[str, str]] = field(default_factory=Counter)
    dead_letters: Counter[str] = field(default_factory=Counter)
    redriven: int = 0
    unclassified: int = 0
    forgotten: int = 0
    swept: int = 0
