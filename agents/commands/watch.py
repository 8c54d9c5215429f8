"""`orchestrator watch`: follows what becomes of requests and what it costs, for people or for programs."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import orjson

from agents.commands.following import Event, follow, on_one_line
from schemas.configuration import Configuration
from schemas.units import NANO
from streams.runtime.topics import Topics

_REMEMBERED: Final = 200_000
"""Event ids kept, to tell a repeated event once."""
_LONGEST_TEXT: Final = 60


@dataclass(frozen=True, slots=True)
class Line:
    """One line for people. `state` names its colour: answered, failed, dead letter or cost."""

    state: str
    text: str


@dataclass
class Totals:
    """What has been seen so far, every event once."""

    answered: int = 0
    failed: int = 0
    dead_letters: int = 0
    cost_nano_usd: int = 0
    _seen: OrderedDict[str, None] = field(default_factory=OrderedDict)

    def count(self, event: Event) -> bool:
        """Take an event into account; False if it was counted before, or is of no kind that is shown."""
        kind = str(event.get("type"))
        if event["id"] in self._seen or not (kind in _WORDS or kind.startswith("cost.")):
            return False
        self._seen[event["id"]] = None
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        self.answered += kind == "prompt.answered.v1"
        self.failed += kind == "prompt.failed.v1"
        self.dead_letters += kind == "prompt.dead_lettered.v1"
        if kind.startswith("cost."):
            self.cost_nano_usd += _integer(event.get("cost_nano_usd"))
        return True

    def __str__(self) -> str:
        dead = f", {self.dead_letters} dead letters" if self.dead_letters else ""
        return f"Σ {self.answered} answered, {self.failed} failed{dead}, {dollars(self.cost_nano_usd)}"


_WORDS: Final = {
    "prompt.answered.v1": "answered",
    "prompt.failed.v1": "failed",
    "prompt.dead_lettered.v1": "dead letter",
}


async def watch(
    configuration: Configuration,
    environ: Mapping[str, str],
    *,
    tenant: str | None,
    from_beginning: bool,
    for_people: Callable[[Line], None] | None,
    for_programs: Callable[[bytes], None],
) -> None:
    """Tell every result and cost, once, until the task is cancelled; of one tenant, if named.

    Lines of JSON go to `for_programs` unless somebody takes lines for people. Raises `CommandError` (1, 75).
    """
    topics = Topics(configuration.kafka.topic_prefix, configuration.kafka.group)
    names = (topics.responses, topics.errors, topics.costs, topics.deadletters)
    totals = Totals()
    async with follow(configuration, environ, names, from_beginning=from_beginning) as followed:
        while True:
            for _, event in await followed.events():
                if tenant is not None and event.get("tenant") != tenant:
                    continue
                if not totals.count(event):
                    continue
                if for_people is not None:
                    for_people(line_of(event, totals))
                else:
                    for_programs(orjson.dumps(event))


def line_of(event: Event, totals: Totals) -> Line:
    """Return an event for people, with the totals so far; what the model or a producer wrote comes last and cut."""
    kind = str(event.get("type"))
    state = _WORDS.get(kind, "cost")
    parts = [str(event.get("time"))[11:19], _word(kind), _who(event)]
    match state:
        case "answered":
            parts += [_text(event, "model"), f"{_number(event.get('duration_s')):.2f} s", _tokens(event), _cost(event)]
            words = _text(event, "text")
        case "failed":
            error = event.get("error")
            told = error if isinstance(error, dict) else {}
            details = told.get("details")
            reason = details.get("reason") if isinstance(details, dict) else None
            parts += [f"{told.get('code')} · {reason}" if reason else str(told.get("code")), _cost(event)]
            words = str(told.get("message") or "")
        case "dead letter":
            parts += [f"{_text(event, 'topic')} {event.get('partition')}:{event.get('offset')}", _text(event, "reason")]
            words = _text(event, "message")
        case _:
            parts += [f"attempt {event.get('attempt')}", _text(event, "deployment"), _tokens(event), _cost(event)]
            words = ""
    shown = [on_one_line(part, 80) for part in parts if part]
    shown[1] = f"{shown[1]:<13}"
    return Line(state, "  ".join([*shown, str(totals), *([on_one_line(words, _LONGEST_TEXT)] if words else [])]))


def dollars(nano_usd: int) -> str:
    """Write an amount for people to six places: `$0.000360`."""
    return f"{'-' if nano_usd < 0 else ''}${abs(nano_usd) / NANO:.6f}"


def _word(kind: str) -> str:
    return _WORDS.get(kind) or kind.removesuffix(".v1").replace(".", " ")


def _who(event: Event) -> str:
    tenant, request = event.get("tenant"), event.get("request_id")
    return f"{tenant}/{request}" if tenant and request else str(tenant or request or "")


def _tokens(event: Event) -> str:
    usage = event.get("usage")
    if not isinstance(usage, dict):
        return ""
    return f"{usage.get('input_tokens')}+{usage.get('output_tokens')} tokens"


def _cost(event: Event) -> str:
    return dollars(_integer(event.get("cost_nano_usd")))


def _text(event: Event, name: str) -> str:
    return str(event.get(name) or "")


def _integer(value: object) -> int:
    return value if isinstance(value, int) else 0


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
