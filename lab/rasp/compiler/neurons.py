"""Map and SequenceMap as ReLU neurons that recognise values, and the reading of a number's value by steps.

A direction that stands for a value is 1 or 0. A neuron that recognises z = the sum of `arity` such directions being
all on is relu(2z − (2·arity − 1)): 1 for z = arity, 0 for z ≤ arity − 1/2. Where the directions are exact only to
rounding, a pair relu(4(z − t) + 1/2) − relu(4(z − t) − 1/2) around t = arity − 1/2 gives 1 for every z ≥ t + 1/8, so
that rounding does not grow from layer to layer.

A number's value is found by walking away from 0: the direction of the level next to 0 is on, and each midpoint between
two levels that the number lies beyond moves it one level on. A move is relu(s|x| − e) − relu(s|x| − e − 1), with s a
power of two at least eight times the inverse gap. Where it is on, s|x| ≥ e ≥ 0 and e is a multiple of 1/8, so float32
makes both differences without rounding, and theirs is exactly 1. The number may be off by a third of the gap.
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

from microtome.lab.rasp.compiler.infer import Inference
from microtome.lab.rasp.compiler.layout import Basis, Layout
from microtome.lab.rasp.compiler.operations import Neuron, Neurons, Row
from microtome.lab.rasp.language import Map, SequenceMap

GRID = 8
"""Edges of steps are multiples of 1/GRID."""


def map_values(node: Map, inference: Inference, layout: Layout) -> Neurons:
    """One neuron (or pair) for each value of f, over the directions of all values that f sends there."""
    source, target = layout.bases[node.inner], layout.bases[node]
    facts = inference.facts[node.inner]
    sources: dict[str, list[str]] = {}
    for value, image in zip(facts.values, inference.images[node], strict=True):
        sources.setdefault(target.code(image), []).append(source.code(value))
    return _neurons(target, ((1, group, code) for code, group in sources.items()), facts.exact)


def map_pairs(node: SequenceMap, inference: Inference, layout: Layout) -> Neurons:
    """One neuron (or pair) for each value of one argument and each value that f then takes; the side with fewer."""
    fst, snd, target = (layout.bases[s_op] for s_op in (node.fst, node.snd, node))
    facts = (inference.facts[node.fst], inference.facts[node.snd])
    by_fst: dict[tuple[str, str], list[str]] = {}
    by_snd: dict[tuple[str, str], list[str]] = {}
    for x, row in zip(facts[0].values, inference.images[node], strict=True):
        for y, image in zip(facts[1].values, row, strict=True):
            code = target.code(image)
            by_fst.setdefault((fst.code(x), code), []).append(snd.code(y))
            by_snd.setdefault((snd.code(y), code), []).append(fst.code(x))
    groups = min(by_fst, by_snd, key=len)
    recognised = ((2, (one, *others), code) for (one, code), others in groups.items())
    return _neurons(target, recognised, facts[0].exact and facts[1].exact)


def _neurons(target: Basis, recognised: Iterable[tuple[int, Sequence[str], str]], exact: bool) -> Neurons:
    """Neurons out of (how many of these directions must be on, the directions, what to turn on then)."""
    made = [_recognise(dict.fromkeys(on, 1.0), arity, code, exact) for arity, on, code in recognised]
    return Neurons(target.variable, tuple(itertools.chain.from_iterable(made)))


def _recognise(on: Row, arity: int, code: str, exact: bool) -> tuple[Neuron, ...]:
    if exact:
        return (Neuron(dict.fromkeys(on, 2.0), 1.0 - 2 * arity, {code: 1.0}),)
    slope, threshold = 4.0, arity - 0.5
    reads = dict.fromkeys(on, slope)
    return (
        Neuron(reads, 0.5 - slope * threshold, {code: 1.0}),
        Neuron(reads, -0.5 - slope * threshold, {code: -1.0}),
    )


def steps(basis: Basis, number: str, levels: Mapping[str, float], strays: Iterable[str]) -> Neurons:
    """Turns on the direction of the level that `number` has, unless one of `strays` is on.

    Args:
        basis: of the variable.
        number: the direction to read.
        levels: the number that each direction stands for.
        strays: directions that say that the variable is no number; `number` is 0 where one is on.
    """
    ordered = sorted(levels, key=levels.__getitem__)
    neurons: list[Neuron] = []
    base = ordered[0]
    for below, above in itertools.pairwise(ordered):
        slope = 2.0 ** math.ceil(math.log2(8 / (levels[above] - levels[below])))
        edge = round(GRID * (slope * (levels[below] + levels[above]) / 2 - 0.5)) / GRID
        if edge >= -0.5:
            neurons += _step({number: slope}, max(edge, 0.0), on=above, off=below)
        else:
            neurons += _step({number: -slope}, max(-edge - 1.0, 0.0), on=below, off=above)
            base = above
    neurons.append(Neuron(dict.fromkeys(strays, -2.0), 1.0, {base: 1.0}))
    return Neurons(f"{basis.variable} by value", tuple(neurons))


def _step(reads: Row, edge: float, *, on: str, off: str) -> tuple[Neuron, Neuron]:
    """Moves from one direction to another as what is read goes from `edge` to `edge` + 1."""
    return Neuron(reads, -edge, {on: 1.0, off: -1.0}), Neuron(reads, -edge - 1.0, {on: -1.0, off: 1.0})
