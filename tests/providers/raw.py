"""Servers that speak no, or broken, HTTP: what a proxy, a crash or a bad network does to a connection."""

import asyncio
import re
import socket
import struct
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"

Step = bytes | Callable[[asyncio.StreamWriter], Awaitable[None]]


async def reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST instead of FIN."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def stay_silent(_writer: asyncio.StreamWriter) -> None:
    """Keep the connection open until the server ends."""
    await asyncio.Event().wait()


async def pause(_writer: asyncio.StreamWriter) -> None:
    """Let what was written so far go out as a segment of its own, and be read."""
    await asyncio.sleep(0.02)


class RawServer:
    """Reads a whole request, does `steps`, and closes, unless `keep_alive`: then it does them for each request.

    `requests` holds every request received, head and body.
    """

    def __init__(self, *steps: Step, keep_alive: bool = False) -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self._steps = steps
        self._keep_alive = keep_alive
        self._serving: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def close_connections(self) -> None:
        """Close what is open, as a server does with idle connections, and wait until it is closed."""
        for writer in self._writers.copy():
            writer.close()
            await writer.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                self.requests.append(await _request(reader))
                for step in self._steps:
                    if isinstance(step, bytes):
                        writer.write(step)
                        await writer.drain()
                    else:
                        await step(writer)
                if not self._keep_alive:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            return  # the client is gone
        finally:
            self._writers.discard(writer)
            writer.close()


async def _request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    return head + await reader.readexactly(int(length[1]) if length else 0)
