"""What a process that ends itself leaves behind."""

import json
import subprocess
import sys
from pathlib import Path

ENDS = """
import atexit, threading
from streams.runtime.process import SystemProcess
atexit.register(print, "cleaned up")
threading.Thread(target=SystemProcess().exit, args=(75, "fenced")).start()
threading.Event().wait()
"""


def test_an_exit_from_any_thread_logs_one_line_and_cleans_nothing_up() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", ENDS],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        cwd=Path(__file__).parents[2],
    )
    line = json.loads(ended.stderr)
    assert (ended.returncode, ended.stdout) == (75, "")
    assert line.pop("timestamp").endswith("Z")
    assert line == {"level": "ERROR", "service": "orchestrator", "message": "fenced", "details": {"exit": 75}}
