"""Weights that were written, not trained, are the algorithms they are named for by the measures that trained learners
are compared with: squared prediction difference and implicit linear weight difference.

Source: Akyürek et al., "What learning algorithm is in-context learning? Investigations with linear models" (2023).
Prompts are of the paper's law: x ~ N(0, 1₃), w ~ N(0, 1₃), y = wᵀx + N(0, ½²), and λ = σ²/τ² = ¼.
"""

import math
from collections.abc import Iterable
from dataclasses import replace

import torch
import torch.nn.functional as F

from microtome.lab.bayes import SGD, GradientDescent, Predictor, Ridge, ilwd, mspd
from microtome.lab.tasks import LinearRegression
from microtome.theory.claim import Claim
from microtome.theory.constructions.icl_linear_algorithms import (
    Constructed,
    constructed_descent,
    constructed_ridge,
    constructed_sgd,
)
from microtome.theory.constructions.icl_linear_algorithms.machine import Activation
from microtome.theory.evidence import Check, Control, Evidence
from microtome.theory.statement import Statement

_DIM, _NOISE, _PENALTY, _RATE, _STEPS = 3, 0.5, 0.25, 0.05, 5
_POINTS = 5  # the last asks after four pairs; MSPD reads those after one and two
_PROMPTS = {"quick": 40, "full": 1000}
_CONTEXTS = {"quick": 8, "full": 64}

PREDICTORS = Statement(
    name="written weights predict as their algorithms",
    text="By squared prediction difference and by implicit weights, the constructed gradient descent of one and of "
    "several steps, the stochastic pass and the ridge regression are those algorithms.",
    hypotheses=("d = 3, up to 4 pairs, σ = ½", "α = 0.05, 5 steps, λ = ¼", "float64, s = 10⁵"),
    source="Akyürek et al., What learning algorithm is in-context learning? (2023), theorems 1 and 2, section 4.2",
    slug="icl_linear_algorithms",
)

PAIRS: dict[str, tuple[Constructed, Predictor]] = {
    "one step": (constructed_descent(1, _RATE), GradientDescent(1, _RATE)),
    f"{_STEPS} steps": (constructed_descent(_STEPS, _RATE), GradientDescent(_STEPS, _RATE)),
    "stochastic pass": (constructed_sgd(_RATE, _PENALTY), SGD(_RATE, _PENALTY)),
    "ridge": (constructed_ridge(_PENALTY), Ridge(_PENALTY)),
}

RELU_PAIRS = ("one step", "ridge")


def _checks(budget: str, seed: int, names: Iterable[str], activation: Activation) -> tuple[Check, ...]:
    generator = torch.Generator().manual_seed(seed)
    prompt = LinearRegression(_DIM, _NOISE).sample(_PROMPTS[budget], _POINTS, generator, dtype=torch.float64)
    few = _CONTEXTS[budget]
    queries = torch.randn(few, 2 * _DIM, _DIM, generator=generator, dtype=torch.float64)
    context = prompt.xs[:few, :-1], prompt.ys[:few, :-1]
    checks = []
    for name in names:
        constructed, algorithm = PAIRS[name]
        written = replace(constructed, activation=activation)
        said, wanted = written.predict(prompt.xs, prompt.ys), algorithm.predict(prompt.xs, prompt.ys)
        predictions = math.sqrt(_DIM * mspd(said, wanted, _DIM).item())
        weights = math.sqrt(_DIM * ilwd(written, algorithm, *context, queries).item())
        checks.append(Check(f"{name}: root mean square difference of predictions", predictions, "<=", 1e-6))
        checks.append(Check(f"{name}: root mean square difference of implicit weights", weights, "<=", 1e-6))
    return tuple(checks)


def _predictors(budget: str, seed: int) -> Evidence:
    return Evidence(
        kind="numeric",
        statement=PREDICTORS,
        checks=_checks(budget, seed, PAIRS, F.gelu),
        control=Control("ReLU in GELU's place", _checks(budget, seed, RELU_PAIRS, F.relu)),
        seed=seed,
        budget=budget,
        notes=f"{_PROMPTS[budget]} prompts; implicit weights of {_CONTEXTS[budget]} contexts of {_POINTS - 1} pairs, "
        f"fitted to {2 * _DIM} queries each.",
    )


CLAIMS = (Claim(PREDICTORS, "numeric", _predictors),)
