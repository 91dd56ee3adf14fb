"""Distillation (Hinton et al. 2015, "Distilling the knowledge in a neural network"; slug `survey_faster_lighter`).

    L = (1 − a)·CE(z_s, y) + a·T²·KL(softmax(z_t/T) ‖ softmax(z_s/T))

T² keeps the size of the second term's gradient as T grows.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from microtome.lab.tasks.protocol import TokenTask
from microtome.lab.train.objective import Batch, TokenPrediction


def soft_loss(
    student: Float[Tensor, "*batch label"], teacher: Float[Tensor, "*batch label"], temperature: float
) -> Float[Tensor, "*batch"]:
    """T²·KL(softmax(z_t/T) ‖ softmax(z_s/T)) in nats; zero, and of zero gradient, where the logits agree."""
    log_s = (student / temperature).log_softmax(-1)
    log_t = (teacher / temperature).log_softmax(-1)
    return temperature**2 * (log_t.exp() * (log_t - log_s)).sum(-1)


class Distillation(TokenPrediction):
    """Token prediction with a teacher: the weighted mean of L over positions.

    Args:
        task: what sequences, targets and weights are drawn from.
        batch: sequences a step.
        teacher: a token model with the student's vocabulary; run without gradient.
        share: a, the weight of the teacher's word in [0, 1].
        temperature: T, positive.

    Raises:
        ValueError: if a number is outside its range.
    """

    def __init__(
        self, task: TokenTask, batch: int, teacher: nn.Module, *, share: float = 0.5, temperature: float = 2.0
    ):
        super().__init__(task, batch)
        if not 0 <= share <= 1:
            raise ValueError(f"share must lie in [0, 1], not {share}.")
        if not 0 < temperature < math.inf:
            raise ValueError(f"temperature must be positive and finite, not {temperature}.")
        self.teacher, self.share, self.temperature = teacher, share, temperature

    def loss(self, model: nn.Module, batch: Batch) -> Float[Tensor, ""]:
        """L.

        Raises:
            ValueError: if student and teacher do not give logits of one shape for each position.
        """
        student = model(*batch.inputs)
        with torch.no_grad():
            teacher = self.teacher(*batch.inputs)
        if student.shape != teacher.shape or student.shape[:-1] != batch.targets.shape:
            raise ValueError(
                f"student and teacher must give logits [batch pos d_vocab] of one shape, not {list(student.shape)} and "
                f"{list(teacher.shape)} for targets {list(batch.targets.shape)}."
            )
        hard = F.cross_entropy(student.flatten(0, -2), batch.targets.flatten(), reduction="none")
        soft = soft_loss(student, teacher, self.temperature).flatten()
        weights = batch.weights.flatten()
        return (((1 - self.share) * hard + self.share * soft) * weights).sum() / weights.sum()

    def describe(self) -> dict[str, Any]:
        return super().describe() | {
            "name": "distillation",
            "share": self.share,
            "temperature": self.temperature,
            "teacher": type(self.teacher).__name__,
        }
