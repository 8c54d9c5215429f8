"""A newcomer's first command: what it prints is what the topics say, and nothing of it stays behind."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import uuid
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiokafka.admin import AIOKafkaAdminClient

from streams.runtime.local_model import MODEL
from tests.broker.kafka import Kafka
from tests.integration.books import audit, read_books

pytestmark = [
    pytest.mark.xdist_group("broker"),  # five processes and a model: not beside another test of that kind
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes through /proc"),
]

COMMAND = Path(sys.executable).with_name("orchestrator")
LOOK_EVERY_S = 0.1
ENDED_WITHIN_S = 20
PARTITIONS = 4


@dataclass
class Demo:
    """A running demo; every process of it carries a mark in its environment."""

    process: asyncio.subprocess.Process
    mark: str

    def others(self) -> dict[int, str]:
        """Return the processes of this demo but the command itself, by pid, with their command lines."""
        parents = {pid: line for pid, line in _processes(self.mark).items() if pid != self.process.pid}
        brokers = {pid: line for pid, line in _children_of(set(parents)).items() if pid not in parents}
        return parents | brokers

    async def has(self, what: str) -> None:
        """Wait until one of its processes has `what` in its command line."""
        async with asyncio.timeout(60):
            while not any(what in line for line in self.others().values()):
                assert self.process.returncode is None
                await asyncio.sleep(LOOK_EVERY_S)

    async def gone(self, pids: set[int]) -> None:
        """Wait until none of these processes runs."""
        async with asyncio.timeout(ENDED_WITHIN_S):
            while any(_line(pid) for pid in pids):
                await asyncio.sleep(LOOK_EVERY_S)

    async def said(self) -> dict[str, Any]:
        """Wait for the summary."""
        assert self.process.stdout is not None
        told = await self.process.stdout.readline()
        assert told, (await self.process.stderr.read()).decode() if self.process.stderr else ""
        summary: dict[str, Any] = json.loads(told)
        return summary


def _line(pid: int) -> str:
    """Return a process's command line, nothing once it has ended (a zombie has none)."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        return ""


def _processes(mark: str) -> dict[int, str]:
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                environ = (entry / "environ").read_bytes()
            except OSError:
                continue
            if mark.encode() in environ and (line := _line(int(entry.name))):
                found[int(entry.name)] = line
    return found


def _children_of(parents: set[int]) -> dict[int, str]:
    """The broker's own program has no environment to speak of."""
    found: dict[int, str] = {}
    for parent in parents:
        try:
            pids = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        except OSError:
            continue
        found |= {int(pid): line for pid in pids if (line := _line(int(pid)))}
    return found


@pytest.fixture
async def started(tmp_path: Path) -> AsyncIterator[Any]:
    """Start demos; kill what is left of them."""
    running: list[Demo] = []

    async def start(*options: str) -> Demo:
        mark = f"DEMO_TEST={uuid.uuid4().hex}"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("ORCHESTRATOR_")}
        process = await asyncio.create_subprocess_exec(
            COMMAND,
            "demo",
            *options,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=inherited | dict([mark.split("=")]) | {"TMPDIR": str(tmp_path)},
        )
        running.append(Demo(process, mark))
        return running[-1]

    yield start
    for demo in running:
        for pid in [demo.process.pid, *demo.others()]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        await demo.process.wait()


def left_in(directory: Path) -> list[str]:
    """Return what is in a directory."""
    return [entry.name for entry in directory.iterdir()]


def billed(costs: dict[str, dict[str, Any]]) -> dict[str, int]:
    """Sum cost events by tenant."""
    totals: dict[str, int] = defaultdict(int)
    for event in costs.values():
        totals[event["tenant"]] += event["cost_nano_usd"]
    return dict(totals)


@pytest.mark.timeout(240)
async def test_the_bill_is_what_the_topics_say_and_a_kept_demo_ends_without_leftovers(
    started: Any, tmp_path: Path
) -> None:
    demo = await started("--json", "--keep")
    summary = await demo.said()
    books = await read_books(summary["bootstrap_servers"], "", "orchestrator", PARTITIONS)

    audit(books)
    assert {request["state"] for request in summary["requests"]} == {"answered", "refused", "dead letter"}, summary
    assert summary["complete"] is True
    assert summary["broker"] == "embedded"
    assert {tenant: line["cost_nano_usd"] for tenant, line in summary["bill"].items()} == billed(books.costs)
    assert summary["total_nano_usd"] == sum(event["cost_nano_usd"] for event in books.costs.values()) > 0
    assert {tenant: line["answered"] + line["refused"] for tenant, line in summary["bill"].items()} == {
        "acme": 12,
        "globex": 6,
        "initech": 6,
    }
    assert summary["bill"]["acme"]["refused"] == summary["bill"]["globex"]["refused"] == 0
    assert summary["bill"]["initech"]["answered"] > 0
    assert summary["bill"]["initech"]["refused"] > 0
    assert len(books.deadletters) == 1
    assert books.deadletters[0]["reason"] == "not_json"
    assert Counter(why["why"] for why in summary["not_answered"]) == {
        "BUDGET_EXCEEDED · budget": summary["bill"]["initech"]["refused"],
        "dead letter · not_json": 1,
    }
    for request in summary["requests"]:
        if request["request_id"] is not None:
            outcome = books.terminal(request["tenant"], request["request_id"])
            assert request["cost_nano_usd"] == outcome["cost_nano_usd"]

    pids = set(demo.others())
    assert len(pids) == 5  # the broker and what watches over it, the model, two workers
    demo.process.send_signal(signal.SIGINT)
    async with asyncio.timeout(30):
        assert await demo.process.wait() == 0
    await demo.gone(pids)
    assert left_in(tmp_path) == []


@pytest.mark.timeout(120)
@pytest.mark.parametrize("phase", ["tansu", "local_model", "worker"])
async def test_ctrl_c_at_any_time_leaves_nothing_behind(started: Any, tmp_path: Path, phase: str) -> None:
    demo = await started()
    await demo.has(phase)
    pids = set(demo.others())
    demo.process.send_signal(signal.SIGINT)
    async with asyncio.timeout(ENDED_WITHIN_S):
        assert await demo.process.wait() == 130
    await demo.gone(pids | set(demo.others()))
    assert left_in(tmp_path) == []


@pytest.mark.timeout(120)
async def test_a_killed_demo_leaves_no_process_behind(started: Any) -> None:
    demo = await started()
    await demo.has("worker")
    pids = set(demo.others())
    assert len(pids) >= 4
    demo.process.kill()
    await demo.process.wait()
    await demo.gone(pids | set(demo.others()))


@pytest.mark.broker
@pytest.mark.timeout(300)
async def test_the_same_runs_on_a_real_cluster_and_removes_its_topics(
    started: Any, kafka: Kafka, topic_prefix: str, tmp_path: Path, local_model: str
) -> None:
    file = tmp_path / "mine.yaml"
    price = {"input_usd_per_million": "3", "output_usd_per_million": "15"}
    model = {"name": MODEL, "endpoint": local_model, "max_tokens": 2048, "template_tokens": 96, "price": price}
    cluster = {
        "bootstrap_servers": kafka.bootstrap,
        "topic_prefix": topic_prefix,
        "partitions": PARTITIONS,
        "session_timeout": 6,
    }
    tenants = [{"name": "somebody", "budgets": [{"usd": "1", "window": "day"}]}]
    file.write_text(yaml.safe_dump({"models": [model], "kafka": cluster, "tenants": tenants}))
    demo = await started("--json", "--keep", "-c", str(file))
    summary = await demo.said()
    prefix = summary["topic_prefix"]
    assert prefix.startswith(f"{topic_prefix}demo-")
    books = await read_books(kafka.bootstrap, prefix, "orchestrator", PARTITIONS)
    audit(books)
    assert summary["broker"] == "cluster"
    assert summary["complete"] is True
    assert {tenant: line["cost_nano_usd"] for tenant, line in summary["bill"].items()} == billed(books.costs)
    assert summary["bill"]["initech"]["refused"] > 0

    pids = set(demo.others())
    demo.process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(30):
        assert await demo.process.wait() == 0
    await demo.gone(pids)
    assert left_in(tmp_path) == ["mine.yaml"]
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    try:
        assert [topic for topic in await admin.list_topics() if topic.startswith(topic_prefix)] == []
    finally:
        await admin.close()
