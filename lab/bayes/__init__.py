"""Exact, classical and approximate answers to in-context learning problems, all of them predictors.

A predictor gives every y of a prompt from the pairs before it; see `microtome.lab.bayes.protocol`.
"""

from microtome.lab.bayes.catalogue import listed
from microtome.lab.bayes.classical import KNN, SGD, Averaging, GradientDescent
from microtome.lab.bayes.law import Probabilistic, Signs, gaussian, integral_transform, log_score, uniformity
from microtome.lab.bayes.linear import OLS, BayesLinear, Posterior, Ridge, sherman_morrison
from microtome.lab.bayes.measures import (
    Interval,
    excess_risk,
    ilwd,
    implicit_weights,
    mspd,
    points_to_reach,
    spd,
    squared_error,
    zero_one_error,
)
from microtome.lab.bayes.odds import Odds
from microtome.lab.bayes.protocol import LinearPredictor, Prediction, Predictor
from microtome.lab.bayes.spike_and_slab import SpikeAndSlab

__all__ = [
    "Prediction",
    "Predictor",
    "LinearPredictor",
    "listed",
    "BayesLinear",
    "SpikeAndSlab",
    "Posterior",
    "OLS",
    "Ridge",
    "sherman_morrison",
    "Averaging",
    "KNN",
    "GradientDescent",
    "SGD",
    "Probabilistic",
    "Signs",
    "Odds",
    "gaussian",
    "log_score",
    "integral_transform",
    "uniformity",
    "squared_error",
    "zero_one_error",
    "points_to_reach",
    "Interval",
    "excess_risk",
    "spd",
    "mspd",
    "implicit_weights",
    "ilwd",
]
