"""From weights of hypotheses to P(+1) − P(−1), and the sentence for prompts that no hypothesis explains."""

import numpy as np
from jaxtyping import Bool, Float, Int


def odds(log_joint: Float[np.ndarray, "prompt value group"], first: int, point: int) -> Float[np.ndarray, " prompt"]:
    """P(+1) − P(−1) at one point of a block of prompts.

    Args:
        log_joint: log of the weight of every group of hypotheses that say −1 (0) and +1 (1), −∞ for none.
        first: number of the block's first prompt.
        point: number of the point.

    Raises:
        ValueError: if all weights of a prompt are zero.
    """
    top = log_joint.max((1, 2), keepdims=True)
    check_evidence(np.isfinite(top[:, 0, 0]), first, point)
    minus, plus = np.exp(log_joint - top).sum(2).T
    return (plus - minus) / (plus + minus)


def log_counts(counts: Int[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """log of counts, −∞ for zero."""
    with np.errstate(divide="ignore"):
        return np.log(counts.astype(float))


def check_evidence(possible: Bool[np.ndarray, " prompt"], first: int, point: int) -> None:
    """Raises ValueError unless every prompt of a block is possible up to x at this point."""
    if not possible.all():
        prompt = first + int(np.flatnonzero(~possible)[0])
        raise ValueError(
            f"the {point} pairs before x_{point} of prompt {prompt}, with that x, are impossible under every "
            "hypothesis of this predictor: give it prompts of its own law, or a noise above 0."
        )
