"""YAML text to plain values: numbers exact, every place remembered, nothing that can expand or run.

Scalars follow the YAML 1.2 core schema (`no` and `1:30` are strings, `3e-5` is a number). Decimal fractions become
`Decimal` from their text, never through a float. Refused: anchors, aliases and tags (SECURITY S18), duplicate keys,
a second document.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation

import yaml

from schemas.configuration.mistakes import Mistake, Path, written

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
_MAX_NUMBER_CHARACTERS = 64
_MAX_EXPONENT = 40

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEAN = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?[0-9]+")
_FRACTION = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_QUOTED = re.compile(r"'([^']*)'")


class Unreadable(Exception):
    """The text is no YAML document that could be looked at further."""

    def __init__(self, mistake: Mistake) -> None:
        super().__init__(str(mistake))
        self.mistake = mistake


@dataclass(slots=True)
class Document:
    """A tree of None, bool, int, Decimal, str, list and dict, with what is known about its places."""

    tree: object = None
    lines: dict[Path, int] = field(default_factory=dict)
    sources: dict[Path, str] = field(default_factory=dict)  # numbers as they were written
    mistakes: list[Mistake] = field(default_factory=list)
    unreadable: set[Path] = field(default_factory=set)  # already a mistake: the tree holds None there


def read(text: str) -> Document:
    """Read one YAML document. Raises `Unreadable` for what is no YAML, too large or too deep; the rest is collected."""
    if len(text) > MAX_BYTES or len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise Unreadable(Mistake("the file is larger than 1 MiB"))
    problem: Mistake
    try:
        return _Builder(yaml.parse(text, Loader=yaml.SafeLoader)).build()
    except yaml.reader.ReaderError as error:
        problem = _unprintable(text, error)
    except yaml.MarkedYAMLError as error:
        problem = _syntax(error)
    raise Unreadable(problem)  # outside of `except`: the parser's error quotes the source, secrets included


def _syntax(error: yaml.MarkedYAMLError) -> Mistake:
    mark = error.problem_mark or error.context_mark
    what = error.problem or "not readable"
    what = "a tab where YAML wants spaces" if "'\\t'" in what else _QUOTED.sub(_without_source, what)
    return Mistake(
        f"not YAML: {what}",
        line=mark.line + 1 if mark else None,
        column=mark.column + 1 if mark else None,
    )


def _without_source(quoted: re.Match[str]) -> str:
    """Keep a quoted character or the name of a token, and nothing longer that the file may have said."""
    return quoted[0] if len(quoted[1]) == 1 or quoted[1].startswith("<") else "it"


def _unprintable(text: str, error: yaml.reader.ReaderError) -> Mistake:
    before = text[: error.position]
    return Mistake(
        f"not YAML: the character U+{ord(text[error.position]):04X} is not allowed",
        line=before.count("\n") + 1,
        column=error.position - before.rfind("\n"),
    )


class _Builder:
    """Folds parser events into a document."""

    def __init__(self, events: Iterator[yaml.Event]) -> None:
        self._events = events
        self._document = Document()

    def build(self) -> Document:
        next(self._events)  # stream start
        if isinstance(next(self._events), yaml.StreamEndEvent):
            return self._document
        self._document.tree = self._node(next(self._events), ())
        next(self._events)  # document end
        following = next(self._events)
        if not isinstance(following, yaml.StreamEndEvent):
            line = _line(following)
            raise Unreadable(Mistake("a second YAML document: a configuration is one document", line=line))
        return self._document

    def _node(self, event: yaml.Event, path: Path) -> object:
        self._document.lines.setdefault(path, _line(event))
        if len(path) > MAX_DEPTH:
            raise Unreadable(Mistake(f"nested deeper than {MAX_DEPTH}", line=_line(event)))
        match event:
            case yaml.AliasEvent():
                self._refuse(path, event, "an alias: write the value itself")
                return None
            case yaml.ScalarEvent():
                value = self._scalar(event, path)
            case yaml.SequenceStartEvent():
                value = self._sequence(path)
            case yaml.MappingStartEvent():
                value = self._mapping(path)
            case _:
                raise AssertionError(event)
        if event.anchor is not None:
            self._note(path, event, "an anchor: anchors and aliases are not allowed")
        if event.tag is not None:
            self._refuse(path, event, "a YAML tag: tags are not allowed")
        return value if event.tag is None else None

    def _sequence(self, path: Path) -> list[object]:
        items: list[object] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._node(event, (*path, len(items))))
        return items

    def _mapping(self, path: Path) -> dict[str, object]:
        mapping: dict[str, object] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._key(event, path)
            if key is None or key in mapping:
                if key is not None:
                    first = self._document.lines[(*path, key)]
                    self._note((*path, key), event, f"a duplicate key: it is already on line {first}")
                self._skip(next(self._events))
                continue
            self._document.lines[(*path, key)] = _line(event)
            mapping[key] = self._node(next(self._events), (*path, key))
        return mapping

    def _key(self, event: yaml.Event, path: Path) -> str | None:
        if isinstance(event, yaml.ScalarEvent) and event.anchor is None and event.tag is None:
            return str(event.value)
        self._skip(event)
        self._note(path, event, "a key that is no plain text")
        return None

    def _skip(self, event: yaml.Event) -> None:
        depth = 0
        while True:
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth == 0:
                return
            event = next(self._events)

    def _scalar(self, event: yaml.ScalarEvent, path: Path) -> object:
        text: str = event.value
        if not event.implicit[0]:
            return text
        if text in _NULL:
            return None
        if text in _BOOLEAN:
            return _BOOLEAN[text]
        if not (_FRACTION.fullmatch(text) or _NOT_FINITE.fullmatch(text)):
            return text
        number = _number(text)
        self._document.sources[path] = text
        if number is None:
            self._refuse(path, event, "a number out of all bounds")
        return number

    def _refuse(self, path: Path, event: yaml.Event, problem: str) -> None:
        self._note(path, event, problem)
        self._document.unreadable.add(path)

    def _note(self, path: Path, event: yaml.Event, problem: str) -> None:
        self._document.mistakes.append(Mistake(problem, written(path), line=_line(event)))


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 0


def _number(text: str) -> int | Decimal | None:
    if len(text) > _MAX_NUMBER_CHARACTERS:
        return None
    if _INTEGER.fullmatch(text):
        return int(text)
    try:
        number = Decimal(text.replace(".inf", "inf").replace(".nan", "nan") if text[-1].isalpha() else text)
    except InvalidOperation:
        return None
    return number if not number.is_finite() or abs(number.adjusted()) <= _MAX_EXPONENT else None
