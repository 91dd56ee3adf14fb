"""Random numbers of a prompt, all from one generator and in one dtype."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Draw:
    """Draws the tensors that a task asks for, on the generator's device.

    Attributes:
        generator: draws everything.
        dtype: of all floating-point numbers.
    """

    generator: torch.Generator
    dtype: torch.dtype

    def normal(self, *size: int) -> Float[Tensor, "..."]:
        """N(0, 1), independent."""
        return torch.randn(*size, generator=self.generator, dtype=self.dtype, device=self.generator.device)

    def uniform(self, *size: int, low: float = 0.0, high: float = 1.0) -> Float[Tensor, "..."]:
        """U[low, high), independent."""
        unit = torch.rand(*size, generator=self.generator, dtype=self.dtype, device=self.generator.device)
        return low + (high - low) * unit

    def chance(self, p: float, *size: int) -> Bool[Tensor, "..."]:
        """True with probability p, independent; the draws do not depend on the dtype."""
        return torch.rand(*size, generator=self.generator, device=self.generator.device) < p

    def signs(self, *size: int) -> Float[Tensor, "..."]:
        """−1 or +1 with probability ½ each."""
        return self.integers(2, *size).to(self.dtype) * 2 - 1

    def integers(self, high: int, *size: int, low: int = 0) -> Int[Tensor, "..."]:
        """Uniform in low … high − 1."""
        return torch.randint(low, high, size, generator=self.generator, device=self.generator.device)

    def choices(self, weights: tuple[float, ...], size: int) -> Int[Tensor, " size"]:
        """Places 0, 1, … of `weights`, each drawn with the probability written there; their sum must be positive."""
        chances = torch.tensor(weights, dtype=torch.float64, device=self.generator.device)
        return torch.multinomial(chances, size, replacement=True, generator=self.generator)

    def noisy(self, values: Float[Tensor, "..."], std: float) -> Float[Tensor, "..."]:
        """The values plus N(0, std²), independent; nothing is drawn for std 0."""
        return values if std == 0 else values + std * self.normal(*values.shape)

    def subsets(self, batch: int, among: int, size: int) -> Bool[Tensor, "batch among"]:
        """True at `size` of `among` places, each choice of places equally likely."""
        # The places of the largest of exchangeable numbers are a uniform draw without replacement.
        order = torch.rand(batch, among, generator=self.generator, device=self.generator.device)
        chosen = torch.zeros(batch, among, dtype=torch.bool, device=order.device)
        return chosen.scatter_(1, order.topk(size).indices, True)
