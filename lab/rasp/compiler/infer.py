"""Pass 2: what values each s-op can take on any input up to `max_len`, and how they must be held.

The value sets are sound (no value is missed) and may be too large: an s-op is judged by its children's value sets
alone, as if these were independent.
"""

import itertools
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass

from microtome.lab.rasp.compiler.means import means
from microtome.lab.rasp.compiler.selectors import Truth, truth
from microtome.lab.rasp.errors import CompileError
from microtome.lab.rasp.interpreter import apply
from microtome.lab.rasp.language import (
    Aggregate,
    Expression,
    Indices,
    Map,
    Select,
    SelectorWidth,
    SequenceMap,
    SOp,
    Tokens,
    topological,
)
from microtome.lab.rasp.values import Value, is_numeric, key, unique

MAX_VALUES = 4096
"""Most values of one s-op that are listed; averages with more are held as numbers that no function can read."""
MAX_PAIRS = 2**22
"""Most pairs of values that a function of two s-ops is tabulated on."""
FLOAT_UNIT = 2.0**-24
"""Largest relative error of one rounding in float32."""
LARGEST = 2.0**100
"""Largest number that is averaged, and inverse of the smallest gap that is read: float32 must not overflow."""
STEEPEST = 2.0**16
"""Most times that the gap between two numbers may go into the largest of them, for `neurons.steps` to be exact."""


@dataclass(frozen=True)
class Facts:
    """What holds of an s-op on every input.

    Attributes:
        values: all values that it can take; None if they are too many or lie too close, as happens to averages only.
        reach: the largest absolute value among its numbers.
        strays: the values that an average does not hold as a number, None included; listed even where `values` is
            None.
        averaged: it is an average, held in the stream as one number; otherwise one direction stands for each value.
        error: bound on the float32 error of that number; 0 where it is not averaged.
        exact: each direction that stands for a value is exactly 0 or 1, not only within rounding.
        distinct: no two positions of one input share a value.
        uniform: all positions of one input share the value.
    """

    values: tuple[Value, ...] | None
    reach: float = 0.0
    strays: tuple[Value, ...] = ()
    averaged: bool = False
    error: float = 0.0
    exact: bool = True
    distinct: bool = False
    uniform: bool = False


FactsOf = Mapping[SOp, Facts]


@dataclass(frozen=True)
class Setting:
    """For which inputs a program is compiled."""

    vocab: tuple[Value, ...]
    max_len: int
    causal: bool


@dataclass(frozen=True)
class Inference:
    """What is known of a program.

    Attributes:
        setting: the inputs for which it holds.
        facts: of each s-op.
        truths: the truth table of each selector.
        images: of each `Map`, its value for each value of what it reads; of each `SequenceMap`, a row of these for each
            value of its first argument. The functions themselves are not called again.
    """

    setting: Setting
    facts: FactsOf
    truths: Mapping[Select, Truth]
    images: Mapping[SOp, tuple]


def infer(program: SOp, setting: Setting) -> Inference:
    """Facts of every expression in the program.

    Raises:
        UndefinedError: if a function fails on a value that may reach it.
        CompileError: if an operation has no exact form, or a function reads an average with too many values.
    """
    facts: dict[SOp, Facts] = {}
    truths: dict[Select, Truth] = {}
    images: dict[SOp, tuple] = {}
    for node in topological(program):
        match node:
            case Tokens():
                facts[node] = _listed(setting.vocab)
            case Indices():
                facts[node] = _listed(range(setting.max_len), distinct=True)
            case Map():
                images[node] = tuple(apply(node, v) for v in _readable(node.inner, facts, node))
                facts[node] = _map(facts[node.inner], images[node])
            case SequenceMap():
                xs, ys = _readable_pair(node, facts)
                images[node] = tuple(tuple(apply(node, x, y) for y in ys) for x in xs)
                facts[node] = _sequence_map(facts[node.fst], facts[node.snd], images[node])
            case Select():
                keys, queries = _readable_pair(node, facts)
                truths[node] = truth(node, keys, queries, keys_distinct=facts[node.keys].distinct)
            case SelectorWidth():
                facts[node] = _width(node, facts, truths, setting)
            case Aggregate():
                facts[node] = _aggregate(node, facts, truths, setting)
            case _:
                raise CompileError(f"the compiler does not know {type(node).__name__}", node)
    return Inference(setting, facts, truths, images)


def _listed(values: Iterable[Value], **more: bool) -> Facts:
    found = unique(values)
    numbers = [abs(v) for v in found if is_numeric(v)]
    strays = tuple(v for v in found if not is_numeric(v))
    return Facts(found, reach=float(max(numbers, default=0)), strays=strays, **more)


def _readable(child: SOp, facts: FactsOf, reader: Expression) -> tuple[Value, ...]:
    values = facts[child].values
    if values is None:
        raise CompileError(
            f"{child.label} is an average with more than {MAX_VALUES} possible values, or with values too close for "
            "float32, so that no function can read it; compile for a smaller max_len or average fewer values",
            reader,
        )
    return values


def _readable_pair(node: SequenceMap | Select, facts: FactsOf) -> tuple[tuple[Value, ...], tuple[Value, ...]]:
    fst, snd = (_readable(child, facts, node) for child in node.children)
    if len(fst) * len(snd) > MAX_PAIRS:
        raise CompileError(
            f"its arguments have {len(fst)} and {len(snd)} values, so more than {MAX_PAIRS} pairs; compile for a "
            "smaller max_len or give it fewer values",
            node,
        )
    return fst, snd


def _map(inner: Facts, images: tuple[Value, ...]) -> Facts:
    injective = len({key(v) for v in images}) == len(images)
    return _listed(images, exact=inner.exact, uniform=inner.uniform, distinct=inner.distinct and injective)


def _sequence_map(fst: Facts, snd: Facts, images: tuple[tuple[Value, ...], ...]) -> Facts:
    columns = tuple(zip(*images, strict=True))
    return _listed(
        itertools.chain.from_iterable(images),
        exact=fst.exact and snd.exact,
        uniform=fst.uniform and snd.uniform,
        distinct=(fst.distinct and _tells(images, snd.uniform)) or (snd.distinct and _tells(columns, fst.uniform)),
    )


def _tells(rows: tuple[tuple[Value, ...], ...], same_column: bool) -> bool:
    """Whether no value stands in two rows; if `same_column`, whether none stands twice in one column."""
    row_of: dict[Hashable, int] = {}
    return all(
        row_of.setdefault((key(value), column if same_column else None), row) == row
        for row, values in enumerate(rows)
        for column, value in enumerate(values)
    )


def _width(node: SelectorWidth, facts: FactsOf, truths: Mapping[Select, Truth], setting: Setting) -> Facts:
    select = truths[node.selector]
    most = 1 if select.one_position else setting.max_len
    uniform = _same_at_all(node.selector, facts, truths, setting)
    distinct = not setting.causal and select.ranks and facts[node.selector.keys].distinct
    return _listed(range(int(select.never_empty), most + 1), uniform=uniform, distinct=distinct)


def _aggregate(node: Aggregate, facts: FactsOf, truths: Mapping[Select, Truth], setting: Setting) -> Facts:
    select, sop = truths[node.selector], facts[node.sop]
    uniform = _same_at_all(node.selector, facts, truths, setting)
    extra = () if select.never_empty else (node.default,)
    one_value = (
        select.one_position
        or sop.uniform
        or (select.one_key and _follows(node.sop, node.selector.keys, facts))
        or (sop.values is not None and sum(v is not None for v in sop.values) <= 1)
    )
    if one_value and not sop.averaged:
        return _listed((*sop.values, *extra), exact=sop.exact and select.one_position, uniform=uniform)

    if not one_value:
        _require_average(node, sop)
    reach = max([sop.reach, *(abs(float(v)) for v in extra if is_numeric(v))])
    if reach > LARGEST:
        raise CompileError(
            f"its numbers reach {reach:.3g}, and an average is held in float32 up to {LARGEST:.3g}", node
        )
    # Each weight, value and product is rounded once, and their sum once a position.
    error = sop.error + (2 - sop.exact) * (setting.max_len + 4) * FLOAT_UNIT * reach
    values = sop.values if one_value or sop.values is None else means(sop.values, setting.max_len, MAX_VALUES)
    values = None if values is None else unique((*values, *sop.strays))
    # A default that only its type tells from an average (0 from False) gets a direction of its own.
    apart = [v for v in extra if not is_numeric(v) or any(v == w and key(v) != key(w) for w in values or ())]
    strays = unique((*sop.strays, *apart))
    if values is not None:
        values = unique((*values, *extra))
        values = values if _told_apart(values, strays, error, reach) else None
    exact = not sop.strays or (select.one_position and sop.exact)
    return Facts(values, reach, strays, averaged=True, error=error, exact=exact, uniform=uniform)


def _same_at_all(selector: Select, facts: FactsOf, truths: Mapping[Select, Truth], setting: Setting) -> bool:
    """Whether all queries of one input select the same keys."""
    return not setting.causal and (truths[selector].same_rows or facts[selector.queries].uniform)


def _require_average(node: Aggregate, sop: Facts) -> None:
    """Refuses an average that is not defined, or whose value would not tell a boolean from a number."""
    differ = f"it cannot be ruled out that {node.selector.label} selects two positions where {node.sop.label} differs"
    strangers = [v for v in sop.strays if not is_numeric(v) and v is not None]
    if strangers:
        raise CompileError(f"{strangers[0]!r} cannot be averaged, and {differ}", node)
    numbers = [v for v in sop.values or () if is_numeric(v)]
    ends = {min(numbers, default=0), max(numbers, default=0)}
    mixed = [v for v in numbers if isinstance(v, bool) and (v not in ends or numbers.count(v) > 1)]
    if mixed:
        raise CompileError(
            f"{node.sop.label} mixes {mixed[0]} with numbers, from which an average could not be told, and {differ}",
            node,
        )


def _told_apart(values: tuple[Value, ...], strays: tuple[Value, ...], error: float, reach: float) -> bool:
    """Whether float32 can tell the numbers apart when each is off by up to `error`, and there are not too many."""
    apart = {key(v) for v in strays}
    numbers = sorted(float(v) for v in values if key(v) not in apart)
    gap = min((b - a for a, b in itertools.pairwise(numbers)), default=float("inf"))
    return len(values) <= MAX_VALUES and gap >= max(4 * error, reach / STEEPEST, 1 / LARGEST)


def _follows(sop: SOp, keys: SOp, facts: FactsOf) -> bool:
    """Whether positions with equal keys have equal values of `sop`."""
    follows: dict[Expression, bool] = {}
    for node in topological(sop):
        computed = isinstance(node, Map | SequenceMap) and all(follows[child] for child in node.children)
        follows[node] = node is keys or computed or (isinstance(node, SOp) and facts[node].uniform)
    return follows[sop]
