"""`orchestrator models`: how every deployment does, from the topic `model.health`, and what a call on it costs."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from agents.commands.following import event_of, follow, on_one_line
from agents.commands.prices import Priced, prices
from agents.commands.reading import reading
from schemas.configuration import Configuration
from streams.runtime.reading import Progress
from streams.runtime.topics import Topics

Health = Mapping[str, Any]
"""A `model.health.v1` event; later versions may say more, and it is told."""

_UNSEEN: Final[Health] = {
    "status": "available",
    "circuit": "closed",
    "failures_in_a_row": 0,
    "successes": 0,
    "failures": {},
    "last_reason": None,
}
"""Of a deployment that nobody has called yet: a request may go there."""
_ENVELOPE: Final = frozenset({"id", "type", "time", "deployment"})


@dataclass(frozen=True, slots=True)
class State:
    """One configured deployment and its newest health; `health` None: nobody has called it yet."""

    priced: Priced
    health: Health | None

    @property
    def told(self) -> Health:
        """The health, or what holds where there is none."""
        return self.health if self.health is not None else _UNSEEN

    def as_dict(self) -> dict[str, object]:
        """Return it for programs. `seen`: when this health was concluded, null where there is none."""
        price = self.priced.as_dict()
        return {
            "deployment": self.priced.deployment,
            "model": self.priced.model,
            "provider": self.priced.provider,
            "provider_model": self.priced.provider_model,
            **{name: value for name, value in self.told.items() if name not in _ENVELOPE},
            "seen": None if self.health is None else self.health.get("time"),
            "price": {name: price[name] for name in ("source", "version", "rates", "steps", "why")},
        }


class Board:
    """The newest health of each deployment, taken in the order of the topic."""

    def __init__(self, priced: Sequence[Priced]) -> None:
        """`priced`: every configured deployment, in order."""
        self._priced = priced
        self._health: dict[str, Health] = {}

    def take(self, event: Health | None) -> bool:
        """Take over one event; False for what is none of this topic's."""
        if event is None or event.get("type") != "model.health.v1" or not isinstance(event.get("deployment"), str):
            return False
        self._health[event["deployment"]] = event
        return True

    def states(self) -> list[State]:
        """Return every configured deployment; health of others, which were configured once, is left out."""
        return [State(priced, self._health.get(priced.deployment)) for priced in self._priced]


async def models(configuration: Configuration, environ: Mapping[str, str], advance: Progress) -> list[State]:
    """Read `model.health` as of now. Raises `CommandError` (1, 75)."""
    board = _board(configuration)
    async with reading(configuration, environ, advance) as (reader, topics):
        async for records in reader.read(await reader.span(topics.health)):
            for record in records:
                board.take(event_of(record.value))
    return board.states()


async def live(configuration: Configuration, environ: Mapping[str, str]) -> AsyncIterator[list[State]]:
    """Yield all states at first and whenever one has changed, until the task is cancelled. Raises `CommandError`."""
    board = _board(configuration)
    topics = Topics(configuration.kafka.topic_prefix, configuration.kafka.group)
    async with follow(configuration, environ, [topics.health], from_beginning=True) as followed:
        board_is_new = True
        while True:
            events = await followed.events()
            changed = [board.take(event) for _, event in events]
            if board_is_new or any(changed):
                yield board.states()
            board_is_new = False


COLUMNS: Final = (
    "model",
    "deployment",
    "provider",
    "status",
    "circuit",
    "failures in a row",
    "answered",
    "failed",
    "last failure",
    "seen",
    "USD per million tokens",
)
"""Of `table`."""


def table(states: Iterable[State]) -> list[tuple[str, ...]]:
    """Return rows for people."""
    return [_cells(state) for state in states]


def to_json(states: Iterable[State]) -> bytes:
    """Write all for programs."""
    return orjson.dumps([state.as_dict() for state in states])


def _cells(state: State) -> tuple[str, ...]:
    told, priced = state.told, state.priced
    failures = told.get("failures") or {}
    return (
        priced.model,
        priced.deployment,
        priced.provider,
        on_one_line(str(told.get("status")), 40),
        on_one_line(str(told.get("circuit")), 40),
        str(told.get("failures_in_a_row")),
        str(told.get("successes")),
        on_one_line(", ".join(f"{reason} {count}" for reason, count in sorted(failures.items())), 200) or "0",
        on_one_line(str(told.get("last_reason") or "-"), 40),
        "-" if state.health is None else on_one_line(str(state.health.get("time"))[:19].replace("T", " "), 40),
        "\n".join(priced.lines()),
    )


def _board(configuration: Configuration) -> Board:
    now = datetime.now(UTC)
    return Board(prices(configuration, None, int(now.timestamp() * 1000), now.date()))
