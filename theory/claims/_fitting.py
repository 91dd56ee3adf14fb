"""Training for claims: small runs of which nothing is kept."""

import math

import torch
from torch import nn

from microtome.lab import train
from microtome.lab.train import Callback, NonFiniteLoss, Objective, TrainConfig

EVALUATION_STEP = -1
"""The step that evaluation batches are asked for; no training step has this number."""


def fit(model: nn.Module, objective: Objective, config: TrainConfig, callbacks: tuple[Callback, ...] = ()) -> bool:
    """Trains the model in place; returns whether every loss and gradient was finite."""
    try:
        train.fit(model, objective, config, callbacks)
    except NonFiniteLoss:
        return False
    return True


def fresh(seed: int) -> torch.Generator:
    """Draws what training with this seed never drew."""
    return torch.Generator().manual_seed(seed + 1_000_003)


@torch.no_grad()
def loss_on_fresh(model: nn.Module, objective: Objective, seed: int, batches: int = 8) -> float:
    """Mean loss on batches that training never drew; infinite where it is not finite."""
    generator = fresh(seed)
    losses = [objective.loss(model, objective.batch(EVALUATION_STEP, generator)).item() for _ in range(batches)]
    mean = sum(losses) / len(losses)
    return mean if math.isfinite(mean) else math.inf
