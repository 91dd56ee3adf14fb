"""What a distribution transformer is held against, and what it is: exact posteriors, and maps of sets.

Source: Whittle et al., "Distribution Transformers: Fast Approximate Bayesian Inference With On-The-Fly Prior
Adaptation" (2025). Everything is measured in float64 but the network, which is in float32 as it is trained.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Normal

from microtome.lab.bayes.gaussian_mixture import GaussianMixture
from microtome.lab.bayes.linear_gaussian import posterior
from microtome.lab.bayes.mixture_tokens import tokenise
from microtome.lab.tasks.distributions import ConjugateMixtures, LinearGaussian, Problem
from microtome.lab.tasks.distributions.mixtures import UNIT
from microtome.lab.tasks.draw import Draw
from microtome.theory.claim import Claim
from microtome.theory.evidence import Check, Control, Evidence
from microtome.theory.statement import Statement

SLUG = "distribution_transformers"
_PAPER = "Whittle et al., Distribution Transformers (2025)"
_PROBLEMS = {"quick": 100, "full": 2000}

POSTERIOR = Statement(
    name="a mixture under a linear sensor stays a mixture",
    text="Updating each component as Kalman does, and weighing it by how well it foretold the observation, is Bayes' "
    "rule.",
    hypotheses=("K = 3, D = 1, z = x + N(0, 1)", "weights, means and precisions of the paper's law, precision ≥ 0.05"),
    source=f"{_PAPER}, section 5, closed-form experiment",
    slug=SLUG,
)
ENTROPY = Statement(
    name="data lower the entropy on average",
    text="The entropy of the posterior, averaged over observations, is below that of the prior by the information that "
    "observations carry; that of a single posterior need not be.",
    hypotheses=("the prior 0.9 N(0, 0.1²) + 0.1 N(3, 1)", "z = x + N(0, 1)"),
    source="Cover & Thomas, Elements of Information Theory, theorem 2.6.5",
    slug=SLUG,
)
SETS = Statement(
    name="components and data are sets",
    text="Permuting the components of the prior permutes those of the answer, and permuting the data changes nothing.",
    hypotheses=("random weights", "K = 5, D = 2, 7 data", "float32"),
    source=f"{_PAPER}, section 4",
    slug=SLUG,
)


def _against_bayes(prior: GaussianMixture, after: GaussianMixture, z: Tensor, grid: Tensor) -> float:
    """Largest |density − prior · likelihood / Z| on a grid, Z by the trapezoidal rule."""
    joint = prior.log_prob(grid[:, None, None]) + Normal(grid[:, None], 1.0).log_prob(z)
    wanted = joint.exp() / torch.trapezoid(joint.exp(), grid, dim=0)
    return (after.log_prob(grid[:, None, None]).exp() - wanted).abs().max().item()


def _posterior(budget: str, seed: int) -> Evidence:
    generator = torch.Generator().manual_seed(seed)
    task = LinearGaussian(ConjugateMixtures(3, floor=0.05), UNIT)
    problem = task.sample(_PROBLEMS[budget], generator, dtype=torch.float64)
    z, grid = problem.observations[0][:, 0, 0], torch.linspace(-30, 30, 6001, dtype=torch.float64)
    exact = task.posterior(problem)
    unweighed = GaussianMixture(problem.prior.log_weights, exact.means, exact.scale_trils)
    single = problem.prior.means[:, :1], problem.prior.covariances[:, :1]
    alone = GaussianMixture.of(torch.ones_like(single[0][..., 0]), *single)
    kalman = single[0] + single[1][..., 0] / (single[1][..., 0] + 1) * (z[:, None, None] - single[0])
    got = task.posterior(Problem(alone, problem.observations, problem.target))
    error = (got.means - kalman).abs().max().item()
    name = "largest error of the density"
    return Evidence(
        kind="numeric",
        statement=POSTERIOR,
        checks=(
            Check(name, _against_bayes(problem.prior, exact, z, grid), "<=", 1e-6),
            Check("largest error of the mean of one component, Kalman", error, "<=", 1e-10),
        ),
        control=Control(
            "weights left as the prior's", (Check(name, _against_bayes(problem.prior, unweighed, z, grid), "<=", 1e-6),)
        ),
        seed=seed,
        budget=budget,
        notes=f"{_PROBLEMS[budget]} problems; densities at 6,001 points in [−30, 30].",
    )


def _entropies(
    prior: GaussianMixture, z: Float[Tensor, " reading"], grid: Float[Tensor, " point"]
) -> tuple[float, Float[Tensor, " reading"], Float[Tensor, " reading"]]:
    """H(x), H(x | z) for each z and p(z), by the trapezoidal rule; in nats."""

    def entropy(log_density: Tensor) -> Tensor:
        return -torch.trapezoid(log_density.exp() * log_density, grid, dim=0)

    before = prior.log_prob(grid[:, None])
    after = posterior(_repeated(prior, len(z)), UNIT, (z[:, None, None],)).log_prob(grid[:, None, None])
    evidence = torch.trapezoid((before[:, None] + Normal(grid[:, None], 1.0).log_prob(z)).exp(), grid, dim=0)
    return entropy(before).item(), entropy(after), evidence


def _entropy(budget: str, seed: int) -> Evidence:
    weights, means = torch.tensor([0.9, 0.1], dtype=torch.float64), torch.tensor([[0.0], [3.0]], dtype=torch.float64)
    prior = GaussianMixture.of(weights, means, torch.tensor([[[0.01]], [[1.0]]], dtype=torch.float64))
    points = {"quick": 2001, "full": 6001}[budget]
    grid = torch.linspace(-8, 12, points, dtype=torch.float64)
    z = torch.linspace(-12, 15, 400, dtype=torch.float64)
    before, after, evidence = _entropies(prior, z, grid)
    average = torch.trapezoid(evidence * after, z).item()
    # The same information seen from the other side: H(z) − H(z | x).
    carried = -torch.trapezoid(evidence * evidence.log(), z).item() - (1 + math.log(2 * math.pi)) / 2
    name = "entropy after less entropy before, nats"
    return Evidence(
        kind="numeric",
        statement=ENTROPY,
        checks=(
            Check(name, average - before, "<", 0.0),
            Check("difference to the information that observations carry", abs(before - average - carried), "<=", 1e-6),
        ),
        control=Control(
            "the worst observation in place of the average", (Check(name, (after - before).max().item(), "<", 0.0),)
        ),
        budget=budget,
        notes=f"H(x) = {before:.4f}, E H(x|z) = {average:.4f}; the worst z is {z[after.argmax()]:.2f}.",
    )


def _sets(budget: str, seed: int) -> Evidence:
    from microtome.lab import zoo

    generator = torch.Generator().manual_seed(seed)
    model = zoo.build(SLUG, dim=2, observations=(3,), d_model=32, n_layers=3, d_mlp=64, seed=seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    count = {"quick": 20, "full": 500}[budget]
    prior = tokenise(ConjugateMixtures(5, 2, floor=0.05).sample(count, Draw(generator, torch.float32)))
    data = torch.randn(count, 7, 3, generator=generator)
    components, points = torch.arange(5).roll(1), torch.arange(7).flip(0)  # no draw that may leave all in place
    positions = torch.randn(5, 32, generator=generator)

    def moved(hooks: list) -> float:
        """Largest change of a weight or mean that permuting the components makes beyond permuting the answer."""
        with torch.no_grad(), model.hooks(fwd_hooks=hooks):
            plain, turned = model(prior, data).posterior, model(prior[:, components], data).posterior
        return _distance(plain.permuted(components), turned)

    name = "largest change under a permutation of components"
    with torch.no_grad():
        reordered = _distance(model(prior, data).posterior, model(prior, data[:, points]).posterior)
    placed = [("hook_embed", lambda tensor, hook: tensor + positions)]
    return Evidence(
        kind="numeric",
        statement=SETS,
        checks=(
            Check(name, moved([]), "<=", 1e-5),
            Check("largest change under a permutation of data", reordered, "<=", 1e-5),
        ),
        control=Control("tokens with positions added", (Check(name, moved(placed), "<=", 1e-5),)),
        seed=seed,
        budget=budget,
        notes=f"{count} problems; changes of weights and of means, the latter over 1 + |mean|.",
    )


def _distance(one: GaussianMixture, other: GaussianMixture) -> float:
    means = (one.means - other.means).abs() / (1 + one.means.abs())
    return max((one.weights - other.weights).abs().max().item(), means.max().item())


def _repeated(mixture: GaussianMixture, count: int) -> GaussianMixture:
    parts = (mixture.log_weights, mixture.means, mixture.scale_trils)
    return GaussianMixture(*(part.expand(count, *part.shape) for part in parts))


CLAIMS = (
    Claim(POSTERIOR, "numeric", _posterior),
    Claim(ENTROPY, "numeric", _entropy),
    Claim(SETS, "numeric", _sets),
)
