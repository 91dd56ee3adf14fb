"""A probe that learns where to look: what can be read off activations at positions that the probe itself chooses.

    v̂ = FF(Σ_t α_t W h_t),   α = softmax of learned position scores,   FF linear or with one hidden layer

(Akyürek et al. 2023, "What learning algorithm is in-context learning? Investigations with linear models", slug
`icl_linear_algorithms`, section 5.) They ask whether a learner's stream holds XᵀY and the least-squares weights of each
prefix, and set beside it a control: the same probe on a model that was trained where nothing had to be computed, with
w = 1 in every prompt. Here every prefix has a probe of its own, all of them trained together.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from microtome.probes.linear import Examples, normalised_error, read

Activations = Float[Tensor, "batch pos width"]
Targets = Float[Tensor, "batch prefix target"]
Visible = Bool[Tensor, "prefix pos"]

SCORES_RATE = 10.0
"""The scores' rate over that of the weights: they go from 0 to about 5 before α is sharp, weights stay near 1."""


@dataclass(frozen=True)
class Fitting:
    """How probes are trained, by Adam on squared error, the rate falling to zero as a cosine.

    Attributes:
        hidden: width of FF's hidden layer (the paper's has 512), or None for a linear FF.
        steps: at least 1.
        lr: first learning rate, positive.
        batch: examples a step, at least 1.

    Raises:
        ValueError: if an option is out of range.
    """

    hidden: int | None = None
    steps: int = 500
    lr: float = 1e-2
    batch: int = 256

    def __post_init__(self):
        for name in ("hidden", "steps", "batch"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}.")
        if not 0 < self.lr < math.inf:
            raise ValueError(f"lr must be finite and above 0, not {self.lr}.")


class PositionProbe(nn.Module):
    """One probe a prefix. Activations and targets are standardised inside by what was seen in training.

    Args:
        activations: of training, for their shape, mean and spread.
        targets: of training, likewise.
        visible: which positions each prefix may look at, at least one each.
        hidden: width of FF's hidden layer, or None.
        generator: draws the first weights; the scores begin at zero, which looks everywhere alike.
    """

    def __init__(
        self,
        activations: Activations,
        targets: Targets,
        visible: Visible,
        hidden: int | None,
        generator: torch.Generator,
    ):
        super().__init__()
        prefixes, width, out = len(visible), activations.shape[-1], targets.shape[-1]
        self.register_buffer("visible", visible)
        self.register_buffer("centre", activations.mean((0, 1)))
        self.register_buffer("spread", _spread(activations, (0, 1)))
        self.register_buffer("target_centre", targets.mean(0))
        self.register_buffer("target_spread", _spread(targets - targets.mean(0), (0, 2))[:, None])

        def drawn(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(*shape, generator=generator) / shape[-2] ** 0.5)

        self.scores = nn.Parameter(torch.zeros(visible.shape))
        self.W = drawn(prefixes, width, width)
        sizes = [width, out] if hidden is None else [width, hidden, out]
        self.layers = nn.ParameterList(drawn(prefixes, a, b) for a, b in pairwise(sizes))
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(prefixes, 1, b)) for b in sizes[1:])

    @property
    def attention(self) -> Float[Tensor, "prefix pos"]:
        """α of every prefix; zero at positions that it may not see."""
        return self.scores.masked_fill(~self.visible, -torch.inf).softmax(-1)

    def forward(self, activations: Activations) -> Targets:
        return self.standardised(activations) * self.target_spread + self.target_centre

    def standardised(self, activations: Activations) -> Targets:
        """The answer before it is given the targets' mean and spread."""
        h = (activations - self.centre) / self.spread
        x = torch.einsum("kt,btw->kbw", self.attention, h) @ self.W  # prefix batch width
        for at, (layer, bias) in enumerate(zip(self.layers, self.biases, strict=True)):
            x = (x if at == 0 else x.relu()) @ layer + bias
        return x.transpose(0, 1)


@dataclass(frozen=True)
class PositionResult:
    """How well targets are read off held-out examples.

    Attributes:
        mse: mean squared error of each prefix, over examples and coordinates.
        r2: 1 − Σ‖v̂ − v‖²/Σ‖v − v̄‖² of each prefix.
        attention: α, where each prefix looks.
    """

    mse: Float[Tensor, " prefix"]
    r2: Float[Tensor, " prefix"]
    attention: Float[Tensor, "prefix pos"]


@dataclass(frozen=True)
class Beside:
    """The same probe on a model and on its control."""

    model: PositionResult
    control: PositionResult


def pairs_visible(points: int) -> Visible:
    """For interleaved prompts x₁ y₁ x₂ y₂ …: row k − 1 sees the first k pairs and x after them, k = 1 … points − 1.

    Raises:
        ValueError: if there are fewer than two points, so that no pair comes before an x.
    """
    if points < 2:
        raise ValueError(f"points must be at least 2, so that a pair comes before an x, not {points}.")
    pairs = torch.arange(1, points)[:, None]
    return torch.arange(2 * points) <= 2 * pairs


def fit_position_probe(
    activations: Activations, targets: Targets, visible: Visible, generator: torch.Generator, fitting: Fitting
) -> PositionProbe:
    """Trains one probe a prefix on the same activations.

    Args:
        activations: h, [batch pos width].
        targets: v of each prefix, [batch prefix target].
        visible: which positions each prefix may look at.
        generator: draws first weights and batches.
        fitting: the options of training.

    Raises:
        ValueError: if the shapes do not fit, there are fewer than two examples, a prefix sees nothing, or a number is
            not finite.
    """
    _check(activations, targets, visible)
    h, v = activations.detach().float(), targets.detach().float()
    probe = PositionProbe(h, v, visible, fitting.hidden, generator)
    wanted = (v - probe.target_centre) / probe.target_spread
    optimizer = torch.optim.Adam(
        [
            {"params": [probe.scores], "lr": SCORES_RATE * fitting.lr},
            {"params": [probe.W, *probe.layers, *probe.biases]},
        ],
        lr=fitting.lr,
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, fitting.steps)
    with torch.enable_grad():
        for _ in range(fitting.steps):
            chosen = torch.randint(len(h), (min(fitting.batch, len(h)),), generator=generator)
            loss = (probe.standardised(h[chosen]) - wanted[chosen]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return probe.requires_grad_(False)


def judge(probe: PositionProbe, activations: Activations, targets: Targets) -> PositionResult:
    """How well a trained probe does on examples, which should be others than those it was trained on.

    Raises:
        ValueError: as `fit_position_probe`.
    """
    _check(activations, targets, probe.visible)
    said = probe(activations.detach().float())
    errors = [normalised_error(a, b) for a, b in zip(said.unbind(1), targets.unbind(1), strict=True)]
    return PositionResult((said - targets).square().mean((0, 2)), 1 - torch.tensor(errors), probe.attention)


def probe_beside_control(
    model: nn.Module,
    control: nn.Module,
    names: Sequence[str],
    train: Examples,
    test: Examples,
    visible: Visible,
    seed: int = 0,
    fitting: Fitting | None = None,
) -> dict[str, Beside]:
    """Probes of a model's points and of the same points of its control, on the same examples.

    Args:
        model: a HookedRootModule; it is called without gradient and left in its mode.
        control: another with the same points, e.g. one trained where nothing had to be computed.
        names: hook points whose tensors are [batch pos width].
        train: inputs, and targets [batch prefix target], to train probes on.
        test: others, to judge by.
        visible: which positions each prefix may look at.
        seed: of every probe, so that the two sides begin alike.
        fitting: the options of training; by default those of `Fitting`.

    Returns:
        the results by name, in the order of `names`.

    Raises:
        KeyError: if either has no such point.
        ValueError: as `fit_position_probe`.
    """
    options = fitting or Fitting()
    sides = []
    for each in (model, control):
        at_train, at_test = (read(each, names, examples.inputs) for examples in (train, test))
        results = {}
        for name in names:
            generator = torch.Generator().manual_seed(seed)
            probe = fit_position_probe(at_train[name], train.targets, visible, generator, options)
            results[name] = judge(probe, at_test[name], test.targets)
        sides.append(results)
    return {name: Beside(sides[0][name], sides[1][name]) for name in names}


def _check(activations: Tensor, targets: Tensor, visible: Tensor) -> None:
    if activations.ndim != 3 or targets.ndim != 3 or len(activations) != len(targets) or len(targets) < 2:
        raise ValueError(
            "activations must be [batch pos width] and targets [batch prefix target] of the same examples, at least "
            f"two, not {list(activations.shape)} and {list(targets.shape)}."
        )
    if visible.shape != (targets.shape[1], activations.shape[1]):
        raise ValueError(
            f"visible must be [prefix pos] = {[targets.shape[1], activations.shape[1]]}, not {list(visible.shape)}."
        )
    if not visible.any(-1).all():
        raise ValueError(f"prefix {int((~visible.any(-1)).nonzero()[0])} sees no position; each must see at least one.")
    for name, tensor in (("activations", activations), ("targets", targets)):
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{name} hold an infinity or a NaN.")


def _spread(values: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Standard deviations, 1 where there is none."""
    std = values.std(axes, correction=0)
    return torch.where(std > 0, std, torch.ones_like(std))
