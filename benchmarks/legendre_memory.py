"""The Legendre memory beside its recurrence, on both of its paths: where the transform overtakes the product.

Forward pass; a ratio below 1 is a gain. Run: python benchmarks/legendre_memory.py
"""

import torch
from timing import machine, medians

from microtome.kernels import legendre_memory as kernel


def main(sizes: tuple[int, ...] = (128, 256, 512, 784, 2048), d: int = 256, batch: int = 8) -> None:
    print(f"Legendre memory of {d} states, batch {batch}; {machine()}")
    for n in sizes:
        a_bar, b_bar = (x.float() for x in kernel.system(d, float(n)))
        response = kernel.impulse_response(a_bar, b_bar, n)
        u = torch.randn(batch, n, generator=torch.Generator().manual_seed(0))
        ms = medians(
            {
                "recurrence": lambda u=u, a=a_bar, b=b_bar: kernel.reference(u, a, b),
                "product": lambda u=u, r=response: kernel.by_product(u, r),
                "transform": lambda u=u, r=response: kernel.by_transform(u, r),
                "chosen": lambda u=u, r=response: kernel.legendre_memory(u, r),
            },
            rounds=5,
            calls=1,
        )
        others = ", ".join(f"{name} {ms[name]:.2f} ms" for name in ms)
        print(f"n={n}: {others}; chosen {ms['chosen'] / ms['recurrence']:.3f}x the recurrence", flush=True)


if __name__ == "__main__":
    main()
