"""A provider that answers without a model, speaks OpenAI's chat completions and Anthropic's messages, and writes its
own invoice.

In-process (`async with FakeProvider() as provider: provider.endpoint`) or as a process that outlives the workers under
test: `python -m tests.providers.fake --port 0 --journal invoice.jsonl`; its first line on standard output is
`ready http://127.0.0.1:PORT/v1`.

How it behaves is a `Behaviour`, from the constructor or POSTed as JSON to `/fake/behaviour` (replaces it, `{}` resets);
a request overrides it where its last message is JSON with a key `fake`: `{"fake": {"status": 500, "times": 2}}`.
The journal is also at GET `/fake/journal`. Every completion or message leaves one entry, written before the answer is
sent and before any delay: a provider charges for what it worked, whoever is left to hear of it.
"""

import argparse
import asyncio
import hashlib
import json
import math
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from tests.providers import fake_anthropic
from tests.providers.raw import reset

MARKER = re.compile(r"marker:([A-Za-z0-9._-]+)")
"""A prompt that holds `marker:r-17` is found again in the journal as `r-17`."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What becomes of a request. `times`: only of the first so many with the same prompt; later ones are answered.

    `usage` and `error` are sent as they are, wrong or not. `body` is sent instead of everything. `cut` sends half of
    the body and closes; `drop` closes before the first byte, `reset` with RST; `hang` never answers. A status below 300
    is charged; `charged` overrides that. Seconds pass after the journal is written.
    """

    status: int = 200
    delay_s: float = 0.0
    answer: str | None = None
    usage: Any = "honest"
    error: Mapping[str, Any] | None = None
    body: str | None = None
    headers: Mapping[str, str] | None = None
    finish_reason: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    cut: bool = False
    drop: bool = False
    reset: bool = False
    hang: bool = False
    charged: bool | None = None
    times: int | None = None

    def overridden(self, directive: Mapping[str, Any]) -> "Behaviour":
        """Raises `ValueError` for a key that is none."""
        unknown = directive.keys() - {field.name for field in fields(self)}
        if unknown:
            raise ValueError(f"unknown behaviour: {', '.join(sorted(unknown))}")
        return replace(self, **directive)


@dataclass(frozen=True, slots=True)
class Charged:
    """One line of the provider's journal. Tokens are what it charges for, 0 where nothing."""

    seq: int
    at: float
    marker: str | None
    user: str | None
    model: str
    status: int
    charged: bool
    prompt_tokens: int
    completion_tokens: int
    max_tokens: int | None
    traceparent: str | None
    authorized: bool
    prompt_sha256: str


class FakeProvider:
    """A real HTTP server on loopback. `calls` is its journal; `journal`, a file, gets a copy that survives it."""

    def __init__(
        self,
        *,
        port: int = 0,
        journal: Path | None = None,
        behaviour: Behaviour | None = None,
        api_key: str | None = None,
        models: tuple[str, ...] = ("fake-model",),
        host: str = "127.0.0.1",
    ) -> None:
        self.behaviour = behaviour or Behaviour()
        self.calls: list[Charged] = []
        self.requests: list[dict[str, Any]] = []
        """The bodies received, newest last, at most a thousand."""
        self._host, self._port = host, port
        self._journal = journal
        self._api_key = api_key
        self._models = models
        self._seen: Counter[str] = Counter()
        self._stopped = asyncio.Event()

    @property
    def endpoint(self) -> str:
        return f"http://{self._host}:{self._port}/v1"

    @property
    def invoice(self) -> tuple[int, int]:
        """Prompt and completion tokens of all that is charged."""
        return sum(c.prompt_tokens for c in self.calls), sum(c.completion_tokens for c in self.calls)

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/v1/chat/completions", self._answer)
        app.router.add_post("/v1/messages", self._answer)
        app.router.add_get("/v1/models", self._list_models)
        app.router.add_post("/fake/behaviour", self._set_behaviour)
        app.router.add_get("/fake/journal", self._tell_journal)
        self._file = self._journal.open("a", encoding="utf-8") if self._journal else None
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port, backlog=4096)
        await site.start()
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        await self._runner.cleanup()
        if self._file is not None:
            self._file.close()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        speaks_anthropic = request.path == "/v1/messages"
        try:
            body = json.loads(await request.read())
            prompt = json.dumps(body["messages"], sort_keys=True)
            behaviour = self._behaviour_for(body, prompt)
            if speaks_anthropic:
                fake_anthropic.check(body, request.headers)
        except (ValueError, LookupError, TypeError) as wrong:
            return _refuse(400, "invalid_request_error", f"fake provider: {wrong!r}")
        self.requests = [*self.requests[-999:], body]
        authorized = self._authorizes(request)
        completion = _completion(body, prompt, behaviour)
        self._write(
            _entry(
                seq=len(self.calls) + 1,
                traceparent=request.headers.get("traceparent"),
                body=body,
                prompt=prompt,
                behaviour=behaviour,
                completion=completion,
                authorized=authorized,
            )
        )
        await self._work(behaviour)
        if not authorized:
            return _refuse(401, "invalid_request_error", "Incorrect API key provided", "invalid_api_key")
        return await _send(
            request, behaviour, fake_anthropic.message_of(completion) if speaks_anthropic else completion
        )

    def _behaviour_for(self, body: dict[str, Any], prompt: str) -> Behaviour:
        behaviour = self.behaviour.overridden(_directive(body["messages"][-1].get("content")))
        self._seen[prompt] += 1
        over = behaviour.times is not None and self._seen[prompt] > behaviour.times
        return Behaviour() if over else behaviour

    async def _work(self, behaviour: Behaviour) -> None:
        """Take the time that it takes; a provider that stops does not wait for it."""
        seconds = None if behaviour.hang else behaviour.delay_s
        if seconds != 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), seconds)

    def _write(self, entry: Charged) -> None:
        self.calls.append(entry)
        if self._file is not None:
            self._file.write(json.dumps(asdict(entry)) + "\n")
            self._file.flush()

    def _authorizes(self, request: web.Request) -> bool:
        shown = request.headers.get("X-Api-Key") or request.headers.get("Authorization", "").removeprefix("Bearer ")
        return self._api_key is None or shown == self._api_key

    async def _list_models(self, request: web.Request) -> web.Response:
        if not self._authorizes(request):
            return _refuse(401, "invalid_request_error", "Incorrect API key provided", "invalid_api_key")
        if self.behaviour.status >= 300:
            return _refuse(self.behaviour.status, "server_error", "as told")
        return web.json_response({"object": "list", "data": [{"id": m, "object": "model"} for m in self._models]})

    async def _set_behaviour(self, request: web.Request) -> web.Response:
        try:
            self.behaviour = Behaviour().overridden(await request.json())
        except ValueError as wrong:
            return _refuse(400, "invalid_request_error", str(wrong))
        return web.json_response(asdict(self.behaviour))

    async def _tell_journal(self, _request: web.Request) -> web.Response:
        return web.json_response([asdict(entry) for entry in self.calls])


def read_journal(path: Path) -> list[Charged]:
    """Read a journal file back; a last line that a kill cut off is left out."""
    lines = path.read_text(encoding="utf-8").split("\n")
    return [Charged(**json.loads(line)) for line in lines[:-1]]


def words_of(prompt: str, count: int) -> str:
    """The text that a prompt (its messages as JSON with sorted keys) is answered with: `count` words of its digest."""
    digest = hashlib.sha256(prompt.encode()).hexdigest()
    return " ".join(digest[i % 8 * 8 :][:8] for i in range(count))


def _completion(body: dict[str, Any], prompt: str, behaviour: Behaviour) -> dict[str, Any]:
    wanted = 1 + int(hashlib.sha256(prompt.encode()).hexdigest(), 16) % 32
    limit = body.get("max_completion_tokens", body.get("max_tokens"))
    count = wanted if limit is None else min(wanted, limit)
    content = words_of(prompt, count) if behaviour.answer is None else behaviour.answer
    text_bytes = sum(len(json.dumps(message, ensure_ascii=False).encode()) for message in body["messages"])
    prompt_tokens = math.ceil(text_bytes / 4) + 4 * len(body["messages"])
    message: dict[str, Any] = {"role": "assistant", "content": content}
    if behaviour.tool_calls is not None:
        message |= {"content": None, "tool_calls": behaviour.tool_calls}
    return {
        "id": f"chatcmpl-{hashlib.sha256(prompt.encode()).hexdigest()[:24]}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": body.get("model", "fake-model"),
        "choices": [
            {
                "index": 0,
                "message": message,
                "finish_reason": behaviour.finish_reason or ("stop" if count == wanted else "length"),
            }
        ],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": count,
            "total_tokens": prompt_tokens + count,
        },
    }


def _entry(
    *,
    seq: int,
    traceparent: str | None,
    body: dict[str, Any],
    prompt: str,
    behaviour: Behaviour,
    completion: dict[str, Any],
    authorized: bool,
) -> Charged:
    status = behaviour.status if authorized else 401
    charged = status < 300 if behaviour.charged is None else behaviour.charged
    told = behaviour.usage if isinstance(behaviour.usage, dict) else {}
    told = told | fake_anthropic.counted(told)
    counted = completion["usage"] | {name: count for name, count in told.items() if type(count) is int and count >= 0}
    marker = MARKER.search(prompt)
    return Charged(
        seq=seq,
        at=time.time(),
        marker=marker[1] if marker else None,
        user=body.get("user"),
        model=str(body.get("model")),
        status=status,
        charged=charged,
        prompt_tokens=counted["prompt_tokens"] if charged else 0,
        completion_tokens=counted["completion_tokens"] if charged else 0,
        max_tokens=body.get("max_completion_tokens", body.get("max_tokens")),
        traceparent=traceparent,
        authorized=authorized,
        prompt_sha256=hashlib.sha256(prompt.encode()).hexdigest(),
    )


async def _send(request: web.Request, behaviour: Behaviour, completion: dict[str, Any]) -> web.StreamResponse:
    transport = request.transport
    if transport is None:
        return web.Response()  # the caller is gone
    if behaviour.reset or behaviour.drop or behaviour.hang:
        if behaviour.reset:
            await reset(_Writer(transport))  # type: ignore[arg-type]  # needs these two attributes only
        else:
            transport.abort()
        return web.Response()
    content = _content(behaviour, completion)
    headers = {"Content-Type": "application/json", "X-Request-Id": f"req-{completion['id'].rpartition('-')[2]}"}
    headers |= behaviour.headers or {}
    if not behaviour.cut:
        return web.Response(status=behaviour.status, body=content, headers=headers)
    response = web.StreamResponse(status=behaviour.status, headers=headers)
    response.content_length = len(content)
    await response.prepare(request)
    await response.write(content[: len(content) // 2])
    transport.close()
    return response


@dataclass(frozen=True, slots=True)
class _Writer:
    transport: asyncio.Transport

    def get_extra_info(self, name: str) -> Any:
        return self.transport.get_extra_info(name)


def _content(behaviour: Behaviour, completion: dict[str, Any]) -> bytes:
    if behaviour.body is not None:
        return behaviour.body.encode()
    if behaviour.error is not None or behaviour.status >= 300:
        error = behaviour.error or {"message": "as told", "type": "server_error", "code": None}
        envelope = {"type": "error"} if completion.get("type") == "message" else {}
        return json.dumps({**envelope, "error": error}).encode()
    usage = {} if behaviour.usage == "honest" else {"usage": behaviour.usage}
    return json.dumps(completion | usage).encode()


def _refuse(status: int, kind: str, message: str, code: str | None = None) -> web.Response:
    return web.json_response({"error": {"message": message, "type": kind, "code": code}}, status=status)


def _directive(content: object) -> dict[str, Any]:
    if isinstance(content, list):
        content = content[-1].get("text")
    if not isinstance(content, str) or not content.lstrip().startswith("{"):
        return {}
    try:
        told = json.loads(content)
    except ValueError:
        return {}  # a prompt that looks like JSON
    directive = told.get("fake", {}) if isinstance(told, dict) else {}
    return directive if isinstance(directive, dict) else {}


async def _serve(options: argparse.Namespace) -> None:
    behaviour = Behaviour(delay_s=options.latency).overridden(json.loads(options.behaviour))
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with FakeProvider(
        port=options.port, journal=options.journal, behaviour=behaviour, api_key=options.api_key
    ) as provider:
        sys.stdout.write(f"ready {provider.endpoint}\n")
        sys.stdout.flush()
        await stopped.wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.providers.fake", description="A fake provider")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--journal", type=Path)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--api-key")
    parser.add_argument("--behaviour", default="{}", help="JSON, see Behaviour")
    asyncio.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
