"""What a real worker answers on `health.port`."""

import asyncio
import json
import socket
from pathlib import Path

import pytest
from aiohttp import ClientSession
from aiokafka import AIOKafkaProducer

from tests.broker.kafka import Kafka
from tests.integration.books import wait_for
from tests.integration.fleet import fleet
from tests.providers.fake import FakeProvider

pytestmark = pytest.mark.broker


async def test_a_worker_is_ready_alive_and_counts(kafka: Kafka, topic_prefix: str, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with FakeProvider() as provider:
        settings = {
            "models": [{"name": "m", "endpoint": provider.endpoint, "max_tokens": 4096, "cost_per_token": 0.00001}],
            "orchestrator": {"host": "127.0.0.1"},
            "health": {"port": port},
            "kafka": {"partitions": 2},
        }
        async with fleet(tmp_path, kafka.bootstrap, topic_prefix, settings) as workers, ClientSession() as http:
            workers.start("w0")
            await workers.whole()
            producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap)
            await producer.start()
            for value in (b"{", json.dumps({"prompt": "x", "request_id": "r", "tenant": "a"}).encode()):
                await producer.send_and_wait(f"{topic_prefix}prompt.requests", value)
            await producer.stop()
            await wait_for(kafka.bootstrap, topic_prefix, 2, lambda: [("a", "r")], within_s=30)
            for probe, answer in (("livez", {"live": True, "reasons": []}), ("readyz", {"ready": True, "reasons": []})):
                async with http.get(f"http://127.0.0.1:{port}/{probe}") as found:
                    assert (found.status, await found.json()) == (200, answer)
            wanted = {
                'orchestrator_requests_decided_total{code="",outcome="answered"} 1.0',
                'orchestrator_attempts_total{deployment="m",reason="answered"} 1.0',
                'orchestrator_dead_letters_total{reason="not_json"} 1.0',
                "orchestrator_requests_swept_total 0.0",
                "orchestrator_partitions_held 2.0",
            }
            async with asyncio.timeout(20):
                while True:
                    async with http.get(f"http://127.0.0.1:{port}/metrics") as found:
                        lines = set((await found.text()).splitlines())
                    if wanted <= lines:
                        break
                    await asyncio.sleep(0.2)
            assert set((await workers.stop()).values()) == {0}
