"""RASP expressions (Weiss, Goldberg and Yahav 2021, "Thinking Like Transformers"), under tracr's names.

An s-op (`SOp`) turns a sequence of tokens into a sequence of values of the same length; a selector turns it into a
truth table of queries against keys. Expressions are immutable and hold no results; `interpreter.evaluate` runs them
and `compile` puts them into weights. None stands for "no value": functions are not called on it, it selects nothing,
and an average skips it.
"""

import enum
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TypeVar

from microtome.lab.rasp.errors import ExpressionError
from microtome.lab.rasp.values import Value, plain

Named = TypeVar("Named", bound="Expression")

LABEL_LIMIT = 60
"""Longest label, in characters, that is spelled out inside another expression; longer ones are elided."""


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

    def __call__(self, key: Value, query: Value) -> bool:
        if self in (Comparison.TRUE, Comparison.FALSE):
            return self is Comparison.TRUE
        return _OPERATORS[self.value](key, query)


Predicate = Callable[[Value, Value], bool]

_OPERATORS: dict[str, Callable] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "&": lambda x, y: x and y,
    "|": lambda x, y: x or y,
}


@dataclass(frozen=True)
class Infix:
    """The function of two values that an operator sign stands for; `&` and `|` are Python's `and` and `or`."""

    sign: str

    def __call__(self, x: Value, y: Value) -> Value:
        return _OPERATORS[self.sign](x, y)


@dataclass(frozen=True)
class Partial:
    """An operator with one side fixed: x ↦ x ∘ constant, or x ↦ constant ∘ x when `constant_first`."""

    infix: Infix
    constant: Value
    constant_first: bool = False

    def __call__(self, x: Value) -> Value:
        return self.infix(self.constant, x) if self.constant_first else self.infix(x, self.constant)


@dataclass(frozen=True, eq=False, repr=False)
class Expression:
    """Base of s-ops and selectors. Two expressions are the same only if they are the same object.

    Attributes:
        name: given by `named`, or None.
        label: the name, else the structure, else (where that is long) only the outermost operation.
    """

    name: str | None = field(default=None, kw_only=True)
    label: str = field(init=False)

    def __post_init__(self):
        # Made now out of the children's labels, so that no depth of nesting makes it recurse.
        spelled = self.structure if len(self.structure) <= LABEL_LIMIT else f"{type(self).__name__}(…)"
        object.__setattr__(self, "label", spelled if self.name is None else self.name)

    @property
    def children(self) -> tuple["Expression", ...]:
        """The expressions that this one reads."""
        return ()

    @property
    def structure(self) -> str:
        """The expression as it would be typed, its children by label."""
        return type(self).__name__.lower()

    def named(self: Named, name: str) -> Named:
        """The same expression under a name, which labels its directions in the compiled residual stream."""
        if not isinstance(name, str) or not name:
            raise ExpressionError(f"a name must be a non-empty string, not {name!r}", self)
        return replace(self, name=name)

    def __repr__(self) -> str:
        return self.structure if self.name is None else f"{self.structure}.named({self.name!r})"

    def __bool__(self) -> bool:
        raise ExpressionError("an expression has no truth value of its own; combine s-ops with & and |", self)


def _infix(sign: str) -> tuple[Callable, Callable]:
    """The methods for `sop ∘ other` and `other ∘ sop`."""

    def method(self: "SOp", other: object) -> "SOp":
        if isinstance(other, SOp):
            return SequenceMap(Infix(sign), self, other)
        return Map(Partial(Infix(sign), _constant(other, self)), self)

    def reflected(self: "SOp", other: object) -> "SOp":
        return Map(Partial(Infix(sign), _constant(other, self), constant_first=True), self)

    return method, reflected


def _constant(value: object, beside: "SOp") -> Value:
    try:
        return plain(value)
    except (TypeError, ValueError) as error:
        raise ExpressionError(f"{value!r} cannot stand beside an s-op: {error}", beside) from error


class SOp(Expression):
    """A sequence operation. Operators act at each position, on another s-op or on a constant."""

    __lt__, __le__, __gt__, __ge__ = (_infix(sign)[0] for sign in ("<", "<=", ">", ">="))
    __eq__, __ne__ = _infix("==")[0], _infix("!=")[0]
    __add__, __radd__ = _infix("+")
    __sub__, __rsub__ = _infix("-")
    __mul__, __rmul__ = _infix("*")
    __truediv__, __rtruediv__ = _infix("/")
    __and__, __rand__ = _infix("&")
    __or__, __ror__ = _infix("|")
    __hash__ = object.__hash__

    def __invert__(self) -> "SOp":
        return Map(operator.not_, self)


class Selector(Expression):
    """Which keys each query selects: a truth table [query, key]."""


@dataclass(frozen=True, eq=False, repr=False)
class Tokens(SOp):
    """The input sequence."""


@dataclass(frozen=True, eq=False, repr=False)
class Indices(SOp):
    """The positions 0, 1, 2, …"""


tokens = Tokens()
indices = Indices()


@dataclass(frozen=True, eq=False, repr=False)
class Map(SOp):
    """f at each position: `Map(lambda x: x + 1, tokens)`; None stays None."""

    f: Callable[[Value], Value]
    inner: SOp

    def __post_init__(self):
        _require_function(self, self.f)
        _require(self, SOp, self.inner)
        super().__post_init__()

    @property
    def children(self) -> tuple[Expression, ...]:
        return (self.inner,)

    @property
    def structure(self) -> str:
        if isinstance(self.f, Partial):
            sides = [operand(self.inner), repr(self.f.constant)]
            return f" {self.f.infix.sign} ".join(reversed(sides) if self.f.constant_first else sides)
        return f"Map({_function_name(self.f)}, {self.inner.label})"


@dataclass(frozen=True, eq=False, repr=False)
class SequenceMap(SOp):
    """f of two s-ops at each position: `SequenceMap(lambda x, y: x - y, a, b)`; None where either is None."""

    f: Callable[[Value, Value], Value]
    fst: SOp
    snd: SOp

    def __post_init__(self):
        _require_function(self, self.f)
        _require(self, SOp, self.fst, self.snd)
        super().__post_init__()

    @property
    def children(self) -> tuple[Expression, ...]:
        return (self.fst, self.snd)

    @property
    def structure(self) -> str:
        if isinstance(self.f, Infix):
            return f"{operand(self.fst)} {self.f.sign} {operand(self.snd)}"
        return f"SequenceMap({_function_name(self.f)}, {self.fst.label}, {self.snd.label})"


@dataclass(frozen=True, eq=False, repr=False)
class Select(Selector):
    """Key position k is selected by query position q where `predicate(keys[k], queries[q])` holds; None never is."""

    keys: SOp
    queries: SOp
    predicate: Predicate

    def __post_init__(self):
        _require_function(self, self.predicate)
        _require(self, SOp, self.keys, self.queries)
        super().__post_init__()

    @property
    def children(self) -> tuple[Expression, ...]:
        return (self.keys, self.queries)

    @property
    def structure(self) -> str:
        return f"Select({self.keys.label}, {self.queries.label}, {_function_name(self.predicate)})"


@dataclass(frozen=True, eq=False, repr=False)
class SelectorWidth(SOp):
    """How many keys each query selects."""

    selector: Selector

    def __post_init__(self):
        _require(self, Selector, self.selector)
        super().__post_init__()

    @property
    def children(self) -> tuple[Expression, ...]:
        return (self.selector,)

    @property
    def structure(self) -> str:
        return f"SelectorWidth({self.selector.label})"


@dataclass(frozen=True, eq=False, repr=False)
class Aggregate(SOp):
    """The mean of the selected values; their common value where all are the same; `default` where none is selected.

    A selected None does not count; where all selected values are None the result is None.
    """

    selector: Selector
    sop: SOp
    default: Value = None

    def __post_init__(self):
        _require(self, Selector, self.selector)
        _require(self, SOp, self.sop)
        object.__setattr__(self, "default", _constant(self.default, self.sop))
        super().__post_init__()

    @property
    def children(self) -> tuple[Expression, ...]:
        return (self.selector, self.sop)

    @property
    def structure(self) -> str:
        default = "" if self.default is None else f", default={self.default!r}"
        return f"Aggregate({self.selector.label}, {self.sop.label}{default})"


def topological(expression: Expression) -> Iterator[Expression]:
    """Every expression that `expression` reads and itself, each once and after its children."""
    done: set[int] = set()
    stack = [(expression, False)]
    while stack:
        node, expanded = stack.pop()
        if id(node) in done:
            continue
        if expanded:
            done.add(id(node))
            yield node
        else:
            stack.append((node, True))
            stack.extend((child, False) for child in reversed(node.children))


def _require(parent: Expression, kind: type, *parts: object) -> None:
    for part in parts:
        if not isinstance(part, kind):
            wanted = "an s-op" if kind is SOp else "a selector"
            raise ExpressionError(f"{type(parent).__name__} takes {wanted} here, not {type(part).__name__} {part!r}")


def _require_function(parent: Expression, f: object) -> None:
    if not callable(f) or isinstance(f, Expression):
        raise ExpressionError(f"{type(parent).__name__} takes a function here, not {type(f).__name__} {f!r}")


def _function_name(f: Callable) -> str:
    if isinstance(f, Comparison):
        return f.name
    if isinstance(f, Infix):
        return f.sign
    name = getattr(f, "__name__", type(f).__name__)
    return "λ" if name == "<lambda>" else name


def operand(expression: Expression) -> str:
    """Its label, in brackets where it is an operation written with a sign."""
    signed = isinstance(expression, Map | SequenceMap) and isinstance(expression.f, Partial | Infix)
    return f"({expression.label})" if signed and expression.name is None else expression.label
