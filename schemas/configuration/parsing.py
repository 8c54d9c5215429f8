"""From text and environment to a configuration, or to the list of every mistake."""

import difflib
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from schemas.configuration.checks import findings
from schemas.configuration.configuration import Configuration
from schemas.configuration.document import Document, Unreadable, read
from schemas.configuration.environment import overlay
from schemas.configuration.kinds import Kind
from schemas.configuration.mistakes import ConfigurationError, Mistake, Path, shown, written
from schemas.configuration.section import Section

_NO_ENVIRONMENT: Mapping[str, str] = {}
_NEAREST_CHARACTERS = 64
_WORD_CHARACTERS = 3
_MUST_BE = {
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "model_type": "must be a mapping",
    "string_type": "must be a string",
    "tuple_type": "must be a list",
    "too_short": "must not be empty",
    "string_too_short": "must not be empty",
}


def parse(text: str, environ: Mapping[str, str] = _NO_ENVIRONMENT) -> Configuration:
    """Read a YAML configuration; variables of `environ` named `ORCHESTRATOR_SECTION__KEY` win over it.

    Raises `ConfigurationError` with every mistake found. Neither the error nor the configuration shows a secret.
    """
    configuration, mistakes = _read(text, environ)
    if configuration is None or mistakes:
        raise ConfigurationError(mistakes)
    return configuration


def _read(text: str, environ: Mapping[str, str]) -> tuple[Configuration | None, tuple[Mistake, ...]]:
    try:
        document = read(text)
    except Unreadable as error:
        return None, (error.mistake,)
    if document.tree is None and not document.mistakes:
        return None, (Mistake("the file is empty: `{}` stands for all defaults"),)
    if not isinstance(document.tree, dict):
        return None, (*document.mistakes, Mistake(f"must be a mapping of sections, not {_kind(document.tree)}"))
    variables = overlay(document, environ)
    place = _Places(document, variables)
    configuration, invalid = _validate(document, place)
    crossing = [place.mistake(path, problem) for path, problem in findings(document.tree)]
    return configuration, _in_order([*document.mistakes, *invalid, *crossing])


def _validate(document: Document, place: "_Places") -> tuple[Configuration | None, list[Mistake]]:
    try:
        return Configuration.model_validate(document.tree), []
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
    return None, [
        _mistake(place, item["loc"], item["type"], item.get("ctx", {}))
        for item in found
        if item["type"] == "extra_forbidden"
        or (item["type"] != "default_factory_not_called" and not place.is_unreadable(item["loc"]))
    ]


def _mistake(place: "_Places", path: Path, kind: str, context: Mapping[str, Any]) -> Mistake:
    match kind:
        case "extra_forbidden":
            return place.mistake(path, _unknown_key(path), with_value=False)
        case "missing":
            return place.mistake(path, f"missing; {_must_be(path)}", with_value=False)
        case "value_error":
            return place.mistake(path, str(context["error"]))
        case "literal_error":
            return place.mistake(path, f"must be {context['expected'].replace(chr(39), '')}")
        case _:
            return place.mistake(path, _MUST_BE[kind])


class _Places:
    """Knows who wrote what stands at a path: a line of the file, or a variable."""

    def __init__(self, document: Document, variables: Mapping[Path, str]) -> None:
        self._document = document
        self._variables = variables

    def mistake(self, path: Path, problem: str, *, with_value: bool = True) -> Mistake:
        """Return a mistake at `path`, with the value there, if there is one."""
        exists, value = self._look(path)
        text = shown(path, value, self._document.sources.get(path)) if exists and with_value else None
        line, variable = next(filter(any, map(self._writer, _upwards(path))), (None, None))
        return Mistake(problem, written(path), text, line, variable=variable)

    def is_unreadable(self, path: Path) -> bool:
        """Whether the value there was refused already, so that what follows from its absence is no mistake."""
        return any(at in self._document.unreadable for at in _upwards(path))

    def _writer(self, path: Path) -> tuple[int | None, str | None]:
        """Return the line, or the variable that set this place or made it by setting something below."""
        if path in self._variables:
            return None, self._variables[path]
        if path in self._document.lines:
            return self._document.lines[path], None
        below = (name for place, name in self._variables.items() if place[: len(path)] == path)
        return None, next(below, None)

    def _look(self, path: Path) -> tuple[bool, object]:
        value = self._document.tree
        try:
            for part in path:
                value = value[part]  # type: ignore[index]  # whatever it is: the exceptions below tell
        except (KeyError, IndexError, TypeError):
            return False, None
        return True, value


def _upwards(path: Path) -> Iterator[Path]:
    return (path[:length] for length in range(len(path), 0, -1))


def _unknown_key(path: Path) -> str:
    key = str(path[-1])[:_NEAREST_CHARACTERS].lower()
    known = list(_fields(path[:-1]))
    longer = [name for name in known if key in name] if len(key) >= _WORD_CHARACTERS else []
    nearest = difflib.get_close_matches(key, longer or known, 1, 0)
    return f"unknown key; the nearest known one is {nearest[0]}"


def _must_be(path: Path) -> str:
    field = _fields(path[:-1])[str(path[-1])]
    for metadata in field.metadata:
        if isinstance(metadata, Kind):
            return metadata.allowed
    return f"must be {', '.join(typing.get_args(field.annotation)[:-1])} or {typing.get_args(field.annotation)[-1]}"


def _fields(path: Path) -> dict[str, FieldInfo]:
    section: type[Section] = Configuration
    for part in path:
        if isinstance(part, str):
            section = next(_sections_in(section.model_fields[part].annotation))
    return section.model_fields


def _sections_in(annotation: Any) -> Iterator[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _sections_in(argument)


def _kind(tree: object) -> str:
    return "a list" if isinstance(tree, list) else "a single value"


def _in_order(mistakes: list[Mistake]) -> tuple[Mistake, ...]:
    """Sort as the file goes, then variables; the same line only once."""
    return tuple(dict.fromkeys(sorted(mistakes, key=lambda one: (one.variable or "", one.line or 0))))
