"""The layer of "The Closeness of In-Context Learning and Weight Shifting for Softmax Regression" (Li et al. 2023, slug
`icl_softmax_regression`): one head of softmax self-attention that learns softmax regression in context.

    e_i ← e_i + P Σ_j softmax_j(e_iᵀ W_Q W_Kᵀ e_j) W_V e_j

on tokens e_j = (a_j, b_j) and the query (a, 0), d + 1 wide, with no mask, positions, norm, feed-forward or scale. The
prediction is the last coordinate of the query after the layer, negated (the sign of a residual, as in the protocol for
linear regression of von Oswald et al. 2023, "Transformers learn in-context by gradient descent").

The equation has no biases, and without them the layer has no constant to write. With them it can say 1 − Σ b_j, which
is the answer exactly, since the shares of a prompt add up to one.
"""

from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from microtome.lab.bayes.protocol import Prediction, checked, in_dtype
from microtome.lab.tasks.protocol import check_sizes
from microtome.lab.zoo.config import Init, Spec
from microtome.lab.zoo.depth import plain
from microtome.lab.zoo.feedforward import none as no_feedforward
from microtome.lab.zoo.mixers import softmax
from microtome.lab.zoo.norms import none as no_norm
from microtome.lab.zoo.parts import Shape
from microtome.lab.zoo.positions import none as no_position
from microtome.lab.zoo.stems.regression import check_prompt
from microtome.lab.zoo.transformer import SequenceModel


class SoftmaxRegressionModel(SequenceModel):
    """The layer above; itself a predictor. Its tokens are the stream: nothing is embedded."""

    name = "self-attention"
    n_out = 1

    def __init__(self, spec: Spec):
        super().__init__(spec)
        self.dim = spec.stem.dim
        self._finish()

    def forward(
        self,
        xs: Float[Tensor, "batch points dim"],
        ys: Float[Tensor, "batch points"],
        *,
        stop_at_layer: int | None = None,
    ) -> Float[Tensor, " batch"] | Float[Tensor, "batch pos d_model"]:
        """What it says of the last y, [batch]; that y is not read. With `stop_at_layer` the stream before that layer.

        Raises:
            ValueError: for shapes that do not fit, empty prompts, or numbers that are not finite.
        """
        check_prompt(xs, ys, self.dim, read=slice(-1))
        known = torch.cat([ys[:, :-1], torch.zeros_like(ys[:, -1:])], dim=1)
        tokens = torch.cat([xs, known[..., None]], dim=-1)
        x = self._through(tokens, read=slice(-1, None), stop_at_layer=stop_at_layer)
        return x if stop_at_layer is not None else -x[:, -1, -1]

    @torch.no_grad()
    def predict(self, xs: Float[Tensor, "batch points dim"], ys: Float[Tensor, "batch points"]) -> Prediction:
        """As a predictor: every point in turn is the query behind the pairs before it. No variance."""
        checked(xs, ys)
        dtype = self.cfg.dtype
        entries = [self(xs[:, : i + 1].to(dtype), ys[:, : i + 1].to(dtype)) for i in range(xs.shape[1])]
        return in_dtype(xs.dtype, torch.stack(entries, dim=1))


@dataclass(frozen=True)
class Stem:
    """`dim`: width of x."""

    dim: int

    def build(self, spec: Spec) -> SoftmaxRegressionModel:
        return SoftmaxRegressionModel(spec)


def layer(*, dim: int = 2, bias: bool = False, seed: int = 0) -> SoftmaxRegressionModel:
    """The layer, with weights from U(±1/√(d + 1)); the default generator is left as it was.

    Args:
        dim: d, width of x.
        bias: whether queries, keys, values and P have biases.
        seed: of the parameters.

    Raises:
        ValueError: if dim is below 1.
    """
    check_sizes(dim=dim)
    spec = Spec(
        shape=Shape(d_model=dim + 1, n_layers=1, n_heads=1, n_ctx=-1, causal=False),
        stem=Stem(dim),
        mixer=softmax.Part(scale=1.0, bias=bias),
        position=no_position.Part(),
        norm=no_norm.Part(),
        feedforward=no_feedforward.Part(),
        depth=plain.Part(),
        init=Init(),
        seed=seed,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return spec.stem.build(spec)


VARIANTS = {"layer": layer, "biased": partial(layer, bias=True)}
