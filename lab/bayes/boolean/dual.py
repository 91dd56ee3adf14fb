"""The exact answer for the dual f*(x) = ¬f(−x) of a function, from that for f."""

from jaxtyping import Float
from torch import Tensor

from microtome.lab.bayes.boolean.signs import as_bits
from microtome.lab.bayes.law import Signs
from microtome.lab.bayes.protocol import Prediction, Predictor

Vectors = Float[Tensor, "batch points dim"]
Scalars = Float[Tensor, "batch points"]


class Dual:
    """Predicts labels of duals by reading each pair (x, y) as (−x, −y).

    By De Morgan a disjunction is the dual of the conjunction of the same literals, a conjunctive normal form that of
    the disjunctive one of the same clauses; what is forced to falsify a clause is the opposite of what satisfies it.

    Args:
        inside: the answer for f, exact or not; `law` needs one that has a law.
    """

    def __init__(self, inside: Predictor):
        self.inside = inside
        self.name = inside.name

    def predict(self, xs: Vectors, ys: Scalars) -> Prediction:
        """See `Predictor.predict`; raises as the predictor inside."""
        as_bits(xs, ys)
        inside = self.inside.predict(-xs, -ys)
        return Prediction(-inside.mean, inside.variance)

    def law(self, xs: Vectors, ys: Scalars) -> Signs:
        """See `Probabilistic.law`."""
        as_bits(xs, ys)
        return Signs(-self.inside.law(-xs, -ys).mean)
