"""Scans beside the loops and the quadratic forms that they replace, at n = 2,048: ratios taken in one run.

Forwards, and forwards with backwards. Run: python benchmarks/scans.py [n]
"""

import sys
from collections.abc import Callable

import torch
import torch.nn.functional as F
from timing import machine, medians
from torch import Tensor

from microtome.kernels.scan import prefix_softmax, selective, ssd

Form = Callable[..., Tensor]


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def by_steps(scores: Tensor, values: Tensor) -> Tensor:
    """Prefix attention by the recurrence."""
    state, outputs = prefix_softmax.identity(values[..., 0, :]), []
    for t in range(scores.shape[-1]):
        output, state = prefix_softmax.step(state, scores[..., t], values[..., t, :])
        outputs.append(output)
    return torch.stack(outputs, -2)


def compare(title: str, forms: dict[str, Form], inputs: list[Tensor]) -> None:
    """Prints milliseconds of each form, and how many times that of the first the others take."""
    wanted = [each.requires_grad_() for each in inputs]

    def forwards(form: Form) -> Callable[[], object]:
        def run() -> Tensor:
            with torch.no_grad():
                return form(*inputs)

        return run

    def both(form: Form) -> Callable[[], object]:
        return lambda: torch.autograd.grad(form(*wanted).sum(), wanted, materialize_grads=True)

    for way, of in (("forwards", forwards), ("with backwards", both)):
        ms = medians({name: of(form) for name, form in forms.items()}, rounds=5, calls=1)
        first = next(iter(ms.values()))
        line = ", ".join(f"{name} {t:.1f} ms ({t / first:.1f}x)" for name, t in ms.items())
        print(f"{title}, {way}: {line}", flush=True)


def main(n: int = 2048) -> None:
    print(f"n={n}, float32; {machine()}")
    for channels in (64, 256):
        x, delta = normal(1, n, channels), F.softplus(normal(1, n, channels) - 1)
        A = -torch.arange(1.0, 17).repeat(channels, 1)
        compare(
            f"selective scan, {channels} channels of 16 states",
            {"scan": selective.selective_scan, "loop": selective.reference},
            [x, delta, A, normal(1, n, 16), normal(1, n, 16)],
        )
    compare(
        "prefix softmax, 8 heads of width 64",
        {"chunks": prefix_softmax.prefix_attention, "loop": by_steps, "one softmax a prefix": prefix_softmax.reference},
        [normal(1, 8, n), normal(1, 8, n, 64)],
    )
    compare(
        "state-space duality, 4 heads of width 64, 64 states",
        {"chunks": ssd.ssd, "quadratic": ssd.reference, "loop": ssd.recurrent},
        [normal(1, 4, n, 64), normal(1, 4, n, 64), normal(1, 4, n, 64), -normal(1, 4, n).abs()],
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
