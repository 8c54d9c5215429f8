"""A tenant's account in one home partition: per budget window what is spent and what is reserved.

`spent + reserved ≤ limit` holds after every entry (DESIGN §2, G3), unless a provider bills more than the bound that it
was told, or an operator lowers a limit. Windows are UTC calendar, by the home record's broker time (CONTRACT §2).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from streams.core.changes import changed

NO_WINDOW = "none"
MINUTE_MS = 60_000

_FORMATS = {"minute": "%Y-%m-%dT%H:%M", "hour": "%Y-%m-%dT%H", "day": "%Y-%m-%d", "month": "%Y-%m"}


def window_id(kind: str, moment_ms: int) -> str:
    """Name the window of this kind that a moment lies in: `day:2026-11-23`, `total`."""
    return _window_id(kind, moment_ms // MINUTE_MS)


@lru_cache(maxsize=1024)
def _window_id(kind: str, minute: int) -> str:
    if kind not in _FORMATS:
        return kind
    return f"{kind}:{datetime.fromtimestamp(minute * 60, UTC).strftime(_FORMATS[kind])}"


@dataclass(frozen=True)  # without slots, for `changed`
class Window:
    """Amounts in nano-USD. `uncertain`: bookings at a bound whose truth may still arrive; `holds`: open ones, of 0 too.
    Both keep the window alive.

    `overrun`: a provider billed more than an attempt's hold; no further hold is placed until the window turns.
    """

    id: str
    limit: int | None
    spent: int = 0
    reserved: int = 0
    uncertain: int = 0
    overrun: bool = False
    holds: int = 0

    def fits(self, amount: int) -> bool:
        """Whether `amount` more may be reserved."""
        return self.limit is None or self.spent + self.reserved + amount <= self.limit

    @property
    def kind(self) -> str:
        """`day` of `day:2026-11-23`."""
        return self.id.partition(":")[0]


@dataclass(frozen=True)  # without slots, for `changed`
class Account:
    """The windows in the order of their budgets in the configuration, and older ones that something still depends on.

    `clock_ms` is the tenant's event time, which never runs backwards; `tat_ns` and `tokens_tat_ns` are the rate
    limiters' states (`gcra`), of requests and of tokens.
    """

    tenant: str
    clock_ms: int = 0
    tat_ns: int = 0
    tokens_tat_ns: int = 0
    windows: tuple[Window, ...] = ()

    def window(self, window: str) -> Window | None:
        """Find a window by its id."""
        return next((w for w in self.windows if w.id == window), None)


def turned_to(account: Account, limits: Sequence[tuple[str, int]], moment_ms: int) -> tuple[Account, tuple[str, ...]]:
    """Return the account with the windows that `moment_ms` lies in, and their ids.

    `limits` are (kind, nano-USD) pairs of the tenant's budgets; none means one window `none` without a limit. A window
    keeps the limit that it has (`Pen.note_budgets` changes it). A window stays until it turns, even without
    its budget, which may come back: what is spent is spent. After that it goes, once no hold is open and nothing
    uncertain in it.
    """
    clock = max(account.clock_ms, moment_ms)
    wanted = tuple((window_id(kind, clock), limit) for kind, limit in limits) or ((NO_WINDOW, None),)
    ids = tuple(name for name, _ in wanted)
    windows = [account.window(name) or Window(name, limit) for name, limit in wanted]
    others = [w for w in account.windows if w.id not in ids]
    windows += [w for w in others if w.holds or w.uncertain or w.id == window_id(w.kind, clock)]
    return changed(account, clock_ms=clock, windows=tuple(windows)), ids


def with_window(account: Account, window: Window) -> Account:
    """Return the account with this window in the place of the one with its id, or added."""
    if account.window(window.id) is None:
        return changed(account, windows=(*account.windows, window))
    return changed(account, windows=tuple(window if w.id == window.id else w for w in account.windows))


def place(window: Window, hold: int) -> Window:
    """Reserve `hold`. The caller has asked `fits`."""
    return changed(window, reserved=window.reserved + hold, holds=window.holds + 1)


def settle(window: Window, hold: int, amount: int, *, certain: bool) -> Window:
    """Close a hold: book `amount`, give the rest back. An amount above the hold is booked in full and flagged."""
    return changed(
        window,
        spent=window.spent + amount,
        reserved=window.reserved - hold,
        holds=window.holds - 1,
        uncertain=window.uncertain + (not certain),
        overrun=window.overrun or (window.limit is not None and amount > hold),
    )


def adjust(window: Window, delta: int) -> Window:
    """Correct an uncertain booking by the truth, once. A truth above the bound is booked in full and flagged."""
    return changed(
        window,
        spent=window.spent + delta,
        uncertain=window.uncertain - 1,
        overrun=window.overrun or (window.limit is not None and delta > 0),
    )


def stopped(account: Account, windows: Sequence[str]) -> Account:
    """Return the account after an overrun: these windows have it too, whichever the money was booked in."""
    return changed(
        account,
        windows=tuple(
            changed(w, overrun=True) if w.id in windows and w.limit is not None else w for w in account.windows
        ),
    )
