"""Exact, classical and approximate answers to in-context learning problems, all of them predictors.

A predictor gives every y of a prompt from the pairs before it; see `microtome.lab.bayes.protocol`. Beside the names
below: `boolean` for functions on bits, `optimised` and `nonlinear` for fits by libraries, `gaussian_mixture` and
`linear_gaussian` for posteriors that are distributions, `markov` for chains, `intervals` around predictions.
"""

from microtome.lab.bayes.catalogue import listed
from microtome.lab.bayes.classical import KNN, SGD, Averaging, GradientDescent
from microtome.lab.bayes.features import BayesFeatures
from microtome.lab.bayes.gaussian_prior import BayesGaussian
from microtome.lab.bayes.gaussian_process import FourierKernel, GaussianProcess, ReLUKernel
from microtome.lab.bayes.law import Probabilistic, Signs, gaussian, integral_transform, log_score, uniformity
from microtome.lab.bayes.linear import OLS, BayesLinear, Posterior, Ridge, sherman_morrison
from microtome.lab.bayes.markov import DirichletMarkov
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
from microtome.lab.bayes.mixture import BayesMixture
from microtome.lab.bayes.odds import Odds
from microtome.lab.bayes.pool import PoolPosterior
from microtome.lab.bayes.protocol import LinearPredictor, Prediction, Predictor
from microtome.lab.bayes.sampling import SignVectorGibbs, SparseGibbs
from microtome.lab.bayes.sign_vector import SignVectorPosterior
from microtome.lab.bayes.simplicity import frequency_content
from microtome.lab.bayes.softmax_posterior import SoftmaxPosterior
from microtome.lab.bayes.softmax_regression import SoftmaxStep
from microtome.lab.bayes.spike_and_slab import SpikeAndSlab

__all__ = [
    "Prediction",
    "Predictor",
    "LinearPredictor",
    "listed",
    "BayesLinear",
    "BayesGaussian",
    "BayesFeatures",
    "GaussianProcess",
    "FourierKernel",
    "ReLUKernel",
    "BayesMixture",
    "PoolPosterior",
    "SignVectorPosterior",
    "SpikeAndSlab",
    "SignVectorGibbs",
    "SparseGibbs",
    "Posterior",
    "OLS",
    "Ridge",
    "sherman_morrison",
    "DirichletMarkov",
    "SoftmaxPosterior",
    "SoftmaxStep",
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
    "frequency_content",
]
