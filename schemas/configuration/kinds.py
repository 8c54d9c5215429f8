"""Kinds of values, strict: each knows its limits, says what it allows, and describes itself as JSON Schema.

They stand in `Annotated[int, Integer(1, 10)]`. Nothing is coerced: `"5"` is no number and `true` no integer
(CONTRACT §5). Fractions come as `Decimal`, see `schemas.configuration.document`.
"""

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

LARGEST = 10**12
_DECIMAL = r"[0-9]{1,20}(\.[0-9]{1,20})?"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of value. `check` returns the value in its own type or raises `ValueError(self.allowed)`."""

    @property
    def allowed(self) -> str:
        """What is allowed, as the end of a sentence: `must be an integer from 1 to 10`."""
        raise NotImplementedError

    @property
    def schema(self) -> dict[str, Any]:
        """The same as JSON Schema."""
        raise NotImplementedError

    def check(self, value: Any) -> Any:
        """Return the value in its own type, or raise `ValueError` saying what is allowed."""
        raise NotImplementedError

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.check)

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return dict(self.schema)


@dataclass(frozen=True, slots=True)
class Integer(Kind):
    """A whole number within limits, both included."""

    least: int
    most: int = LARGEST

    @property
    def allowed(self) -> str:
        return f"must be an integer {_range(self.least, self.most)}"

    @property
    def schema(self) -> dict[str, Any]:
        return {"type": "integer", "minimum": self.least, "maximum": self.most}

    def check(self, value: Any) -> int:
        if type(value) is not int or not self.least <= value <= self.most:
            raise ValueError(self.allowed)
        return value


@dataclass(frozen=True, slots=True)
class Number(Kind):
    """A number, kept as a float: a duration or a weight, never money."""

    most: int
    of: str = "a number"
    least: int = 0  # 0: anything above 0

    @property
    def allowed(self) -> str:
        limits = f"from {self.least} to {self.most}" if self.least else f"above 0 and at most {self.most}"
        return f"must be {self.of} {limits}"

    @property
    def schema(self) -> dict[str, Any]:
        least = {"minimum": self.least} if self.least else {"exclusiveMinimum": 0}
        return {"type": "number", "maximum": self.most} | least

    def check(self, value: Any) -> float:
        if type(value) not in (int, float, Decimal):
            raise ValueError(self.allowed)
        number = float(value)
        if not (number > 0 and self.least <= number <= self.most):  # False for NaN
            raise ValueError(self.allowed)
        return number


@dataclass(frozen=True, slots=True)
class Usd(Kind):
    """An exact amount of US dollars: a number, or a string with a decimal number."""

    most: int
    decimals: int
    per: str = ""

    @property
    def allowed(self) -> str:
        return f"must be US dollars{self.per} from 0 to {self.most}, with at most {self.decimals} decimals"

    @property
    def schema(self) -> dict[str, Any]:
        number = {"type": "number", "minimum": 0, "maximum": self.most}
        return {"anyOf": [number, {"type": "string", "pattern": f"^{_DECIMAL}$"}]}

    def check(self, value: Any) -> Decimal:
        if isinstance(value, str) and re.fullmatch(_DECIMAL, value, re.ASCII):
            value = Decimal(value)
        if type(value) not in (int, Decimal):
            raise ValueError(self.allowed)
        amount = Decimal(value)
        if not amount.is_finite() or not 0 <= amount <= self.most or _decimals(amount) > self.decimals:
            raise ValueError(self.allowed)
        return amount.copy_abs()  # -0 is 0


@dataclass(frozen=True, slots=True)
class Text(Kind):
    """A string of a shape; the shape covers all of it."""

    shape: str
    says: str
    refused: tuple[str, ...] = ()

    @property
    def allowed(self) -> str:
        return f"must be {self.says}"

    @property
    def schema(self) -> dict[str, Any]:
        exceptions = {"not": {"enum": list(self.refused)}} if self.refused else {}
        return {"type": "string", "pattern": f"^(?:{self.shape})$"} | exceptions

    def check(self, value: Any) -> str:
        if not isinstance(value, str) or not re.fullmatch(self.shape, value) or value in self.refused:
            raise ValueError(self.allowed)
        return value


def _range(least: int, most: int) -> str:
    return f"of at least {least}" if most == LARGEST else f"from {least} to {most}"


def _decimals(amount: Decimal) -> int:
    exponent = amount.normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


IDENTIFIER = Text(r"[!-~]{1,128}", "printable ASCII without spaces, 1 to 128 characters")
"""The same as `schemas.units.Identifier`: it becomes part of table keys, headers and log lines."""

SECONDS = Number(10**9, "a number of seconds")
