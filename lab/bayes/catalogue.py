"""One of every predictor of this room: what the generic tests go over and a plot of baselines can."""

from microtome.lab.bayes.classical import KNN, SGD, Averaging, GradientDescent
from microtome.lab.bayes.linear import OLS, BayesLinear, Ridge
from microtome.lab.bayes.protocol import Predictor
from microtome.lab.bayes.spike_and_slab import SpikeAndSlab


def listed(dim: int, noise_std: float = 0.0, prior_std: float = 1.0) -> tuple[Predictor, ...]:
    """One of every kind of predictor here, set for dense linear regression with this law.

    The steps of the descents suit inputs N(0, I) and up to 4·dim points, where λ_max(XᵀX) is near 9·dim.

    Args:
        dim: dimensions of x.
        noise_std: σ of the label noise.
        prior_std: τ of the weights.
    """
    step = 1 / (10 * dim)
    return (
        BayesLinear(noise_std, prior_std),
        SpikeAndSlab(dim, 1, noise_std, prior_std),
        OLS(),
        Ridge(0.25),
        Averaging(),
        KNN(3),
        KNN(3, "inverse"),
        KNN(3, "inverse_square"),
        GradientDescent(1, step),
        GradientDescent(20, step),
        SGD(step),
        SGD(step, weight_decay=0.25),
    )
