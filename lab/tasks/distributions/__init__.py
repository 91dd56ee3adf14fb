"""Inference problems with a prior of their own: a prior, what was observed, and what was to be inferred.

Source: Whittle et al., "Distribution Transformers: Fast Approximate Bayesian Inference With On-The-Fly Prior
Adaptation" (2025, slug `distribution_transformers`), section 5.
"""

from microtome.lab.tasks.distributions.fusion import SensorFusion as SensorFusion
from microtome.lab.tasks.distributions.gaussian_process import GaussianProcess as GaussianProcess
from microtome.lab.tasks.distributions.meta_priors import ConjugateMixtures as ConjugateMixtures
from microtome.lab.tasks.distributions.meta_priors import FixedMixture as FixedMixture
from microtome.lab.tasks.distributions.mixtures import LinearGaussian as LinearGaussian
from microtome.lab.tasks.distributions.protocol import InferenceTask as InferenceTask
from microtome.lab.tasks.distributions.protocol import Problem as Problem
from microtome.lab.tasks.distributions.qubit import Qubit as Qubit
from microtome.lab.tasks.distributions.variance import Variance as Variance
