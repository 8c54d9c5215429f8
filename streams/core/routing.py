"""Which deployment an attempt goes to, and why not to the others (DESIGN §8).

Pure: what a worker knows at this moment comes in as a `View`, chance as a draw that belongs to the attempt
(`identity.draw`), so that the same attempt with the same view is always routed alike.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from schemas.routing import Considered, LeftOut, Routing, Strategy

LATENCY_MEMORY_S = 10.0
"""After this time a latency counts a third (1/e); what linkerd and Finagle take for peak-EWMA."""
FAILED_CALL_COUNTS_AS_S = 10.0
"""A failure counts as an answer that took at least as long: one that fails fast must not look like the fastest."""


@dataclass(frozen=True, slots=True)
class Option:
    """A deployment that may serve an attempt. `price`: nano-USD of this attempt there, comparable with the others."""

    id: str
    weight: float = 1.0
    priority: int = 0
    price: int = 0


@dataclass(frozen=True, slots=True)
class View:
    """What a worker knows when it chooses. Keys are deployment ids; what is missing is unknown, or zero.

    `out`: who takes no call now, and why. `full`: who has no room for one more call, so that it would wait. `turns`:
    the number of the last choice that fell on it. `in_flight` counts the calls that wait or run.
    """

    out: Mapping[str, LeftOut] = field(default_factory=dict)
    full: Collection[str] = ()
    in_flight: Mapping[str, int] = field(default_factory=dict)
    latency_s: Mapping[str, float] = field(default_factory=dict)
    turns: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Latency:
    """Peak-EWMA of a deployment's answers: a slow one counts at once, a fast one little by little."""

    seconds: float
    at_ms: int

    def now(self, now_ms: int) -> float:
        """Return the latency to expect. It falls while nothing is heard, so that a slow deployment is tried again."""
        return self.seconds * _faded(now_ms - self.at_ms)


def heard(before: Latency | None, took_s: float, *, answered: bool, now_ms: int) -> Latency:
    """Return the latency after one call that took so long."""
    sample = took_s if answered else max(took_s, FAILED_CALL_COUNTS_AS_S)
    if before is None:
        return Latency(sample, now_ms)
    if sample >= before.now(now_ms):
        return Latency(sample, now_ms)
    kept = _faded(now_ms - before.at_ms)
    return Latency(before.seconds * kept + sample * (1 - kept), now_ms)


def _faded(elapsed_ms: int) -> float:
    return math.exp(-max(elapsed_ms, 0) / 1000 / LATENCY_MEMORY_S)


def choose_route(
    groups: Sequence[Sequence[Option]], *, strategy: Strategy, view: View, tried: Collection[str], draw: float
) -> Routing:
    """Choose a deployment: among those that are in, who was not tried yet, of the model preferred most, by `strategy`.

    `groups`: the options per model name, in the request's order of preference. `tried`: those that failed this request
    before; they come last. `draw` is in [0, 1). Where others of the same model have room, those that are full are left
    out.
    """
    everybody = [option for group in groups for option in group]
    left_out: dict[str, LeftOut] = {o.id: view.out[o.id] for o in everybody if o.id in view.out}
    among = _among(groups, left_out, tried)
    for option in everybody:
        if option not in among and option.id not in left_out:
            left_out[option.id] = "tried" if option.id in tried and not _all_tried(among, tried) else "less_preferred"
    roomy = [option for option in among if option.id not in view.full]
    if roomy and len(roomy) < len(among):
        left_out.update({option.id: "full" for option in among if option.id in view.full})
        among = roomy
    chosen, scores = _BY_STRATEGY[strategy](among, view, draw) if among else (None, {})
    return Routing(
        strategy=strategy,
        chosen=chosen,
        candidates=tuple(_told(option.id, left_out.get(option.id), scores.get(option.id)) for option in everybody),
    )


def _among(groups: Sequence[Sequence[Option]], out: Mapping[str, LeftOut], tried: Collection[str]) -> list[Option]:
    """Return those between whom the strategy decides: all in, of one model, all tried or all untried."""
    for avoid in (tried, ()):
        for group in groups:
            left = [option for option in group if option.id not in out and option.id not in avoid]
            if left:
                return left
    return []


def _all_tried(options: Sequence[Option], tried: Collection[str]) -> bool:
    return all(option.id in tried for option in options)


def _told(deployment: str, reason: LeftOut | None, score: float | None) -> Considered:
    if reason is not None:
        return Considered(deployment=deployment, verdict="excluded", reason=reason)
    return Considered(deployment=deployment, verdict="considered", score=score)


Choice = tuple[str, Mapping[str, float]]
"""The chosen id, and the score of each that was looked at."""


def _round_robin(options: Sequence[Option], view: View, _: float) -> Choice:
    """Whose last turn is longest ago: stays fair when the candidates differ from request to request."""
    turns = {option.id: float(view.turns.get(option.id, 0)) for option in options}
    return min(turns, key=turns.__getitem__), turns


def _weighted(options: Sequence[Option], _: View, draw: float) -> Choice:
    """By weight; where all weights are 0, evenly."""
    weights = {option.id: option.weight for option in options}
    if not any(weights.values()):
        weights = dict.fromkeys(weights, 1.0)
    point = draw * math.fsum(weights.values())
    chosen = ""
    for name, weight in weights.items():
        if weight > 0:
            chosen = name
            point -= weight
            if point < 0:
                break
    return chosen, weights


def _least_busy(options: Sequence[Option], view: View, draw: float) -> Choice:
    return _lowest({option.id: float(view.in_flight.get(option.id, 0)) for option in options}, draw)


def _latency(options: Sequence[Option], view: View, draw: float) -> Choice:
    """Peak-EWMA times the calls that this one would join, of two that the draw names: no herd on the fastest."""
    if len(options) == 1:
        return options[0].id, {options[0].id: _expected_s(options[0], view)}
    spread = draw * len(options)
    first = int(spread)
    second = int((spread - first) * (len(options) - 1))
    pair = (options[first], options[second + (second >= first)])
    scores = {option.id: _expected_s(option, view) for option in pair}
    return min(scores, key=scores.__getitem__), scores


_UNKNOWN_AND_BUSY_S = 1_000_000.0
"""One call at a time finds out how fast a deployment is that nobody has called yet."""


def _expected_s(option: Option, view: View) -> float:
    busy = view.in_flight.get(option.id, 0)
    known = view.latency_s.get(option.id)
    if known is None:
        return _UNKNOWN_AND_BUSY_S + busy if busy else 0.0
    return known * (busy + 1)


def _cost(options: Sequence[Option], _: View, draw: float) -> Choice:
    return _lowest({option.id: float(option.price) for option in options}, draw)


def _priority(options: Sequence[Option], view: View, draw: float) -> Choice:
    """By weight within the group that comes first: the lowest number."""
    first = min(option.priority for option in options)
    chosen, _ = _weighted([option for option in options if option.priority == first], view, draw)
    return chosen, {option.id: float(option.priority) for option in options}


def _lowest(scores: Mapping[str, float], draw: float) -> Choice:
    """Who has the lowest score; the draw decides between equals, so that workers do not all choose the same."""
    least = min(scores.values())
    equals = [name for name, score in scores.items() if score == least]
    return equals[int(draw * len(equals))], scores


_BY_STRATEGY: Mapping[Strategy, Callable[[Sequence[Option], View, float], Choice]] = {
    "round-robin": _round_robin,
    "weighted": _weighted,
    "least-busy": _least_busy,
    "latency": _latency,
    "cost": _cost,
    "priority": _priority,
}
