"""Why a step was not finite: its forward pass again, with every activation looked at."""

from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from microtome.lab.train.models import entropy_readings, points
from microtome.lab.train.objective import Batch, Objective


class NonFiniteLoss(ArithmeticError):
    """A run met a loss or a gradient that is not finite; the model keeps that step's parameters and buffers.

    Attributes:
        step: the first such step.
        where: the first thing in the order of computation that is not finite: a tensor of the batch, an
            activation by the name of its hook point (or module), "loss" if all activations are finite, or
            "gradient of …".
        entropies: mean entropy in nats of the attention rows that are not NaN, [head], by hook name.
        checkpoint: the last checkpoint before that step, or None.
    """

    def __init__(self, step: int, where: str, entropies: Mapping[str, Float[Tensor, " head"]], checkpoint: Path | None):
        self.step, self.where, self.entropies, self.checkpoint = step, where, dict(entropies), checkpoint
        heads = "; ".join(f"{name} {' '.join(f'{e:.3g}' for e in row.tolist())}" for name, row in entropies.items())
        super().__init__(
            f"step {step} is not finite, and the first non-finite value is in {where}. "
            f"Attention entropies in nats, a figure a head: {heads or 'the model has no such reading'}. "
            f"Last good checkpoint: {checkpoint or 'none was written'}."
        )

    def __reduce__(self):
        # An exception is unpickled from its message alone unless told otherwise; sweeps send it between processes.
        return type(self), (self.step, self.where, self.entropies, self.checkpoint)


def first_non_finite(model: nn.Module, objective: Objective, batch: Batch) -> str:
    """What of a step's computation is first not finite, as in `NonFiniteLoss.where`.

    Runs the step's forward pass, and its backward pass when the former is finite; may update the model's
    buffers.
    """
    parts = {f"batch.inputs[{i}]": tensor for i, tensor in enumerate(batch.inputs)}
    parts["batch.targets"] = batch.targets
    if batch.weights is not None:
        parts["batch.weights"] = batch.weights
    bad = [name for name, tensor in parts.items() if not _finite(tensor)]
    if bad:
        return bad[0]
    loss, seen = _watched_loss(model, objective, batch)
    if seen:
        return seen[0]
    if not _finite(loss):
        return "loss"
    model.zero_grad(set_to_none=True)
    loss.backward()
    # Backward runs from the last layer to the first, so the last parameter is the first to be reached.
    gradients = [(name, p.grad) for name, p in reversed(list(model.named_parameters())) if p.grad is not None]
    bad = [name for name, gradient in gradients if not _finite(gradient)]
    return f"gradient of {bad[0]}" if bad else "the norm of the gradient, though each gradient is finite"


def attention_entropies(model: nn.Module, inputs: tuple[Tensor, ...]) -> dict[str, Float[Tensor, " head"]]:
    """Mean entropy in nats of each head's attention rows, by hook name; empty where the model has no such reading."""
    names = entropy_readings(model)
    if not names:
        return {}
    with torch.no_grad():
        _, entropies = model.run_with_stats(
            *inputs, names=names, reducer=lambda rows, hook: rows.float().nanmean((0, -1)).cpu()
        )
    return entropies


def _watched_loss(model: nn.Module, objective: Objective, batch: Batch) -> tuple[Tensor, list[str]]:
    """The loss, and the names of the non-finite activations in the order of computation."""
    seen: list[str] = []

    def look(name: str, output: object) -> None:
        parts = output if isinstance(output, tuple | list) else (output,)
        # A mask puts −∞ into scores on purpose.
        masked = name.endswith("hook_attn_scores")
        if not all(_finite(part, masked) for part in parts if isinstance(part, Tensor)):
            seen.append(name)

    handles = [
        module.register_forward_hook(lambda module, inputs, output, name=name: look(name, output))
        for name, module in points(model).items()
    ]
    try:
        return objective.loss(model, batch), seen
    finally:
        for handle in handles:
            handle.remove()


def _finite(tensor: Tensor, masked: bool = False) -> bool:
    fine = torch.isfinite(tensor)
    return bool((fine | torch.isneginf(tensor) if masked else fine).all())
