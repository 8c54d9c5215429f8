"""The fake provider in a process of its own, which outlives the workers under test, with its own invoice."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Provider:
    """Where it answers, and where it writes down what it charges."""

    endpoint: str
    journal: Path

    def charged(self, nano_per_token: int) -> int:
        """Return the invoice in nano-USD, at one rate for all tokens."""
        lines = [json.loads(line) for line in self.journal.read_text().splitlines()]
        return sum(nano_per_token * (line["prompt_tokens"] + line["completion_tokens"]) for line in lines)

    def charged_by_marker(self, nano_per_token: int) -> Counter[str]:
        """Return the same for each `marker:` that prompts hold."""
        charged: Counter[str] = Counter()
        for line in map(json.loads, self.journal.read_text().splitlines()):
            charged[line["marker"]] += nano_per_token * (line["prompt_tokens"] + line["completion_tokens"])
        return charged

    def calls(self) -> int:
        """Return how many requests it received."""
        return len(self.journal.read_text().splitlines())


@contextmanager
def provider_process(directory: Path, behaviour: dict[str, Any]) -> Iterator[Provider]:
    """Run it until the end of the block."""
    journal = directory / "invoice.jsonl"
    options = ["--port", "0", "--journal", str(journal), "--behaviour", json.dumps(behaviour)]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.providers.fake", *options], stdout=subprocess.PIPE, cwd=ROOT
    )
    try:
        assert process.stdout is not None
        yield Provider(process.stdout.readline().decode().split()[1], journal)
    finally:
        process.terminate()
        process.wait(10)
