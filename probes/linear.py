"""Linear probes: what can be read off a stream of activations by a linear map, against a control.

A probe is fitted by least squares on the activations of one hook point at chosen positions of training prompts and
judged on others by its normalised error Σ‖ŷ − y‖²/Σ‖y − ȳ‖² and R² = 1 minus that. The control is the same probe
fitted to the targets of other examples (shuffled): what it reads off says how far the number of weights alone goes
(Alain & Bengio 2017, "Understanding intermediate layers using linear classifier probes"; Hewitt & Liang 2019,
"Designing and interpreting probes with control tasks").
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from sklearn.linear_model import Ridge
from torch import Tensor, nn

Activations = Float[Tensor, "sample width"]
Targets = Float[Tensor, "sample target"]
Everywhere = slice(None)


@dataclass(frozen=True)
class Samples:
    """What is read from, and what is to be read off.

    Attributes:
        activations: [sample width].
        targets: [sample target].

    Raises:
        ValueError: if the samples are not as many in both, fewer than two, or not finite.
    """

    activations: Activations
    targets: Targets

    def __post_init__(self):
        activations, targets = self.activations, self.targets
        if activations.ndim != 2 or targets.ndim != 2 or len(activations) != len(targets) or len(targets) < 2:
            raise ValueError(
                "activations must be [sample width] and targets [sample target] with the same samples, at least two, "
                f"not {list(activations.shape)} and {list(targets.shape)}."
            )
        for name, tensor in (("activations", activations), ("targets", targets)):
            if not torch.isfinite(tensor).all():
                raise ValueError(f"{name} hold an infinity or a NaN.")


@dataclass(frozen=True)
class LinearProbe:
    """ŷ = W a + b.

    Attributes:
        weight: W, [target width], float64.
        bias: b, [target], float64.
    """

    weight: Float[Tensor, "target width"]
    bias: Float[Tensor, " target"]

    def __call__(self, activations: Activations) -> Targets:
        return activations.to(self.weight) @ self.weight.mT + self.bias


@dataclass(frozen=True)
class ProbeResult:
    """How well a target is read off held-out examples.

    Attributes:
        error: normalised squared error; 0 is perfect, 1 what the targets' own mean scores.
        control: the same of a probe fitted to shuffled targets; about 1, and above it by what it overfits.
        probe: the map.
    """

    error: float
    control: float
    probe: LinearProbe

    @property
    def r2(self) -> float:
        """R² on held-out examples."""
        return 1 - self.error

    @property
    def control_r2(self) -> float:
        """R² of the control."""
        return 1 - self.control


@dataclass(frozen=True)
class Examples:
    """Inputs of a model and what is to be read off.

    Attributes:
        inputs: what the model is called with.
        targets: at each chosen position of each example, [batch pos target].
    """

    inputs: tuple[Tensor, ...]
    targets: Float[Tensor, "batch pos target"]


def fit_probe(samples: Samples, ridge: float = 1e-6) -> LinearProbe:
    """Least squares with an intercept, in float64.

    Args:
        samples: what is read from and to be read off.
        ridge: ≥ 0, penalty on the weights relative to the mean variance of an activation times the samples: enough by
            default to settle directions in which the activations do not vary, and nothing more.

    Raises:
        ValueError: if ridge is negative or not finite.
    """
    if not 0 <= ridge < math.inf:
        raise ValueError(f"ridge must be finite and at least 0, not {ridge}.")
    x, y = (t.detach().double().cpu() for t in (samples.activations, samples.targets))
    scale = (x - x.mean(0)).square().mean().item() * len(x)
    fitted = Ridge(alpha=ridge * scale, solver="svd").fit(x.numpy(), y.numpy())
    weight = torch.from_numpy(fitted.coef_).reshape(y.shape[1], -1)
    return LinearProbe(weight, torch.as_tensor(fitted.intercept_).reshape(-1))


def normalised_error(predicted: Targets, targets: Targets) -> float:
    """Σ‖ŷ − y‖²/Σ‖y − ȳ‖² over samples and coordinates; infinite if the targets do not vary and are missed."""
    predicted, targets = predicted.double().cpu(), targets.double().cpu()
    missed = (predicted - targets).square().sum()
    spread = (targets - targets.mean(0)).square().sum()
    return (missed / spread).item() if spread > 0 else (0.0 if missed == 0 else float("inf"))


def read_off(train: Samples, test: Samples, generator: torch.Generator, ridge: float = 1e-6) -> ProbeResult:
    """Fits a probe and its control on the first samples and judges both on the second.

    Args:
        train: samples to fit on.
        test: others, to judge by.
        generator: shuffles the targets of the control.
        ridge: as in `fit_probe`.

    Raises:
        ValueError: as `fit_probe`.
    """
    probe = fit_probe(train, ridge)
    order = torch.randperm(len(train.targets), generator=generator).to(train.targets.device)
    shuffled = fit_probe(Samples(train.activations, train.targets[order]), ridge)
    error, control = (normalised_error(p(test.activations.cpu()), test.targets) for p in (probe, shuffled))
    return ProbeResult(error, control, probe)


def stream_points(model: nn.Module) -> list[str]:
    """The names of the residual stream at every depth: before the first block, then after each."""
    return ["blocks.0.hook_resid_pre", *(f"blocks.{i}.hook_resid_post" for i in range(model.cfg.n_layers))]


def probe_points(
    model: nn.Module,
    names: Sequence[str],
    train: Examples,
    test: Examples,
    generator: torch.Generator,
    positions: slice = Everywhere,
) -> dict[str, ProbeResult]:
    """One probe a hook point, fitted on the positions of all training examples together.

    Args:
        model: a HookedRootModule; it is called without gradient and left in its mode.
        names: hook points whose tensors are [batch pos …]; see `stream_points`.
        train: examples to fit on.
        test: others, to judge by.
        generator: shuffles the targets of the controls.
        positions: which positions are read, e.g. `slice(1, None, 2)`.

    Returns:
        the results by name, in the order of `names`.

    Raises:
        KeyError: if the model has no such point.
        ValueError: if a point's tensor has not as many of these positions as there are targets.
    """
    at_train, at_test = (_samples(model, names, examples, positions) for examples in (train, test))
    return {name: read_off(at_train[name], at_test[name], generator) for name in names}


@torch.no_grad()
def read(model: nn.Module, names: Sequence[str], inputs: tuple[Tensor, ...]) -> dict[str, Tensor]:
    """What a model holds at hook points, by name.

    Raises:
        KeyError: if it has no such point.
    """
    missing = [name for name in names if name not in model.hook_dict]
    if missing:
        raise KeyError(f"the model has no hook point {missing[0]!r}; its hook_dict lists them.")
    _, cache = model.run_with_cache(*inputs, names_filter=list(names))
    return {name: cache[name] for name in names}


def _samples(model: nn.Module, names: Sequence[str], examples: Examples, positions: slice) -> dict[str, Samples]:
    found = {}
    for name, activations in read(model, names, examples.inputs).items():
        chosen = activations[:, positions]
        if chosen.ndim < 3 or chosen.shape[:2] != examples.targets.shape[:2]:
            raise ValueError(
                f"{name} has {list(chosen.shape)} at these positions where targets are {list(examples.targets.shape)}; "
                "a probe reads tensors [batch pos …], and needs a target at each position."
            )
        found[name] = Samples(chosen.flatten(2).flatten(0, 1), examples.targets.flatten(0, 1))
    return found
