"""Select, Aggregate and SelectorWidth as one attention head each.

Scores have four tiers: 0 for a selected key, −1 for a selected key whose value is None, −2 for the sink, −3 and less
for keys that are not selected. A tier is so deep that the softmax of a lower one is zero in float32 (`emit.TIER`). So
a head attends evenly to the selected keys that have a value; if there are none, to the selected Nones; if nothing is
selected, to the sink, which holds the default. A selected key scores exactly 0, for any query, so the attention is
exactly even.

The sink is position 0 of every sequence, before the first token. For the width of a selector it is raised to the score
ln β beside selected keys at 0, so that it receives the share β / (β + width). With β the largest width, the shares lie
in [1/2, 1] and differ by at least 1/(4β), while those of the usual 1 / (1 + width) come as close as 1/β².
"""

import math
from collections.abc import Sequence

from microtome.lab.rasp.compiler.infer import Inference
from microtome.lab.rasp.compiler.layout import Layout
from microtome.lab.rasp.compiler.operations import Head
from microtome.lab.rasp.compiler.selectors import Truth
from microtome.lab.rasp.language import Aggregate, Select, SelectorWidth
from microtome.lab.rasp.values import Value
from microtome.lab.rasp.values import key as identity

ABSENT, SINK, UNSELECTED = -1.0, -2.0, -3.0

Coordinates = dict[str, dict[int, float]]


def aggregate(node: Aggregate, inference: Inference, layout: Layout) -> Head:
    """The head that writes the mean, or the common value, of the selected values."""
    source, target = layout.bases[node.sop], layout.bases[node]
    sop, facts = inference.facts[node.sop], inference.facts[node]
    strays = {identity(v) for v in facts.strays}

    def written(value: Value) -> dict[str, float]:
        held_as_number = facts.averaged and identity(value) not in strays
        return {target.number: float(value)} if held_as_number else {target.code(value): 1.0}

    if sop.averaged:
        value = {source.number: {target.number: 1.0}, **{source.code(v): written(v) for v in sop.strays}}
    else:
        value = {source.code(v): written(v) for v in sop.values}
    holds_none = any(v is None for v in sop.strays)
    query, keys, width = _table(node.selector, inference.truths[node.selector], layout)
    return Head(
        label=target.variable,
        query=query,
        key=keys,
        width=width,
        demoted=(source.code(None),) if holds_none else (),
        sink_score=SINK,
        sink_bonus=0.0,
        value=value,
        sink_value={} if inference.truths[node.selector].never_empty else written(node.default),
    )


def selector_width(node: SelectorWidth, inference: Inference, layout: Layout) -> Head:
    """The head that writes the sink's share."""
    basis = layout.bases[node]
    query, keys, width = _table(node.selector, inference.truths[node.selector], layout)
    beta = sink_weight(inference.facts[node].values)
    return Head(
        label=basis.variable,
        query=query,
        key=keys,
        width=width,
        demoted=(),
        sink_score=0.0,
        sink_bonus=math.log(beta),
        value={},
        sink_value={basis.share: 1.0},
    )


def sink_weight(widths: Sequence[Value]) -> float:
    """β: how many selected keys the sink outweighs."""
    return float(max((1, *widths)))


def sink_share(width: Value, widths: Sequence[Value]) -> float:
    """The attention that the sink receives beside `width` selected keys."""
    beta = sink_weight(widths)
    return beta / (beta + width)


def _table(node: Select, truth: Truth, layout: Layout) -> tuple[Coordinates, Coordinates, int]:
    """Query and key coordinates whose product is 0 for selected pairs of values and UNSELECTED for the others.

    One dim for each different row of the truth table, marked by the query, or for each different column, marked by the
    key, whichever are fewer; none for rows or columns that select everything.
    """
    queries = [layout.bases[node.queries].code(v) for v in truth.queries]
    keys = [layout.bases[node.keys].code(v) for v in truth.keys]
    rows, columns = truth.table, tuple(zip(*truth.table, strict=True))
    if len(set(rows)) <= len(set(columns)):
        return _marks(queries, rows, keys)
    key, query, width = _marks(keys, columns, queries)
    return query, key, width


def _marks(
    markers: list[str], rows: Sequence[tuple[bool, ...]], others: list[str]
) -> tuple[Coordinates, Coordinates, int]:
    """One dim for each different row with a False in it: 1 at the markers that have the row, UNSELECTED at the others
    that it does not select; and the number of dims.
    """
    dims = {row: i for i, row in enumerate(dict.fromkeys(r for r in rows if not all(r)))}
    marked = {marker: {dims[row]: 1.0} if row in dims else {} for marker, row in zip(markers, rows, strict=True)}
    penalised: Coordinates = {other: {} for other in others}
    for row, dim in dims.items():
        for other, selected in zip(others, row, strict=True):
            if not selected:
                penalised[other][dim] = UNSELECTED
    return marked, penalised, len(dims)
