"""Compiled programs run beside plain PyTorch transformers of their shape, and how long compiling takes.

At max_len 64 and batch 32, inputs of full length, no hook attached, no gradient. The plain transformer is hand-written
over fused attention, has the same width, heads and neurons, no norm, and the compiled weights themselves: it must give
the same outputs. torch's TransformerEncoder is norm-first with ReLU and without dropout; it splits its width among the
heads and cannot do without norms, so it is the closest shape that it allows (width rounded up to the next multiple of
twice the heads, which its inference fast path asks for), and it is run with that path and without.
Run: python benchmarks/rasp_speed.py
"""

import time
import warnings
from collections.abc import Callable

import torch
from timing import machine, medians
from torch import Tensor, nn
from torch.nn.functional import embedding, linear, relu, scaled_dot_product_attention

from microtome.lab import rasp
from microtome.lab.rasp import library

BATCH, MAX_LEN = 32, 64
COMPILE_LENGTHS, COMPILE_ROUNDS = (10, 128), 3
LETTERS, NUMBERS = ("a", "b", "c", "d"), (1, 2, 3, 4)
PROGRAMS: dict[str, tuple[Callable[[], rasp.SOp], tuple]] = {
    "hist": (library.make_hist, LETTERS),
    "reverse": (lambda: library.make_reverse(rasp.tokens), LETTERS),
    "sort_unique": (lambda: library.make_sort_unique(rasp.tokens, rasp.tokens), NUMBERS),
    "sort": (lambda: library.make_sort(rasp.tokens, rasp.tokens), NUMBERS),
}


def compiled_at(name: str, max_len: int):
    make, vocab = PROGRAMS[name]
    return rasp.compile(make(), vocab=vocab, max_len=max_len)


def plain(model) -> Callable[[Tensor], Tensor]:
    """The forward pass of a compiled model written out, over its own weights."""
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    heads, scales = model.cfg.n_heads, [block.attn.scale for block in model.blocks]

    def apply(x: Tensor, name: str) -> Tensor:
        return linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def split(x: Tensor, name: str) -> Tensor:
        return apply(x, name).unflatten(-1, (heads, -1)).transpose(1, 2)

    def forward(ids: Tensor) -> Tensor:
        x = embedding(ids, weights["embed.weight"]) + weights["pos_embed.weight"][: ids.shape[1]]
        for i, scale in enumerate(scales):
            block = f"blocks.{i}"
            q, k, v = (split(x, f"{block}.attn.{name}") for name in "qkv")
            z = scaled_dot_product_attention(q, k, v, scale=scale)
            x = x + apply(z.transpose(1, 2).flatten(2), f"{block}.attn.o")
            if model.cfg.d_mlp:
                x = x + apply(relu(apply(x, f"{block}.mlp.in_")), f"{block}.mlp.out")
        return apply(x, "unembed")

    return forward


def encoder(model, fast_path: bool) -> tuple[int, Callable[[Tensor], Tensor]]:
    """torch's encoder in the closest shape: its width, and its forward pass."""
    cfg = model.cfg
    multiple = 2 * cfg.n_heads
    width = -(-cfg.d_model // multiple) * multiple
    layer = nn.TransformerEncoderLayer(
        width, cfg.n_heads, cfg.d_mlp or 1, dropout=0.0, activation="relu", batch_first=True, norm_first=True
    )
    stack = nn.TransformerEncoder(layer, cfg.n_layers).eval()
    embed, place, unembed = (
        nn.Embedding(cfg.d_vocab, width),
        torch.zeros(cfg.n_ctx, width),
        nn.Linear(width, cfg.d_vocab_out),
    )

    def forward(ids: Tensor) -> Tensor:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        return unembed(stack(embed(ids) + place[: ids.shape[1]]))

    return width, forward


def forward_times(name: str) -> None:
    compiled = compiled_at(name, MAX_LEN)
    model, cfg = compiled.model, compiled.model.cfg
    generator = torch.Generator().manual_seed(0)
    vocab = PROGRAMS[name][1]
    draws = torch.randint(len(vocab), (BATCH, MAX_LEN), generator=generator).tolist()
    ids = compiled.encode([[vocab[i] for i in row] for row in draws])
    by_hand = plain(model)
    off = (by_hand(ids) - model(ids)).abs().max().item()
    width, fast = encoder(model, fast_path=True)
    _, slow = encoder(model, fast_path=False)
    ms = medians(
        {
            "compiled": lambda: model(ids),
            "plain": lambda: by_hand(ids),
            "fast": lambda: fast(ids),
            "slow": lambda: slow(ids),
        },
        rounds=11,
        calls=3,
    )
    ours = ms["compiled"]
    print(
        f"{name}: {cfg.n_layers} layers × {cfg.n_heads} heads, width {cfg.d_model}, d_head {cfg.d_head}, MLP "
        f"{cfg.d_mlp or 0}: compiled {ours:.2f} ms; plain {ms['plain']:.2f} ms (ours {ours / ms['plain']:.2f}x, "
        f"outputs {off:.0e} apart); TransformerEncoder of width {width} {ms['fast']:.2f} ms by its fast path (ours "
        f"{ours / ms['fast']:.2f}x), {ms['slow']:.2f} ms without (ours {ours / ms['slow']:.2f}x)",
        flush=True,
    )


def compile_times(name: str) -> None:
    medians_ms = []
    for max_len in COMPILE_LENGTHS:
        times = []
        for _ in range(COMPILE_ROUNDS):
            start = time.perf_counter()
            compiled_at(name, max_len)
            times.append(1e3 * (time.perf_counter() - start))
        medians_ms.append(sorted(times)[len(times) // 2])
    shown = ", ".join(f"{ms:,.0f} ms at {n}" for n, ms in zip(COMPILE_LENGTHS, medians_ms, strict=True))
    print(f"{name} compiles in {shown}", flush=True)


@torch.no_grad()
def main() -> None:
    warnings.filterwarnings("ignore")
    print(f"compiled RASP programs at max_len {MAX_LEN}, batch {BATCH}; {machine()}")
    for name in ("hist", "reverse", "sort"):
        forward_times(name)
    for name in PROGRAMS:
        compile_times(name)


if __name__ == "__main__":
    main()
