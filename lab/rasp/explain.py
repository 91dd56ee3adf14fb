"""A compiled model in words: where each variable lives, and what each head and each group of neurons computes."""

from typing import TYPE_CHECKING

from microtome.lab.rasp.compiler.operations import Form, Head

if TYPE_CHECKING:
    from microtome.lab.rasp.compiled import Compiled


def explain(compiled: "Compiled") -> str:
    """Layer by layer: the columns that are written, by which head or neurons, out of which."""
    plan = compiled.lowered.plan
    column = plan.allocation.column
    lines = [repr(compiled), "", "embedding"]
    if plan.sink:
        lines.append("  0: sink, the mark of the position in front of every input")
    for sop, directions in plan.embedded.items():
        lines += [f"  {column[d]}: {d.name}, from {sop.label}" for d in directions]
    for i, layer in enumerate(plan.layers):
        lines += ["", f"layer {i}"]
        for h, head in enumerate(layer.heads):
            where = f" ({head.where})" if head.where else ""
            lines.append(f"  head {i}.{h} computes {head.label}{where}: {_attends(head)}")
            # Keys write nothing there, only the sink does: what is left of it is the share of its attention.
            shares = {d for d, form in head.values.items() if not form.weights and head.sink_values.get(d) == 1.0}
            for direction, form in head.values.items():
                constant = head.constants.get(direction, 0.0) - direction.offset
                written = "the sink's attention" if direction in shares else _shown(form + Form({}, constant))
                rounding = f", with {direction.offset:g} added so that it is rounded" if direction.offset else ""
                lines.append(f"    {column[direction]}: {direction.name} ← {written}{rounding}")
        first = 0
        for operation in layer.neurons:
            last = first + len(operation.neurons)
            lines.append(f"  neurons {i}.{first}–{i}.{last - 1} compute from {operation.label}:")
            lines += [f"    {column[d]}: {d.name}" for d in operation.writes]
            first = last
        for direction in plan.allocation.clearing.get(i, ()):
            lines.append(f"  column {column[direction]} is cleared of {direction.name}")
    lines += ["", "output"]
    readout = compiled.lowered.readout
    for i, form in enumerate(readout.forms):
        meaning = "the number" if readout.values is None and i == 0 else None
        meaning = meaning or repr((readout.values or (None, *readout.strays))[i])
        lines.append(f"  {meaning}: {_shown(form)}")
    return "\n".join(lines)


def _attends(head: Head) -> str:
    parts = [f"({_shown(q)})·({_shown(k)})" for q, k in head.products]
    parts += [f"at the query {_shown(head.by_query)}"] if head.by_query.weights else []
    parts += [f"at the key {_shown(head.by_key)}"] if head.by_key.weights else []
    if not parts:
        return "attends to every key alike"
    return "scores " + " + ".join(parts)


def _shown(form: Form) -> str:
    terms = [f"{'' if w == 1 else '−' if w == -1 else f'{w:g}·'}{d.name}" for d, w in form.weights.items()]
    if form.bias or not terms:
        terms.append(f"{form.bias:g}")
    return " + ".join(terms).replace("+ −", "− ").replace("+ -", "− ")
