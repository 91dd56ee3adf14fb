"""How much of a program each width keeps, beside maps that nobody trained for it."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from microtome.lab.rasp.compiled import Compiled
from microtome.lab.rasp.superposition.compress import STEPS, check, trained
from microtome.lab.rasp.superposition.compressed import Compressed, random_orthonormal, through
from microtome.lab.rasp.superposition.inputs import MEASURED, TRAINED, inputs_of
from microtome.lab.rasp.superposition.reference import reference
from microtome.lab.rasp.values import Value, key
from microtome.lab.report.style import COLOURS, DASHES, EXACT, GREYS, MARKERS, drawing

DRAWS = 5
"""Random projections that are averaged at each width."""


@dataclass(frozen=True, eq=False)
class Kept:
    """One width. Accuracies are as `Compressed.accuracy` has them.

    Attributes:
        small: the program in the stream of this width, through the trained map.
        trained: accuracy of the trained map.
        principal: of the projection to the directions in which the stream is largest (uncentred PCA over all
            sub-layers, positions and training inputs).
        random: of random orthonormal projections, a mean over 5.
    """

    small: Compressed
    trained: float
    principal: float
    random: float

    @property
    def width(self) -> int:
        return self.small.width


@dataclass(frozen=True, eq=False)
class Curve:
    """What each width keeps, widths ascending.

    Attributes:
        compiled: the program.
        kept: one a width.
        chance: accuracy of saying everywhere what the program says most often.
        inputs: on how many inputs it was measured.
    """

    compiled: Compiled
    kept: tuple[Kept, ...]
    chance: float
    inputs: int

    @property
    def figure(self) -> Figure:
        """Accuracy against width: the trained map, PCA, random projections, and the commonest answer."""
        widths = [k.width for k in self.kept]
        with drawing() as figure:
            axis = figure.subplots()
            axis.plot(widths, [k.trained for k in self.kept], marker=MARKERS[0], color=COLOURS[0], label="trained map")
            axis.plot(
                widths,
                [k.principal for k in self.kept],
                marker=MARKERS[1],
                color=COLOURS[1],
                linestyle=DASHES[0],
                label="PCA of the stream",
            )
            axis.plot(
                widths,
                [k.random for k in self.kept],
                marker=MARKERS[2],
                color=GREYS[1],
                linestyle=DASHES[1],
                label=f"random projections, mean of {DRAWS}",
            )
            axis.axhline(self.chance, color=EXACT, linewidth=1, linestyle=":", label="commonest answer everywhere")
            axis.set_ylim(-0.03, 1.05)
            axis.yaxis.set_major_formatter(PercentFormatter(1.0))
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
            axis.set_xlabel(f"width of the stream (compiled: {self.compiled.model.cfg.d_model})")
            axis.set_ylabel(f"output values kept, on {self.inputs:,} inputs")
            axis.set_title(self.compiled.program.label, parse_math=False)
            figure.legend(loc="outside lower center", ncols=2)
        return figure


def curve(compiled: Compiled, widths: Iterable[int], *, steps: int = STEPS, seed: int = 0) -> Curve:
    """Trains a map at each width and measures it beside two controls, folded into the weights in the same way.

    Maps are trained on at most 80 inputs and measured on at most 400, on all there are if these are fewer.

    Args:
        compiled: the program.
        widths: those to try, 1 to d_model; each is tried once.
        steps: of training, at each width.
        seed: of starts, random projections and drawn inputs.

    Raises:
        ValueError: without widths, and as `compress`.
    """
    ascending = sorted(set(widths))
    if not ascending:
        raise ValueError("widths must name at least one width of the stream; it is empty.")
    check(compiled, ascending, steps)
    d_model = compiled.model.cfg.d_model
    held = reference(compiled, inputs_of(compiled, TRAINED, seed))
    measured = inputs_of(compiled, MEASURED, seed)
    kept = []
    for width in ascending:
        starts = [random_orthonormal(d_model, width, seed + i) for i in range(DRAWS)]
        small = through(compiled, trained(held, starts[0], steps))
        principal = through(compiled, held.principal(width)).accuracy(measured)
        random = sum(through(compiled, start).accuracy(measured) for start in starts) / DRAWS
        kept.append(Kept(small, small.accuracy(measured), principal, random))
    return Curve(compiled, tuple(kept), _chance(compiled, measured), len(measured))


def _chance(compiled: Compiled, inputs: list[Sequence[Value]]) -> float:
    said = Counter(key(value) for row in compiled.run(inputs) for value in row)
    return said.most_common(1)[0][1] / said.total()
