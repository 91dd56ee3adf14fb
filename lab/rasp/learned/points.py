"""Reading the unembedding: what each value of each variable says for each class."""

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor

from microtome.lab.rasp.learned.network import TransformerProgram
from microtome.lab.rasp.learned.program import Classifier, Points, Value

FINEST = 2**12
"""Weights that are all multiples of 1/FINEST are read as whole numbers."""


def classifier(
    model: TransformerProgram, values: Mapping[str, Mapping[int, Value]], numbers: Mapping[str, range]
) -> Classifier:
    """The classifier of a discrete network.

    A variable that says the same whatever its value counts as said `always`; one that says the same for all classes
    decides nothing. Whole numbers are counted from the worst class.

    Args:
        model: the network.
        values: of each categorical variable, the indices that can occur and what they stand for.
        numbers: of each numerical variable, the numbers that it can be.
    """
    rows, whole = _readable(model.W_U.detach()[:, 1:].cpu())
    points: dict[str, dict[Value, Points]] = {}
    rates: dict[str, Points] = {}
    always: Points = (0,) * len(rows[0])
    for variable in model.options.variables:
        if variable.name in values and variable.kind == "categorical":
            said = {label: rows[variable.start + index] for index, label in values[variable.name].items()}
            if len(set(said.values())) == 1:
                always = _sum(always, next(iter(said.values())))
            elif any(_decides(row) for row in said.values()):
                points[variable.name] = said
        elif variable.name == "ones":
            always = _sum(always, rows[variable.start])
        elif _decides(rows[variable.start]) and len(numbers[variable.name]) > 1:
            rates[variable.name] = rows[variable.start]
    if whole:
        points = {name: {value: _from_worst(row) for value, row in said.items()} for name, said in points.items()}
        rates = {name: _from_worst(row) for name, row in rates.items()}
        always = _from_worst(always)
    return Classifier(points, rates, always)


def _readable(weights: Float[Tensor, "d_model class"]) -> tuple[list[Points], bool]:
    """The weights as whole numbers where one scale makes them so, else as the shortest decimals that stand for them."""
    exact = weights.double()
    for scale in (2**i for i in range(FINEST.bit_length())):
        if bool((exact * scale == (exact * scale).round()).all()):
            return [tuple(row) for row in (exact * scale).long().tolist()], True
    return [tuple(float(str(number)) for number in row) for row in weights.numpy()], False


def _sum(row: Points, other: Points) -> Points:
    return tuple(a + b for a, b in zip(row, other, strict=True))


def _from_worst(row: Points) -> Points:
    return tuple(number - min(row) for number in row)


def _decides(row: Points) -> bool:
    return len(set(row)) > 1
