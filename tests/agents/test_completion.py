"""Shells complete commands and options."""

import os
import subprocess
import sys
from pathlib import Path

COMMAND = Path(sys.executable).with_name("orchestrator")


def completed(words: str, position: int) -> list[str]:
    asked = {"COMP_WORDS": words, "COMP_CWORD": str(position), "_ORCHESTRATOR_COMPLETE": "complete_bash"}
    ended = subprocess.run([COMMAND], env=os.environ | asked, capture_output=True, text=True, check=True, timeout=60)
    return ended.stdout.split()


def test_commands_are_completed() -> None:
    assert completed("orchestrator to", 1) == ["topics"]


def test_commands_of_a_group_are_completed() -> None:
    assert completed("orchestrator topics ", 2) == ["apply", "check"]


def test_options_are_completed_and_hidden_ones_are_not() -> None:
    assert set(completed("orchestrator worker --", 2)) == {"--config", "--id", "--help"}
