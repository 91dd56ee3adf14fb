"""Selectors: which keys each query selects, a truth table [query, key]."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from microtome.lab.rasp.elementwise import Full, SOp
from microtome.lab.rasp.errors import ExpressionError
from microtome.lab.rasp.expression import Expression, operand, require, require_function
from microtome.lab.rasp.functions import Filled, Joined, Predicate, function_name


class Selector(Expression):
    """Which keys each query selects: a truth table [query, key]. `&`, `|` and `~` act at each entry."""

    def __and__(self, other: "Selector") -> "Selector":
        return selector_and(self, other)

    def __or__(self, other: "Selector") -> "Selector":
        return selector_or(self, other)

    def __invert__(self) -> "Selector":
        return SelectorNot(self)

    def annotated(self, **annotations: object) -> "Selector":
        """The same selector with these annotations, which replace those of the same keys.

        Raises:
            ExpressionError: if the name is no text or empty, or one of them is an encoding.
        """
        if "encoding" in annotations:
            raise ExpressionError("a selector has no encoding; only s-ops have", self)
        return super().annotated(**annotations)


@dataclass(frozen=True, eq=False, repr=False)
class Select(Selector):
    """Key position k is selected by query position q where `predicate(keys[k], queries[q])` holds; None never is."""

    READS: ClassVar[tuple[str, ...]] = ("keys", "queries")

    keys: SOp
    queries: SOp
    predicate: Predicate

    def _check(self):
        require_function(self, self.predicate)
        require(self, SOp, "an s-op", self.keys, self.queries)

    @property
    def structure(self) -> str:
        return f"Select({self.keys.label}, {self.queries.label}, {function_name(self.predicate)})"


@dataclass(frozen=True, eq=False, repr=False)
class ConstantSelector(Selector):
    """A given truth table [query, key], whatever the input.

    Where `check_length` is off, an input of another length takes the entries that it has, and nothing beyond them.
    """

    value: Sequence[Sequence[bool | int]]
    check_length: bool = True

    def _check(self):
        rows = tuple(tuple(map(bool, row)) for row in self.value)
        if any(len(row) != len(rows) for row in rows):
            lengths = ", ".join(str(len(row)) for row in rows)
            raise ExpressionError(f"ConstantSelector takes a square table, not {len(rows)} rows of {lengths} entries")
        object.__setattr__(self, "value", rows)

    @property
    def structure(self) -> str:
        rows = [list(map(int, row)) for row in self.value]
        return f"ConstantSelector({rows!r}{'' if self.check_length else ', check_length=False'})"


@dataclass(frozen=True, eq=False, repr=False)
class _Pair(Selector):
    READS: ClassVar[tuple[str, ...]] = ("fst", "snd")
    SIGN: ClassVar[str]

    fst: Selector
    snd: Selector

    def _check(self):
        require(self, Selector, "a selector", self.fst, self.snd)

    @property
    def signed(self) -> bool:
        return True

    @property
    def structure(self) -> str:
        return f"{operand(self.fst)} {self.SIGN} {operand(self.snd)}"


class SelectorAnd(_Pair):
    """The keys that both select."""

    SIGN = "&"


class SelectorOr(_Pair):
    """The keys that one of the two, or both, select."""

    SIGN = "|"


@dataclass(frozen=True, eq=False, repr=False)
class SelectorNot(Selector):
    """The keys that the other does not select, those with None among them."""

    READS: ClassVar[tuple[str, ...]] = ("inner",)

    inner: Selector

    def _check(self):
        require(self, Selector, "a selector", self.inner)

    @property
    def structure(self) -> str:
        return f"~{operand(self.inner)}"


def selector_and(fst: Selector, snd: Selector, simplify: bool = True) -> Selector:
    """The keys that both select; where that is one `Select` and `simplify` is on, that one.

    It is for two unnamed Selects of the same keys and queries; a `Full` counts as the same as any s-op.
    """
    joined = _joined("&", fst, snd) if simplify else None
    return SelectorAnd(fst, snd) if joined is None else joined


def selector_or(fst: Selector, snd: Selector, simplify: bool = True) -> Selector:
    """The keys that one of the two selects; where that is one `Select` and `simplify` is on, that one.

    It is for two unnamed Selects of the same keys and queries.
    """
    joined = _joined("|", fst, snd) if simplify else None
    return SelectorOr(fst, snd) if joined is None else joined


def selector_not(inner: Selector, simplify: bool = True) -> Selector:
    """The keys that the other does not select; with `simplify`, what an unnamed `SelectorNot` negates."""
    if simplify and isinstance(inner, SelectorNot) and inner.name is None:
        return inner.inner
    return SelectorNot(inner)


def _joined(sign: str, fst: Selector, snd: Selector) -> Select | None:
    if not all(isinstance(part, Select) and part.name is None for part in (fst, snd)):
        return None
    predicates, sides = [fst.predicate, snd.predicate], []
    if not all(isinstance(predicate, Hashable) for predicate in predicates):
        return None
    for side, pair in (("key", (fst.keys, snd.keys)), ("query", (fst.queries, snd.queries))):
        # "Or" cannot do so: where the other's key is None, a Full still selects.
        full = [sign == "&" and isinstance(sop, Full) for sop in pair]
        if pair[0] is not pair[1] and not any(full):
            return None
        if pair[0] is not pair[1]:
            which = full.index(True)
            predicates[which] = Filled(predicates[which], side, pair[which].fill)
            sides.append(pair[1 - which])
        else:
            sides.append(pair[0])
    return Select(*sides, Joined(sign, *predicates))
