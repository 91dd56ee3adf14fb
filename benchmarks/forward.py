"""A forward pass of our hooked model, no hook attached, beside torch's TransformerEncoder and TransformerLens' bridge.

Same shape everywhere: 4 pre-norm layers, d = 128, 4 heads, feed-forward 512 with GELU, bidirectional, batch 1, no
gradient. torch's encoder is run both ways that it has, its inference fast path (one native operator a layer) and its
layers over fused scaled_dot_product_attention, and ours is compared with the faster of the two at each length. Also
prints what the entropies of all heads cost beside the forward pass, alone and together with it.
Run: python benchmarks/forward.py
"""

import warnings

import torch
from timing import machine, medians
from torch import nn

from microtome.lab import zoo
from microtome.lab.zoo.bridge import to_bridge
from microtome.probes import EntropyTracker

D_MODEL, LAYERS, HEADS, VOCAB = 128, 4, 4, 64
LENGTHS = (64, 512, 2048)


def contestants(n: int) -> dict:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(VOCAB, (1, n), generator=generator)
    ours = zoo.sequence(
        d_vocab=VOCAB,
        d_model=D_MODEL,
        n_layers=LAYERS,
        n_heads=HEADS,
        n_ctx=n,
        causal=False,
        feedforward={"name": "gelu", "approximate": "none"},
    )
    layer = nn.TransformerEncoderLayer(
        D_MODEL, HEADS, 4 * D_MODEL, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    encoder = nn.TransformerEncoder(layer, LAYERS, norm=nn.LayerNorm(D_MODEL)).eval()
    embed, unembed = nn.Embedding(VOCAB, D_MODEL), nn.Linear(D_MODEL, VOCAB)
    place = torch.randn(n, D_MODEL, generator=generator)
    bridge = to_bridge(ours)
    queries, keys = [], []
    ours.run_with_hooks(
        tokens,
        fwd_hooks=[
            (lambda name: name.endswith("attn.hook_q"), lambda t, hook: queries.append(t.transpose(1, 2))),
            (lambda name: name.endswith("attn.hook_k"), lambda t, hook: keys.append(t.transpose(1, 2))),
        ],
    )
    from microtome.kernels.softmax import row_entropy

    def entropies():
        for q, k in zip(queries, keys, strict=True):
            row_entropy(q, k)

    tracker = EntropyTracker(ours)

    def tracked():
        with tracker:
            ours(tokens)

    def torch_encoder(fast_path: bool):
        torch.backends.mha.set_fastpath_enabled(fast_path)
        unembed(encoder(embed(tokens) + place))

    return {
        "fast path": lambda: torch_encoder(True),
        "fused attention": lambda: torch_encoder(False),
        "microtome": lambda: ours(tokens),
        "bridge": lambda: bridge(tokens),
        "entropies alone": entropies,
        "microtome, entropies tracked": tracked,
    }


@torch.no_grad()
def main() -> None:
    warnings.filterwarnings("ignore")
    print(f"forward pass, d={D_MODEL}, {LAYERS} layers, {HEADS} heads, batch 1; {machine()}")
    for n in LENGTHS:
        ms = medians(contestants(n), rounds=11 if n > 1000 else 21, calls=2 if n > 1000 else 10)
        ours, best = ms["microtome"], min(ms["fast path"], ms["fused attention"])
        print(
            f"n={n}: torch encoder {ms['fast path']:.2f} ms by its fast path and {ms['fused attention']:.2f} ms "
            f"with fused attention, microtome {ours:.2f} ms ({ours / best:.2f}x the faster, "
            f"{ours / ms['fused attention']:.2f}x the one with fused attention), bridge {ms['bridge']:.2f} ms "
            f"({ms['bridge'] / ours:.1f}x microtome), all entropies {ms['entropies alone']:.2f} ms "
            f"({ms['entropies alone'] / ours:.2f}x the forward pass), forward with entropies tracked "
            f"{ms['microtome, entropies tracked']:.2f} ms ({ms['microtome, entropies tracked'] / ours:.2f}x)"
        )


if __name__ == "__main__":
    main()
