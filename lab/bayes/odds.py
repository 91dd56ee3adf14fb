"""A learner of labels ±1 as a predictor: its number at each x is the log odds of +1."""

import torch
from jaxtyping import Float
from torch import Tensor

from microtome.lab.bayes.law import Signs
from microtome.lab.bayes.protocol import Prediction, Predictor


class Odds:
    """Reads a predictor's mean as log odds: P(+1) − P(−1) = tanh(logit/2).

    Args:
        logits: the learner.
    """

    def __init__(self, logits: Predictor):
        self.logits = logits
        self.name = logits.name

    def predict(self, xs: Float[Tensor, "batch points dim"], ys: Float[Tensor, "batch points"]) -> Prediction:
        """See `Predictor.predict`; the mean lies in [−1, 1]."""
        mean = torch.tanh(self.logits.predict(xs, ys).mean / 2)
        return Signs(mean).prediction(mean.dtype)

    def law(self, xs: Float[Tensor, "batch points dim"], ys: Float[Tensor, "batch points"]) -> Signs:
        """See `Probabilistic.law`."""
        return Signs(self.predict(xs, ys).mean.double())
