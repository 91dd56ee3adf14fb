"""Neurons for the functions that are wanted of one variable."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from microtome.lab.rasp.compiler import grid as grids
from microtome.lab.rasp.compiler import raw
from microtome.lab.rasp.compiler.operations import Direction, Form, Neuron, Neurons, Operation
from microtome.lab.rasp.compiler.slices import Sliced, sliced, switched
from microtome.lab.rasp.compiler.tables import Level, Rows, Scalar, candidates, rows_of, sums_exactly
from microtome.lab.rasp.errors import CompileError
from microtome.lab.rasp.language import Length, Map, SelectorWidth, SequenceMap, SOp
from microtome.lab.rasp.values import key

if TYPE_CHECKING:
    from microtome.lab.rasp.compiler.lower import Lowering
    from microtome.lab.rasp.compiler.wishes import Variable, Wish

FEW = 32
"""Up to how many neurons are spent on a nested function without asking whether one by one would be cheaper."""

MANY = 6
"""With more functions of one variable than this, they share one scalar if they can."""


def cost(lowering: "Lowering", sops: Sequence[SOp], function: np.ndarray, *, enough: int = 0) -> int | None:
    """How many neurons the function would need, with those that clean its arguments; None if it cannot be done.

    Where `enough` or fewer would do, it may be told a number up to that which is not the least.
    """
    found = _best(lowering, sops, [function], enough)
    return None if found is None else found[0]


def neurons(lowering: "Lowering", variable: "Variable", wishes: Sequence["Wish"]) -> Neurons:
    """The neurons for all wishes.

    Raises:
        CompileError: if float32 cannot tell the values apart that must be.
    """
    if lowering.plain and (len(variable.sops) > 1 or isinstance(variable.sops[0], Map | SequenceMap)):
        return _products(lowering, variable, wishes)
    if len(variable.sops) == 1 and lowering.facts(variable.sops[0]).averaged:
        return _average(lowering, variable.sops[0], wishes)
    together = _best(lowering, variable.sops, [w.function for w in wishes])
    if together is not None and (len(wishes) == 1 or len(wishes) > MANY):
        return _assembled(lowering, variable.sops, wishes, [(together, list(range(len(wishes))))])
    apart = [_best(lowering, variable.sops, [w.function]) for w in wishes]
    if any(found is None for found in apart):
        raise _indistinct(variable.sops)
    groups: dict[tuple, list[int]] = {}
    for i, (_, scalar, rows) in enumerate(apart):
        groups.setdefault((isinstance(rows, Sliced), _mark(scalar)), []).append(i)
    regrouped = [_best(lowering, variable.sops, [wishes[i].function for i in members]) for members in groups.values()]
    split = sum(found[0] for found in regrouped)
    if together is not None and together[0] <= split:
        parts = [(together, list(range(len(wishes))))]
    else:
        parts = list(zip(regrouped, groups.values(), strict=True))
    return _assembled(lowering, variable.sops, wishes, parts)


def _assembled(lowering: "Lowering", sops: Sequence[SOp], wishes: Sequence["Wish"], parts) -> Neurons:
    made: list[Neuron] = []
    constants: dict[Direction, float] = {}
    for (_, scalar, rows), members in parts:
        targets = [wishes[i].direction for i in members]
        if isinstance(rows, Sliced):
            own, held = _switched(lowering, sops, rows, targets)
            made += own
            constants |= held
            for slice_rows in filter(None, rows.rows):
                _bound_errors(scalar, slice_rows, targets)
            continue
        reads = _form(lowering, sops, scalar)
        made += _neurons(reads, rows, targets)
        _bound_errors(scalar, rows, targets)
        constants |= {t: c for t, c in zip(targets, rows.constants, strict=True) if c != 0}
    return Neurons(_label(sops), tuple(made), constants)


def _switched(lowering: "Lowering", sops: Sequence[SOp], found: Sliced, targets: Sequence[Direction]):
    """The neurons of slices and their constants, in terms of the stream."""
    sop = sops[found.axis]
    others = [other for i, other in enumerate(sops) if i != found.axis]
    flags = [lowering.flag(sop, value, exact=True) for value in lowering.facts(sop).values]
    return switched(found, _form(lowering, others, found.scalar), flags, targets)


def _bound_errors(scalar: Scalar, rows: Rows, targets: Sequence[Direction]) -> None:
    """Notes how far float32 may be off, in whatever order a processor sums the neurons."""
    if (scalar.exact or sums_exactly(scalar, rows)) and not any(d.error for d in targets):
        return
    s = scalar.values
    active = rows.ends(s.min(), s.max()).max(axis=0).clip(0.0)
    for target, total in zip(targets, active @ np.abs(rows.weights), strict=True):
        target.bound(2.0**-23 * float(total))


def _label(sops: Sequence[SOp]) -> str:
    return " and ".join(sop.label for sop in sops)


def _mark(scalar: Scalar) -> tuple:
    return (
        scalar.coefficients,
        tuple(
            (level.source, level.exact, level.numbers.tobytes() if level.source == "class" else b"")
            for level in scalar.levels
        ),
    )


def _indistinct(sops: Sequence[SOp]) -> CompileError:
    return CompileError(
        f"float32 cannot tell the values of {_label(sops)} apart at this max_len; compile for a smaller one", sops[0]
    )


def _neurons(reads: Form, rows: Rows, targets: Sequence[Direction]) -> list[Neuron]:
    made = []
    for ramp in rows.ramps:
        form = reads.times(ramp.slope) + Form({}, ramp.bias)
        made.append(Neuron(form, {t: w for t, w in zip(targets, ramp.weights, strict=True) if w != 0}))
    return made


def _best(
    lowering: "Lowering", sops: Sequence[SOp], functions: Sequence[np.ndarray], enough: int = 0
) -> tuple[int, Scalar, Rows | Sliced] | None:
    """The cheapest scalar that carries all functions, or the first that costs no more than `enough`: its cost, itself
    and its neurons. Where none carries them, slices."""
    levels = [_levels(lowering, sop, alone=len(sops) == 1) for sop in sops]
    if len(sops) > 1:
        levels = [_with_classes(own, axis, functions) for axis, own in enumerate(levels)]
    best = None
    for scalar in candidates(levels):
        rows = rows_of(scalar, functions)
        if rows is None:
            continue
        cleaning = sum(
            2 * int(np.count_nonzero(np.diff(level.numbers)))
            for sop, level in zip(sops, scalar.levels, strict=True)
            if level.exact and not _exact(lowering, sop)
        )
        count = rows.n_neurons + cleaning
        if best is None or count < best[0]:
            best = (count, scalar, rows)
            if count <= enough:
                break
    if best is None and len(sops) > 1:
        found = sliced(levels, functions)
        if found is not None:
            codes = 0 if _exact(lowering, sops[found.axis]) else len(found.rows)
            return found.n_neurons + codes, found.scalar, found
    return best


def _with_classes(levels: list[Level], axis: int, functions: Sequence[np.ndarray]) -> list[Level]:
    """Also the way to see an argument that numbers its values by what the functions make of them."""
    stacked = np.moveaxis(np.stack(functions), 1 + axis, 0)
    seen: dict[bytes, int] = {}
    numbers = np.array([float(seen.setdefault(row.tobytes(), len(seen))) for row in stacked])
    if len(seen) == len(numbers):
        return levels
    classes = Level(numbers, True, 0.0, "class")
    # Few classes of many values: no other way to see it can need fewer neurons.
    return [classes] if 4 * len(seen) <= len(numbers) else [classes, *levels]


def _exact(lowering: "Lowering", sop: SOp) -> bool:
    facts = lowering.facts(sop)
    return facts.exact and not facts.averaged


def _levels(lowering: "Lowering", sop: SOp, *, alone: bool) -> list[Level]:
    """The ways to see an s-op as a number. One that stands alone and is not exact is only there as its head left it."""
    facts = lowering.facts(sop)
    found = []
    if facts.whole:
        found.append(Level(facts.numbers, True, 0.0, "number"))
    order = np.arange(len(facts.values), dtype=float)
    if not facts.whole or not np.array_equal(facts.numbers - facts.numbers[0], order):
        found.append(Level(order, True, 0.0, "order"))
    if _exact(lowering, sop):
        return found
    rough = []
    if isinstance(sop, SelectorWidth | Length):
        shares = np.array([grids.sink_share(w, facts.values) for w in facts.values])
        grid = grids.share_grid(facts.values)
        rough.append(Level(shares, False, grids.share_error(facts.values), "share", grid))
    elif facts.averaged:
        if not facts.strays:
            rough.append(_rounded(lowering, sop, facts.numbers, "mean"))
    else:
        rough += [_rounded(lowering, sop, v.numbers, v.source) for v in found]
    return rough if alone else [*rough, *found]


def _rounded(lowering: "Lowering", sop: SOp, numbers: np.ndarray, source: str) -> Level:
    grid = raw.raw_grid(lowering, sop, numbers)
    # Below the offset, where a negative number lies, float32 is twice as fine.
    return Level(numbers, False, raw.raw_error(lowering, sop, numbers) + grid / 2, source, grid / 2)


def _form(lowering: "Lowering", sops: Sequence[SOp], scalar: Scalar) -> Form:
    """The scalar as a form on the stream."""
    total = Form({}, 0.0)
    for sop, level, coefficient in zip(sops, scalar.levels, scalar.coefficients, strict=True):
        name = sop.label if level.source == "number" else f"{sop.label}: {level.source}"
        if level.exact:
            form = lowering.view((sop,), level.numbers, name=name, exact=True)
        elif level.source == "share":
            form = Form({raw.share(lowering, sop): 1.0}, -grids.rounding_offset(level.grid))
        else:
            form = raw.rounded(lowering, sop, level.numbers, level.source)
        total = total + form.times(coefficient)
    return total


def _average(lowering: "Lowering", sop: SOp, wishes: Sequence["Wish"]) -> Neurons:
    """Functions of an average: steps along its number, and a correction where it is no number."""
    facts = lowering.facts(sop)
    numbers = [i for i, v in enumerate(facts.values) if key(v) not in facts.is_stray]
    targets = [w.direction for w in wishes]
    made: list[Neuron] = []
    constants = np.zeros(len(wishes))
    at_zero = np.zeros(len(wishes))
    if numbers:
        level = _rounded(lowering, sop, facts.numbers[numbers], "mean")
        scalar = Scalar((level,), (1.0,))
        rows = rows_of(scalar, [w.function[numbers] for w in wishes])
        if rows is None:
            raise _indistinct((sop,))
        made += _neurons(raw.rounded(lowering, sop, level.numbers, "mean"), rows, targets)
        _bound_errors(scalar, rows, targets)
        constants = np.array(rows.constants)
        at_zero = constants + sum(max(r.bias, 0.0) * np.array(r.weights) for r in rows.ramps)
    for value, flag in raw.flags(lowering, sop).items():
        shift = np.array([w.function[facts.number_of[key(value)]] for w in wishes]) - at_zero
        if not shift.any():
            continue
        for bias, sign in ((-1.5, 1.0), (-2.5, -1.0)):
            weights = {t: sign * float(x) for t, x in zip(targets, shift, strict=True) if x != 0}
            made.append(Neuron(Form({flag: 4.0}, bias), weights))
    held = {t: float(c) for t, c in zip(targets, constants, strict=True) if c != 0}
    return Neurons(sop.label, tuple(made), held)


def _products(lowering: "Lowering", variable: "Variable", wishes: Sequence["Wish"]) -> Neurons:
    """Plain translation: a neuron (or pair, where codes are rounded) for each combination of values."""
    sops, functions = variable.sops, [w.function for w in wishes]
    if len(sops) == 1:
        image = lowering.inference.images[sops[0]]
        functions = [np.where(image < 0, 0.0, f[np.maximum(image, 0)]) for f in functions]
        sops = sops[0].children
    exact = all(_exact(lowering, s) for s in sops)
    codes = [[lowering.flag(s, v) for v in lowering.facts(s).values] for s in sops]
    made = []
    for place in itertools.product(*(range(len(c)) for c in codes)):
        weights = {w.direction: float(np.nan_to_num(f[place])) for w, f in zip(wishes, functions, strict=True)}
        weights = {d: x for d, x in weights.items() if x != 0}
        if not weights:
            continue
        on = Form({}, 0.5 - len(sops))
        for own, i in zip(codes, place, strict=True):
            on = on + own[i]
        if exact:
            made.append(Neuron(on.times(2.0), weights))
        else:
            made.append(Neuron(on.times(4.0) + Form({}, 0.5), weights))
            made.append(Neuron(on.times(4.0) + Form({}, -0.5), {d: -x for d, x in weights.items()}))
    return Neurons(_label(variable.sops), tuple(made), {})


def resolved(operation: Operation, forms: Mapping[Direction, Form]) -> Operation:
    """The operation with every direction that is held as a form of others replaced by it."""
    if isinstance(operation, Neurons):
        rewritten = tuple(Neuron(n.reads.resolved(forms), _spread(n.writes, forms)) for n in operation.neurons)
        return replace(operation, neurons=rewritten, constants=_spread(operation.constants, forms))
    return replace(
        operation,
        products=tuple((q.resolved(forms), k.resolved(forms)) for q, k in operation.products),
        by_query=operation.by_query.resolved(forms),
        by_key=operation.by_key.resolved(forms),
        values={d: f.resolved(forms) for d, f in operation.values.items()},
    )


def _spread(weights: Mapping[Direction, float], forms: Mapping[Direction, Form]) -> Mapping[Direction, float]:
    assert not any(d in forms for d in weights), "operations write the directions that are held"
    return weights
