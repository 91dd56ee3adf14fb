"""A trained PowerSoftmax model as a polynomial: additions and multiplications only, so that it can run under encryption
("Power-Softmax: Towards Secure LLM Inference over Encrypted Data", 2024, slug `power_softmax`).

    intervals = record(model, tokens)             # what 1/x, 1/√x and GELU met
    polynomial = polynomialise(model, intervals)
    operations(polynomial, tokens)                # what touches an encrypted value: no exp, division, max, comparison

Attention takes the mean form with the sum's reciprocal by Goldschmidt's iteration; LayerNorm's 1/√x and the
feed-forward's GELU become Chebyshev interpolants on the recorded intervals. Lengths, positions and masks are public.
Outside of its interval a polynomial may be anything: record widely, and train with `lab.train.range_minimising` first.
"""

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int
from numpy.polynomial.chebyshev import Chebyshev
from torch import Tensor, nn

from microtome.kernels.power_softmax import goldschmidt, steps_for
from microtome.kernels.power_softmax.equation import power
from microtome.lab.zoo.feedforward._mlp import MLP
from microtome.lab.zoo.mixers.power_softmax import Part, PowerSoftmaxMixer
from microtome.lab.zoo.norms.layernorm import LayerNorm
from microtome.lab.zoo.parts import Context, Shape
from microtome.lab.zoo.transformer import SequenceModel

LARGEST_DEGREE = 255
GRID = 4001
"""Points of an interval at which an interpolant's error is looked at."""


@dataclass(frozen=True)
class Interval:
    """What an operation met, low ≤ high."""

    low: float
    high: float

    def joined(self, x: Tensor) -> "Interval":
        """With the values of a tensor in it."""
        return Interval(min(self.low, x.min().item()), max(self.high, x.max().item()))


def non_polynomial(model: SequenceModel) -> Iterator[tuple[str, Callable[[Tensor], Tensor]]]:
    """The hook point of every non-polynomial operation, and how its input is read off what the point carries.

    Denominators of attention are Σ x^p/L, LayerNorm's inputs variance + eps. Raises ValueError for a model with another
    mixer, norm or feed-forward.
    """
    _check(model)
    for i, block in enumerate(model.blocks):
        yield f"blocks.{i}.attn.hook_attn_scores", partial(denominators, p=block.attn.weighting.p)
        yield f"blocks.{i}.ln1.hook_scale", torch.square
        if block.mlp is not None:
            yield f"blocks.{i}.ln2.hook_scale", torch.square
            yield f"blocks.{i}.mlp.hook_pre", lambda x: x
    if isinstance(model.ln_final, LayerNorm):
        yield "ln_final.hook_scale", torch.square


def denominators(scores: Float[Tensor, "batch head query key"], p: int) -> Float[Tensor, "batch head query"]:
    """The mean of x^p over the keys that each row may see (−∞ where it may not)."""
    seen = scores > -torch.inf
    total = power(scores.masked_fill(~seen, 0.0), p).sum(-1)
    return total / seen.sum(-1).clamp(min=1)


@torch.no_grad()
def record(model: SequenceModel, tokens: Int[Tensor, "batch pos"]) -> dict[str, Interval]:
    """The interval of each non-polynomial operation's input over these sequences, by hook name."""
    found: dict[str, Interval] = {}

    def look(tensor: Tensor, hook: object, name: str, read: Callable[[Tensor], Tensor]) -> None:
        found[name] = found.get(name, Interval(math.inf, -math.inf)).joined(read(tensor))

    hooks = [(name, partial(look, name=name, read=read)) for name, read in non_polynomial(model)]
    model.run_with_hooks(tokens, fwd_hooks=hooks)
    return found


def divided(
    model: SequenceModel, intervals: Mapping[str, Interval], tolerance: float = 1e-3, short: int = 0
) -> SequenceModel:
    """A copy whose attention divides by Goldschmidt's iteration, in the mean form at ε = 0; the rest stays as it is.

    Args:
        model: of PowerSoftmax mixers, LayerNorms and plain feed-forwards, reading whole sequences.
        intervals: what `record` gave.
        tolerance: relative error of the reciprocals on their intervals.
        short: steps fewer than the tolerance needs: what breaks when the formula is not kept.

    Raises:
        ValueError: if a denominator's interval holds zero.
    """
    _check(model)
    model = copy.deepcopy(model)
    for i, block in enumerate(model.blocks):
        met = intervals[f"blocks.{i}.attn.hook_attn_scores"]
        steps = max(0, steps_for(tolerance, met.low, met.high) - short)
        block.attn = PolynomialMixer.of(block.attn, model.spec.mixers[i], model.spec.shape, met.high, steps)
    model.setup()
    return model


def polynomialise(model: SequenceModel, intervals: Mapping[str, Interval], tolerance: float = 1e-3) -> SequenceModel:
    """A copy that adds and multiplies only: `divided`, with LayerNorm and the activation as polynomials too.

    `tolerance` is also the relative error of LayerNorm's root, and the error of the activation over its largest value,
    each on its interval. Raises ValueError as `divided`, and if an interpolant needed a degree above LARGEST_DEGREE.
    """
    model = divided(model, intervals, tolerance)
    for i, block in enumerate(model.blocks):
        for name in ("ln1",) if block.mlp is None else ("ln1", "ln2"):
            setattr(
                block, name, PolynomialNorm(getattr(block, name), intervals[f"blocks.{i}.{name}.hook_scale"], tolerance)
            )
        if block.mlp is not None:
            met = intervals[f"blocks.{i}.mlp.hook_pre"]
            block.mlp.act = interpolant(block.mlp.act, met, tolerance, relative=False)
    if isinstance(model.ln_final, LayerNorm):
        model.ln_final = PolynomialNorm(model.ln_final, intervals["ln_final.hook_scale"], tolerance)
    model.setup()
    return model


class PolynomialMixer(PowerSoftmaxMixer):
    """Attention in the mean form at ε = 0, its reciprocal by Goldschmidt's iteration on (0, 2·bound)."""

    bound: float
    steps: int

    @classmethod
    def of(cls, mixer: PowerSoftmaxMixer, options: Part, shape: Shape, bound: float, steps: int) -> "PolynomialMixer":
        """With the weights of a trained mixer."""
        with torch.random.fork_rng(devices=[]):
            made = cls(options, shape).to(mixer.o.weight)
        made.load_state_dict(mixer.state_dict())
        made.bound, made.steps = bound, steps
        return made

    def _scores(self, q: Tensor, k: Tensor, context: Context) -> Float[Tensor, "batch head query key"]:
        """The mask multiplies: 0 where a query may not look."""
        scores = q @ k.mT * self.scale
        if context.bias is not None:
            scores = scores + context.bias
        return scores * self._seen(context, q)

    def _pattern(self, scores: Tensor, context: Context) -> Float[Tensor, "batch head query key"]:
        share = 1 / self._seen(context, scores).sum(-1, keepdim=True)  # of public lengths
        y = power(scores, self.weighting.p)
        mean = y.sum(-1, keepdim=True) * share
        return y * (goldschmidt(mean, self.bound, self.steps) * share)

    def _fused(self, q: Tensor, k: Tensor, v: Tensor, context: Context) -> Tensor:
        return self._pattern(self._scores(q, k, context), context) @ v

    def _seen(self, context: Context, like: Tensor) -> Float[Tensor, "1 1 query key"]:
        """1 where a query may look: public, since it depends on lengths alone."""
        if context.mask is not None:
            raise ValueError("a polynomial model reads whole sequences, without a mask.")
        seen = torch.ones(context.n, context.n, dtype=like.dtype, device=like.device)
        return (seen.tril() if self.causal else seen)[None, None, context.queries(like.device)]


class Polynomial(nn.Module):
    """Σ_k c_k T_k on an interval, by Clenshaw's recurrence."""

    def __init__(self, series: Chebyshev):
        super().__init__()
        self.offset, self.factor = (float(each) for each in series.mapparms())
        self.coefficients = [float(c) for c in series.coef]

    def forward(self, x: Tensor) -> Tensor:
        t = x * self.factor + self.offset
        ahead, further = self.coefficients[-1], 0.0
        for c in self.coefficients[-2:0:-1]:
            ahead, further = 2 * t * ahead - further + c, ahead
        return t * ahead - further + self.coefficients[0]


class PolynomialNorm(nn.Module):
    """LayerNorm with a polynomial for 1/√x; `hook_normalized` is the one of the norm in whose place it stands."""

    def __init__(self, norm: LayerNorm, met: Interval, tolerance: float):
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps
        self.inverse_root = interpolant(torch.rsqrt, met, tolerance)
        self.hook_normalized = norm.hook_normalized

    def forward(self, x: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_model"]:
        share = 1 / x.shape[-1]
        centred = x - x.sum(-1, keepdim=True) * share
        variance = (centred * centred).sum(-1, keepdim=True) * share
        return self.hook_normalized(centred * self.inverse_root(variance + self.eps)) * self.weight + self.bias


def interpolant(
    function: Callable[[Tensor], Tensor], met: Interval, tolerance: float, relative: bool = True
) -> Polynomial:
    """The Chebyshev interpolant of least degree 2^k − 1 that keeps the tolerance on the interval.

    `relative` takes the error over the function's own value, else over its largest. Raises ValueError if no degree up
    to LARGEST_DEGREE does.
    """
    low, high = met.low, max(met.high, met.low + 1e-6)

    def values(x):
        return function(torch.as_tensor(x, dtype=torch.float64)).numpy()

    grid = torch.linspace(low, high, GRID, dtype=torch.float64)
    wanted = function(grid)
    size = wanted.abs() if relative else wanted.abs().max()
    degree = 1
    while degree <= LARGEST_DEGREE:
        series = Chebyshev.interpolate(values, degree, domain=[low, high])
        if ((torch.as_tensor(series(grid.numpy())) - wanted).abs() / size).max() <= tolerance:
            return Polynomial(series)
        degree = 2 * degree + 1
    raise ValueError(
        f"no polynomial of degree {LARGEST_DEGREE} keeps {tolerance} on [{low:.3g}, {high:.3g}]; "
        "train with the range minimised first."
    )


def operations(model: SequenceModel, tokens: Int[Tensor, "batch pos"]) -> set[str]:
    """The tensor operations that touch a value computed from the embeddings, the input that is encrypted.

    Read off the graph that `make_fx` traces on these tokens; what depends on lengths and positions alone is public.
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    with torch.no_grad():
        x, context = model.embed(tokens), model._context(tokens.shape[1], None, tokens.device)
        placed = model.pos_embed.embedding(context.n)
        x = x if placed is None else x + placed
        through = model.spec.depth.through
        graph = make_fx(lambda x: model.unembed(model.ln_final(through(model.blocks, x, context))))(x).graph
    secret, found = set(), set()
    for node in graph.nodes:
        if node.op == "placeholder" or (node.op == "call_function" and secret & set(node.all_input_nodes)):
            secret.add(node)
            if node.op == "call_function":
                found.add(str(node.target))
    return found


def _check(model: SequenceModel) -> None:
    for i, block in enumerate(model.blocks):
        if not isinstance(block.mixing, PowerSoftmaxMixer):
            raise ValueError(
                f"only PowerSoftmax becomes a polynomial here; layer {i} mixes by {type(block.mixing).__name__}."
            )
        if not isinstance(block.ln1, LayerNorm) or not (block.mlp is None or type(block.mlp) is MLP):
            raise ValueError(f"layer {i} must have LayerNorms and a plain feed-forward, such as GELU's.")
