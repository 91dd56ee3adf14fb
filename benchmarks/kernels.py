"""The small kernels beside the usual way of writing them: GELU, rotary positions, attention under a factor.

Forward and backward pass together; a ratio below 1 is a gain. Run: python benchmarks/kernels.py
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from timing import machine, medians
from torch import Tensor

from microtome.kernels.gelu import gelu
from microtome.kernels.rope import angles, rotate
from microtome.kernels.softmax import attention


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def trained(f: Callable[..., Tensor], *inputs: Tensor) -> Callable[[], object]:
    """One forward and backward pass of f."""
    leaves = [x.clone().requires_grad_() for x in inputs]
    upstream = torch.ones_like(f(*leaves))
    return lambda: torch.autograd.grad(f(*leaves), leaves, upstream)


def compare(what: str, usual: Callable[[], object], ours: Callable[[], object]) -> None:
    ms = medians({"usual": usual, "ours": ours}, rounds=15, calls=2)
    print(f"{what}: usual {ms['usual']:.2f} ms, ours {ms['ours']:.2f} ms ({ms['ours'] / ms['usual']:.2f}x)", flush=True)


def rotate_by_halves(x: Tensor, positions: Tensor) -> Tensor:
    angle = angles(positions, x.shape[-1])[:, None].float().repeat_interleave(2, -1)
    turned = torch.stack((-x[..., 1::2], x[..., ::2]), -1).flatten(-2)
    return x * angle.cos() + turned * angle.sin()


def main() -> None:
    print(f"kernels, forward and backward; {machine()}")
    for rows, width in ((1024, 256), (5248, 256), (5248, 512)):
        x = normal(rows, width)
        usual = trained(lambda x: F.gelu(x, approximate="tanh"), x)
        compare(f"tanh GELU of {rows}x{width}, beside torch's", usual, trained(gelu, x))
    for batch, n, heads, width in ((64, 82, 4, 16), (8, 512, 8, 64)):
        x, positions = normal(batch, n, heads, width), torch.arange(n)
        usual = trained(lambda x, positions=positions: rotate_by_halves(x, positions), x)
        ours = trained(lambda x, positions=positions: rotate(x, positions), x)
        compare(f"rotary positions of {batch}x{n}x{heads}x{width}, beside pairs of cosines and sines", usual, ours)
    for batch, heads, n, width in ((64, 4, 8, 8), (64, 2, 82, 32), (8, 4, 256, 32), (2, 4, 1024, 32), (1, 4, 2048, 64)):
        q, tables = normal(3, batch, heads, n, width), normal(2, heads, n, n)

        def plain(q, k, v, bias, factor):
            return ((q @ k.mT * q.shape[-1] ** -0.5 + bias).softmax(-1) * factor) @ v

        def ours(q, k, v, bias, factor):
            return attention(q, k, v, bias=bias, factor=factor)

        inputs = (*q, *tables)
        compare(
            f"URPE attention, batch {batch}, {heads} heads of {width}, n={n}, beside softmax times factor",
            trained(plain, *inputs),
            trained(ours, *inputs),
        )


if __name__ == "__main__":
    main()
