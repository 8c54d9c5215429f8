"""Ending this process at once, with a reason in its log."""

import json
import os
import sys
from datetime import UTC, datetime
from typing import NoReturn

STOPPED = 0
HOPELESS = 1
"""Starting again will not help: P changed, records were lost to retention."""
TRY_AGAIN = 75
"""It fenced itself, could not know whether something was stored, or found no cluster (EX_TEMPFAIL)."""


class SystemProcess:
    """This operating-system process (`ports.Process`); callable from any thread."""

    def exit(self, code: int, why: str) -> NoReturn:
        """Write one log line of the service's shape to standard error and end at once: no cleanup, no further write."""
        line = {
            "timestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "level": "INFO" if code == STOPPED else "ERROR",
            "service": "orchestrator",
            "message": why,
            "details": {"exit": code},
        }
        os.write(sys.stderr.fileno() if sys.stderr else 2, (json.dumps(line) + "\n").encode())
        os._exit(code)
