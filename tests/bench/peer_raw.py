"""Kafka in, provider, Kafka out and nothing else: no state, no commits, no checks. The limit of one Python process.

Reads its task from the command line: bootstrap servers, input topic, output topic, provider's URL, how many calls at
once. Runs until it is terminated.
"""

import asyncio
import sys
from typing import Any

import aiohttp
import orjson
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer


async def _run(bootstrap: str, source: str, target: str, url: str, at_once: int) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks=1, linger_ms=5, max_batch_size=256 * 1024)
    consumer = AIOKafkaConsumer(
        source,
        bootstrap_servers=bootstrap,
        group_id=f"{source}-raw",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=4 * 1024 * 1024,
    )
    todo: asyncio.Queue[Any] = asyncio.Queue(2 * at_once)
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), auto_decompress=False)

    async def lane() -> None:
        while True:
            record = await todo.get()
            asked = orjson.loads(record.value)
            body = orjson.dumps(
                {"model": asked["model"], "messages": asked["messages"], "max_tokens": asked["max_tokens"]}
            )
            async with session.post(url, data=body, headers={"content-type": "application/json"}) as response:
                answer = orjson.loads(await response.read())
            told = {
                "request_id": asked["request_id"],
                "text": answer["choices"][0]["message"]["content"],
                "usage": answer["usage"],
            }
            await producer.send(target, orjson.dumps(told), key=record.key)

    await producer.start()
    await consumer.start()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(at_once):
            tasks.create_task(lane())
        while True:
            for records in (await consumer.getmany(timeout_ms=1000, max_records=4 * at_once)).values():
                for record in records:
                    await todo.put(record)


if __name__ == "__main__":
    bootstrap, source, target, url, at_once = sys.argv[1:]
    uvloop.run(_run(bootstrap, source, target, url, int(at_once)))
