"""A real Kafka for tests: one that is there, one in Docker, or Apache's own jars; the first that this machine has.

By hand: `python -m tests.broker.kafka [PORT]` runs one in the foreground (port 9092), and at the end forgets its log.
"""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import docker
from aiokafka.admin import AIOKafkaAdminClient
from docker.errors import DockerException
from testcontainers.core.container import DockerContainer

VERSION = "4.3.1"
BOOTSTRAP_VARIABLE = "ORCHESTRATOR_TEST_BOOTSTRAP"
POM = Path(__file__).with_name("pom.xml")
JARS = Path(__file__).parents[2] / ".cache" / "kafka" / VERSION / "libs"

SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    "inter.broker.listener.name": "PLAINTEXT",
    "auto.create.topics.enable": "false",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "log.cleaner.backoff.ms": "500",
    "broker.session.timeout.ms": "4000",  # after a crash the node is let in again only when its old session is over
    "broker.heartbeat.interval.ms": "1000",
}
"""A broker of the tests, wherever it runs: one node that forms groups at once and creates no topic by itself."""


class KafkaUnavailableError(Exception):
    """This machine has no way to run Kafka; says which way lacks what."""


@dataclass(frozen=True, slots=True)
class Kafka:
    """A broker that answers at `bootstrap`, and where it came from, for the summary line."""

    bootstrap: str
    origin: str


class KafkaBroker:
    """Apache Kafka from jars: one node on 127.0.0.1 that keeps its log in `directory`, so that it survives `kill`.

    Every method blocks until it is done; from a test with a running event loop, call it through `asyncio.to_thread`.
    """

    def __init__(self, directory: Path, port: int = 0, heap: str = "512M") -> None:
        """Choose the ports (0: a free one), once for all restarts. Starts nothing."""
        self._directory = directory
        self._heap = heap
        self._port = port or free_port()
        self._controller_port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        """The address for clients, the same after a restart."""
        return f"127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start, or start again on the same log, and return when clients are answered.

        Raises KafkaUnavailableError without Java or Maven, RuntimeError with its last words if it does not come up.
        """
        libs = fetch_jars()
        properties = self._directory / "server.properties"
        if not properties.exists():
            self._format(libs, properties)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._java(libs), f"-Xms{self._heap}", f"-Xmx{self._heap}", "kafka.Kafka", str(properties)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            wait_until_answered(
                self.bootstrap, alive=lambda: self._process is not None and self._process.poll() is None
            )
        except BaseException as failure:
            self.kill()
            if isinstance(failure, TimeoutError | ChildProcessError):
                raise RuntimeError(f"Kafka did not start: {self._log.read_text(errors='replace')[-2000:]}") from failure
            raise

    def kill(self) -> None:
        """Crash it (`kill -9`). Harmless when it is not running."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Shut it down in order (SIGTERM); after 20 s by force. Harmless when it is not running."""
        try:
            self._end(signal.SIGTERM)
        except subprocess.TimeoutExpired:
            self.kill()

    def _end(self, by: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(by)
            self._process.wait(timeout=20)
            self._process = None

    def wait(self) -> None:
        """Wait until somebody else ends it."""
        if self._process is not None:
            self._process.wait()

    @property
    def _log(self) -> Path:
        return self._directory / "kafka.log"

    def _java(self, libs: Path) -> list[str]:
        return ["java", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", f"{libs}/*"]

    def _format(self, libs: Path, properties: Path) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        controller = f"127.0.0.1:{self._controller_port}"
        settings = SETTINGS | {
            "controller.quorum.bootstrap.servers": controller,
            "listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://{controller}",
            "log.dirs": str(self._directory / "log"),
        }
        draft = properties.with_suffix(".draft")
        draft.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        tool = [*self._java(libs), "kafka.tools.StorageTool", "format", "--standalone", "-t", CLUSTER, "-c", str(draft)]
        with self._log.open("ab") as log:
            subprocess.run(tool, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True)
        draft.rename(properties)


CLUSTER = "4L6g3nShT-eMCtK--X86sw"
"""A cluster id: any UUID in Kafka's base64 spelling."""


def fetch_jars() -> Path:
    """Return the folder of Kafka's jars; the first time, have Maven fetch them (some 45 MB).

    Raises KafkaUnavailableError where Java or Maven is missing or the fetching fails.
    """
    for program in ("java", "mvn"):
        if shutil.which(program) is None and not (program == "mvn" and JARS.exists()):
            raise KafkaUnavailableError(f"no {program}")
    if not JARS.exists():
        draft = JARS.with_name(f"libs.{os.getpid()}")  # renamed when complete: several sessions may fetch at once
        maven = ["mvn", "-q", "-B", "-f", str(POM), "dependency:copy-dependencies", "-DincludeScope=runtime"]
        fetched = subprocess.run([*maven, f"-DoutputDirectory={draft}"], capture_output=True, text=True, check=False)
        if fetched.returncode:
            shutil.rmtree(draft, ignore_errors=True)
            raise KafkaUnavailableError(f"Maven failed: {fetched.stdout[-500:]}")
        if JARS.exists():
            shutil.rmtree(draft)
        else:
            draft.rename(JARS)
    return JARS


def free_port() -> int:
    """Return a port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until_answered(bootstrap: str, alive: Callable[[], bool] = lambda: True, within_s: float = 60) -> None:
    """Return when the broker answers an admin client. Raises TimeoutError; ChildProcessError once not `alive`."""
    with ThreadPoolExecutor(1) as thread:  # a loop of its own: the caller's may be running
        thread.submit(asyncio.run, _answered(bootstrap, alive, within_s)).result()


async def _answered(bootstrap: str, alive: Callable[[], bool], within_s: float) -> None:
    host, port = bootstrap.split(",", maxsplit=1)[0].rsplit(":", 1)
    async with asyncio.timeout(within_s):
        while not await _listens(host, int(port)):
            if not alive():
                raise ChildProcessError("the broker has ended")
            await asyncio.sleep(0.1)
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        try:
            await admin.start()
            await admin.list_topics()
        finally:
            await admin.close()


async def _listens(host: str, port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.close()
    return True


@contextmanager
def given() -> Iterator[Kafka]:
    """Use the broker that the environment names."""
    bootstrap = os.environ.get(BOOTSTRAP_VARIABLE)
    if not bootstrap:
        raise KafkaUnavailableError(f"no {BOOTSTRAP_VARIABLE}")
    try:
        wait_until_answered(bootstrap, within_s=20)
    except (OSError, TimeoutError) as failure:  # named on purpose, so another one would not do
        raise RuntimeError(f"{BOOTSTRAP_VARIABLE}={bootstrap} does not answer") from failure
    yield Kafka(bootstrap, f"{bootstrap}, from {BOOTSTRAP_VARIABLE}")


@contextmanager
def in_docker() -> Iterator[Kafka]:
    """Run the same Kafka in a container, on a host port chosen beforehand, because it has to advertise it."""
    try:
        docker.from_env(timeout=5).ping()
    except DockerException as failure:
        raise KafkaUnavailableError("no Docker engine answers") from failure
    port = free_port()
    settings = SETTINGS | {
        "controller.quorum.voters": "1@localhost:9093",
        "listeners": "PLAINTEXT://:9092,CONTROLLER://:9093",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
    }
    container = DockerContainer(f"apache/kafka:{VERSION}").with_bind_ports(9092, port)
    for name, value in settings.items():
        container.with_env("KAFKA_" + name.upper().replace(".", "_"), value)
    try:
        container.start()
    except DockerException as failure:
        raise KafkaUnavailableError(f"Docker cannot run apache/kafka:{VERSION}") from failure
    try:
        wait_until_answered(f"127.0.0.1:{port}")
        yield Kafka(f"127.0.0.1:{port}", f"Apache Kafka {VERSION} in Docker")
    finally:
        container.stop()


@contextmanager
def from_jars(directory: Path) -> Iterator[Kafka]:
    """Run Apache's jars, with the log in `directory`."""
    broker = KafkaBroker(directory)
    broker.start()
    try:
        yield Kafka(broker.bootstrap, f"Apache Kafka {VERSION} from jars")
    finally:
        broker.stop()


@contextmanager
def any_kafka(directory: Path) -> Iterator[Kafka]:
    """Run or find a broker, the first way that works; raises KafkaUnavailableError, saying what each way lacks."""
    lacking = []
    with ExitStack() as stack:
        for way in (given(), in_docker(), from_jars(directory)):
            try:
                found = stack.enter_context(way)
            except KafkaUnavailableError as unavailable:
                lacking.append(str(unavailable))
                continue
            yield found
            return
    raise KafkaUnavailableError("; ".join(lacking))


def main() -> None:
    """Run a broker until Ctrl-C or SIGTERM; print its address when it answers."""
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 9092
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="kafka-") as directory:
        broker = KafkaBroker(Path(directory), port)
        try:
            broker.start()
            print(broker.bootstrap, flush=True)
            broker.wait()
        except KeyboardInterrupt:
            print("stopping", file=sys.stderr)
        finally:
            broker.stop()


if __name__ == "__main__":
    main()
