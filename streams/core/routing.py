"""Which deployment an attempt goes to."""

from collections.abc import Container, Sequence
from dataclasses import dataclass

from streams.core.registry import Deployment


@dataclass(frozen=True, slots=True)
class Route:
    """The choice, and why the others were left out: (deployment id, reason)."""

    chosen: Deployment | None
    excluded: tuple[tuple[str, str], ...]


def choose_route(
    groups: Sequence[Sequence[Deployment]], *, out: Container[str], tried: Container[str], turn: int
) -> Route:
    """Choose by round-robin in the first group that has anybody, deployments not yet tried for this request first.

    `groups` are the deployments per model name, in the request's order of preference; `out`: those whose circuit is
    open; `turn` counts the choices made here.
    """
    excluded = tuple((d.id, "circuit_open") for group in groups for d in group if d.id in out)
    for avoid in (tried, ()):
        for group in groups:
            left = [d for d in group if d.id not in out and d.id not in avoid]
            if left:
                return Route(left[turn % len(left)], excluded)
    return Route(None, excluded)
