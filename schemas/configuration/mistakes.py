"""What is wrong with a configuration, one line per mistake, without secrets."""

import json
import re
from dataclasses import dataclass

Path = tuple[str | int, ...]
"""Where a value stands: `("models", 0, "endpoint")`; written `models[0].endpoint`."""

_SHOWN_CHARACTERS = 60
_NAME_CHARACTERS = 200
_NOT_PRINTABLE = re.compile(r"[^ -~]")
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]{1,60}")
_SECRET_NAME = re.compile(r"passw|pwd|key|secret|token|credential|bearer", re.IGNORECASE)
_COUNTS_AND_PRICES = frozenset(
    {
        "above_input_tokens",
        "cost_per_token",
        "default_max_tokens",
        "image_tokens",
        "max_output_tokens",
        "max_tokens",
        "template_tokens",
        "tokenizer",
        "tokens_per_minute",
    }
)
_USERINFO = re.compile(r".*@", re.DOTALL)
_QUERY = re.compile(r"(://[^?#]*[?#]).+", re.DOTALL)
_KEY_LIKE = re.compile(r"\b(?:sk|pk|rk|gsk|hf|ghp|xox[a-z]|AIza)[-_A-Za-z0-9]{16,}")


@dataclass(frozen=True, slots=True)
class Mistake:
    """One mistake. `str()` is exactly one line of printable ASCII, and no value in it is a secret."""

    problem: str
    path: str = ""
    value: str | None = None
    line: int | None = None
    column: int | None = None
    variable: str | None = None  # the environment variable that set the value

    def __str__(self) -> str:
        line = ": ".join(part for part in (self._where(), self.value, self.problem) if part)
        return _NOT_PRINTABLE.sub(lambda found: json.dumps(found[0])[1:-1], line)

    def _where(self) -> str:
        if self.variable is not None:
            variable = self.variable if len(self.variable) <= _NAME_CHARACTERS else quoted(self.variable)
            return f"{variable} ({self.path})" if self.path else variable
        if self.line is None:
            return self.path
        position = f"line {self.line}" if self.column is None else f"line {self.line}, column {self.column}"
        return f"{self.path} ({position})" if self.path else position


class ConfigurationError(ValueError):
    """A configuration that cannot be used. `mistakes` lists every one found; `str()` has one line for each."""

    def __init__(self, mistakes: tuple[Mistake, ...]) -> None:
        super().__init__("\n".join(map(str, mistakes)))
        self.mistakes = mistakes


def written(path: Path) -> str:
    """Write a path as people do: `tenants[0].budgets[1].usd`; odd keys are quoted and bounded."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif _PLAIN_KEY.fullmatch(part):
            text += f".{_masked(part)}" if text else _masked(part)
        else:
            text += f"[{quoted(part)}]"
    return text


def quoted(text: str) -> str:
    """Quote untrusted text for one line: masked, escaped to ASCII, bounded."""
    masked = _masked(text)
    shown = masked if len(masked) <= _SHOWN_CHARACTERS else f"{masked[:_SHOWN_CHARACTERS]}..."
    return json.dumps(shown)


def shown(path: Path, value: object, source: str | None = None) -> str:
    """Write a value for a mistake. `source` is how the file wrote it, which numbers are shown as."""
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    if is_secret(path) and value is not None:
        return "***"
    if isinstance(value, str):
        return quoted(value)
    return json.dumps(value) if value is None or isinstance(value, bool) else source or str(value)


def is_secret(path: Path) -> bool:
    """Whether what stands at `path` may be a secret: all of `kafka.security`, and anything named like one."""
    names = [part for part in path if isinstance(part, str) and part not in _COUNTS_AND_PRICES]
    return path[:2] == ("kafka", "security") or any(map(_SECRET_NAME.search, names))


def _masked(text: str) -> str:
    text = _USERINFO.sub("***@", text)
    text = _QUERY.sub(r"\1***", text)
    return _KEY_LIKE.sub("***", text)
