"""S-ops that need no attention: the inputs, constants, and functions applied at each position."""

import operator
from collections.abc import Callable, Sequence
from dataclasses import InitVar, dataclass, field
from typing import ClassVar

from microtome.lab.rasp.annotations import Annotations, Encoding
from microtome.lab.rasp.errors import ExpressionError
from microtome.lab.rasp.expression import Expression, constant, operand, require, require_function
from microtome.lab.rasp.functions import Infix, Linear, Partial, function_name, prefix
from microtome.lab.rasp.values import Value


def _infix(sign: str) -> tuple[Callable, Callable]:
    """The methods for `sop ∘ other` and `other ∘ sop`."""

    def method(self: "SOp", other: object) -> "SOp":
        if isinstance(other, SOp):
            return SequenceMap(Infix(sign), self, other)
        return Map(Partial(Infix(sign), constant(other, self)), self)

    def reflected(self: "SOp", other: object) -> "SOp":
        return Map(Partial(Infix(sign), constant(other, self), constant_first=True), self)

    return method, reflected


class SOp(Expression):
    """A sequence operation. Operators act at each position, on another s-op or on a constant."""

    __lt__, __le__, __gt__, __ge__ = (_infix(sign)[0] for sign in ("<", "<=", ">", ">="))
    __eq__, __ne__ = _infix("==")[0], _infix("!=")[0]
    __add__, __radd__ = _infix("+")
    __sub__, __rsub__ = _infix("-")
    __mul__, __rmul__ = _infix("*")
    __truediv__, __rtruediv__ = _infix("/")
    __floordiv__, __rfloordiv__ = _infix("//")
    __mod__, __rmod__ = _infix("%")
    __and__, __rand__ = _infix("&")
    __or__, __ror__ = _infix("|")
    __hash__ = object.__hash__

    def __invert__(self) -> "SOp":
        return Map(operator.not_, self)

    def __neg__(self) -> "SOp":
        return Map(operator.neg, self)

    def __repr__(self) -> str:
        numerical = self.extra.get("encoding") is Encoding.NUMERICAL
        return f"numerical({super().__repr__()})" if numerical else super().__repr__()

    @property
    def annotations(self) -> Annotations:
        """Those of every expression, and "encoding": categorical unless `numerical` made it otherwise."""
        return Annotations(**{"encoding": Encoding.CATEGORICAL, **super().annotations})

    def annotated(self, **annotations: object) -> "SOp":
        """The same s-op with these annotations, which replace those of the same keys.

        Raises:
            ExpressionError: if the name is no text or empty, or the encoding is neither of the two.
        """
        if "encoding" in annotations:
            try:
                annotations["encoding"] = Encoding(annotations["encoding"])
            except ValueError as error:
                given = annotations["encoding"]
                raise ExpressionError(f"an encoding is 'categorical' or 'numerical', not {given!r}", self) from error
        return super().annotated(**annotations)


@dataclass(frozen=True, eq=False, repr=False)
class Tokens(SOp):
    """The input sequence."""


@dataclass(frozen=True, eq=False, repr=False)
class Indices(SOp):
    """The positions 0, 1, 2, …"""


@dataclass(frozen=True, eq=False, repr=False)
class Length(SOp):
    """The length of the whole input, at every position, whether the evaluation is causal or not."""


tokens = Tokens()
indices = Indices()
length = Length()


@dataclass(frozen=True, eq=False, repr=False)
class Full(SOp):
    """One value at every position."""

    fill: Value

    def _check(self):
        object.__setattr__(self, "fill", constant(self.fill))

    @property
    def structure(self) -> str:
        return f"Full({self.fill!r})"


@dataclass(frozen=True, eq=False, repr=False)
class ConstantSOp(SOp):
    """Given values, whatever the input.

    Where `check_length` is off, an input of another length takes the first values, and None beyond the last.
    """

    value: Sequence[Value]
    check_length: bool = True

    def _check(self):
        object.__setattr__(self, "value", tuple(constant(value) for value in self.value))

    @property
    def structure(self) -> str:
        return f"ConstantSOp({list(self.value)!r}{'' if self.check_length else ', check_length=False'})"


@dataclass(frozen=True, eq=False, repr=False)
class Map(SOp):
    """f at each position: `Map(lambda x: x + 1, tokens)`; None stays None.

    tracr's `simplify` is taken and changes nothing: a chain of maps stays as it is written, and the compiler fuses it.
    """

    READS: ClassVar[tuple[str, ...]] = ("inner",)

    f: Callable[[Value], Value]
    inner: SOp
    simplify: InitVar[bool] = True

    def _check(self):
        require_function(self, self.f)
        require(self, SOp, "an s-op", self.inner)

    @property
    def signed(self) -> bool:
        return isinstance(self.f, Partial)

    @property
    def structure(self) -> str:
        if isinstance(self.f, Partial):
            sides = [operand(self.inner), repr(self.f.constant)]
            return f" {self.f.infix.sign} ".join(reversed(sides) if self.f.constant_first else sides)
        if sign := prefix(self.f):
            return f"{sign}{operand(self.inner)}"
        return f"Map({function_name(self.f)}, {self.inner.label})"


@dataclass(frozen=True, eq=False, repr=False, init=False)
class SequenceMap(SOp):
    """f of one s-op or more at each position: `SequenceMap(lambda x, y: x - y, a, b)`; None where one of them is."""

    f: Callable[..., Value]
    sops: tuple[SOp, ...] = field(init=False)

    def __init__(self, f: Callable[..., Value], *sops: SOp, fst: SOp | None = None, snd: SOp | None = None, **notes):
        given = (*sops, *(sop for sop in (fst, snd) if sop is not None))
        object.__setattr__(self, "f", f)
        object.__setattr__(self, "sops", given)
        super().__init__(**notes)

    def _check(self):
        require_function(self, self.f)
        require(self, SOp, "an s-op", *self.sops)
        if not self.sops:
            raise ExpressionError(f"{type(self).__name__} takes at least one s-op beside its function")

    @property
    def fst(self) -> SOp:
        """The first argument."""
        return self.sops[0]

    @property
    def snd(self) -> SOp:
        """The second argument; an ExpressionError if there is none."""
        if len(self.sops) == 1:
            raise ExpressionError("this SequenceMap reads one s-op, and so has no snd", self)
        return self.sops[1]

    @property
    def children(self) -> tuple[Expression, ...]:
        return self.sops

    def with_children(self, children: Sequence[Expression]) -> "SequenceMap":
        if len(children) != len(self.sops):
            count = len(self.sops)
            raise ExpressionError(f"SequenceMap reads {count} expressions here, not {len(children)}", self)
        return self._changed(sops=tuple(children))

    @property
    def signed(self) -> bool:
        return isinstance(self.f, Infix)

    @property
    def structure(self) -> str:
        if self.signed:
            return f"{operand(self.fst)} {self.f.sign} {operand(self.snd)}"
        return f"SequenceMap({function_name(self.f)}, {', '.join(sop.label for sop in self.sops)})"


@dataclass(frozen=True, eq=False, repr=False, init=False)
class LinearSequenceMap(SequenceMap):
    """fst · fst_fac + snd · snd_fac at each position."""

    def __init__(self, fst: SOp, snd: SOp, fst_fac: Value, snd_fac: Value, **notes):
        super().__init__(Linear((constant(fst_fac), constant(snd_fac))), fst, snd, **notes)

    @property
    def fst_fac(self) -> Value:
        """The factor of `fst`."""
        return self.f.factors[0]

    @property
    def snd_fac(self) -> Value:
        """The factor of `snd`."""
        return self.f.factors[1]

    @property
    def structure(self) -> str:
        return f"LinearSequenceMap({self.fst.label}, {self.snd.label}, {self.fst_fac!r}, {self.snd_fac!r})"


def sop_not(sop: SOp) -> SOp:
    """Whether the value is false at each position; `~sop`."""
    return ~sop
