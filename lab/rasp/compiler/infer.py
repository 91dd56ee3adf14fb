"""What values each s-op can take on any input up to `max_len`, and laws that they obey.

The value sets are sound (no value is missed) and may be too large: an s-op is judged by its children's value sets
alone, as if these were independent. Only what depends on length and index alone is followed exactly, place by place.
"""

from collections.abc import Hashable

import numpy as np

from microtome.lab.rasp.compiler.facts import FLOAT_UNIT, LARGEST, Facts, Inference, listed
from microtome.lab.rasp.compiler.means import means
from microtome.lab.rasp.compiler.truth import Truth, clauses_of, truth
from microtome.lab.rasp.errors import CompileError, UndefinedError
from microtome.lab.rasp.functions import Infix, Linear, Partial
from microtome.lab.rasp.interpreter import apply
from microtome.lab.rasp.language import (
    Aggregate,
    Expression,
    Full,
    Indices,
    Length,
    Map,
    Selector,
    SelectorWidth,
    SequenceMap,
    SOp,
    Tokens,
    topological,
)
from microtome.lab.rasp.values import Value, is_numeric, key, unique

MAX_VALUES = 2**16
"""Most values of an average that are listed; with more it is held as a number that only sums can read."""
MAX_COMBINATIONS = 2**22
"""Most combinations of values that a function is tabulated on."""


def infer(node: Expression, inference: Inference) -> None:
    """Adds what is known of a node whose children are known.

    Raises:
        UndefinedError: if a function fails on a value that may reach it, other than by arithmetic.
        CompileError: if an operation has no exact form, or a function reads an average with too many values.
    """
    facts, setting = inference.facts, inference.setting
    match node:
        case Selector():
            inference.truths[node] = truth(node, clauses_of(node, inference), inference)
        case Tokens():
            facts[node] = listed(setting.vocab)
        case Indices():
            facts[node] = listed(range(setting.max_len), distinct=True, at=setting.places[:, 1])
        case Length():
            if setting.causal:
                raise CompileError("a causal model cannot see the length of the whole input", node)
            lengths = range(1, setting.max_len + 1)
            facts[node] = listed(lengths, uniform=True, at=setting.places[:, 0] - 1, exact=False)
        case Full():
            facts[node] = listed((node.fill,), uniform=True, at=np.zeros(len(setting.places), dtype=int))
        case Map() | SequenceMap():
            facts[node] = _mapped(node, inference)
        case SelectorWidth():
            facts[node] = _width(node, inference)
        case Aggregate():
            facts[node] = _aggregate(node, inference)
        case _:
            raise CompileError(f"the compiler does not know {type(node).__name__}", node)


def _mapped(node: Map | SequenceMap, inference: Inference) -> Facts:
    children = [inference.facts[child] for child in node.children]
    if any(child.values is None for child in children):
        return _weighted_sum(node, inference)
    size = int(np.prod([len(child.values) for child in children], dtype=np.int64))
    if size > MAX_COMBINATIONS:
        counts = " × ".join(str(len(child.values)) for child in children)
        raise CompileError(
            f"its arguments have {counts} values, so more than {MAX_COMBINATIONS} combinations; compile for a smaller "
            "max_len or give it fewer values",
            node,
        )
    at = None
    if all(child.at is not None for child in children):
        at = tuple(child.at for child in children)
    found, image = _tabulate(node, children, at, inference)
    inference.images[node] = image
    columns = image.reshape(image.shape[0], -1)
    uniform = all(child.uniform for child in children)
    distinct = any(
        child.distinct and _tells(np.moveaxis(image, i, 0), all(c.uniform for c in children if c is not child))
        for i, child in enumerate(children)
    )
    ranks = children[0].ranks if len(children) == 1 and len(np.unique(columns)) == columns.size else None
    return listed(found, uniform=uniform, distinct=distinct, ranks=ranks, at=None if at is None else image[at])


def _tabulate(node: Map | SequenceMap, children: list[Facts], at, inference: Inference) -> tuple[tuple, np.ndarray]:
    """The values of the function and the number of its value for each combination, −1 where it has none."""
    shape = tuple(len(child.values) for child in children)
    wanted = set(map(tuple, np.unique(np.stack(at, 1), axis=0).tolist())) if at is not None else None
    results: dict[tuple[int, ...], Value] = {}
    failures = []
    for place in np.ndindex(shape):
        if wanted is not None and place not in wanted:
            continue
        try:
            arguments = (child.values[i] for child, i in zip(children, place, strict=True))
            results[place] = apply(node, *arguments)
        except UndefinedError as error:
            if not isinstance(error.__cause__, ArithmeticError):
                raise
            failures.append(error)
    if not results:
        raise failures[0]
    if failures:
        inference.assume(f"no input leads to this: {failures[0]}")
    found = unique(results.values())
    numbers = {key(value): i for i, value in enumerate(found)}
    image = np.full(shape, -1, dtype=int)
    for place, value in results.items():
        image[place] = numbers[key(value)]
    return found, image


def _tells(image: np.ndarray, same_column: bool) -> bool:
    """Whether no value stands in two rows of `image`; if `same_column`, whether none stands twice in one column."""
    rows = image.reshape(len(image), -1)
    if same_column:
        ordered = np.sort(rows, axis=0)
        return not ((ordered[1:] == ordered[:-1]) & (ordered[1:] >= 0)).any()
    owner: dict[Hashable, int] = {}
    return all(owner.setdefault(v, r) == r for r, row in enumerate(rows) for v in np.unique(row).tolist() if v >= 0)


def _weighted_sum(node: Map | SequenceMap, inference: Inference) -> Facts:
    """A sum of averages whose values are too many to list."""
    children, bias = [inference.facts[child] for child in node.children], 0.0
    match node.f:
        case Linear():
            factors = [float(f) for f in node.f.factors]
        case Infix("+") | Infix("-") if len(children) == 2:
            factors = [1.0, 1.0 if node.f.sign == "+" else -1.0]
        case Partial(Infix("+" | "-" as sign), c, first) if is_numeric(c):
            factors = [-1.0 if sign == "-" and first else 1.0]
            bias = -float(c) if sign == "-" and not first else float(c)
        case Partial(Infix("*"), c, _) if is_numeric(c):
            factors = [float(c)]
        case Partial(Infix("/"), c, False) if is_numeric(c) and c != 0:
            factors = [1.0 / float(c)]
        case _:
            factors = []
    if not factors or any(child.strays for child in children):
        large = next(c for c, f in zip(node.children, children, strict=True) if f.values is None)
        raise CompileError(
            f"{large.label} is an average with more than {MAX_VALUES} possible values, so that only sums and multiples "
            "of it can be taken; compile for a smaller max_len or average fewer values",
            node,
        )
    reach = sum(abs(f) * c.reach for f, c in zip(factors, children, strict=True)) + abs(bias)
    error = sum(abs(f) * c.error for f, c in zip(factors, children, strict=True)) + 8 * FLOAT_UNIT * reach
    terms = tuple(zip(factors, node.children, strict=True))
    return Facts(None, reach=reach, error=error, exact=False, linear=terms, bias=bias)


def _width(node: SelectorWidth, inference: Inference) -> Facts:
    select, setting = inference.truths[node.selector], inference.setting
    if select.at is not None:
        widths = select.at.sum(1)
        found = np.unique(widths)
        at = np.searchsorted(found, widths)
        return listed(found.tolist(), at=at, exact=False, uniform=_uniform(at, setting))
    most = 1 if select.one_position else setting.max_len
    distinct = not setting.causal and select.ranks is not None and inference.facts[select.ranks].distinct
    least, most = int(select.never_empty), most - (select.ranks is not None and most > 1)
    return listed(
        range(least, most + 1),
        exact=False,
        uniform=_same_at_all(select, inference),
        distinct=distinct,
        ranks=None if setting.causal else select.ranks,
    )


def _uniform(at: np.ndarray, setting) -> bool:
    first = np.flatnonzero(setting.places[:, 1] == 0)
    return bool((at == np.repeat(at[first], np.arange(1, setting.max_len + 1))).all())


def _aggregate(node: Aggregate, inference: Inference) -> Facts:
    select, sop = inference.truths[node.selector], inference.facts[node.sop]
    uniform = _same_at_all(select, inference)
    extra = () if select.never_empty else (node.default,)
    if sop.values is None and (sop.linear or node.reduction != "mean"):
        raise CompileError(f"{node.sop.label} has too many values to be aggregated by {node.reduction}", node)
    if node.reduction in ("max", "min") and not _ordered(sop.values):
        inference.assume(f"{node.selector.label} never selects two values of {node.sop.label} that have no order")
    single = node.reduction in ("first", "last") or select.one_position
    one_value = (
        single
        or node.reduction != "mean"
        or sop.uniform
        or any(_follows(node.sop, keys, inference) for keys in select.one_value_of)
        or (sop.values is not None and sum(v is not None for v in sop.values) <= 1)
    )
    if not one_value:
        one_value = _assumed(node, sop, inference)
    if one_value and not sop.averaged:
        return listed((*sop.values, *extra), exact=sop.exact and single, uniform=uniform)
    return _mean(node, sop, extra, one_value, uniform, inference)


def _ordered(values: tuple[Value, ...]) -> bool:
    """Whether any two of the values can be compared, None aside."""
    try:
        sorted(v for v in values if v is not None)
    except TypeError:
        return False
    return True


def _mean(node: Aggregate, sop: Facts, extra: tuple, one_value: bool, uniform: bool, inference: Inference) -> Facts:
    most = inference.setting.max_len
    reach = max([sop.reach, *(abs(float(v)) for v in extra if is_numeric(v))])
    if reach > LARGEST:
        raise CompileError(
            f"its numbers reach {reach:.3g}, and an average is held in float32 up to {LARGEST:.3g}", node
        )
    # Each weight, value and product is rounded once, and their sum once a position; values copied from several
    # positions that agree were rounded so before.
    error = sop.error + (2 if _rounded(node.sop, inference) else 1) * (most + 4) * FLOAT_UNIT * reach
    values = sop.values if one_value or sop.values is None else means(sop.values, most, MAX_VALUES)
    values = None if values is None else unique((*values, *sop.strays))
    # A default that only its type tells from an average (0 from False) gets a direction of its own.
    apart = [v for v in extra if not is_numeric(v) or any(v == w and key(v) != key(w) for w in values or ())]
    strays = unique((*sop.strays, *apart))
    if values is not None:
        values = unique((*values, *extra))
    return Facts(values, strays, reach, averaged=True, error=error, exact=False, uniform=uniform)


def _rounded(sop: SOp, inference: Inference) -> bool:
    """Whether it is a function of something that a head copies from several positions at once."""
    return any(
        isinstance(node, Aggregate) and not inference.facts[node].averaged and not inference.facts[node].exact
        for node in topological(sop)
    )


def _same_at_all(select: Truth, inference: Inference) -> bool:
    """Whether all queries of one input select the same keys."""
    uniform = all(inference.facts[s].uniform for clause in select.clauses for s in clause.queries)
    return not inference.setting.causal and (select.same_rows or uniform)


def _assumed(node: Aggregate, sop: Facts, inference: Inference) -> bool:
    """Whether the average is of one value wherever it is defined: then values that are no numbers stand alone."""
    strangers = [v for v in sop.strays if not is_numeric(v) and v is not None]
    numbers = [v for v in sop.values or () if is_numeric(v)]
    ends = {min(numbers, default=0), max(numbers, default=0)}
    mixed = [v for v in numbers if isinstance(v, bool) and (v not in ends or numbers.count(v) > 1)]
    if strangers and len(numbers) <= 1:
        inference.assume(f"{node.selector.label} never selects two different values of {node.sop.label}")
        return True
    if mixed:
        raise CompileError(
            f"{node.sop.label} mixes {mixed[0]} with numbers, from which an average could not be told, and it cannot "
            f"be ruled out that {node.selector.label} selects two positions where it differs",
            node,
        )
    if strangers:
        shown = " or ".join(map(repr, strangers))
        inference.assume(f"{node.selector.label} never selects {shown} beside another value of {node.sop.label}")
    return False


def _follows(sop: SOp, keys: SOp, inference: Inference) -> bool:
    """Whether positions with equal keys have equal values of `sop`."""
    facts = inference.facts
    ranked = {keys, facts[keys].ranks}
    follows: dict[Expression, bool] = {}
    for node in topological(sop):
        computed = isinstance(node, Map | SequenceMap) and all(follows[child] for child in node.children)
        follows[node] = node in ranked or computed or (isinstance(node, SOp) and facts[node].uniform)
    return follows[sop]
