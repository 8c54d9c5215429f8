"""What a worker answers over HTTP."""

import asyncio
import socket
from pathlib import Path

from aiohttp import ClientSession, web

from streams.runtime.counts import Counts
from streams.runtime.metrics import METRICS, Sources, document, page_of
from streams.runtime.probes import Report, probes, serve_probes

ROOT = Path(__file__).parents[2]


async def get(url: str) -> tuple[int, object]:
    async with ClientSession() as session, session.get(url) as answer:
        text = await answer.text()
        return answer.status, (await answer.json()) if answer.content_type == "application/json" else text


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def application() -> web.Application:
    stuck = Report(False, ("committing: no progress for 27 s: [('prompt.requests', 0, 5)]",))
    return probes(lambda: stuck, lambda: Report(True), page_of(Counts(), Sources()))


async def until_answered(url: str) -> tuple[int, object]:
    async with asyncio.timeout(20):
        while True:
            try:
                return await get(url)
            except OSError:
                await asyncio.sleep(0.02)


async def test_probes_answer_with_their_reasons() -> None:
    port = free_port()
    serving = asyncio.create_task(serve_probes(application(), "127.0.0.1", port))
    assert await until_answered(f"http://127.0.0.1:{port}/readyz") == (200, {"ready": True, "reasons": []})
    reasons = ["committing: no progress for 27 s: [('prompt.requests', 0, 5)]"]
    assert await get(f"http://127.0.0.1:{port}/livez") == (503, {"live": False, "reasons": reasons})
    status, page = await get(f"http://127.0.0.1:{port}/metrics")
    assert status == 200
    assert "orchestrator_requests_swept_total 0.0" in str(page)
    serving.cancel()
    await asyncio.wait([serving])


def test_every_metric_is_on_the_page_and_carries_its_labels() -> None:
    counts = Counts(swept=2, redriven=3)
    counts.decided["failed", "TIMEOUT_ERROR"] += 4
    counts.attempts["gpt-4", "rate_limit"] += 5
    counts.dead_letters["not_json"] += 6
    body, content_type = page_of(counts, Sources(lag=lambda: {"prompt.requests": 7}, calls=lambda: 8))()
    page = body.decode()
    assert content_type.startswith("text/plain")
    for line in (
        'orchestrator_requests_decided_total{code="TIMEOUT_ERROR",outcome="failed"} 4.0',
        'orchestrator_attempts_total{deployment="gpt-4",reason="rate_limit"} 5.0',
        'orchestrator_dead_letters_total{reason="not_json"} 6.0',
        'orchestrator_lag_records{topic="prompt.requests"} 7.0',
        "orchestrator_requests_swept_total 2.0",
        "orchestrator_attempts_redriven_total 3.0",
        "orchestrator_calls_in_flight 8.0",
    ):
        assert line in page.splitlines()
    for one in METRICS:
        assert f"# TYPE orchestrator_{one.name}" in page


def test_the_page_of_metrics_is_fresh() -> None:
    assert (ROOT / "docs" / "metrics.md").read_text() == document()
