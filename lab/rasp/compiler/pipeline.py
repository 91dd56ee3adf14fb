"""The passes in order, and what each leaves for the next."""

from dataclasses import dataclass, replace

from microtome.lab.rasp.compiler.allocate import Allocation, allocate
from microtome.lab.rasp.compiler.emit import Plan
from microtome.lab.rasp.compiler.facts import Inference, Setting
from microtome.lab.rasp.compiler.lower import Lowering
from microtome.lab.rasp.compiler.output import Readout, readout
from microtome.lab.rasp.compiler.schedule import Schedule, schedule
from microtome.lab.rasp.compiler.simplify import Simplifier
from microtome.lab.rasp.errors import CompileError
from microtome.lab.rasp.language import Expression, Indices, SOp, Tokens, indices, topological


@dataclass(frozen=True)
class Passes:
    """Which optimisations run; the translation is exact with any of them."""

    simplify: bool = True
    share: bool = True
    spread: bool = True
    reuse: bool = True

    @classmethod
    def level(cls, optimize: int) -> "Passes":
        return cls(*([optimize > 0] * 4))


@dataclass(frozen=True, eq=False)
class Lowered:
    """A program as operations in layers, before it becomes matrices.

    Attributes:
        core: the s-op that is compiled, after simplification.
        images: for each expression of the given program, the node that stands for it.
        inference: what is known of the nodes.
        schedule: the layers.
        readout: how the outputs are read.
        plan: what is emitted.
    """

    core: SOp
    images: dict[Expression, Expression]
    inference: Inference
    schedule: Schedule
    readout: Readout
    plan: Plan


def lowered(program: SOp, setting: Setting, passes: Passes, *, bos: bool | None) -> Lowered:
    """Runs all passes but the last two.

    Raises:
        CompileError, UndefinedError: see `compile`.
    """
    inference = Inference(setting)
    simplifier = Simplifier(inference, plain=not passes.simplify)
    core = simplifier.run(program)
    rank = {node: i for i, node in enumerate(topological(core)) if isinstance(node, SOp)}
    # Preferring the first or the last reads the indices, whether or where the program does.
    rank[indices] = -1
    lowering = Lowering(inference, rank, plain=not passes.share)
    outputs = readout(lowering, core)
    lowering.run()
    outputs = replace(outputs, forms=tuple(form.resolved(lowering.forms) for form in outputs.forms))
    found = schedule(lowering.operations, spread=passes.spread)
    sink = _sink(found, bos, program)
    embedded = {s: ds for s, ds in lowering.embedded.items() if isinstance(s, Tokens | Indices)}
    draft = Plan(setting, found.layers, Allocation((), int(sink)), embedded, outputs.forms, sink)
    n_heads, d_head, _, d_vocab = draft.sizes

    def weight(width: int, neurons: int) -> int:
        attention = 4 * n_heads * d_head
        return width * (len(found.layers) * (attention + 2 * neurons) + 2 * d_vocab + sink + setting.max_len)

    allocation = allocate(
        found.layers,
        [d for ds in embedded.values() for d in ds],
        outputs.forms,
        first=int(sink),
        weight=weight,
        reuse=passes.reuse,
    )
    plan = Plan(setting, found.layers, allocation, embedded, outputs.forms, sink)
    return Lowered(core, simplifier.images, inference, found, outputs, plan)


def _sink(found: Schedule, bos: bool | None, program: SOp) -> bool:
    """Whether sequences start with the sink."""
    needing = [head for layer in found.layers for head in layer.heads if head.needs_sink]
    if bos is False and needing:
        raise CompileError(
            f"{needing[0].label} needs a position in front of the input to attend to when it selects nothing or to "
            "measure a width by; compile with bos=True, or let the compiler choose",
            program,
        )
    return bool(needing) if bos is None else bos
