"""Liveness, readiness and metrics of a worker over HTTP: `/livez`, `/readyz`, `/metrics` on `health.port`.

They are served on `orchestrator.host`: on loopback by default; in a container set it to `0.0.0.0`.
"""

import asyncio
import errno
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog
from aiohttp import web

RETRY_S: Final = 5.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Report:
    """Whether all is well, and why not; reasons may also tell what is under way while all is well."""

    ok: bool
    reasons: tuple[str, ...] = ()


def probes(
    live: Callable[[], Report], ready: Callable[[], Report], metrics: Callable[[], tuple[bytes, str]]
) -> web.Application:
    """Return the application. `metrics` returns the page and its content type."""

    def answer(name: str, report: Report) -> web.Response:
        body = {name: report.ok, "reasons": list(report.reasons)}
        return web.json_response(body, status=200 if report.ok else 503)

    async def livez(_: web.Request) -> web.Response:
        return answer("live", live())

    async def readyz(_: web.Request) -> web.Response:
        return answer("ready", ready())

    async def page(_: web.Request) -> web.Response:
        body, content_type = metrics()
        return web.Response(body=body, headers={"Content-Type": content_type})

    app = web.Application()
    app.add_routes([web.get("/livez", livez), web.get("/readyz", readyz), web.get("/metrics", page)])
    return app


async def serve_probes(app: web.Application, host: str, port: int) -> None:
    """Serve for ever. Where another worker of this machine has the port, wait until it is free."""
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    told = False
    try:
        while True:
            try:
                await web.TCPSite(runner, host, port).start()
                break
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                if not told:
                    log.warning("health.port is in use: another process answers there", port=port)
                told = True
            await asyncio.sleep(RETRY_S)
        log.info("answering probes", host=host, port=port)
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()
