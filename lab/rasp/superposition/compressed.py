"""A compiled program whose stream went through a linear map."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from microtome.kernels.haar import haar
from microtome.lab.rasp.compiled import Compiled
from microtome.lab.rasp.superposition.fold import Map, folded, narrow, settled
from microtome.lab.rasp.values import Value, is_numeric, key
from microtome.lab.zoo.transformer import SequenceModel

NEAR = 1e-3
"""How far a number may be off where outputs are numbers without a list of those that can be, relative above 1."""


@dataclass(frozen=True, eq=False, repr=False)
class Compressed:
    """A program in a stream of another basis, usually a narrower one.

    Attributes:
        compiled: the program as it was compiled; tokens are encoded and outputs decoded as it does.
        map: W, float64. Row i is where the stream holds what `compiled` holds in column i, whose names are
            `compiled.labels[i]`. Only the products of rows, `gram`, mean something: with any rotation R of the narrow
            stream, WR gives the same outputs.
        model: the zoo's hooked transformer with W in its weights, d_model = width.
    """

    compiled: Compiled
    map: Map
    model: SequenceModel

    def __call__(self, tokens: Iterable[Value]) -> list[Value]:
        """What the narrow model says at each token, right or wrong.

        Raises:
            InputError: as calling `compiled`.
        """
        return self.run([list(tokens)])[0]

    def run(self, batch: Sequence[Sequence[Value]]) -> list[list[Value]]:
        """As calling it on each input, in one forward pass; the inputs may have several lengths."""
        ids, mask = self.compiled.pad(batch)
        with torch.no_grad():
            rows = self.compiled.decode(self.model(ids, mask=mask))
        return [row[: len(tokens)] for row, tokens in zip(rows, batch, strict=True)]

    def accuracy(self, inputs: Iterable[Sequence[Value]]) -> float:
        """The share of output values, over all positions of all inputs, that are those of `compiled`.

        Where outputs are numbers without a list of those that can be, they may differ by 0.001.

        Raises:
            ValueError: without inputs. InputError: as calling `compiled`.
        """
        batch = [list(tokens) for tokens in inputs]
        if not batch:
            raise ValueError("accuracy needs at least one input.")
        found, wanted = self.run(batch), self.compiled.run(batch)
        exact = self.compiled.lowered.readout.values is not None or bool(self.compiled.lowered.readout.levels)
        same = [
            _same(a, b, exact)
            for left, right in zip(found, wanted, strict=True)
            for a, b in zip(left, right, strict=True)
        ]
        return sum(same) / len(same)

    @property
    def width(self) -> int:
        return self.map.shape[1]

    @property
    def gram(self) -> Float[Tensor, "d_model d_model"]:
        """WWᵀ: how much of the column of one row is read in that of another; the identity where nothing is lost."""
        return self.map @ self.map.T

    def __repr__(self) -> str:
        d_model, width = self.map.shape
        return f"Compressed({self.compiled.program.label}: {d_model} directions in {width} dimensions)"


def through(compiled: Compiled, map: Map) -> Compressed:
    """The program with the map folded into its weights, on the device of the compiled model."""
    model = narrow(compiled.model, map.shape[1])
    weights = folded(settled(compiled.model).cpu(), map.detach().double())
    model.load_state_dict({name: weight.to(model.cfg.dtype) for name, weight in weights.items()})
    return Compressed(compiled, map.detach().double(), model.to(compiled.model.cfg.device))


def rotate(compiled: Compiled, seed: int = 0) -> Compressed:
    """The program in a random orthonormal basis of its stream, which keeps what it computes and hides every name.

    A benchmark for methods that look for directions: nothing is lost, `map` is the answer, and no dimension is
    privileged. Rounding grows with the longest input: scores are differences of squares that float32 held exactly.
    """
    return through(compiled, random_orthonormal(compiled.model.cfg.d_model, compiled.model.cfg.d_model, seed))


def random_orthonormal(d_model: int, width: int, seed: int) -> Map:
    """`width` orthonormal columns, uniformly distributed; float64."""
    return haar(1, d_model, width, torch.Generator().manual_seed(seed))[0]


def _same(found: Value, wanted: Value, exact: bool) -> bool:
    if exact or not (is_numeric(found) and is_numeric(wanted)):
        return key(found) == key(wanted)
    return math.isclose(found, wanted, rel_tol=NEAR, abs_tol=NEAR)
