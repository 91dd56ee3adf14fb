"""Which named directions share a dimension of the narrow stream, as a picture."""

import matplotlib
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from microtome.lab.rasp.superposition.compressed import Compressed

COLOURS = "RdBu_r"
CELL = 0.24  # inches
LONGEST = 34


def gram_figure(small: Compressed) -> Figure:
    """WWᵀ with the compiled program's names at its rows.

    Row i, column j: how much of what is written to column i is read in column j. An orthonormal map of full width has 1
    on the diagonal and white elsewhere. Coloured cells off the diagonal are directions in superposition, a white cell
    on it is a direction that the narrow stream gave up. Columns of the picture are numbered as the rows are. Two names
    in one row share a column of the compiled model, one after the other.
    """
    gram = small.gram.cpu().numpy()
    labels = [f"{_shortened(name)}  {i}" for i, name in enumerate(small.compiled.labels)]
    largest = max(1.0, float(abs(gram).max()))
    size = CELL * len(labels)
    width = size + 0.075 * max(map(len, labels)) + 1.5
    figure = Figure(figsize=(max(width, 5.0), max(size + 1.1, 2.8)), layout="constrained")
    axis = figure.subplots()
    image = axis.imshow(gram, cmap=matplotlib.colormaps[COLOURS], norm=Normalize(-largest, largest))
    axis.set_yticks(range(len(labels)), labels, fontsize=7, parse_math=False)
    axis.set_xticks(range(len(labels)), [str(i) for i in range(len(labels))], fontsize=7)
    axis.tick_params(length=0)
    axis.set_xlabel("column that is read", fontsize=8)
    axis.set_ylabel("direction that is written, and its column", fontsize=8)
    bar = figure.colorbar(image, ax=axis, fraction=0.046, pad=0.03)
    bar.set_label("read per unit written (entry of WWᵀ)", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    heading = f"{small.compiled.program.label}: {len(labels)} directions in {small.width} dimensions"
    axis.set_title(heading, fontsize=9, parse_math=False)
    return figure


def _shortened(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"
