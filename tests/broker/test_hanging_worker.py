"""A worker that hangs ends itself with 75 and says why. The limits here are shorter than the real ones."""

import asyncio
import json
import subprocess
import sys

import pytest

from tests.broker.test_runtime_worker import PARTITIONS, ROOT, SESSION_S, Cluster, cluster

pytestmark = pytest.mark.broker

__all__ = ["cluster"]


def start(cluster: Cluster, kind: str) -> subprocess.Popen[bytes]:
    """Start a worker that hangs once it is ready."""
    settings = {
        "bootstrap_servers": [cluster.kafka.bootstrap],
        "group": f"{cluster.prefix}group",
        "worker": "hangs",
        **{name: f"{cluster.prefix}{name}" for name in ("requests", "progress", "observations")},
        "tables": {"accounts": f"{cluster.prefix}accounts"},
        "partitions": PARTITIONS,
        "state": str(cluster.directory / "hangs"),
        "session_timeout_s": SESSION_S,
    }
    command = [sys.executable, "-m", "tests.broker.hanging_worker", json.dumps(settings), kind]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT)


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("loop", "the event loop has not answered for 3 s"),
        ("commits", "committing: no progress for "),
        ("fetching", "committing: no progress for |fetching: no progress for "),
        ("rejoin", "taking up partitions: no progress for "),
        ("directory", "cannot be written"),
    ],
)
async def test_a_worker_that_hangs_ends_itself_and_says_why(cluster: Cluster, kind: str, why: str) -> None:
    worker = start(cluster, kind)
    try:
        assert worker.stdout is not None
        assert worker.stderr is not None
        async with asyncio.timeout(40):
            await asyncio.to_thread(worker.stdout.readline)
            if kind == "rejoin":
                cluster.start("w2")
            if kind != "fetching":
                await cluster.produce(200)
            while kind == "fetching" and worker.poll() is None:
                await cluster.produce(10)
                await asyncio.sleep(0.5)
            assert await asyncio.to_thread(worker.wait) == 75
        said = worker.stderr.read().decode()
        assert any(part in said for part in why.split("|")), said
    finally:
        if worker.poll() is None:
            worker.kill()
        worker.communicate()
