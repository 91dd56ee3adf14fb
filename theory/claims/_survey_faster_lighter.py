"""What a faster or lighter transformer is measured by: numbers that are the same on every machine.

Operations are those of matrix products and fused attention, two for a multiplication with its addition, of a forward
and a backward pass; what runs again in the backward pass counts again. Memory is what the forward pass keeps for the
backward pass, parameters aside. Seconds are left to benchmarks.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from microtome.lab import zoo
from microtome.lab.zoo.parts import Position, PositionPart, Shape
from microtome.lab.zoo.transformer import SequenceModel
from microtome.theory.claims._fitting import fresh
from microtome.theory.statements._operations import matrix_operations

D_MODEL, N_LAYERS, HEADS, VOCAB = 64, 4, 4, 32
WINDOW, RANK, FEATURES = 64, 64, 64


@dataclass(frozen=True)
class Row:
    """One method's line of the table.

    Attributes:
        parameters: numbers to store.
        kept: bytes kept for the backward pass.
        operations: of a step.
        slope: of operations against length, log–log; NaN for methods that leave the mixer alone.
        error: relative difference from what the method is exact or approximate to; infinite for another function.
    """

    parameters: int
    kept: int
    operations: int
    slope: float = math.nan
    error: float = math.inf


class BandPosition(Position):
    """−∞ added to the scores of keys outside the window: sparse attention by mask alone."""

    def bias(self, queries: Int[Tensor, " query"], n_keys: int) -> Float[Tensor, "1 query key"]:
        far = (queries[:, None] - torch.arange(n_keys, device=queries.device)).abs() > WINDOW // 2
        return torch.zeros(far.shape, device=queries.device).masked_fill(far, -torch.inf)[None]


@dataclass(frozen=True)
class Band(PositionPart):
    """The mask-only window."""

    provides: ClassVar[frozenset[str]] = frozenset({"bias"})

    def build(self, shape: Shape) -> BandPosition:
        return BandPosition()


MIXERS: dict[str, Callable[[int], dict]] = {
    "Longformer": lambda n: {"mixer": {"name": "longformer", "window": WINDOW, "n_global": 1}},
    "sparse": lambda n: {"mixer": {"name": "sparse", "block": math.isqrt(n), "summary": 1}},
    "Reformer": lambda n: {"mixer": "reformer"},
    "Linformer": lambda n: {"mixer": {"name": "linformer", "rank": RANK}},
    "Performer": lambda n: {"mixer": {"name": "performer", "n_features": FEATURES}},
    "mask only": lambda n: {"position": Band()},
}
"""Methods that make attention cheaper, by length, and the control that only masks it."""


def build(n: int, seed: int, **parts) -> SequenceModel:
    """The baseline at n positions, bidirectional and without positions, with the parts changed."""
    base = {"position": "none", "n_layers": N_LAYERS, "causal": False}
    sizes = {"d_vocab": VOCAB, "d_model": D_MODEL, "n_heads": HEADS, "n_ctx": n}
    return zoo.sequence(**{**base, **sizes, **parts}, seed=seed).train()


def tokens(n: int, seed: int, batch: int = 1) -> Tensor:
    """Uniform tokens [batch pos]."""
    return torch.randint(VOCAB, (batch, n), generator=fresh(seed))


def stored(model: nn.Module) -> int:
    """Parameters, each once, without those that a pruning mask sets to zero."""
    masked = sum((buffer == 0).sum().item() for name, buffer in model.named_buffers() if name.endswith("weight_mask"))
    return sum(p.numel() for p in model.parameters()) - masked


def kept_bytes(run: Callable[[], Tensor], model: nn.Module) -> int:
    """Bytes that `run` keeps for its backward pass, each storage once, the model's parameters aside."""
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    storages: dict[int, tuple[int, Tensor]] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = (storage.nbytes(), tensor)  # held, so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = run()
    del out
    return sum(size for size, _ in storages.values())


def operations(run: Callable[[], Tensor]) -> int:
    """Of the forward pass that `run` makes and of the backward pass from the sum of its output."""
    return matrix_operations(lambda: run().sum().backward())


def measured(model: SequenceModel, inputs: Tensor, **columns: float) -> Row:
    """The row of a model on these tokens."""
    return Row(stored(model), kept_bytes(lambda: model(inputs), model), operations(lambda: model(inputs)), **columns)


def slope(parts: Callable[[int], dict], lengths: list[int], seed: int) -> float:
    """Least-squares slope of log operations against log length, of one layer without feed-forward."""
    points = []
    for n in lengths:
        model, inputs = build(n, seed, n_layers=1, feedforward="none", **parts(n)), tokens(n, seed)
        points.append((math.log(n), math.log(operations(lambda m=model, x=inputs: m(x)))))
    x, y = torch.tensor(points, dtype=torch.float64).T
    return (((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()).item()


@torch.no_grad()
def distance(a: Tensor, b: Tensor) -> float:
    """‖a − b‖/‖b‖."""
    return ((a - b).norm() / b.norm()).item()


def with_weights_of(model: SequenceModel, source: SequenceModel) -> SequenceModel:
    """The model, with the source's weights wherever both have one of that name and shape."""
    theirs = source.state_dict()
    common = {k: theirs[k] for k, mine in model.state_dict().items() if k in theirs and theirs[k].shape == mine.shape}
    model.load_state_dict(common, strict=False)
    return model
