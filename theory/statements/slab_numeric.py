"""SLAB without training: merging leaves no norm, and what its attention costs and spans.

Source: Guo et al., "SLAB: Efficient Transformers with Simplified Linear Attention and Progressive Re-parameterized
Batch Normalization" (2024, slug `slab`).
"""

import copy

import torch
from torch import nn

from microtome.lab.zoo.compression.slab import merge
from microtome.lab.zoo.mixers.slab import SlabMixer, multiplications
from microtome.lab.zoo.norms import prepbn, repbn
from microtome.lab.zoo.norms._batch import BatchNorm
from microtome.lab.zoo.norms._hooked import HookedNorm
from microtome.lab.zoo.parts import Context, Position, Shape
from microtome.lab.zoo.vision.slab import deit
from microtome.theory.claim import Claim
from microtome.theory.evidence import Check, Control, Evidence
from microtome.theory.statement import Statement

_PAPER = "Guo et al., SLAB (2024)"
NORMS = (HookedNorm, BatchNorm, repbn.RepBN, prepbn.PRepBN, nn.LayerNorm)

MERGED = Statement(
    name="RepBN merges away",
    text="After merging no norm is left and the logits differ by at most 1e-4.",
    hypotheses=(
        "evaluation mode, float32",
        "a DeiT of 4 blocks with simplified linear attention and PRepBN, statistics from 20 batches in training mode",
        "gains, biases and η moved by N(0, 0.3²)",
    ),
    source=f"{_PAPER}, section 3.1",
    slug="slab",
)
COST = Statement(
    name="cost and rank of simplified linear attention",
    text="From 196 to 784 positions its multiplications grow by 4.0 ± 0.1 and softmax attention's by at least 12; the "
    "attention's rank is at most d_head, and the depth-wise convolution makes it full.",
    hypotheses=("d_head = 32", "196 positions on a 14 × 14 grid, queries and keys of a random layer"),
    source=f"{_PAPER}, section 3.2",
    slug="slab",
)


def settled_model(generator: torch.Generator, batches: int = 20) -> nn.Module:
    """A small DeiT whose norms have moved away from their start."""
    model = deit(
        d_model=32,
        n_layers=4,
        n_heads=4,
        image_size=16,
        patch=4,
        n_classes=10,
        norm={"name": "prepbn", "steps": 10},
        simplified=True,
    )
    with torch.no_grad():
        for norm in (m for m in model.modules() if isinstance(m, repbn.RepBN)):
            for parameter in norm.parameters():
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
        model.train()
        for _ in range(batches):
            model(torch.randn(16, 3, 16, 16, generator=generator))
    return model.eval()


def _merged(budget: str, seed: int) -> Evidence:
    generator = torch.Generator().manual_seed(seed)
    model = settled_model(generator)
    images = torch.randn(64, 3, 16, 16, generator=generator)
    without_eta = copy.deepcopy(model)
    with torch.no_grad():
        for norm in (m for m in without_eta.modules() if isinstance(m, repbn.RepBN)):
            norm.eta.zero_()
        wanted = model(images)
        merged = merge(model)
        off, off_without = ((m(images) - wanted).abs().max().item() for m in (merged, merge(without_eta)))
    name = "largest difference of logits"
    left = sum(isinstance(m, NORMS) for m in merged.modules())
    return Evidence(
        kind="numeric",
        statement=MERGED,
        checks=(Check(name, off, "<=", 1e-4), Check("norms that are left", left, "==", 0)),
        control=Control("merging that forgets η", (Check(name, off_without, "<=", 1e-4),)),
        seed=seed,
        budget=budget,
    )


def softmax_multiplications(n: int, d: int) -> int:
    """Those of QKᵀ and of the pattern times V for one head."""
    return 2 * n * n * d


def ranks(n: int, d_head: int, generator: torch.Generator) -> tuple[int, int]:
    """Rank of a random layer's attention on n positions, and the least rank of attention plus convolution."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
        mixer = SlabMixer(Shape(d_head, 1, 1, n, causal=False)).double()
    x = torch.randn(1, n, d_head, generator=generator, dtype=torch.float64)
    context = Context(Position(), n)
    with torch.no_grad():
        whole = mixer.effective_attention(x, context).matrix[0]
        mixer.dwc.weight.zero_()
        alone = mixer.effective_attention(x, context).matrix[0, 0]
    return int(torch.linalg.matrix_rank(alone)), int(torch.linalg.matrix_rank(whole).min())


def _cost(budget: str, seed: int) -> Evidence:
    d_head, short, long = 32, 196, 784
    growth = multiplications(long, d_head) / multiplications(short, d_head)
    quadratic = softmax_multiplications(long, d_head) / softmax_multiplications(short, d_head)
    alone, whole = ranks(short, d_head, torch.Generator().manual_seed(seed))
    full, times = "rank of attention plus convolution", "growth of its multiplications"
    return Evidence(
        kind="numeric",
        statement=COST,
        checks=(
            Check(f"{times}, at least", growth, ">=", 3.9),
            Check(f"{times}, at most", growth, "<=", 4.1),
            Check("growth of softmax attention's multiplications", quadratic, ">=", 12),
            Check("rank of attention alone", alone, "<=", d_head),
            Check(full, whole, "==", short),
        ),
        control=Control(
            "softmax attention's cost, and the attention without convolution",
            (Check(f"{times}, at most", quadratic, "<=", 4.1), Check(full, alone, "==", short)),
        ),
        seed=seed,
        budget=budget,
    )


CLAIMS = (Claim(MERGED, "numeric", _merged), Claim(COST, "numeric", _cost))
