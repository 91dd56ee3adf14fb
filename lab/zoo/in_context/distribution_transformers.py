"""The models of "Distribution Transformers: Fast Approximate Bayesian Inference With On-The-Fly Prior Adaptation"
(Whittle et al. 2025, slug `distribution_transformers`), at the sizes of its experiments.

All parts but the decoder start as torch's linear layers do; the decoder's layers start alike, with zero writes of
self-attention and feed-forward. That makes no identity of the network: LayerNorm and cross-attention act from the
first step on.
"""

from functools import partial

import torch

from microtome.lab.zoo.in_context.distribution.model import DistributionTransformer, Options


def distribution_transformer(
    dim: int = 1, observations: tuple[int, ...] = (1,), *, seed: int = 0, **sizes
) -> DistributionTransformer:
    """A distribution transformer; the default generator is left as it was.

    Args:
        dim: D, dimensions of x.
        observations: how many numbers a datapoint of each kind has.
        seed: of the parameters.
        sizes: further fields of `Options`.

    Raises:
        ValueError: as `Options`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return DistributionTransformer(Options(dim, observations, **sizes))


VARIANTS = {
    "mixture": distribution_transformer,
    "mixture_two_sensors": partial(distribution_transformer, observations=(1, 1)),
    "variance": partial(distribution_transformer, n_components=5, parameters=(2,)),
    "qubit": partial(distribution_transformer, observations=(1,) * 10, d_model=64, n_components=5, parameters=(2,)),
    "gaussian_process": partial(
        distribution_transformer,
        dim=2,
        observations=(2, 1),
        d_model=256,
        n_heads=16,
        d_mlp=5096,
        n_components=20,
        parameters=(2, 2),
        d_hidden=((256,), (256, 256)),
        d_prior=((256, 256), (256, 256)),
        floor=1e-3,
    ),
    "sensor_fusion": partial(distribution_transformer, dim=4, observations=(1, 1), d_model=64),
}
"""One model for each experiment, ready for the task of the same name in `microtome.lab.tasks.distributions`."""
