"""Metrics of one worker, for Prometheus: read when asked for, from plain numbers that the worker counts anyway.

Labels come from closed sets (deployments from the configuration). `python -m streams.runtime.metrics` prints
docs/metrics.md.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from streams.runtime.counts import Counts

PREFIX: Final = "orchestrator_"


@dataclass(frozen=True, slots=True)
class Described:
    """One metric: its name without the prefix, what it is, its labels, and what it says."""

    name: str
    kind: Literal["counter", "gauge"]
    labels: tuple[str, ...]
    says: str


METRICS: Final = (
    Described(
        "requests_decided",
        "counter",
        ("outcome", "code"),
        "Requests that ended: `answered`, or `failed` with an error code.",
    ),
    Described(
        "attempts",
        "counter",
        ("deployment", "reason"),
        "Attempts that ended: `answered`, or why not; `other`: nobody was called.",
    ),
    Described("attempts_redriven", "counter", (), "Attempts that nobody ran any more, found after an assignment."),
    Described("dead_letters", "counter", ("reason",), "Records that could not be processed, repeated ones included."),
    Described(
        "provider_failures_unclassified",
        "counter",
        (),
        "Failures of calls that no rule knows: worth a look at the log.",
    ),
    Described("requests_forgotten", "counter", (), "Finished requests forgotten after `idempotency.horizon`."),
    Described("requests_swept", "counter", (), "Open requests that only the sweeper closed. More than 0 is a bug."),
    Described("groups_stored", "counter", (), "Groups of decisions whose rows were stored."),
    Described("group_records", "counter", (), "Records in those groups; divided by them: the mean size of a group."),
    Described("rebalances", "counter", (), "Rebalances that this worker has seen begin."),
    Described("calls_in_flight", "gauge", (), "Calls to providers that run now."),
    Described("requests_open", "gauge", (), "Requests of the partitions held here that are not done."),
    Described("partitions_held", "gauge", (), "Home partitions that this worker decides on."),
    Described(
        "lag_records", "gauge", ("topic",), "Records in the log and not yet acknowledged, of the partitions held here."
    ),
    Described(
        "commit_age_seconds",
        "gauge",
        (),
        "For how long delivered records have waited for a commit without any progress.",
    ),
)
"""Every metric of a worker."""

Samples = dict[tuple[str, ...], float]


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the numbers that `Counts` does not have come from."""

    calls: Callable[[], int] = lambda: 0
    open_requests: Callable[[], int] = lambda: 0
    partitions: Callable[[], int] = lambda: 0
    rebalances: Callable[[], int] = lambda: 0
    lag: Callable[[], Mapping[str, int]] = field(default=dict)
    commit_age_s: Callable[[], float] = lambda: 0.0
    stored: Callable[[], tuple[int, int]] = lambda: (0, 0)


class WorkerMetrics(Collector):
    """Collects all of a worker's metrics."""

    def __init__(self, counts: Counts, sources: Sources) -> None:
        self._counts, self._sources = counts, sources

    def collect(self) -> Iterator[Metric]:
        """Yield every metric with its samples now."""
        samples = self._samples()
        for one in METRICS:
            yield _family(one, samples[one.name].items())

    def _samples(self) -> dict[str, Samples]:
        counts, sources = self._counts, self._sources
        return {
            "requests_decided": {(outcome, code): count for (outcome, code), count in counts.decided.items()},
            "attempts": {(deployment, reason): count for (deployment, reason), count in counts.attempts.items()},
            "attempts_redriven": {(): counts.redriven},
            "dead_letters": {(reason,): count for reason, count in counts.dead_letters.items()},
            "provider_failures_unclassified": {(): counts.unclassified},
            "requests_forgotten": {(): counts.forgotten},
            "requests_swept": {(): counts.swept},
            "groups_stored": {(): sources.stored()[0]},
            "group_records": {(): sources.stored()[1]},
            "rebalances": {(): sources.rebalances()},
            "calls_in_flight": {(): sources.calls()},
            "requests_open": {(): sources.open_requests()},
            "partitions_held": {(): sources.partitions()},
            "lag_records": {(topic,): count for topic, count in sources.lag().items()},
            "commit_age_seconds": {(): sources.commit_age_s()},
        }


def _family(one: Described, samples: Iterable[tuple[tuple[str, ...], float]]) -> Metric:
    kind = CounterMetricFamily if one.kind == "counter" else GaugeMetricFamily
    family = kind(PREFIX + one.name, one.says, labels=one.labels)
    for labels, value in samples:
        family.add_metric(labels, value)
    return family


def page_of(counts: Counts, sources: Sources) -> Callable[[], tuple[bytes, str]]:
    """Return what renders the page of metrics: its bytes and their content type."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(WorkerMetrics(counts, sources))
    ProcessCollector(registry=registry)
    return lambda: (generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4)


def document() -> str:
    """Return docs/metrics.md."""
    rows = "\n".join(
        f"| `{PREFIX}{m.name}{'_total' if m.kind == 'counter' else ''}` | {m.kind} | "
        f"{', '.join(f'`{label}`' for label in m.labels)} | {m.says} |"
        for m in METRICS
    )
    return f"""# Metrics

Each worker answers `/metrics` on `health.port` (0: off), on the address `orchestrator.host`,
beside `/livez` and `/readyz`.
Labels come from closed sets: deployments from the configuration, codes and reasons from CONTRACT. `process_…` metrics
(memory, CPU, file descriptors) are there, too.

| metric | kind | labels | says |
|---|---|---|---|
{rows}

Printed by `python -m streams.runtime.metrics`.
"""


if __name__ == "__main__":
    print(document(), end="")
