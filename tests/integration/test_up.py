"""`orchestrator up` against a real cluster, with real workers."""

import asyncio
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.broker.kafka import Kafka
from tests.integration.fleet import COMMAND, LOOK_EVERY_S, fleet

pytestmark = pytest.mark.broker

MODELS = [{"name": "m", "endpoint": "http://127.0.0.1:9/v1", "cost_per_token": "0.00001"}]
STOP_S = 10


def told(log: Path, message: str) -> list[dict[str, Any]]:
    """Return the details of the log's lines with this message; every line has to be JSON."""
    lines = [json.loads(line) for line in log.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
    return [line["details"] for line in lines if line["message"] == message]


async def until_told(log: Path, message: str, times: int) -> list[dict[str, Any]]:
    async with asyncio.timeout(60):
        while len(found := told(log, message)) < times:
            await asyncio.sleep(LOOK_EVERY_S)
        return found


def start(file: Path, log: Path, environ: dict[str, str]) -> subprocess.Popen[bytes]:
    with log.open("wb") as lines:
        return subprocess.Popen(
            [COMMAND, "up", "-c", file], stdout=subprocess.DEVNULL, stderr=lines, env=os.environ | environ
        )


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.timeout(180)
async def test_a_killed_worker_is_replaced_and_sigterm_stops_all(
    kafka: Kafka, topic_prefix: str, tmp_path: Path
) -> None:
    settings = {"orchestrator": {"workers": 2}, "models": MODELS}
    async with fleet(tmp_path, kafka.bootstrap, topic_prefix, settings) as workers:
        log = tmp_path / "up.log"
        up = start(workers.file, log, {})
        try:
            first, second = await until_told(log, "worker started", 2)
            await until_told(log, "ready", 2)
            os.kill(first["pid"], signal.SIGKILL)
            (ended,) = await until_told(log, "a worker has ended", 1)
            assert (ended["worker"], ended["exit"]) == (first["worker"], -signal.SIGKILL)
            third = (await until_told(log, "worker started", 3))[2]
            assert third["worker"] == first["worker"]
            assert runs(second["pid"])
            up.terminate()
            assert await asyncio.to_thread(up.wait, STOP_S) == 0
            assert not any(runs(pid) for pid in (second["pid"], third["pid"]))
        finally:
            up.kill()
            up.wait()


@pytest.mark.timeout(120)
async def test_workers_that_cannot_succeed_are_not_started_again(
    kafka: Kafka, topic_prefix: str, tmp_path: Path
) -> None:
    settings = {"orchestrator": {"workers": 2}, "models": MODELS}
    async with fleet(tmp_path, kafka.bootstrap, topic_prefix, settings) as workers:
        log = tmp_path / "up.log"
        up = start(workers.file, log, {"ORCHESTRATOR_KAFKA__PARTITIONS": "7"})  # not what the topics have
        try:
            assert await asyncio.to_thread(up.wait, 60) == 1
            assert [details["exit"] for details in told(log, "a worker has ended for good")] == [1, 1]
            assert told(log, "no worker is left") == [{"codes": [1, 1]}]
        finally:
            up.kill()
            up.wait()
