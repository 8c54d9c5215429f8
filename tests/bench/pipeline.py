"""Kafka in, provider, Kafka out: one worker pinned to one core, so many requests unanswered at a time."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

ROOT = Path(__file__).parents[2]
PARTITIONS = 8
TENANTS = 20
WARM_UP = 0.25
"""This part of the requests is not measured: meanwhile connections are made."""
PATIENCE_S = 60


@dataclass(frozen=True, slots=True)
class Result:
    """One run. `cpu_us`: CPU time per request of all threads; `threads`: the same by thread name."""

    subject: str
    latency_ms: float
    requests: int
    per_second: float
    cpu_us: float
    rss_mib: float
    busy: float
    foreign_cpu: float
    threads: dict[str, float] = field(default_factory=dict)


def pinned(core: int, *command: str) -> list[str]:
    """Return a command on one core, on a machine that has more than one and `taskset`."""
    return ["taskset", "-c", str(core), *command] if (os.cpu_count() or 1) > 1 else list(command)


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def provider(latency_ms: float) -> Iterator[int]:
    """Run the provider on the second core; yields its port."""
    port = free_port()
    command = pinned(1, sys.executable, "-m", "tests.bench.provider", str(port), str(latency_ms))
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield port
    finally:
        process.terminate()
        process.wait()


@dataclass(frozen=True, slots=True)
class Load:
    """Requests on a topic, `at_once` of them unanswered at any time, until all `requests` are answered."""

    bootstrap: str
    prefix: str
    requests: int
    at_once: int

    @property
    def source(self) -> str:
        """Where they are asked."""
        return f"{self.prefix}prompt.requests"

    async def measure(self, process: subprocess.Popen[bytes], subject: str, latency_ms: float, out: str) -> Result:
        """Return how fast `process` answers them with a record each on `out`, after a first part that warms it up."""
        producer = AIOKafkaProducer(bootstrap_servers=self.bootstrap, linger_ms=2, max_batch_size=256 * 1024)
        consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap, auto_offset_reset="earliest")
        await asyncio.gather(producer.start(), consumer.start())
        consumer.assign([TopicPartition(out, number) for number in range(PARTITIONS)])
        asked = answered = 0
        deadline = time.monotonic() + PATIENCE_S
        begun: Reading | None = None
        try:
            while answered < self.requests:
                while asked < min(self.requests, answered + self.at_once):
                    await producer.send(self.source, _request(asked), key=b"t%d" % (asked % TENANTS))
                    asked += 1
                answered += sum(map(len, (await consumer.getmany(timeout_ms=200, max_records=self.at_once)).values()))
                if begun is None and answered >= WARM_UP * self.requests:
                    begun = Reading.now(process.pid, answered)
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{subject} answered {answered} of {self.requests} ({process.poll()})")
            assert begun is not None
            return begun.until(Reading.now(process.pid, answered), process.pid, subject, latency_ms)
        finally:
            await asyncio.gather(producer.stop(), consumer.stop())


def _request(number: int) -> bytes:
    """600 bytes of a tenant with a budget."""
    user = f"Write a note about number {number}. " + "lorem ipsum " * 30
    request = {
        "request_id": f"r{number}",
        "tenant": f"t{number % TENANTS}",
        "model": "m",
        "messages": [
            {"role": "system", "content": "You are a terse assistant."},
            {"role": "user", "content": user},
        ],
        "max_tokens": 160,
    }
    return orjson.dumps(request)


@dataclass(frozen=True, slots=True)
class Reading:
    """What the clocks said at one moment."""

    moment: float
    answered: int
    threads: dict[str, float]
    machine: float

    @classmethod
    def now(cls, pid: int, answered: int) -> "Reading":
        """Look at the clocks."""
        return cls(time.monotonic(), answered, cpu_of(pid), machine_cpu())

    def until(self, last: "Reading", pid: int, subject: str, latency_ms: float) -> Result:
        """Return what happened between two readings."""
        count, elapsed = last.answered - self.answered, last.moment - self.moment
        spent = {name: used - self.threads.get(name, 0.0) for name, used in last.threads.items()}
        total = sum(spent.values())
        return Result(
            subject,
            latency_ms,
            count,
            per_second=round(count / elapsed, 1),
            cpu_us=round(total / count * 1e6, 1),
            rss_mib=round(rss_of(pid), 1),
            busy=round(total / elapsed, 3),
            foreign_cpu=round((last.machine - self.machine - total) / elapsed, 3),
            threads={name: round(value / count * 1e6, 1) for name, value in spent.items() if value > 0.005 * total},
        )


def cpu_of(pid: int) -> dict[str, float]:
    """Return the CPU seconds of a process's threads by their names; threads of one name are added up."""
    found: dict[str, float] = {}
    for thread in Path(f"/proc/{pid}/task").iterdir():
        name = f"{(thread / 'comm').read_text().strip()}" + (" main" if thread.name == str(pid) else "")
        found[name] = found.get(name, 0.0) + int((thread / "schedstat").read_text().split()[0]) / 1e9
    return found


def machine_cpu() -> float:
    """Return the CPU seconds of the whole machine so far, steal included."""
    user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def rss_of(pid: int) -> float:
    """Return the most memory that a process has held, in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def configuration(load: Load, port: int, state: Path) -> str:
    """Return the configuration of our worker: budgets for all, so that money is held and settled."""
    tenants = [{"name": f"t{n}", "budgets": [{"usd": "100000", "window": "day"}]} for n in range(TENANTS)]
    return json.dumps(
        {
            "orchestrator": {"timeout": 600},
            "models": [
                {
                    "name": "m",
                    "endpoint": f"http://127.0.0.1:{port}/v1",
                    "max_tokens": 8192,
                    "cost_per_token": 0.00003,
                }
            ],
            "kafka": {
                "bootstrap_servers": load.bootstrap,
                "partitions": PARTITIONS,
                "topic_prefix": load.prefix,
            },
            "state": {"directory": str(state)},
            "tenants": tenants,
        }
    )


@contextmanager
def running(command: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a subject until the end of the block."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out)
        try:
            yield process
        except RuntimeError as error:
            error.add_note(log.read_text()[-2_000:])
            raise
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def measure_ours(
    bootstrap: str, requests: int, latency_ms: float, *, at_once: int = 1000, wrapper: Sequence[str] = ()
) -> Result:
    """Let one of our workers answer requests of tenants that have budgets."""
    load = Load(bootstrap, f"bench{uuid.uuid4().hex[:8]}.", requests, at_once)
    with tempfile.TemporaryDirectory(prefix="bench-") as directory, provider(latency_ms) as port:
        file = Path(directory) / "orchestrator.yaml"
        file.write_text(configuration(load, port, Path(directory) / "state"))
        program = [sys.executable, "-P", "-c", "import sys; from agents.cli import main; sys.exit(main())"]
        subprocess.run([*program, "topics", "apply", "-c", str(file)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        command = pinned(0, *wrapper, *program, "worker", "-c", str(file), "--id", "bench")
        with running(command, Path(directory) / "log") as process:
            return uvloop.run(load.measure(process, "ours", latency_ms, f"{load.prefix}prompt.responses"))


def measure_peer(bootstrap: str, module: str, requests: int, latency_ms: float, *, at_once: int = 1000) -> Result:
    """Let a peer answer the same requests."""
    load = Load(bootstrap, f"bench{uuid.uuid4().hex[:8]}.", requests, at_once)
    target = f"{load.prefix}answers"
    with tempfile.TemporaryDirectory(prefix="bench-") as directory, provider(latency_ms) as port:
        asyncio.run(_create(bootstrap, [load.source, target]))
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        command = pinned(0, sys.executable, "-m", f"tests.bench.{module}", bootstrap, load.source, target, url)
        with running([*command, str(at_once)], Path(directory) / "log") as process:
            return uvloop.run(load.measure(process, module, latency_ms, target))


async def _create(bootstrap: str, topics: Sequence[str]) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in topics])
    finally:
        await admin.close()
