"""Settings from the environment: `ORCHESTRATOR_KAFKA__PARTITIONS=24` wins over `kafka.partitions` in the file.

Only names with `__` after the prefix are settings: Kubernetes sets `ORCHESTRATOR_PORT` and the like by itself for a
service of this name. Values are YAML (`24`, `[a, b]`, `{name: x}`); below `kafka.security` they are taken as they are.
An empty value counts as not set.
"""

from collections.abc import Mapping
from itertools import pairwise

from schemas.configuration.document import Document, Unreadable, read
from schemas.configuration.mistakes import Mistake, Path, written

PREFIX = "ORCHESTRATOR_"
_NESTING = "__"


def overlay(document: Document, environ: Mapping[str, str]) -> dict[Path, str]:
    """Put the settings of `environ` into `document`; what cannot be put becomes a mistake of the document.

    Returns the variable that set each path, so that later mistakes can name it.
    """
    variables: dict[Path, str] = {}
    for path, name in sorted(_settings(environ), key=lambda setting: (len(setting[0]), str(setting))):
        if path in variables:
            _note(document, path, name, f"the same setting as {variables[path]}")
            continue
        variables[path] = name
        value = _value(document, path, name, environ[name])
        if value is not None:
            _put(document, path, name, value)
    return variables


def _settings(environ: Mapping[str, str]) -> list[tuple[Path, str]]:
    found = []
    for name, value in environ.items():
        rest = name.upper().removeprefix(PREFIX)
        if name.upper().startswith(PREFIX) and _NESTING in rest and value:
            found.append((_path(rest), name))
    return found


def _path(name: str) -> Path:
    parts = name.lower().split(_NESTING)
    return tuple(int(part) if part.isascii() and part.isdigit() and len(part) < 6 else part for part in parts)


def _value(document: Document, path: Path, name: str, text: str) -> Document | None:
    if path[:2] == ("kafka", "security") and len(path) > 2:
        return Document(tree=text)
    try:
        value = read(text)
    except Unreadable as error:
        _note(document, path, name, error.mistake.problem)
        return None
    document.mistakes += [Mistake(found.problem, written(path), variable=name) for found in value.mistakes]
    return value


def _put(document: Document, path: Path, name: str, value: Document) -> None:
    parent: object = document.tree
    for depth, (part, following) in enumerate(pairwise(path)):
        step = _child(parent, part)
        if step is None:
            step = [] if isinstance(following, int) else {}
            if not _set(parent, part, step):
                return _note(document, path, name, _no_place(path[:depth]))
        parent = step
    if not _set(parent, path[-1], value.tree):
        return _note(document, path, name, _no_place(path[:-1]))
    _forget(document, path)
    document.sources |= {(*path, *below): text for below, text in value.sources.items()}
    document.unreadable |= {(*path, *below) for below in value.unreadable}
    return None


def _child(parent: object, part: str | int) -> object:
    if isinstance(parent, list) and isinstance(part, int) and part < len(parent):
        return parent[part]
    return parent.get(str(part)) if isinstance(parent, dict) else None


def _set(parent: object, part: str | int, value: object) -> bool:
    if isinstance(parent, dict):
        parent[str(part)] = value
        return True
    if not isinstance(parent, list) or not isinstance(part, int) or part > len(parent):
        return False
    parent[part : part + 1] = [value]
    return True


def _forget(document: Document, path: Path) -> None:
    """Forget what the file said about `path` and below: the variable has replaced it."""
    for known in (document.lines, document.sources):
        for place in [place for place in known if place[: len(path)] == path]:
            del known[place]
    document.unreadable -= {place for place in document.unreadable if place[: len(path)] == path}


def _no_place(path: Path) -> str:
    return f"{written(path) or 'the file'} has no such place: list items are numbered from 0 without gaps"


def _note(document: Document, path: Path, name: str, problem: str) -> None:
    document.mistakes.append(Mistake(problem, written(path), variable=name))
