"""Stops a model at its first non-finite step, without the host waiting for the device at each step.

A flag on the device turns on at the first non-finite loss or gradient and stays on. The fused optimisers
leave the parameters alone while their `found_inf` (the channel that `GradScaler` uses) is on, so the
parameters stay those of the failing step, however late the host looks. Buffers that a forward pass updates
are kept from before that pass.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

CHECK_EVERY = 16
"""Steps between looks at the flag where looking makes the host wait; on the CPU it is free and done at each step."""


class Guard:
    """Watches one run.

    Args:
        model: the model, on its device.
        optimizer: a fused optimiser of its parameters.
        step: the step at which watching starts.
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, step: int):
        device = next(model.parameters()).device
        self._bad = torch.zeros((), device=device)
        self._good_steps = torch.tensor(float(step), dtype=torch.float64, device=device)
        optimizer.found_inf = self._bad
        self._buffers = [
            (module, name)
            for module in model.modules()
            for name, buffer in module.named_buffers(recurse=False)
            if buffer.numel()
        ]
        buffers = [getattr(module, name) for module, name in self._buffers]
        self._kept = [buffer.detach().clone() for buffer in buffers]
        self._seen = [(buffer, buffer._version) for buffer in buffers]

    def before_forward(self) -> None:
        """Keeps the buffers that the last step wrote to or replaced, unless the flag is on."""
        for i, (module, name) in enumerate(self._buffers):
            buffer = getattr(module, name)
            seen, version = self._seen[i]
            if buffer is seen and buffer._version == version:
                continue
            same_shape = buffer.shape == self._kept[i].shape
            self._kept[i] = torch.where(self._bad > 0, self._kept[i], buffer) if same_shape else buffer.clone()
            self._seen[i] = (buffer, buffer._version)

    def watch(self, loss: Float[Tensor, ""], norm: Float[Tensor, ""]) -> None:
        """Turns the flag on if either is not finite; call between backward and the optimiser's step."""
        finite = torch.isfinite(loss.detach()) & torch.isfinite(norm)
        self._bad.logical_or_(~finite)
        self._good_steps += 1 - self._bad

    def first_bad_step(self) -> int | None:
        """The first non-finite step, or None; waits for the device."""
        return int(self._good_steps) if bool(self._bad) else None

    @torch.no_grad()
    def restore_buffers(self) -> None:
        """Gives the buffers the values that they had before the failing step's forward pass."""
        for (module, name), kept in zip(self._buffers, self._kept, strict=True):
            buffer = getattr(module, name)
            if buffer.shape != kept.shape:
                setattr(module, name, kept)
            elif not torch.equal(buffer, kept):
                buffer.copy_(kept)
