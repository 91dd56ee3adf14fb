"""Learning Transformer Programs (Friedman et al. 2023): networks that train by gradient descent and read as Python.

    data, options = tp.configuration("hist")
    model = tp.build(options)
    tp.train(model, data, "runs/hist")
    tp.accuracy(model, data.test)               # of the discrete network
    source = tp.export(model)                   # Python text that needs nothing but Python
    tp.run_source(source)(["<s>", "1", "0", "1"])
    tp.disagreements(model, source, data.test.sentences)    # none

`tp.simplified(model, data.train)` is the same network with as simple a classifier as the training part allows; its
program is the one to read.
"""

from collections.abc import Callable, Sequence
from typing import Any

from microtome.lab.rasp.learned.data import Data, Examples, draw
from microtome.lab.rasp.learned.gates import Annealing, Gumbel, argmax
from microtome.lab.rasp.learned.network import TransformerProgram
from microtome.lab.rasp.learned.options import Options
from microtome.lab.rasp.learned.program import Program
from microtome.lab.rasp.learned.reader import read
from microtome.lab.rasp.learned.simplify import simplified
from microtome.lab.rasp.learned.source import write
from microtome.lab.rasp.learned.tasks import TASKS, TaggingTask, task
from microtome.lab.rasp.learned.training import Training, accuracy, sampling, train
from microtome.lab.spelling import near

__all__ = [
    "configuration",
    "build",
    "train",
    "accuracy",
    "export",
    "run_source",
    "disagreements",
    "simplified",
    "read",
    "task",
    "draw",
    "sampling",
    "argmax",
    "CONFIGURATIONS",
    "TASKS",
    "Annealing",
    "Data",
    "Examples",
    "Gumbel",
    "Options",
    "Program",
    "TaggingTask",
    "Training",
    "TransformerProgram",
]

CONFIGURATIONS = {
    "hist": (1, 4, 2),
    "double_hist": (3, 4, 2),
    "reverse": (3, 8, 2),
}
"""Layers, heads and MLPs a layer of the networks that the paper reports, for vocabularies and lengths of 8 (k = 8).

Half of the heads and of the MLPs are categorical, half numerical. Discrete test accuracies in the paper: 100.0 % for
hist, 98.40 % for double_hist, 99.79 % for reverse.
"""


def configuration(name: str, *, size: int = 20_000, seed: int = 0) -> tuple[Data, Options]:
    """A data set and the network that the paper reports for it.

    Args:
        name: one of `CONFIGURATIONS`.
        size: sentences, at most.
        seed: of the data.

    Raises:
        KeyError: for an unknown name, with the nearest one.
    """
    if name not in CONFIGURATIONS:
        there = ", ".join(CONFIGURATIONS)
        raise KeyError(f"no configuration is called {name!r}{near(name, CONFIGURATIONS)}; there are {there}.")
    n_layers, n_heads, n_mlps = CONFIGURATIONS[name]
    data = draw(task(name), size, seed)
    return data, data.options(n_layers, n_heads // 2, n_heads // 2, n_mlps // 2, n_mlps // 2)


def build(options: Options, seed: int = 0) -> TransformerProgram:
    """A network of this shape with random parameters. Raises nothing: the options have been checked."""
    return TransformerProgram(options, seed)


def export(model: TransformerProgram) -> str:
    """The discrete network as Python text with a function `run(tokens) -> list`, which predicts as the network does.

    Where a network's classes or an MLP's outputs are tied to within rounding, the two may choose differently; for a
    `simplified` network the classes' sums are exact.
    """
    return write(read(model))


def run_source(source: str) -> Callable[[Sequence[str]], list[str]]:
    """The function `run` of an exported program. Raises ValueError if the text defines none."""
    namespace: dict[str, Any] = {"__name__": "transformer_program"}
    exec(compile(source, "<transformer program>", "exec"), namespace)
    if "run" not in namespace:
        raise ValueError("this text defines no function run(tokens); give what `export` returned.")
    return namespace["run"]


def disagreements(
    model: TransformerProgram, source: str, sentences: Sequence[Sequence[str]]
) -> list[tuple[Sequence[str], int]]:
    """The sentences and the positions in them for which the network and the program answer differently."""
    run = run_source(source)
    return [
        (sentence, i)
        for sentence, said in zip(sentences, model.predict(sentences), strict=True)
        for i, (ours, theirs) in enumerate(zip(said, run(sentence), strict=True))
        if ours != theirs
    ]
