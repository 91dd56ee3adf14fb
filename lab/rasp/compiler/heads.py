"""Select, Aggregate and SelectorWidth as one attention head each.

Scores have tiers, each so deep that the softmax of a lower one is zero in float32 (`emit.TIER`). A selected key
scores exactly 0 (or, where nothing else is needed, the same for all selected keys of a query), so the attention is
exactly even. Below are, in this order and only where they can occur: selected keys whose value is None; the sink, which
holds the default; and the keys that are not selected. For the largest, smallest, first or last value the selected keys
are themselves put into tiers.

The sink is position 0 of every sequence, before the first token. For the width of a selector it is raised to the score
ln β beside selected keys at 0, so that it receives the share β / (β + width). With β the largest width, the shares lie
in [1/2, 1] and differ by at least 1/(4β), while those of the usual 1 / (1 + width) come as close as 1/β².
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from microtome.lab.rasp.compiler import grid as grids
from microtome.lab.rasp.compiler import raw
from microtome.lab.rasp.compiler.operations import Direction, Form, Head
from microtome.lab.rasp.compiler.scores import scores
from microtome.lab.rasp.language import Aggregate, Length, SelectorWidth, indices
from microtome.lab.rasp.values import Value, extreme, is_numeric, key

if TYPE_CHECKING:
    from microtome.lab.rasp.compiler.lower import Lowering
    from microtome.lab.rasp.compiler.wishes import Wish


def aggregate(lowering: "Lowering", node: Aggregate, wishes: Sequence["Wish"]) -> Head:
    """The head that writes the mean, or functions of the common value, of the selected values."""
    facts, sop = lowering.facts(node), lowering.facts(node.sop)
    select = lowering.inference.truths[node.selector]
    if facts.averaged:
        values, sink_values = _average_values(lowering, node, wishes)
    else:
        values, sink_values = _copied_values(lowering, node, wishes)
    ordered = _preference(lowering, node)
    holds_none = any(v is None for v in sop.strays) and not (select.one_position and ordered is None)
    depth = 0 if ordered is None else ordered[1]
    by_key = Form({}, 0.0) if ordered is None else ordered[0]
    if holds_none:
        by_key = by_key + lowering.flag(node.sop, None, exact=True).times(-1.0 - depth)
        # Where positions are preferred, those of Nones are too, and span as many tiers again.
        depth = 2 * depth + 1 if node.reduction in ("first", "last") else depth + 1
    needs_sink = not select.never_empty
    levels = depth + 1 + needs_sink
    absolute = needs_sink or depth > 0
    form = scores(lowering, select, levels, label=node.selector.label, absolute=absolute, even=facts.averaged)
    return Head(
        label=node.label,
        selector=(id(node.selector), node.reduction, levels, id(node.sop) if depth else None),
        products=form.products,
        by_query=form.by_query,
        by_key=form.by_key + by_key,
        sink_score=-1.0 - depth,
        sink_bonus=0.0,
        values={d: Form(f.weights) for d, f in values.items()},
        constants={d: f.bias for d, f in values.items() if f.bias},
        sink_values={d: sink_values[d] - f.bias for d, f in values.items()} if needs_sink else {},
        needs_sink=needs_sink,
        levels=levels,
        where=node.where,
    )


def _average_values(
    lowering: "Lowering", node: Aggregate, wishes: Sequence["Wish"]
) -> tuple[dict[Direction, Form], dict[Direction, float]]:
    facts, sop = lowering.facts(node), lowering.facts(node.sop)
    wished = {w.direction: w for w in wishes}
    default = node.default
    plain_default = is_numeric(default) and key(default) not in facts.is_stray
    flags = raw.flags(lowering, node)
    values, sink = {}, {}
    for target, wish in wished.items():
        if target not in flags.values():
            values[target] = lowering.number(node.sop) + Form({}, wish.offset)
            sink[target] = (float(default) if plain_default else 0.0) + wish.offset
    for value, flag in flags.items():
        if flag not in wished:
            continue
        held = any(key(value) == key(v) for v in sop.strays)
        form = lowering.flag(node.sop, value) if held else Form()
        values[flag] = form
        sink[flag] = float(key(value) == key(default))
    return values, sink


def _copied_values(
    lowering: "Lowering", node: Aggregate, wishes: Sequence["Wish"]
) -> tuple[dict[Direction, Form], dict[Direction, float]]:
    facts, sop = lowering.facts(node), lowering.facts(node.sop)
    values, sink = {}, {}
    places = [facts.number_of[key(v)] for v in sop.values]
    for wish in wishes:
        name = wish.direction.name.replace(node.label, node.sop.label)
        form = lowering.view((node.sop,), wish.function[places], name=name, exact=True)
        values[wish.direction] = form + Form({}, wish.offset)
        default = facts.number_of.get(key(node.default))
        sink[wish.direction] = wish.offset + (0.0 if default is None else float(np.nan_to_num(wish.function[default])))
    return values, sink


def _preference(lowering: "Lowering", node: Aggregate) -> tuple[Form, int] | None:
    """What puts the key that the reduction wants above the other selected keys, and how many tiers that spans."""
    if node.reduction == "mean" or lowering.inference.truths[node.selector].one_position:
        return None
    if node.reduction in ("first", "last"):
        sop, order = indices, np.arange(lowering.inference.setting.max_len, dtype=float)
        present = np.ones(len(order), dtype=bool)
    else:
        sop, facts = node.sop, lowering.facts(node.sop)
        present = np.array([v is not None for v in facts.values])
        if not present.any():
            return None
        order = _ranks(facts.values, greatest=node.reduction == "max")
    if node.reduction == "first":
        order = -order
    order = np.where(present, order - order[present].max(), 0.0)
    name = f"{node.label}: preference"
    return lowering.view((sop,), order, name=name, exact=True), int(-order.min())


def _ranks(values: Sequence[Value], *, greatest: bool) -> np.ndarray:
    """How many of the others each value is preferred to; two that cannot be compared never meet in one selection."""
    if not any(v is not None and (isinstance(v, bool) or not is_numeric(v)) for v in values):
        # Numbers come ascending.
        ranks = np.arange(len(values), dtype=float)
        return ranks if greatest else -ranks
    return np.array([sum(_preferred(v, w, greatest) for w in values) for v in values], dtype=float)


def _preferred(value: Value, other: Value, greatest: bool) -> bool:
    if value is None or other is None or key(value) == key(other):
        return False
    try:
        return key(extreme((value, other), greatest=greatest)) == key(value)
    except ValueError:
        return False


def width(lowering: "Lowering", node: SelectorWidth | Length) -> Head:
    """The head that writes the sink's share."""
    widths = lowering.facts(node).values
    if isinstance(node, Length):
        form = scores(lowering, None, 1, label=node.label, absolute=True, even=True)
        selector = 0
    else:
        truth = lowering.inference.truths[node.selector]
        form = scores(lowering, truth, 1, label=node.selector.label, absolute=True, even=True)
        selector = id(node.selector)
    return Head(
        label=node.label,
        selector=(selector, "width", grids.sink_weight(widths)),
        products=form.products,
        by_query=form.by_query,
        by_key=form.by_key,
        sink_score=0.0,
        sink_bonus=math.log(grids.sink_weight(widths)),
        values={raw.share(lowering, node): Form()},
        constants={raw.share(lowering, node): grids.rounding_offset(grids.share_grid(widths))},
        sink_values={raw.share(lowering, node): 1.0},
        needs_sink=True,
        levels=1,
        where=node.where,
    )
