"""How a command ends other than well: an exit code and lines for standard error."""

from collections.abc import Iterable
from typing import Final

FAILED: Final = 1
"""A check failed, or starting again will not help."""
WRONG: Final = 2
"""Bad usage or configuration."""
TRY_AGAIN: Final = 75
INTERRUPTED: Final = 130


class CommandError(Exception):
    """Ends the command with `code`; `lines` are told on standard error, each by itself."""

    def __init__(self, code: int, lines: Iterable[str]) -> None:
        self.code = code
        self.lines = tuple(lines)
        super().__init__("\n".join(self.lines))
