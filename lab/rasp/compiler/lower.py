"""Pass 4: each s-op becomes heads and neurons over named directions."""

import math
from itertools import pairwise

from microtome.lab.rasp.compiler import heads, neurons
from microtome.lab.rasp.compiler.infer import FLOAT_UNIT, Inference
from microtome.lab.rasp.compiler.layout import Layout
from microtome.lab.rasp.compiler.operations import Neurons, Operation
from microtome.lab.rasp.errors import CompileError
from microtome.lab.rasp.language import Aggregate, Map, SelectorWidth, SequenceMap, SOp, topological
from microtome.lab.rasp.values import key


def lower(program: SOp, inference: Inference, layout: Layout) -> tuple[Operation, ...]:
    """The operations of the program, each after those that it reads. Selectors are part of the heads that use them."""
    operations: list[Operation] = []
    for node in topological(program):
        match node:
            case Map():
                operations.append(neurons.map_values(node, inference, layout))
            case SequenceMap():
                operations.append(neurons.map_pairs(node, inference, layout))
            case SelectorWidth():
                operations.append(heads.selector_width(node, inference, layout))
                operations.append(_read_width(node, layout))
            case Aggregate():
                operations.append(heads.aggregate(node, inference, layout))
                operations.extend(_read_average(node, inference, layout))
    return tuple(operations)


def _read_width(node: SelectorWidth, layout: Layout) -> Neurons:
    basis = layout.bases[node]
    levels = {basis.code(w): heads.sink_share(w, basis.values) for w in basis.values}
    # One rounding a key in the softmax's sum, and four for the score ln β and its exponential.
    error = (max(basis.values) + 4 + 4 * math.log(heads.sink_weight(basis.values))) * FLOAT_UNIT
    if min((a - b for a, b in pairwise(levels.values())), default=math.inf) < 4 * error:
        raise CompileError("float32 cannot tell its widths apart at this max_len; compile for a smaller one", node)
    return neurons.steps(basis, basis.share, levels, ())


def _read_average(node: Aggregate, inference: Inference, layout: Layout) -> list[Neurons]:
    """The steps that give an average its values, if it has directions for them."""
    basis = layout.bases[node]
    strays = {key(v) for v in inference.facts[node].strays}
    levels = {basis.code(v): float(v) for v in basis.values if key(v) not in strays}
    if basis.number is None or not levels:
        return []
    return [neurons.steps(basis, basis.number, levels, (basis.code(v) for v in inference.facts[node].strays))]
