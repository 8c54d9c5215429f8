"""Rules for JSON values: each checks one value, tells by path what is wrong, and returns the value without its nulls.

A rule is called with a value that is not null, unless the value stands in a list. What it returns counts only if
nothing was wrong. Types are not coerced: `"5"` is no number, `true` no integer, `5.0` no whole number (CONTRACT §5).
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Final, TypeAlias

from schemas.strict_json import Json

MAX_PROBLEMS: Final = 50
MAX_SHOWN: Final = 64


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One wrong field: its path like `messages[0].content`, and what is wrong with it. Both texts are short."""

    field: str
    problem: str


@dataclass(slots=True)
class Problems:
    """What was found so far: at most one entry per field, at most `MAX_PROBLEMS` of them, the first ones."""

    by_field: dict[str, str] = field(default_factory=dict)

    def add(self, path: str, problem: str) -> None:
        """Note that the field at `path` is wrong; a second problem of the same field changes nothing."""
        if not self.are_full:
            self.by_field.setdefault(path, problem)

    @property
    def are_full(self) -> bool:
        """Whether further problems are dropped."""
        return len(self.by_field) >= MAX_PROBLEMS

    def as_fields(self) -> tuple[FieldProblem, ...]:
        """The problems in the order in which they were found."""
        return tuple(FieldProblem(path, problem) for path, problem in self.by_field.items())


Rule: TypeAlias = Callable[[Json, str, Problems], Any]


def shown(name: str) -> str:
    """A name from outside, fit for a message: short, one line, nothing invisible in it."""
    short = name if len(name) <= MAX_SHOWN else name[: MAX_SHOWN - 1] + "…"
    if short.isprintable():
        return short
    return "".join(letter if letter.isprintable() else f"\\u{ord(letter):04x}" for letter in short)


def kind(value: Json) -> str:
    """What a JSON value is, in a sentence."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "a list"
        case dict():
            return "an object"


def nearest(name: str, known: Mapping[str, Any]) -> str:
    """A hint at the known name that is most like `name`, or nothing."""
    close = get_close_matches(name[:MAX_SHOWN].lower(), known, n=1, cutoff=0.6)
    return f"; did you mean `{close[0]}`?" if close else ""


def anything(value: Json, _path: str, _problems: Problems) -> Json:
    """No rule: passed as it is."""
    return value


def boolean(value: Json, path: str, problems: Problems) -> Json:
    """`true` or `false`."""
    if not isinstance(value, bool):
        problems.add(path, f"must be true or false, not {kind(value)}")
    return value


def any_object(value: Json, path: str, problems: Problems) -> Json:
    """An object whose members nobody here knows."""
    if not isinstance(value, dict):
        problems.add(path, f"must be an object, not {kind(value)}")
    return value


def only(expected: Json, why: str) -> Rule:
    """Exactly `expected`, type included."""

    def rule(value: Json, path: str, problems: Problems) -> Json:
        if type(value) is not type(expected) or value != expected:
            problems.add(path, why)
        return value

    return rule


def one_of(*words: str) -> Rule:
    """One of a closed set of strings."""
    allowed = frozenset(words)
    says = "must be " + " or ".join(f"`{word}`" for word in words)

    def rule(value: Json, path: str, problems: Problems) -> Json:
        if not isinstance(value, str):
            problems.add(path, f"{says}, not {kind(value)}")
        elif value not in allowed:
            problems.add(path, f"{says}, not `{shown(value)}`")
        return value

    return rule


def number(*, least: float | None = None, above: float | None = None, most: float | None = None) -> Rule:
    """A number within its limits; `above` is exclusive, `least` and `most` are not."""
    bounds = {"at least": least, "greater than": above, "at most": most}
    says = "must be a number, " + " and ".join(
        f"{word} {bound:g}" for word, bound in bounds.items() if bound is not None
    )

    def rule(value: Json, path: str, problems: Problems) -> Json:
        if isinstance(value, bool) or not isinstance(value, int | float):
            problems.add(path, f"{says}; it is {kind(value)}")
        elif (
            (least is not None and value < least)
            or (above is not None and value <= above)
            or (most is not None and value > most)
        ):
            problems.add(path, says)
        return value

    return rule


def whole_number(least: int, most: int) -> Rule:
    """An integer from `least` to `most`, written as one."""
    says = f"must be a whole number from {least} to {most}"

    def rule(value: Json, path: str, problems: Problems) -> Json:
        if isinstance(value, float):  # also what the decoder makes of a whole number beyond 64 bits
            problems.add(path, says if abs(value) >= 2**63 else f"{says}, without fraction or exponent")
        elif isinstance(value, bool) or not isinstance(value, int):
            problems.add(path, f"{says}; it is {kind(value)}")
        elif not least <= value <= most:
            problems.add(path, says)
        return value

    return rule


def text(most: int | None = None, *, least: int = 0) -> Rule:
    """A string of `least` to `most` characters."""
    says = "must be a string" if most is None else f"must be a string of {least} to {most} characters"
    if most is None and least:
        says = "must be a string that is not empty"

    def rule(value: Json, path: str, problems: Problems) -> Json:
        if not isinstance(value, str):
            problems.add(path, f"{says}, not {kind(value)}")
        elif len(value) < least or (most is not None and len(value) > most):
            problems.add(path, says)
        return value

    return rule


def printable(most: int) -> Rule:
    """A string of 1 to `most` characters that can be seen, so that it cannot break a line or hide in one."""
    says = f"must be a string of 1 to {most} printable characters"

    def rule(value: Json, path: str, problems: Problems) -> Json:
        if not isinstance(value, str):
            problems.add(path, f"{says}, not {kind(value)}")
        elif not (1 <= len(value) <= most and value.isprintable()):
            problems.add(path, says)
        return value

    return rule


def matching(pattern: str, says: str) -> Rule:
    """A string that matches the whole of `pattern`."""
    fits = re.compile(pattern).fullmatch

    def rule(value: Json, path: str, problems: Problems) -> Json:
        if not isinstance(value, str):
            problems.add(path, f"{says}, not {kind(value)}")
        elif fits(value) is None:
            problems.add(path, says)
        return value

    return rule


def list_of(item: Rule, *, least: int = 0, most: int | None = None) -> Rule:
    """A list of `least` to `most` values that follow `item`."""

    def rule(value: Json, path: str, problems: Problems) -> list[Any]:
        if not isinstance(value, list):
            problems.add(path, f"must be a list, not {kind(value)}")
            return []
        if len(value) < least:
            problems.add(path, "must not be empty")
        elif most is not None and len(value) > most:
            problems.add(path, f"must have at most {most} entries")
            return []
        kept = []
        for index, entry in enumerate(value):
            if problems.are_full:
                break
            kept.append(item(entry, f"{path}[{index}]", problems))
        return kept

    return rule


def record(members: Mapping[str, Rule], *, required: tuple[str, ...] = ()) -> Rule:
    """An object with these members and no other."""

    def rule(value: Json, path: str, problems: Problems) -> dict[str, Any]:
        if not isinstance(value, dict):
            problems.add(path, f"must be an object, not {kind(value)}")
            return {}
        given: dict[str, Any] = {}
        for name, content in value.items():
            if content is None:
                continue
            member = members.get(name)
            if member is not None:
                given[name] = member(content, f"{path}.{name}", problems)
            elif not problems.are_full:
                problems.add(f"{path}.{shown(name)}", f"is not known here{nearest(name, members)}")
        for name in required:
            if name not in given:
                problems.add(f"{path}.{name}", "is required")
        return given

    return rule


def tagged(tag: str, variants: Mapping[str, Rule], *, refused: Mapping[str, str] | None = None) -> Rule:
    """An object whose member `tag` says which of `variants` it follows; `refused` tells why not of some other tags."""
    says = "must be " + " or ".join(f"`{word}`" for word in variants)
    reasons = refused or {}

    def rule(value: Json, path: str, problems: Problems) -> Any:
        if not isinstance(value, dict):
            problems.add(path, f"must be an object, not {kind(value)}")
            return {}
        word = value.get(tag)
        if isinstance(word, str) and word in variants:
            return variants[word](value, path, problems)
        if word is None:
            problems.add(f"{path}.{tag}", "is required")
        elif isinstance(word, str):
            problems.add(f"{path}.{tag}", reasons.get(word, f"{says}, not `{shown(word)}`"))
        else:
            problems.add(f"{path}.{tag}", f"{says}, not {kind(word)}")
        return {}

    return rule
