"""Real worker processes, started as a user starts them: `orchestrator worker -c FILE --id NAME`."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

COMMAND = Path(sys.executable).with_name("orchestrator")
LOOK_EVERY_S = 0.1


@dataclass
class Worker:
    """One process and what it logged."""

    name: str
    process: subprocess.Popen[bytes]
    said: Path
    read_from: int

    def lines(self) -> list[dict[str, Any]]:
        """Return what this process has logged so far."""
        raw = self.said.read_bytes()[self.read_from :]
        return [json.loads(line) for line in raw.splitlines() if line.startswith(b"{")]

    def partitions(self) -> list[int]:
        """Return what it holds since its last assignment."""
        told = [line["details"]["partitions"] for line in self.lines() if line["message"] == "ready"]
        return told[-1] if told else []

    async def ended(self, within_s: float = 20) -> int:
        """Wait for the end and return the exit code."""
        return await asyncio.to_thread(self.process.wait, within_s)


@dataclass
class Fleet:
    """Workers of one group, with one configuration."""

    directory: Path
    settings: dict[str, Any]
    workers: dict[str, Worker] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        """The configuration file."""
        return self.directory / "orchestrator.yaml"

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the product to its end."""
        return subprocess.run(
            [COMMAND, *arguments, "-c", self.file], capture_output=True, text=True, timeout=120, check=False
        )

    def start(self, name: str) -> Worker:
        """Start a worker process, again if it ran before."""
        said = self.directory / f"{name}.log"
        with said.open("ab") as log:
            process = subprocess.Popen(
                [COMMAND, "worker", "-c", self.file, "--id", name],
                stdout=subprocess.DEVNULL,
                stderr=log,
                env={**os.environ, **self.environ},
            )
            worker = Worker(name, process, said, log.tell())
        self.workers[name] = worker
        return worker

    async def whole(self, within_s: float = 60) -> None:
        """Wait until the running workers hold every partition between them, and each of them some."""
        everything = list(range(self.settings["kafka"]["partitions"]))
        async with asyncio.timeout(within_s):
            while True:
                running = [worker for worker in self.workers.values() if worker.process.poll() is None]
                held = [worker.partitions() for worker in running]
                if all(held) and sorted(p for partitions in held for p in partitions) == everything:
                    return
                await asyncio.sleep(LOOK_EVERY_S)

    async def stop(self) -> dict[str, int]:
        """Stop all with SIGTERM and return their exit codes."""
        running = {name: w for name, w in self.workers.items() if w.process.poll() is None}
        for worker in running.values():
            worker.process.terminate()
        return {name: await worker.ended(15) for name, worker in running.items()}


@asynccontextmanager
async def fleet(directory: Path, bootstrap: str, prefix: str, settings: dict[str, Any]) -> AsyncIterator[Fleet]:
    """Write the configuration, create the topics, and leave no process behind."""
    kafka = {"bootstrap_servers": bootstrap, "topic_prefix": prefix, "partitions": 6, "session_timeout": 6}
    merged = {
        **settings,
        "kafka": {**kafka, **settings.get("kafka", {})},
        "state": {"directory": str(directory / "state")},
    }
    made = Fleet(directory, merged)
    made.file.write_text(yaml.safe_dump(merged))
    applied = made.run("topics", "apply")
    assert applied.returncode == 0, applied.stderr
    try:
        yield made
    finally:
        for worker in made.workers.values():
            if worker.process.poll() is None:
                worker.process.kill()
            worker.process.wait()
