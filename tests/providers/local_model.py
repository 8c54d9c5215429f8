"""The product's own local model (`streams/runtime/local_model.py`) for tests, ready."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from streams.runtime import children, local_model
from streams.runtime.local_model import MODEL, ModelMissingError

__all__ = ["MODEL", "ModelMissingError", "running_model"]

START_TIMEOUT_S = 60.0


@contextmanager
def running_model() -> Iterator[str]:
    """Start the model as a process of its own; yields its endpoint once it is ready. Raises `ModelMissingError`."""
    port = _free_port()
    process = local_model.start(port)
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        with httpx.Client(trust_env=False) as client:
            while not local_model.is_ready(client, port):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"the local model is not ready (exit code {process.returncode})")
                time.sleep(0.1)
        yield local_model.endpoint(port)
    finally:
        children.stop([process])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
