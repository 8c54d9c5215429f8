"""A provider that answers every request after a fixed time: as little work as Python allows, so that it is never the
limit.

`python -m tests.bench.provider PORT LATENCY_MS` prints `ready` and serves until it is terminated. `GET /connections`
tells how many connections were made so far.
"""

import asyncio
import re
import signal
import sys
from typing import cast

import uvloop

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_BODY = (
    b'{"id":"chatcmpl-bench","object":"chat.completion","created":1700000000,"model":"bench","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"' + b"A short note about numbers. " * 8 + b'"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":72,"completion_tokens":56,"total_tokens":128}}'
)


def _response(body: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


ANSWER = _response(_BODY)


class Connection(asyncio.Protocol):
    """HTTP/1.1 with keep-alive, of requests that have a Content-Length or no body."""

    made = 0

    def __init__(self, latency_s: float) -> None:
        self._latency_s = latency_s
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count it."""
        self._transport = cast(asyncio.Transport, transport)
        Connection.made += 1

    def data_received(self, received: bytes) -> None:
        """Answer each request that is complete."""
        self._received += received
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[:end]
            told = _LENGTH.search(head)
            whole = end + 4 + (int(told[1]) if told else 0)
            if len(self._received) < whole:
                return
            self._received = self._received[whole:]
            if head.startswith(b"GET /connections"):
                self._answer(_response(str(Connection.made).encode()))
            elif self._latency_s:
                asyncio.get_running_loop().call_later(self._latency_s, self._answer, ANSWER)
            else:
                self._answer(ANSWER)

    def _answer(self, answer: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(answer)


async def _serve(port: int, latency_s: float) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    server = await loop.create_server(lambda: Connection(latency_s), "127.0.0.1", port, backlog=16_384)
    async with server:
        print("ready", flush=True)
        await stop.wait()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1]), float(sys.argv[2]) / 1000))
