"""RASP expressions (Weiss, Goldberg and Yahav 2021, "Thinking Like Transformers"), under tracr's names.

An s-op (`SOp`) turns a sequence of tokens into a sequence of values of the same length; a selector turns it into a
truth table of queries against keys. Expressions are immutable and hold no results; `interpreter.evaluate` runs them
and `compile` puts them into weights. None stands for "no value": functions are not called on it, it selects nothing,
and an average skips it.

Here are the operations that attention performs, and every name of the language.
"""

from dataclasses import dataclass
from typing import ClassVar, TypeVar

from microtome.lab.rasp.annotations import Encoding
from microtome.lab.rasp.elementwise import (
    ConstantSOp,
    Full,
    Indices,
    Length,
    LinearSequenceMap,
    Map,
    SequenceMap,
    SOp,
    Tokens,
    indices,
    length,
    sop_not,
    tokens,
)
from microtome.lab.rasp.errors import ExpressionError
from microtome.lab.rasp.expression import LABEL_LIMIT, Expression, constant, operand, require, topological
from microtome.lab.rasp.functions import Comparison, Filled, Infix, Joined, Linear, Partial, Predicate
from microtome.lab.rasp.selectors import (
    ConstantSelector,
    Select,
    Selector,
    SelectorAnd,
    SelectorNot,
    SelectorOr,
    selector_and,
    selector_not,
    selector_or,
)
from microtome.lab.rasp.values import Value

AnySOp = TypeVar("AnySOp", bound=SOp)
AnyExpression = TypeVar("AnyExpression", bound=Expression)

REDUCTIONS = ("mean", "max", "min", "first", "last")


@dataclass(frozen=True, eq=False, repr=False)
class SelectorWidth(SOp):
    """How many keys each query selects."""

    READS: ClassVar[tuple[str, ...]] = ("selector",)

    selector: Selector

    def _check(self):
        require(self, Selector, "a selector", self.selector)

    @property
    def structure(self) -> str:
        return f"SelectorWidth({self.selector.label})"


@dataclass(frozen=True, eq=False, repr=False)
class Aggregate(SOp):
    """One value out of those selected: their mean, or the greatest, the least, the first or the last of them.

    The mean of values that are all the same is that value, number or not. `default` stands where none is selected.
    A selected None does not count; where all selected values are None the result is None.
    """

    READS: ClassVar[tuple[str, ...]] = ("selector", "sop")

    selector: Selector
    sop: SOp
    default: Value = None
    reduction: str = "mean"

    def _check(self):
        require(self, Selector, "a selector", self.selector)
        require(self, SOp, "an s-op", self.sop)
        object.__setattr__(self, "default", constant(self.default, self.sop))
        if self.reduction not in REDUCTIONS:
            allowed = ", ".join(map(repr, REDUCTIONS))
            raise ExpressionError(f"a reduction is one of {allowed}, not {self.reduction!r}", self.sop)

    @property
    def structure(self) -> str:
        default = "" if self.default is None else f", default={self.default!r}"
        reduction = "" if self.reduction == "mean" else f", reduction={self.reduction!r}"
        return f"Aggregate({self.selector.label}, {self.sop.label}{default}{reduction})"


def annotate(expression: AnyExpression, **annotations: object) -> AnyExpression:
    """The same expression with these annotations; see `Expression.annotated`."""
    return expression.annotated(**annotations)


def numerical(sop: AnySOp) -> AnySOp:
    """The same s-op, held as a number along one direction."""
    return sop.annotated(encoding=Encoding.NUMERICAL)


def categorical(sop: AnySOp) -> AnySOp:
    """The same s-op, held as one direction for each value."""
    return sop.annotated(encoding=Encoding.CATEGORICAL)


def get_encoding(sop: SOp) -> Encoding:
    """How the s-op is to be held; categorical unless `numerical` made it otherwise."""
    return sop.annotations["encoding"]


def is_numerical(sop: SOp) -> bool:
    """Whether the s-op is to be held as a number along one direction."""
    return get_encoding(sop) is Encoding.NUMERICAL


def is_categorical(sop: SOp) -> bool:
    """Whether the s-op is to be held as one direction for each value."""
    return get_encoding(sop) is Encoding.CATEGORICAL


__all__ = [
    "LABEL_LIMIT",
    "REDUCTIONS",
    "Aggregate",
    "Comparison",
    "ConstantSOp",
    "ConstantSelector",
    "Encoding",
    "Expression",
    "Filled",
    "Full",
    "Indices",
    "Infix",
    "Joined",
    "Length",
    "Linear",
    "LinearSequenceMap",
    "Map",
    "Partial",
    "Predicate",
    "SOp",
    "Select",
    "Selector",
    "SelectorAnd",
    "SelectorNot",
    "SelectorOr",
    "SelectorWidth",
    "SequenceMap",
    "Tokens",
    "annotate",
    "categorical",
    "get_encoding",
    "indices",
    "is_categorical",
    "is_numerical",
    "length",
    "numerical",
    "operand",
    "selector_and",
    "selector_not",
    "selector_or",
    "sop_not",
    "tokens",
    "topological",
]
