"""The functions and predicates that the language knows by their structure rather than only by calling them.

They are values: two of them are equal if they do the same, so that the compiler sees equal operations as one.
"""

import enum
import operator
from collections.abc import Callable
from dataclasses import dataclass, fields

from microtome.lab.rasp.values import Value
from microtome.lab.rasp.values import key as identity

Predicate = Callable[[Value, Value], bool]

_OPERATORS: dict[str, Callable] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "&": lambda x, y: x and y,
    "|": lambda x, y: x or y,
}


class Comparison(enum.Enum):
    """A predicate on a key and a query, in this order: LT selects the keys that are less than the query."""

    EQ = "=="
    LT = "<"
    LEQ = "<="
    GT = ">"
    GEQ = ">="
    NEQ = "!="
    TRUE = "True"
    FALSE = "False"

    def __init__(self, sign: str):
        self.compare = _OPERATORS.get(sign, lambda key, query: sign == "True")

    def __call__(self, key: Value, query: Value) -> bool:
        return self.compare(key, query)


class _Known:
    """Equality by the parts, which tells True from 1 as the language does."""

    def _parts(self) -> tuple:
        return identity(tuple(getattr(self, part.name) for part in fields(self)))

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._parts() == other._parts()

    def __hash__(self) -> int:
        return hash((type(self), self._parts()))


@dataclass(frozen=True)
class Infix:
    """The function of two values that an operator sign stands for; `&` and `|` are Python's `and` and `or`."""

    sign: str

    def __call__(self, x: Value, y: Value) -> Value:
        return _OPERATORS[self.sign](x, y)


@dataclass(frozen=True, eq=False)
class Partial(_Known):
    """An operator with one side fixed: x ↦ x ∘ constant, or x ↦ constant ∘ x when `constant_first`."""

    infix: Infix
    constant: Value
    constant_first: bool = False

    def __call__(self, x: Value) -> Value:
        return self.infix(self.constant, x) if self.constant_first else self.infix(x, self.constant)


@dataclass(frozen=True, eq=False)
class Linear(_Known):
    """The sum of the arguments, each times its factor."""

    factors: tuple[Value, ...]

    def __call__(self, *values: Value) -> Value:
        return sum(factor * value for factor, value in zip(self.factors, values, strict=True))


@dataclass(frozen=True, eq=False)
class Joined(_Known):
    """The predicate that holds where both do (`&`) or where either does (`|`)."""

    sign: str
    fst: Predicate
    snd: Predicate

    def __call__(self, key: Value, query: Value) -> bool:
        # Both are asked, as they would be in two selectors, so that joining hides no error of the second.
        answers = bool(self.fst(key, query)), bool(self.snd(key, query))
        return all(answers) if self.sign == "&" else any(answers)


@dataclass(frozen=True, eq=False)
class Filled(_Known):
    """The predicate with one value in place of every key, or of every query."""

    predicate: Predicate
    side: str
    fill: Value

    def __call__(self, key: Value, query: Value) -> bool:
        if self.fill is None:
            return False
        return bool(self.predicate(self.fill, query) if self.side == "key" else self.predicate(key, self.fill))


def prefix(f: Callable) -> str | None:
    """The sign that is written before the argument of f, if f is one of those that have one."""
    return "~" if f is operator.not_ else "-" if f is operator.neg else None


def function_name(f: Callable) -> str:
    """What a function is called inside a printed expression; λ if it has no name."""
    match f:
        case Comparison():
            return f.name
        case Infix():
            return f.sign
        case Linear():
            return f"Linear{f.factors!r}"
        case Joined():
            return f"{function_name(f.fst)} {f.sign} {function_name(f.snd)}"
        case Filled():
            return f"{function_name(f.predicate)}[{f.side}={f.fill!r}]"
    name = getattr(f, "__name__", type(f).__name__)
    return "λ" if name == "<lambda>" else name
