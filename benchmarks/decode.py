"""Decoding one query against a long cache of keys: `lean_attention.decode` beside torch's fused attention.

Ragged caches are compared with masked attention on the padded cache. A ratio below 1 is a gain.
Run: python benchmarks/decode.py [--small]
"""

import sys

import torch
from timing import machine, medians
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from microtome.kernels.lean_attention import decode

CASES = (
    ("one head", 1, 1, 1, [65536], 64),
    ("8 heads", 1, 8, 8, [65536], 64),
    ("8 heads of 128", 1, 8, 8, [65536], 128),
    ("32 query heads on 8", 1, 32, 8, [65536], 64),
    ("4 sequences", 4, 8, 8, [16384] * 4, 64),
    ("8 ragged sequences", 8, 12, 12, [1024, 16384, 512, 8192, 2048, 256, 4096, 700], 64),
)


def usual(q: Tensor, k: Tensor, v: Tensor, lengths: Tensor) -> Tensor:
    """torch's fused attention, with a mask if lengths differ."""
    keep = None
    if len(set(lengths.tolist())) > 1:
        keep = (torch.arange(k.shape[2]) < lengths[:, None])[:, None, None, :]
    grouped = q.shape[1] != k.shape[1]
    return scaled_dot_product_attention(q[:, :, None], k, v, attn_mask=keep, enable_gqa=grouped)[:, :, 0]


def main() -> None:
    shrink = 64 if "--small" in sys.argv else 1
    print(f"decoding; {machine()}")
    for name, batch, heads, kv_heads, lengths, d_head in CASES:
        n = torch.tensor([max(1, each // shrink) for each in lengths])
        generator = torch.Generator().manual_seed(0)
        q = torch.randn(batch, heads, d_head, generator=generator)
        k, v = torch.randn(2, batch, kv_heads, int(n.max()), d_head, generator=generator)
        torch.testing.assert_close(decode(q, k, v, n), usual(q, k, v, n))
        runs = {"usual": lambda: usual(q, k, v, n), "ours": lambda: decode(q, k, v, n)}  # noqa: B023 — called in this turn
        ms = medians(runs, rounds=9, calls=2)
        print(
            f"{name}, {int(n.max())} keys: usual {ms['usual']:.2f} ms, ours {ms['ours']:.2f} ms "
            f"({ms['ours'] / ms['usual']:.2f}x)",
            flush=True,
        )


if __name__ == "__main__":
    main()
