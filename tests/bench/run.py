"""`make bench`: measures, and writes `docs/performance.json` and `docs/performance.md`.

`ONLY=pipeline,core` picks parts, `ROUNDS=3` and `REQUESTS=8000` set how much. Subjects take turns, so that a noisy
minute hits all of them; of a figure there are minimum, median and maximum.
"""

import asyncio
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.bench.memory import Bench, request
from tests.bench.pipeline import ROOT, Result, measure_ours, measure_peer
from tests.broker.kafka import any_kafka
from tests.core.build import Desk, configuration, deployment, outputs, prompt, succeeded

LATENCIES_MS = (0.0, 200.0)
AT_ONCE = 1000
PEERS = {"peer_raw": "(a) aiokafka + aiohttp + orjson, no state", "peer_faust": "(b) the same in a stock Faust agent"}
LIBRARIES = ("faust-streaming", "aiokafka", "aiohttp", "httpx", "orjson", "uvloop", "rocksdict", "pydantic")
BATCH = 500
RICH = 'tenants: [{name: acme, budgets: [{usd: "1000000", window: day}]}]'


def pipeline(rounds: int, requests: int) -> list[dict[str, Any]]:
    """Measure ours and the peers in turns."""
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="bench-kafka-") as directory, any_kafka(Path(directory)) as kafka:
        for _ in range(rounds):
            for latency_ms in LATENCIES_MS:
                for peer in PEERS:
                    results.append(measure_peer(kafka.bootstrap, peer, requests, latency_ms, at_once=AT_ONCE))
                    print(results[-1], flush=True)
                results.append(measure_ours(kafka.bootstrap, requests, latency_ms, at_once=AT_ONCE))
                print(results[-1], flush=True)
    return [asdict(result) for result in results]


def core(rounds: int, _requests: int) -> list[dict[str, Any]]:
    """Measure decisions alone, and both stages with the write path on ports in memory: CPU microseconds of each."""

    def decide() -> int:
        desk = Desk(configuration(RICH), (deployment(),))
        for number in range(BATCH):
            event = succeeded(request_id=f"r-{number}")
            outputs(desk.ask(prompt(request_id=f"r-{number}")))
            outputs(desk.must_hear(event), event)
        return BATCH

    def stages() -> int:
        asyncio.run(Bench().answer([request(number) for number in range(BATCH)]))
        return BATCH

    parts = {"two decisions and their events": decide, "both stages, in memory": stages}
    return [{"subject": name, "cpu_us": _cpu_us(work)} for _ in range(5 * rounds) for name, work in parts.items()]


def _cpu_us(work: Callable[[], int]) -> float:
    before = time.process_time()
    count = work()
    return round((time.process_time() - before) / count * 1e6, 1)


PARTS: dict[str, Callable[[int, int], list[dict[str, Any]]]] = {"pipeline": pipeline, "core": core}


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.machine(),
    )
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": model,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in LIBRARIES},
    }


def _spread(values: Sequence[float]) -> str:
    return f"{min(values):,.0f} / {statistics.median(values):,.0f} / {max(values):,.0f}"


def page(found: dict[str, Any]) -> str:
    """Write the results for people."""
    lines = [
        "# Performance",
        "",
        "Written by `make bench` (`tests/bench/run.py`); do not edit. Values are minimum / median / maximum.",
        "",
    ]
    for part, write in (("pipeline", _pipeline_lines), ("core", _core_lines)):
        if part in found:
            lines += [f"## {part.capitalize()}", "", *write(found[part]["rows"]), "", _told(found[part]["machine"]), ""]
    return "\n".join(lines)


def _told(where: dict[str, Any]) -> str:
    libraries = ", ".join(f"{name} {number}" for name, number in where["libraries"].items())
    return f"{where['date']}, {where['cores']} cores ({where['cpu']}), Python {where['python']}, {libraries}."


def _core_lines(rows: list[dict[str, Any]]) -> list[str]:
    lines = ["| what | CPU µs per request |", "|---|---|"]
    for name in dict.fromkeys(row["subject"] for row in rows):
        lines.append(f"| {name} | {_spread([row['cpu_us'] for row in rows if row['subject'] == name])} |")
    return lines


def _pipeline_lines(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        f"Kafka in, provider, Kafka out; one process on one core, {AT_ONCE:,} requests unanswered at any time, tenants",
        "with a budget. The peers keep no state and promise nothing. Ratios are ours to the peer's of the same round,",
        "the median. *Foreign* are the cores that others used: broker, provider, load generator and all else.",
        "",
        "| provider | subject | requests/s | ratio of rates | ratio of CPU | CPU µs per request | MiB | foreign |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for latency_ms in LATENCIES_MS:
        ours = [row for row in rows if row["subject"] == "ours" and row["latency_ms"] == latency_ms]
        for subject in ("ours", *PEERS):
            of = [row for row in rows if row["subject"] == subject and row["latency_ms"] == latency_ms]
            pairs = list(zip(ours, of, strict=True))
            rates = [mine["per_second"] / peer["per_second"] for mine, peer in pairs]
            costs = [mine["cpu_us"] / peer["cpu_us"] for mine, peer in pairs]
            ratios = (
                ["", ""] if subject == "ours" else [f"{statistics.median(values):.2f}" for values in (rates, costs)]
            )
            cells = [
                f"{latency_ms:g} ms",
                PEERS.get(subject, "ours"),
                _spread([row["per_second"] for row in of]),
                *ratios,
                _spread([row["cpu_us"] for row in of]),
                f"{max(row['rss_mib'] for row in of):.0f}",
                f"{statistics.median([row['foreign_cpu'] for row in of]):.1f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def main() -> int:
    """Run the parts that `ONLY` names, or all; what was measured before of the others stays."""
    only = os.environ.get("ONLY", ",".join(PARTS)).split(",")
    unknown = set(only) - PARTS.keys()
    if unknown:
        print(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}", file=sys.stderr)
        return 2
    rounds, requests = int(os.environ.get("ROUNDS", "3")), int(os.environ.get("REQUESTS", "8000"))
    file = ROOT / "docs" / "performance.json"
    found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    for part in only:
        found[part] = {"machine": machine(), "rows": PARTS[part](rounds, requests)}
        file.write_text(json.dumps(found, indent=1) + "\n")
        file.with_suffix(".md").write_text(page(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
