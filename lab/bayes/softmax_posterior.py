"""The exact answer to softmax regression in context (Li et al. 2023, slug `icl_softmax_regression`), and its shortcuts.

    b_j = exp(a_jᵀx)/α,   x ~ N(0, τ²I),   a ~ N(0, (scale²/d)I),   α the sum of exp(aᵀx) over all points

Two facts make most of it exact. The log ratios log(b_j/b_1) = (a_j − a_1)ᵀx are linear in x, so that d + 1 pairs say
what x is, and one of them then what α is: b_i = b_1 exp((a_i − a_1)ᵀx). And the shares add up to one, so that the last
is 1 − Σ b_j, whatever the inputs. Before that x is Gaussian on the subspace that the ratios leave open, weighted by how
likely the later points are to make up what is left of α; the sum over it is Monte Carlo.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from microtome.lab.bayes.blocks import over_prompts
from microtome.lab.bayes.linear import check_law
from microtome.lab.bayes.protocol import checked
from microtome.lab.bayes.sampling import SampledPrediction


@dataclass(frozen=True)
class SoftmaxPosterior:
    """The posterior predictive of `SoftmaxRegression`.

    An answer depends on how many points the prompt has, as the law does; on their later inputs and labels it does not.

    Attributes:
        prior_std: τ > 0, standard deviation of a weight.
        scale: of √d·a, above 0.
        draws: of Monte Carlo at the entries with 0 to d pairs before, at least 2; the prediction says its error, by
            default mostly 2 to 9% of the spread at d = 2 with 17 points. They come from one fixed seed and are the same
            for all prompts.

    Raises:
        ValueError: if an attribute is out of range.
    """

    prior_std: float = 1.0
    scale: float = 1.0
    draws: int = 4096

    def __post_init__(self):
        check_law(0.0, self.prior_std)
        if not 0 < self.scale < math.inf:
            raise ValueError(f"scale must be finite and above 0, not {self.scale}.")
        if self.draws < 2:
            raise ValueError(f"draws must be at least 2, not {self.draws}.")

    @property
    def name(self) -> str:
        return "bayes, softmax regression"

    def predict(self, xs: Float[Tensor, "batch points dim"], ys: Float[Tensor, "batch points"]) -> SampledPrediction:
        """See `Predictor.predict`. Variance and standard error are 0 where the answer is exact; the standard error is
        infinite where no draw fits the pairs, and the mean is then what is left of the whole, shared evenly.

        Raises:
            ValueError: also if a label is not above 0: its logarithm is asked for.
        """
        inputs, labels = checked(xs, ys)
        if not (labels > 0).all():
            raise ValueError("ys must be above 0, as all shares exp(aᵀx)/α are.")
        entries = inputs.shape[1] * self.draws
        mean, variance, error = over_prompts(self._moments, inputs, labels, entries)
        return SampledPrediction(*(each.to(xs.dtype) for each in (mean, variance, error)))

    def _moments(self, xs: Tensor, ys: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean, variance and standard error of the mean, each [batch points]."""
        points, dim = xs.shape[1:]
        columns = []
        for i in range(points):
            if i == points - 1:
                columns.append(_certain(1 - ys[:, :i].sum(1)))
            elif i > dim:
                columns.append(_certain(ys[:, 0] * _log_ratio(xs, ys, i).exp()))
            else:
                columns.append(self._sampled(xs, ys, i))
        return tuple(torch.stack(column, dim=1) for column in zip(*columns, strict=True))

    def _sampled(self, xs: Tensor, ys: Tensor, i: int) -> tuple[Tensor, Tensor, Tensor]:
        points, dim = xs.shape[1:]
        weights, later = _standard(self.draws, dim, points - 1 - i)
        x = self.prior_std * weights.to(xs).expand(len(xs), -1, -1)  # batch draw dim
        if i > 1:
            differences, inverse = _differences(xs, i)
            known = (inverse @ _log_ratios(ys, i)[..., None]).mT
            x = known + x - x @ (inverse @ differences).mT
        spread = self.scale / math.sqrt(dim) * x.norm(dim=-1)  # of aᵀx over a
        of_query = (x * xs[:, None, i]).sum(-1)
        of_later = spread[..., None] * later.to(xs)  # batch draw later
        if i == 0:
            exponents = torch.cat([of_query[..., None], of_later], dim=-1)
            return _weighted(exponents.softmax(-1)[..., 0], torch.zeros_like(of_query), ys.new_ones(len(ys)))
        of_first = (x * xs[:, None, 0]).sum(-1)
        ratio = (of_query - of_first).exp()
        # All in units of exp(a₁ᵀx): α less the pairs, the query and all later points but one is what that one must be.
        rest = (1 - ys[:, :i].sum(1)) / ys[:, 0]
        needed = rest[:, None] - ratio - (of_later[..., 1:] - of_first[..., None]).exp().sum(-1)
        log_needed = needed.clamp(min=torch.finfo(xs.dtype).tiny).log() + of_first
        log_weight = -((log_needed / spread) ** 2) / 2 - spread.log() - log_needed + of_first
        log_weight = log_weight.masked_fill(needed <= 0, -torch.inf)
        left = (1 - ys[:, :i].sum(1)) / (points - i)
        return _weighted(ys[:, :1] * ratio, log_weight, left)


def _certain(mean: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return mean, torch.zeros_like(mean), torch.zeros_like(mean)


def _weighted(values: Tensor, log_weight: Tensor, otherwise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, variance and standard error under weights that need not add up to one, each [batch]."""
    top = log_weight.amax(-1, keepdim=True)
    none = top.squeeze(-1) == -torch.inf
    weight = (log_weight - top.nan_to_num(neginf=0.0)).exp()
    weight = weight / weight.sum(-1, keepdim=True).clamp(min=torch.finfo(weight.dtype).tiny)
    mean = torch.where(none, otherwise, (weight * values).sum(-1))
    off = values - mean[:, None]
    variance = torch.where(none, mean * (1 - mean), (weight * off.square()).sum(-1))
    error = (weight * off).square().sum(-1).sqrt().masked_fill(none, torch.inf)
    return mean, variance, error


def _log_ratios(ys: Tensor, i: int) -> Float[Tensor, "batch pair"]:
    """log(b_j/b_1) for the pairs 2 … i."""
    return (ys[:, 1:i] / ys[:, :1]).log()


def _differences(xs: Tensor, i: int) -> tuple[Tensor, Tensor]:
    """Rows a_j − a_1, and their pseudo-inverse."""
    differences = xs[:, 1:i] - xs[:, :1]
    return differences, torch.linalg.pinv(differences)


def _log_ratio(xs: Tensor, ys: Tensor, i: int) -> Float[Tensor, " batch"]:
    """(a_i − a_1)ᵀx with x from the pairs before i by least squares."""
    _, inverse = _differences(xs, i)
    x = inverse @ _log_ratios(ys, i)[..., None]
    return ((xs[:, None, i] - xs[:, :1]) @ x)[:, 0, 0]


@lru_cache(maxsize=16)
def _standard(draws: int, dim: int, later: int) -> tuple[Float[Tensor, "draw dim"], Float[Tensor, "draw later"]]:
    """N(0, 1) numbers of a fixed seed: not to be written to."""
    generator = torch.Generator().manual_seed(0)
    sizes = (draws, dim), (draws, later)
    return tuple(torch.randn(size, generator=generator, dtype=torch.float64) for size in sizes)
