"""Ridge regression on a representation by gradient descent, written into the weights of a ReLU-attention transformer.

Guo et al., "How do transformers learn in-context beyond simple functions? A case study on learning with
representations" (2024, slug `icl_representations`), theorem 1. The transformer is the zoo's own, causal, with
normalised ReLU attention (1/i) Σ_{j≤i} ReLU(⟨q_i, k_j⟩) v_j, no norms, and tokens i = 1, 2, … that are x₁ y₁ x₂ y₂ …

* Layers 1 … L: the feed-forwards compute Φ*(x) at x-tokens, four units a coordinate: ρ(u) and −φ from two ReLUs each.
* Layer L + 1: one head copies Φ* from each x-token to the y-token behind it, another multiplies Φ_i by i in place.
* T layers, each w_i ← w_i − (η/i)[Σ_j (⟨w_i, Φ_j⟩ − y_j) Φ_j + λ w_i] over the y-tokens j ≤ i: two heads make the
  residual as ReLU(u) − ReLU(−u), a third, which sees token i alone, the decay.
* The last layer reads ⟨w_i, Φ_i⟩: heads that see token i alone, as long as |i⟨w_i, Φ_i⟩| stays below `BOUND`.

Heads find their token by ReLU(1 − (i − j)²), an integer that is a bilinear form in powers of i and of j; times a power
of i it undoes the 1/i. Two departures from the paper: the decay is λ/i, not λ, so that what is descended on is
Σ_j (⟨w, Φ_j⟩ − y_j)² + λ‖w‖² and the limit is the Bayes predictor's ridge at every prefix; and registers are not
reused, so that the steps need no bound on the data, at a width of 3D + d + 6.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from microtome.lab import zoo
from microtome.lab.tasks.protocol import check_sizes
from microtome.lab.tasks.representations import Representation

BOUND = 2.0**12
"""M: the last layer's reading is right while |i⟨w_i, Φ_i⟩| < M; its rounding error is about M·i²·1e-16."""
POWERS = 5


@dataclass(frozen=True)
class Descent:
    """T steps of gradient descent in context.

    Attributes:
        representation: Φ*.
        points: longest prompt.
        steps: T ≥ 1.
        rate: η > 0.
        decay: λ ≥ 0.

    Raises:
        ValueError: if an attribute is out of range.
    """

    representation: Representation
    points: int
    steps: int
    rate: float
    decay: float

    def __post_init__(self):
        check_sizes(points=self.points, steps=self.steps)
        if not self.rate > 0 or not self.decay >= 0:
            raise ValueError(f"rate must be above 0 and decay at least 0, not {self.rate} and {self.decay}.")

    @property
    def first_step(self) -> int:
        """The layer of the first gradient step."""
        return self.representation.depth + 1

    def rows(self, register: str) -> slice:
        """Where the stream holds "y", "x", "phi", "psi" (the copy of Φ at y-tokens), "w" and "powers" (of i)."""
        dim, width = self.representation.dim, self.representation.width
        sizes = {"y": 1, "x": dim, "phi": width, "psi": width, "w": width, "powers": POWERS}
        start = 0
        for name, size in sizes.items():
            if name == register:
                return slice(start, start + size)
            start += size
        raise KeyError(f"no register is called {register!r}; there are {', '.join(sizes)}.")

    def model(self) -> nn.Module:
        """The transformer, in float64: called `model(xs, ys)`, it predicts y at every x; a model of the zoo as any."""
        width = self.representation.width
        model = zoo.sequence(
            dim=self.representation.dim,
            mixer={"name": "relu", "d_head": width + 3, "bias": False},
            norm="none",
            feedforward={"name": "relu", "d_mlp": 4 * width, "bias": False},
            d_model=3 * width + self.representation.dim + 1 + POWERS,
            n_layers=self.first_step + self.steps + 1,
            n_heads=3,
            n_ctx=2 * self.points,
        ).double()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
            self._write_ends(model)
            for layer, matrix in enumerate(self.representation.matrices()):
                self._write_representation(model.blocks[layer].mlp, matrix, first=layer == 0)
            if self.representation.depth == 0:
                model.embed.weight[self.rows("phi"), 1:] = torch.eye(width, dtype=torch.float64)
            self._write_copy(_Heads(model.blocks[self.first_step - 1].attn))
            for block in model.blocks[self.first_step : -1]:
                self._write_step(_Heads(block.attn))
            self._write_reading(_Heads(model.blocks[-1].attn))
        return model

    def _write_ends(self, model: nn.Module) -> None:
        model.embed.weight[self.rows("y"), 0] = 1
        model.embed.weight[self.rows("x"), 1:] = torch.eye(self.representation.dim, dtype=torch.float64)
        place = torch.arange(1, 2 * self.points + 1, dtype=torch.float64)
        model.pos_embed.weight[:, self.rows("powers")] = place[:, None] ** torch.arange(POWERS)
        model.unembed.weight[:, self.rows("y")] = 1

    def _write_representation(self, mlp: nn.Module, matrix: Tensor, first: bool) -> None:
        """phi ← ρ(B phi), from x in the first layer: units B·, −B·, and ·, −· to take the old content away."""
        eye = torch.eye(len(matrix), dtype=torch.float64)
        mlp.in_.weight[: 2 * len(eye), self.rows("x" if first else "phi")] = torch.cat([matrix, -matrix])
        mlp.in_.weight[2 * len(eye) :, self.rows("phi")] = torch.cat([eye, -eye])
        mlp.out.weight[self.rows("phi")] = torch.cat([eye, -self.representation.slope * eye, -eye, eye], dim=1)

    def _write_copy(self, heads: "_Heads") -> None:
        one, i, i2, i3, i4 = self._powers()
        heads.see(0, query=(2 * i2 - i3, 2 * i2 - 2 * i, -i), key=(one, i, i2))  # i·(1 − (i − 1 − j)²)
        heads.bring(0, self._select("phi"), self.rows("psi"))
        heads.see(1, query=(i2 - i + i3 - i4, 2 * i3 - 2 * i2, i - i2), key=(one, i, i2))  # i(i − 1)·(1 − (i − j)²)
        heads.bring(1, self._select("phi"), self.rows("phi"))

    def _write_step(self, heads: "_Heads") -> None:
        one, i, i2, *_ = self._powers()
        weights, copies, label = self._select("w"), self._select("psi"), self._select("y")
        for head, sign in ((0, 1.0), (1, -1.0)):
            heads.see(head, query=(sign * weights, -sign * one), key=(copies, label))  # ±(⟨w_i, Φ_j⟩ − y_j)
            heads.bring(head, -sign * self.rate * copies, self.rows("w"))
        heads.see(2, query=(one - i2, 2 * i, -one), key=(one, i, i2))  # 1 − (i − j)²
        heads.bring(2, -self.rate * self.decay * weights, self.rows("w"))

    def _write_reading(self, heads: "_Heads") -> None:
        one, i, i2, *_ = self._powers()
        for head, sign in ((0, 1.0), (1, -1.0)):
            gate = (-BOUND * i2, 2 * BOUND * i, -BOUND * one)  # −M(i − j)²
            heads.see(head, query=(sign * self._select("w"), *gate), key=(self._select("phi"), one, i, i2))
            heads.bring(head, sign * one, self.rows("y"))

    def _select(self, register: str) -> Float[Tensor, "part row"]:
        size = self.rows("powers").stop
        return torch.eye(size, dtype=torch.float64)[self.rows(register)]

    def _powers(self) -> tuple[Float[Tensor, "1 row"], ...]:
        """The functionals that read 1, i, i², i³, i⁴ out of a token."""
        return self._select("powers").split(1)

    @torch.no_grad()
    def iterates(
        self, model: nn.Module, xs: Float[Tensor, "batch points dim"], ys: Float[Tensor, "batch points"]
    ) -> Float[Tensor, "step batch points width"]:
        """w at every x-token after 0, 1, …, T steps, as the model's stream holds it."""
        layers = range(self.first_step - 1, self.first_step + self.steps)
        names = [f"blocks.{layer}.hook_resid_post" for layer in layers]
        _, cache = model.run_with_cache(xs, ys, names_filter=names)
        return torch.stack([cache[name][:, ::2, self.rows("w")] for name in names])


class _Heads:
    """Writes the heads of one attention layer by what they read; rows of every map are over the stream."""

    def __init__(self, attn: nn.Module):
        self.attn, self.d_head = attn, attn.d_head

    def see(self, head: int, query: tuple[Tensor, ...], key: tuple[Tensor, ...]) -> None:
        """The score of the head is the inner product of the maps' values, in their order."""
        for linear, maps in ((self.attn.q, query), (self.attn.k, key)):
            read = torch.cat(maps)
            linear.weight[head * self.d_head : head * self.d_head + len(read)] = read

    def bring(self, head: int, value: Float[Tensor, "part row"], to: slice) -> None:
        """The head adds the values of this map to a register."""
        start = head * self.d_head
        self.attn.v.weight[start : start + len(value)] = value
        self.attn.o.weight[to, start : start + len(value)] = torch.eye(len(value), dtype=torch.float64)


def direct_steps(
    features: Float[Tensor, "batch points width"],
    ys: Float[Tensor, "batch points"],
    steps: int,
    rate: float,
    decay: float,
) -> Float[Tensor, "step batch points width"]:
    """The weights that the layers stand for, computed from the formula: of every prefix, after 0, 1, …, T steps."""
    points = ys.shape[1]
    place = 2 * torch.arange(points, dtype=features.dtype) + 1  # of the x-token behind the pairs of a prefix
    before = torch.ones(points, points, dtype=features.dtype).tril(-1)
    w = torch.zeros_like(features)
    found = [w]
    for _ in range(steps):
        residual = (w @ features.mT - ys[:, None]) * before  # [batch prefix pair]
        w = w - rate / place[:, None] * (residual @ features + decay * w)
        found.append(w)
    return torch.stack(found)
