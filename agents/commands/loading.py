"""From the path of a configuration file to a configuration, or to one line per mistake."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from agents.commands.exits import WRONG, CommandError
from schemas.configuration import Configuration, ConfigurationError, parse
from streams.runtime.redaction import hide

_MOST_BYTES: Final = 1024 * 1024


def load(path: Path, environ: Mapping[str, str]) -> Configuration:
    """Read, parse and check the file; the secrets that it names are hidden in logs from now on.

    Raises `CommandError` (2) with one line per mistake; a file that is missing or unreadable is one.
    """
    try:
        configuration = parse(_text(path), environ)
    except ConfigurationError as error:
        raise wrong(path, error) from error
    for deployment in configuration.models:
        hide(environ.get(deployment.api_key_env or "", ""))
    security = configuration.kafka.security
    if security is not None:
        hide(environ.get(security.password_env or "", ""))
        hide(security.password.get_secret_value() if security.password else "")
    return configuration


def wrong(path: Path, error: ConfigurationError) -> CommandError:
    """Return the error that tells every mistake, each on a line with the file's name."""
    return CommandError(WRONG, [f"{shown(path)}: {mistake}" for mistake in error.mistakes])


def shown(path: Path) -> str:
    """Return a path as one line of text, whatever it is made of."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return text if text.isprintable() else ascii(text)[1:-1]


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise CommandError(WRONG, [f"{shown(path)}: is larger than {_MOST_BYTES} bytes"])
        return content.decode("utf-8")
    except OSError as error:
        raise CommandError(WRONG, [f"{shown(path)}: cannot be read: {error.strerror or error}"]) from error
    except UnicodeDecodeError as error:
        raise CommandError(WRONG, [f"{shown(path)}: is not UTF-8: {error.reason} at byte {error.start}"]) from error
    except ValueError as error:  # a NUL in the path
        raise CommandError(WRONG, [f"{shown(path)}: cannot be read: {error}"]) from error
