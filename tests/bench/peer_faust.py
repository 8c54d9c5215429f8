"""The same as `peer_raw` inside a stock Faust agent without tables, which acknowledges before a call ends.

Reads its task from the command line as `peer_raw` does.
"""

import asyncio
import sys
import tempfile
from typing import Any

import aiohttp
import faust
import orjson
import uvloop


def main(bootstrap: str, source: str, target: str, url: str, at_once: int) -> None:
    """Run until terminated."""
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    app = faust.App(
        f"{source}-faust",
        broker=f"kafka://{bootstrap}",
        store="memory://",
        datadir=tempfile.mkdtemp(prefix="bench-faust-"),
        web_enabled=False,
        consumer_auto_offset_reset="earliest",
        topic_disable_leader=True,
        stream_wait_empty=False,
        producer_acks=1,
        producer_linger=0.005,
        producer_max_batch_size=256 * 1024,
        consumer_max_fetch_size=4 * 1024 * 1024,
        broker_max_poll_records=4 * at_once,
    )
    topic = app.topic(source, key_serializer="raw", value_serializer="raw")
    places = asyncio.Semaphore(at_once)
    running: set[asyncio.Task[None]] = set()

    async def call(session: aiohttp.ClientSession, key: bytes, value: bytes) -> None:
        asked = orjson.loads(value)
        body = orjson.dumps({"model": asked["model"], "messages": asked["messages"], "max_tokens": asked["max_tokens"]})
        async with session.post(url, data=body, headers={"content-type": "application/json"}) as response:
            answer = orjson.loads(await response.read())
        places.release()
        told = {
            "request_id": asked["request_id"],
            "text": answer["choices"][0]["message"]["content"],
            "usage": answer["usage"],
        }
        await app.producer.send(target, key, orjson.dumps(told), None, None, None)

    @app.agent(topic)
    async def ask(stream: Any) -> None:
        session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), auto_decompress=False)
        async for event in stream.events():
            await places.acquire()
            task = asyncio.create_task(call(session, event.message.key, event.message.value))
            running.add(task)
            task.add_done_callback(running.discard)

    sys.argv = [sys.argv[0], "worker", "--without-web", "-l", "warn"]
    app.main()


if __name__ == "__main__":
    bootstrap, source, target, url, at_once = sys.argv[1:]
    main(bootstrap, source, target, url, int(at_once))
