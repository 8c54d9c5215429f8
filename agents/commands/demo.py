"""`orchestrator demo`: a broker, a real local model and two workers, all on this machine; prompts, answers, the bill.

With a configuration file: the same with that file's cluster and models, on topics of its own that it removes again.
"""

import asyncio
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import httpx
import orjson
import yaml
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from agents.commands import demo_board, demo_prompts, topics
from agents.commands.demo_board import Board
from agents.commands.demo_screen import Screen
from agents.commands.exits import FAILED, TRY_AGAIN, CommandError
from agents.commands.following import follow, unanswered
from agents.commands.loading import load, wrong
from agents.commands.up import Supervisor, worker_command
from schemas.configuration import Configuration, ConfigurationError, parse
from schemas.configuration.document import read
from schemas.configuration.environment import PREFIX, overlay
from streams.runtime import children, clients, embedded, local_model
from streams.runtime.topics import Topics, definitions

READY_S: Final = 60.0
_LOOK_S: Final = 0.1
_LAST_LINES: Final = 5


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the command line asks for. `file`: a real cluster's configuration, else all is embedded."""

    file: Path | None
    keep: bool
    tell_summary: Callable[[bytes], None] | None


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a demo takes place. An embedded broker needs some consideration."""

    directory: Path
    file: Path
    configuration: Configuration
    environ: Mapping[str, str]
    is_embedded: bool

    @property
    def topics(self) -> Topics:
        """The names of its topics."""
        return Topics(self.configuration.kafka.topic_prefix, self.configuration.kafka.group)


async def demo(wishes: Wishes, environ: Mapping[str, str]) -> int:
    """Run the demo to its end; 1 if a request has no outcome in time or the books do not agree.

    Raises `CommandError` where something does not start. Whatever happens, no process of it stays behind.
    """
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, os.kill, os.getpid(), signal.SIGINT)
    screen = Screen(on_standard_error=wishes.tell_summary is not None)
    began = time.monotonic()
    async with AsyncExitStack() as stack:
        stage = await stack.enter_async_context(
            _on_this_machine(screen, environ) if wishes.file is None else _on_a_cluster(wishes, screen, environ)
        )
        crew = await stack.enter_async_context(_workers(stage, screen))
        board = await _ask_and_follow(stage, crew, screen)
        screen.end(board)
        about = {
            "broker": "embedded" if stage.is_embedded else "cluster",
            "configuration": str(stage.file),
            "bootstrap_servers": stage.configuration.kafka.bootstrap_servers,
            "topic_prefix": stage.configuration.kafka.topic_prefix,
        }
        if wishes.tell_summary is not None:
            wishes.tell_summary(orjson.dumps(demo_board.summary(board, about, time.monotonic() - began)))
        screen.say(f"\n{time.monotonic() - began:.0f} seconds.")
        _suggest(wishes, stage, screen)
        if wishes.keep:
            await _interrupted()
            screen.say("stopping")
        return 0 if board.complete else FAILED


# --- where it takes place ---------------------------------------------------------------------------------------------


@asynccontextmanager
async def _on_this_machine(screen: Screen, environ: Mapping[str, str]) -> AsyncIterator[Stage]:
    """Start the embedded broker and the local model; nothing of the environment's settings counts."""
    screen.say("An embedded broker and a real language model (SmolLM2, 135 million parameters) start on this machine.")
    screen.say("The broker keeps everything in memory only: when it ends, nothing is left.", "yellow")
    environ = {name: value for name, value in environ.items() if not _is_setting(name)}
    async with _directory() as directory, AsyncExitStack() as stack:
        broker_port, model_port = _free_ports(2)
        running = {}
        for what, start, port in (
            ("the embedded broker", embedded.start, broker_port),
            ("the local model", local_model.start, model_port),
        ):
            log = stack.enter_context((directory / f"{what.split()[-1]}.log").open("wb"))
            try:
                running[what] = start(port, log)
            except local_model.ModelMissingError as missing:
                raise CommandError(FAILED, [f"{missing}; `make install` installs it"]) from missing
            stack.callback(children.stop, [running[what]])
        tree = demo_prompts.own_configuration(directory, broker_port, model_port)
        stage = _written(directory, tree, environ, is_embedded=True)
        settings = clients.client_settings(stage.configuration.kafka, environ)
        await _while_alive(running, directory, clients.reach(settings, READY_S))
        await topics.apply(stage.configuration, environ)
        await _while_alive(running, directory, _model_ready(model_port))
        yield stage


@asynccontextmanager
async def _on_a_cluster(wishes: Wishes, screen: Screen, environ: Mapping[str, str]) -> AsyncIterator[Stage]:
    """Take cluster and models from the file; make topics under a prefix of this run, and remove them at the end."""
    assert wishes.file is not None
    given = load(wishes.file, environ)
    document = read(wishes.file.read_text("utf-8"))
    overlay(document, environ)
    tree = document.tree if isinstance(document.tree, dict) else {}
    try:
        is_embedded = await clients.reach(clients.client_settings(given.kafka, environ))
    except clients.NoClusterError as error:
        raise CommandError(TRY_AGAIN, [str(error)]) from error
    prefix = f"{given.kafka.topic_prefix}demo-{secrets.token_hex(3)}."
    screen.say(f"Cluster {given.kafka.bootstrap_servers}; topics of this run start with {prefix}")
    environ = {name: value for name, value in environ.items() if not _is_setting(name)}
    async with _directory() as directory:
        tree = demo_prompts.configuration_on(tree, directory, prefix)
        stage = _written(directory, tree, environ, is_embedded=is_embedded)
        await topics.apply(stage.configuration, environ)
        try:
            yield stage
        finally:
            await _remove_topics(stage, screen)


def _is_setting(name: str) -> bool:
    return name.upper().startswith(PREFIX) and "__" in name


@asynccontextmanager
async def _directory() -> AsyncIterator[Path]:
    """Make a directory for configuration, logs and tables; it stays only where something did not start."""
    directory = Path(tempfile.mkdtemp(prefix="orchestrator-demo-"))
    try:
        yield directory
    except CommandError as error:
        raise CommandError(error.code, [*error.lines, f"the logs are in {directory}"]) from error
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    shutil.rmtree(directory, ignore_errors=True)


def _written(directory: Path, tree: dict[str, Any], environ: Mapping[str, str], *, is_embedded: bool) -> Stage:
    """Write the configuration file and check it as any other."""
    file = directory / "orchestrator.yaml"
    text = yaml.dump(tree, Dumper=_Dumper, sort_keys=False)
    file.touch(mode=0o600)  # it may name secrets
    file.write_text(text)
    try:
        configuration = parse(text, environ)
    except ConfigurationError as error:
        raise wrong(file, error) from error
    return Stage(directory, file, configuration, environ, is_embedded)


class _Dumper(yaml.SafeDumper):
    """Writes what a configuration may hold: texts quoted, numbers exact, and no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write everything out."""
        return True


_Dumper.add_representer(str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"'))
_Dumper.add_representer(
    Decimal, lambda dumper, number: dumper.represent_scalar("tag:yaml.org,2002:float", f"{number:f}")
)


def _free_ports(count: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


async def _while_alive(running: Mapping[str, subprocess.Popen[bytes]], directory: Path, work: Any) -> None:
    """Wait for `work`, but not longer than the processes live."""
    waiting = asyncio.ensure_future(work)
    try:
        while not waiting.done():
            for what, process in running.items():
                if process.poll() is not None:
                    log = directory / f"{what.split()[-1]}.log"
                    raise CommandError(FAILED, [f"{what} has ended with {process.returncode}", *_last_lines(log)])
            await asyncio.wait([waiting], timeout=_LOOK_S)
        await waiting
    except (clients.NoClusterError, TimeoutError) as error:
        raise CommandError(TRY_AGAIN, [str(error)]) from error
    finally:
        waiting.cancel()


async def _model_ready(port: int) -> None:
    with httpx.Client(trust_env=False) as client:
        deadline = time.monotonic() + READY_S
        while not await asyncio.to_thread(local_model.is_ready, client, port):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the local model was not ready within {READY_S:.0f} s")
            await asyncio.sleep(_LOOK_S)


def _last_lines(log: Path) -> list[str]:
    with suppress(OSError):
        return log.read_text("utf-8", "backslashreplace").splitlines()[-_LAST_LINES:]
    return []


async def _remove_topics(stage: Stage, screen: Screen) -> None:
    kafka = stage.configuration.kafka
    names = [topic.name for topic in definitions(stage.topics, kafka.replication_factor)]
    admin = AIOKafkaAdminClient(**clients.client_settings(kafka, stage.environ))
    try:
        await admin.start()
        await admin.delete_topics(names)
    except (KafkaError, OSError, TimeoutError) as error:
        screen.say(f"the topics {kafka.topic_prefix}… could not be removed: {type(error).__name__}", "red")
    finally:
        await admin.close()


# --- workers ----------------------------------------------------------------------------------------------------------


class Crew:
    """The demo's workers: what they hold, as they say it, and whether one has given up."""

    def __init__(self, stage: Stage) -> None:
        self._log = (stage.directory / "workers.log").open("ab")
        self._held: dict[str, list[int]] = {}
        self._partitions = stage.configuration.kafka.partitions
        self.gone: list[dict[str, Any]] = []

    def heard(self, line: bytes) -> None:
        """Keep a line of a worker's log."""
        self._log.write(line + b"\n")
        self._log.flush()
        with suppress(orjson.JSONDecodeError, KeyError, TypeError):
            told = orjson.loads(line)
            if told["message"] == "ready":
                self._held[told["details"]["worker"]] = told["details"]["partitions"]

    def info(self, message: str, **details: Any) -> None:
        """Keep what the supervisor tells."""
        self.heard(orjson.dumps({"level": "INFO", "message": message, "details": details}))

    def warning(self, message: str, **details: Any) -> None:
        """Keep the end of a worker; another one takes over what it held."""
        self._held.clear()
        self.info(message, **details)

    def error(self, message: str, **details: Any) -> None:
        """Keep that a worker has ended for good."""
        self.gone.append(details)
        self.info(message, **details)

    def holding(self) -> int:
        """Return how many workers hold all partitions between them; 0 while some are held by nobody, or by two."""
        held = [partition for partitions in self._held.values() for partition in partitions]
        return sum(map(bool, self._held.values())) if sorted(held) == list(range(self._partitions)) else 0

    def close(self) -> None:
        """Close the log."""
        self._log.close()


@asynccontextmanager
async def _workers(stage: Stage, screen: Screen) -> AsyncIterator[Crew]:
    """Run the workers. The embedded broker takes them in one by one: of two that join at once it forgets one."""
    crew = Crew(stage)
    supervisor = Supervisor(worker_command(stage.file), crew.heard, crew, stage.environ)
    keeping = []
    try:
        for number in range(1, demo_prompts.WORKERS + 1):
            keeping.append(asyncio.create_task(supervisor.keep(number)))
            if stage.is_embedded:
                await _until_held(stage, crew, number)
        await _until_held(stage, crew, demo_prompts.WORKERS)
        screen.say(
            f"{demo_prompts.WORKERS} workers are ready. {len(demo_prompts.TEXTS)} prompts go out, and a broken one."
        )
        yield crew
    finally:
        await supervisor.stop()
        await asyncio.gather(*keeping, return_exceptions=True)
        crew.close()


async def _until_held(stage: Stage, crew: Crew, workers: int) -> None:
    deadline = time.monotonic() + READY_S
    while crew.holding() < workers:
        _require(crew, stage)
        if time.monotonic() > deadline:
            raise CommandError(TRY_AGAIN, [f"{workers} workers were not ready within {READY_S:.0f} s"])
        await asyncio.sleep(_LOOK_S)


def _require(crew: Crew, stage: Stage) -> None:
    for details in crew.gone:
        lines = _last_lines(stage.directory / "workers.log")
        raise CommandError(FAILED, [f"a worker has ended: {details.get('why')}", *lines])


# --- asking, and hearing ----------------------------------------------------------------------------------------------


async def _ask_and_follow(stage: Stage, crew: Crew, screen: Screen) -> Board:
    """Publish everything and follow the results to their end, or to the end of patience."""
    asked, names = demo_prompts.questions(), stage.topics
    board = Board(asked)
    heard = (names.ledger, names.costs, names.responses, names.errors, names.deadletters)
    async with follow(stage.configuration, stage.environ, heard) as followed:
        board.published_malformed(await _publish(stage, asked))
        deadline = time.monotonic() + demo_prompts.TIMEOUT_S + 20
        with screen.following(board):
            while not board.complete and time.monotonic() < deadline:
                _require(crew, stage)
                for _, event in await followed.events():
                    row = board.hear(event)
                    if row is not None:
                        screen.ended(row)
    return board


async def _publish(stage: Stage, asked: Iterable[demo_prompts.Asked]) -> demo_board.Place:
    """Publish as any producer would, keyed by tenant; return where the malformed one is."""
    settings = clients.client_settings(stage.configuration.kafka, stage.environ)
    producer = AIOKafkaProducer(**settings, acks="all")
    try:
        await producer.start()
        stored = []
        for each in asked:
            request = {"request_id": each.request_id, "tenant": each.tenant, "prompt": each.text}
            value = orjson.dumps(request | {"max_tokens": each.max_tokens, "temperature": 0})
            stored.append(await producer.send(stage.topics.requests, value, key=each.tenant.encode()))
        malformed = await producer.send_and_wait(stage.topics.requests, demo_prompts.MALFORMED)
        await asyncio.gather(*stored)
    except (KafkaError, TimeoutError) as error:
        raise unanswered(stage.configuration, error) from error
    finally:
        with suppress(KafkaError, OSError, TimeoutError):
            await producer.stop()
    return malformed.topic, malformed.partition, malformed.offset


# --- the end ----------------------------------------------------------------------------------------------------------


def _suggest(wishes: Wishes, stage: Stage, screen: Screen) -> None:
    program = _program()
    if wishes.keep:
        screen.say("\nIt goes on running until Ctrl-C. In another terminal:", "bold")
        screen.say(f"  {program} watch -c {stage.file}")
        screen.say(f'  {program} submit -c {stage.file} --tenant acme --wait "Name a colour."')
        return
    again = f"{program} demo" + (f" -c {wishes.file}" if wishes.file else "")
    screen.say("\nNext:", "bold")
    screen.say(f"  {again} --keep   the same, and it stays, for `submit` and `watch`")
    if wishes.file is None:
        screen.say(f"  {program} demo -c FILE   the same with your cluster and models")
    screen.say(f"  {program} topics apply -c FILE; {program} up -c FILE   the real thing")
    screen.say(f"  {program} --help")


def _program() -> str:
    """Return how this command was called, as it can be typed here."""
    called = Path(sys.argv[0])
    if called.name != "orchestrator" or shutil.which("orchestrator") == str(called):
        return "orchestrator"
    return os.path.relpath(called) if called.is_relative_to(Path.cwd()) else str(called)


async def _interrupted() -> None:
    """Return at Ctrl-C or SIGTERM: the regular end of a demo that was kept."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
