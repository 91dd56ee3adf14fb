"""Ragged batches: a whole encoder run on packed rows beside the padded run with a mask, and attention alone.

Lengths are spread evenly over 1 … L, so that their mean is L/2. A ratio below 1 is a gain, the share of
operations stands beside it. Run: python benchmarks/ragged.py [--small]
"""

import sys

import torch
from timing import machine, medians
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from microtome.kernels.byte_transformer import attention, flops, packing
from microtome.lab.zoo.byte_transformer import encoder, run_packed

BLOCKS = ((8, 256, 256, 4), (8, 512, 256, 4), (16, 128, 768, 12), (8, 512, 768, 12))
ATTENTION = ((8, 256, 4, 64), (64, 80, 12, 64), (8, 512, 12, 64), (4, 2048, 4, 64))


def lengths(batch: int, longest: int) -> Tensor:
    """Evenly spread over 1 … longest, in random order; their mean is half of the longest."""
    spread = (longest * (torch.arange(batch) + 0.5) / batch).long().clamp_min(1)
    return spread[torch.randperm(batch, generator=torch.Generator().manual_seed(0))]


def compare(what: str, padded, packed, share: float, rounds: int) -> None:
    ms = medians({"padded": padded, "packed": packed}, rounds=rounds, calls=1)
    ratio = ms["packed"] / ms["padded"]
    print(
        f"{what}: padded {ms['padded']:.2f} ms, packed {ms['packed']:.2f} ms ({ratio:.2f}x, {1 / ratio:.2f} times as "
        f"fast; operations {share:.2f}x)",
        flush=True,
    )


def block(batch: int, longest: int, d_model: int, n_heads: int, rounds: int) -> None:
    """One post-LN block with its embedding and a narrow readout."""
    model = encoder(d_model=d_model, n_layers=1, n_heads=n_heads, n_ctx=longest, d_vocab=32)
    n = lengths(batch, longest)
    mask = torch.arange(longest) < n[:, None]
    tokens = torch.randint(32, (batch, longest), generator=torch.Generator().manual_seed(1))
    compare(
        f"block of width {d_model}, batch {batch} padded to {longest}",
        lambda: model(tokens, mask=mask),
        lambda: run_packed(model, tokens, mask),
        flops.ratio(n.tolist(), d_model, longest),
        rounds,
    )


def attention_alone(batch: int, longest: int, n_heads: int, d_head: int, rounds: int) -> None:
    n = lengths(batch, longest)
    packed = packing(n.tolist(), longest)
    rows = torch.randn(3, packed.tokens, n_heads, d_head, generator=torch.Generator().manual_seed(1))
    q, k, v = (packed.unpack(x).transpose(1, 2) for x in rows)
    keep = (torch.arange(longest) < n[:, None])[:, None, None, :]
    compare(
        f"attention, batch {batch} padded to {longest}, {n_heads} heads of {d_head}",
        lambda: scaled_dot_product_attention(q, k, v, attn_mask=keep),
        lambda: attention(*rows, packed),
        float((n.double() ** 2).sum() / (batch * longest**2)),
        rounds,
    )


@torch.no_grad()
def main() -> None:
    small = "--small" in sys.argv
    print(f"ragged batches; {machine()}")
    for sizes in BLOCKS[: 1 if small else None]:
        block(*sizes, rounds=3 if small else 11)
    for sizes in ATTENTION[: 1 if small else None]:
        attention_alone(*sizes, rounds=3 if small else 11)


if __name__ == "__main__":
    main()
