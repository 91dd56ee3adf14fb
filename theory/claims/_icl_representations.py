"""What the claim of `icl_representations` measures: risks, probes and pastings of a small trained learner.

Guo et al., "How do transformers learn in-context beyond simple functions? A case study on learning with
representations" (2024). The network is drawn with seed 3 because labels there have about the variance for which the
thresholds were set (E‖Φ*‖² = 0.46; the first dozen seeds give 0.19 to 1.67).
"""

import math
from dataclasses import dataclass
from functools import partial

from jaxtyping import Float
from torch import Tensor, nn

from microtome.lab import zoo
from microtome.lab.bayes import BayesLinear, Predictor, squared_error
from microtome.lab.tasks import LinearRegression, Prompt, Task
from microtome.lab.tasks.representations import Representation, RepresentationRegression, second_moment
from microtome.lab.train import InContextRegression, TrainConfig
from microtome.probes.linear import Examples, ProbeResult, probe_points, stream_points
from microtome.probes.pasting import LinearEmbedding, Pasted, TransformerEmbedding
from microtome.theory.claims._fitting import fit, fresh

SLUG = "icl_representations"
DIM, POINTS, NOISE, LATE = 4, 12, 0.1, 6
PHI = Representation(DIM, DIM, depth=2, seed=3)
TASK = RepresentationRegression((PHI,), noise_std=NOISE)
FIRST_PASTED = PHI.depth
"""Past the blocks that make Φ* and copy it: there probes read it best."""
LEARNER_RATE, EMBEDDING_RATE = 3e-3, 3e-2
"""Of Adam: of whatever has a transformer to train, and of a linear map alone."""
TOKENS = {"x": slice(0, None, 2), "y": slice(1, None, 2)}
TARGETS = {"x": PHI.upto(0), "Φ_1(x)": PHI.upto(1), "Φ*(x)": PHI}

Curves = dict[str, Tensor]
"""Risk after k = 0, 1, … pairs, by predictor."""
Decoded = dict[tuple[str, str], list[ProbeResult]]
"""What probes read at each depth, by kind of token and target."""


def learner(seed: int) -> nn.Module:
    """The paper's learner at laboratory size, untrained."""
    return zoo.build(SLUG, "small", dim=DIM, points=POINTS, seed=seed)


def train_on(task: Task, model: nn.Module, steps: int, lr: float, seed: int) -> None:
    """Trains in place on 64 fresh prompts a step."""
    config = TrainConfig(
        steps=steps, lr=lr, warmup=0.3, schedule="cosine", seed=seed, log_every=100, checkpoint_every=steps
    )
    fit(model, InContextRegression(task, batch=64, points=POINTS), config)


def risk_by_point(predictor: Predictor, xs: Tensor, prompt: Prompt) -> Float[Tensor, " points"]:
    """Mean squared error after k = 0, 1, … pairs, label noise included."""
    return squared_error(predictor.predict(xs, prompt.ys), prompt.ys).mean(0)


def risks(model: nn.Module, task: RepresentationRegression, seed: int) -> Curves:
    """Of the learner, of ridge on the features that made the labels, and of ridge on x, on 2,000 fresh prompts."""
    prompt = task.sample(2000, POINTS, fresh(seed))
    ridge = BayesLinear(task.noise_std, task.prior_std)
    return {
        "learner": risk_by_point(model, prompt.xs, prompt),
        "ridge on Φ*": risk_by_point(ridge, prompt.latents["features"], prompt),
        "ridge on x": risk_by_point(ridge, prompt.xs, prompt),
    }


def decoded(model: nn.Module, seed: int) -> Decoded:
    """What probes read at each depth, by kind of token and target."""
    generator = fresh(seed)
    prompts = [TASK.sample(count, POINTS, generator) for count in (400, 200)]
    found: Decoded = {}
    for tokens, positions in TOKENS.items():
        for target, function in TARGETS.items():
            train, test = (Examples((p.xs, p.ys), function(p.xs)) for p in prompts)
            read = probe_points(model, stream_points(model), train, test, generator, positions)
            found[tokens, target] = list(read.values())
    return found


def linear_task() -> LinearRegression:
    """Linear functions whose labels have the variance of the first task's, which the frozen readout knows."""
    return LinearRegression(DIM, noise_std=NOISE, prior_std=math.sqrt(second_moment(PHI) / DIM))


def pasted_risk(model: nn.Module, embedding: nn.Module, steps: int, seed: int, lr: float = EMBEDDING_RATE) -> float:
    """Risk at the last point after so many steps of training the embedding under the model's upper layers."""
    pasted, task = Pasted(model, FIRST_PASTED, embedding), linear_task()
    if steps > 0:
        train_on(task, pasted, steps, lr, seed)
    prompt = task.sample(2000, POINTS, fresh(seed))
    return risk_by_point(pasted.eval(), prompt.xs, prompt)[-1].item()


@dataclass(frozen=True)
class Pastings:
    """Risks at the last point of linear functions; all embeddings are trained but `untrained`, a copying one."""

    copying: float
    plain: float
    untrained: float
    transformer: float
    random_upper: float
    ridge: float
    zero: float


def paste_all(model: nn.Module, steps: int, seed: int) -> Pastings:
    """Embeddings under the trained upper layers, a copying one under random ones, and the two ends of the scale."""
    linear = partial(LinearEmbedding, DIM, model.cfg.d_model, POINTS)
    one_layer = TransformerEmbedding(zoo.build(SLUG, "small", n_layers=1, dim=DIM, points=POINTS, seed=seed))
    prompt = linear_task().sample(2000, POINTS, fresh(seed))
    return Pastings(
        copying=pasted_risk(model, linear(copying=True, seed=seed), steps, seed),
        plain=pasted_risk(model, linear(copying=False, seed=seed), steps, seed),
        untrained=pasted_risk(model, linear(copying=True, seed=seed), 0, seed),
        transformer=pasted_risk(model, one_layer, steps, seed, lr=LEARNER_RATE),
        random_upper=pasted_risk(learner(seed + 1), linear(copying=True, seed=seed), steps, seed),
        ridge=risk_by_point(linear_task().bayes(), prompt.xs, prompt)[-1].item(),
        zero=prompt.ys[:, -1].square().mean().item(),
    )


def draw(curves: Curves, found: Decoded) -> object:
    """Risk by the number of pairs, and R² by depth."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for (name, curve), style in zip(curves.items(), ("o-", "k--", "s:"), strict=True):
        left.semilogy(curve, style, label=name, markersize=4)
    left.set(xlabel="pairs before the query, k", ylabel="mean squared error", title="Risk")
    left.legend(fontsize="small")
    for (tokens, target), row in found.items():
        style = "o-" if tokens == "x" else "s--"
        right.plot([p.r2 for p in row], style, label=f"{target} at {tokens}-tokens", markersize=4)
    right.set(xlabel="blocks passed", ylabel="held-out R²", title="What linear probes read", ylim=(-0.1, 1.05))
    right.set_xticks(range(len(row)))
    right.legend(fontsize="x-small", ncols=2, loc="lower right")
    return figure
