"""What weights without training do: ridge on a representation, by gradient descent in context, at the stated rate.

Source: Guo et al., "How do transformers learn in-context beyond simple functions? A case study on learning with
representations" (2024), theorem 1.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from microtome.lab.tasks.protocol import Prompt
from microtome.lab.tasks.representations import Representation, RepresentationRegression
from microtome.theory.claim import Claim
from microtome.theory.constructions.icl_representations import BOUND, Descent, direct_steps
from microtome.theory.evidence import Check, Control, Evidence
from microtome.theory.statement import Statement

SLUG = "icl_representations"
_PAPER = "Guo et al., How do transformers learn in-context beyond simple functions? (2024)"
_DIM, _POINTS, _NOISE, _SEED = 4, 8, 1.0, 3  # λ = σ²/τ² = 1
_PROMPTS = {"quick": 50, "full": 200}
_TOLERANCES = {"quick": (1e-1, 1e-2), "full": (1e-1, 1e-2, 1e-3, 1e-4)}

STEP = Statement(
    name="a layer is a ridge gradient step",
    text="Transformer weights with normalised ReLU attention, nothing trained, compute Φ*(x), copy it behind each x, "
    "carry out one step of gradient descent on in-context ridge a layer, and read ⟨w, Φ*(x)⟩.",
    hypotheses=(
        "d = D = 4, L ∈ {0, 1, 2, 3}, 8 points, 10 steps",
        f"float64, the reading below M = {BOUND:g}",
    ),
    source=f"{_PAPER}, theorem 1",
    slug=SLUG,
)
RATE = Statement(
    name="κ log(1/ε) layers reach ridge on Φ*",
    text="After t layers w is within (1 − 1/κ)ᵗ‖ŵ‖ of the ridge solution ŵ at every prefix of every prompt, so that "
    "κ log(1/ε) layers bring it within ε‖ŵ‖, κ being the largest condition number with the step size taken in.",
    hypotheses=(
        "d = D = 4, L = 2, 8 points, λ = σ²/τ² = 1",
        "step η/i with η the largest for which no prompt's step exceeds one over its curvature",
    ),
    source=f"{_PAPER}, theorem 1",
    slug=SLUG,
)


def _task(depth: int) -> RepresentationRegression:
    return RepresentationRegression((Representation(_DIM, _DIM, depth, seed=_SEED),), noise_std=_NOISE)


def _prompts(task: RepresentationRegression, count: int, generator: torch.Generator) -> Prompt:
    return task.sample(count, _POINTS, generator, dtype=torch.float64)


def _step_checks(depths: tuple[int, ...], count: int, seed: int, single_head: bool) -> tuple[Check, ...]:
    """Largest deviations of the constructed models from the formula, over the depths L."""
    generator = torch.Generator().manual_seed(seed)
    steps, rate, worst = 10, 0.2, {"features": 0.0, "w": 0.0, "answer": 0.0, "reading": 0.0}
    for depth in depths:
        task = _task(depth)
        descent = Descent(task.representations[0], _POINTS, steps, rate, decay=_NOISE**2)
        model, prompt = descent.model(), _prompts(task, count, generator)
        if single_head:
            drop_negative_head(descent, model)
        features = prompt.latents["features"]
        direct = direct_steps(features, prompt.ys, steps, rate, descent.decay)
        answer = (direct[-1] * features).sum(-1)
        found = {
            "features": _copied(descent, model, prompt) - features,
            "w": descent.iterates(model, prompt.xs, prompt.ys) - direct,
            "answer": model.predict(prompt.xs, prompt.ys).mean - answer,
            "reading": answer * (2 * torch.arange(_POINTS) + 1),
        }
        worst = {name: max(worst[name], found[name].abs().max().item()) for name in worst}
    return (
        Check("largest error of Φ* as copied to the y-tokens", worst["features"], "<=", 1e-12),
        Check("largest error of w over 10 steps and all prefixes", worst["w"], "<=", 1e-10),
        Check("largest error of the prediction", worst["answer"], "<=", 1e-8),
        Check("largest |i⟨w, Φ*⟩| that was read", worst["reading"], "<", BOUND),
    )


@torch.no_grad()
def _copied(descent: Descent, model: nn.Module, prompt: Prompt) -> Float[Tensor, "batch points width"]:
    name = f"blocks.{descent.first_step}.hook_resid_pre"
    _, cache = model.run_with_cache(prompt.xs, prompt.ys, names_filter=name)
    return cache[name][:, 1::2, descent.rows("psi")]


@torch.no_grad()
def drop_negative_head(descent: Descent, model: nn.Module) -> None:
    """Leaves each step ReLU(u) in place of the residual u."""
    for block in model.blocks[descent.first_step : -1]:
        block.attn.v.weight[block.attn.d_head : 2 * block.attn.d_head] = 0


def _step(budget: str, seed: int) -> Evidence:
    return Evidence(
        kind="numeric",
        statement=STEP,
        checks=_step_checks((0, 1, 2, 3), _PROMPTS[budget], seed, single_head=False),
        control=Control("one ReLU head in place of two", _step_checks((2,), _PROMPTS[budget], seed, single_head=True)),
        seed=seed,
        budget=budget,
        notes=f"{_PROMPTS[budget]} prompts for each L; η = 0.2, λ = {_NOISE**2:g}.",
    )


@dataclass(frozen=True)
class Convergence:
    """How a constructed model nears ridge.

    Attributes:
        error: largest ‖w_t − ŵ‖/‖ŵ‖ over prompts and prefixes, by t.
        excess: largest ratio of that to the prefix's own (1 − 1/κ)ᵗ, over prompts, prefixes and t.
        kappa: the largest κ.
    """

    error: Float[Tensor, " step"]
    excess: float
    kappa: float

    def layers(self, tolerance: float) -> int:
        """κ log(1/ε), rounded up."""
        return math.ceil(self.kappa * math.log(1 / tolerance))


def _curvatures(features: Float[Tensor, "batch points width"], decay: float) -> Float[Tensor, "batch prefix width"]:
    """Eigenvalues of Σ_{j<n} Φ_jΦ_jᵀ + λI for every prefix of at least one pair, ascending."""
    outer = torch.einsum("bpf,bpg->bpfg", features, features).cumsum(1)[:, :-1]
    return torch.linalg.eigvalsh(outer) + decay


def converge(count: int, tolerance: float, seed: int, decay: float = _NOISE**2) -> Convergence:
    """Builds as many layers as κ log(1/ε) asks for, and follows w through them.

    `decay` is what the weights are built with; the ridge that they are held against has λ = 1 in any case.
    """
    task = _task(2)
    prompt = _prompts(task, count, torch.Generator().manual_seed(seed))
    features, place = prompt.latents["features"], 2 * torch.arange(1, _POINTS) + 1
    curvature = _curvatures(features, _NOISE**2)
    rate = (place / curvature[..., -1]).min().item()
    kappa = place / (rate * curvature[..., 0])  # [batch prefix]
    steps = math.ceil(kappa.max().item() * math.log(1 / tolerance))
    descent = Descent(task.representations[0], _POINTS, steps, rate, decay)
    w = descent.iterates(descent.model(), prompt.xs, prompt.ys)[:, :, 1:]  # the first prefix is empty
    ridge = task.bayes().posterior(prompt.xs, prompt.ys).weights[:, 1:]
    error = (w - ridge).norm(dim=-1) / ridge.norm(dim=-1)
    allowed = (1 - 1 / kappa) ** torch.arange(steps + 1)[:, None, None]
    visible = allowed > 1e-8  # below it rounding, not descent, decides
    return Convergence(error.amax((1, 2)), (error / allowed)[visible].max().item(), kappa.max().item())


def _rate(budget: str, seed: int) -> Evidence:
    tolerances = _TOLERANCES[budget]
    right, without = (converge(_PROMPTS[budget], tolerances[-1], seed, decay) for decay in (_NOISE**2, 0.0))
    return Evidence(
        kind="numeric",
        statement=RATE,
        checks=_rate_checks(right, tolerances),
        control=Control("weights without the decay, which descend to least squares", _rate_checks(without, tolerances)),
        seed=seed,
        budget=budget,
        notes=f"{_PROMPTS[budget]} prompts; κ = {right.kappa:.1f}, {len(right.error) - 1} steps.",
        figure=lambda: _draw(right, without),
    )


def _rate_checks(found: Convergence, tolerances: tuple[float, ...]) -> tuple[Check, ...]:
    reached = [
        Check(
            f"error after κ log(1/ε) layers over ε, ε = {tolerance:g}",
            found.error[found.layers(tolerance)].item() / tolerance,
            "<=",
            1.0,
        )
        for tolerance in tolerances
    ]
    return (Check("largest error over (1 − 1/κ)ᵗ, all prefixes and t", found.excess, "<=", 1 + 1e-6), *reached)


def _draw(right: Convergence, without: Convergence) -> object:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.4), layout="constrained")
    axes = figure.subplots()
    layers = torch.arange(len(right.error))
    axes.semilogy(layers, right.error, label="constructed layers")
    axes.semilogy(layers, (1 - 1 / right.kappa) ** layers, "--", color="grey", label="(1 − 1/κ)ᵗ, the bound")
    axes.semilogy(layers, without.error, ":", label="without the decay head")
    axes.set(xlabel="gradient layers t", ylabel="largest ‖w − ŵ‖/‖ŵ‖", title="Weights that descend to ridge on Φ*")
    axes.legend(fontsize="small")
    return figure


CLAIMS = (
    Claim(STEP, "numeric", _step),
    Claim(RATE, "numeric", _rate),
)
