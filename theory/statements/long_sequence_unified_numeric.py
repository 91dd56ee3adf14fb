"""The unified template and distributed attention, measured.

Source: "A Unified View of Long-Sequence Models towards Modeling Million-Scale Dependencies" (2023). Every mixer of the
zoo is held against its own matrix; the workers of a ring are run in turn within one process.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from microtome.kernels.long_sequence_unified import Traffic, shares, simulated_attention, words_moved
from microtome.kernels.long_sequence_unified.tiles import Block, Rules, Running, fold
from microtome.lab import zoo
from microtome.lab.zoo import registry
from microtome.lab.zoo.parts import Effective, MixerPart
from microtome.theory.claim import Claim
from microtome.theory.evidence import Check, Control, Evidence
from microtome.theory.statement import Statement

SLUG = "long_sequence_unified"
PAPER = "A Unified View of Long-Sequence Models towards Modeling Million-Scale Dependencies (2023)"
N, HEADS, WIDTH, VOCAB = 150, 2, 16, 11
FITTED = 32
"""L where a constant matrix is fitted to 2·L inputs."""

TEMPLATE = Statement(
    name="one template",
    text="Every mixer of the zoo is M·V with a matrix of its own, to 1e-5 in float32 and 1e-10 in float64, relative to "
    "the largest output; where M is said to be static, one matrix serves all inputs.",
    hypotheses=(
        f"each mixer with its default options, n = {N}, causal and bidirectional where it is both",
        f"constant matrices are fitted at L = {FITTED} to 2·L inputs",
        "mixers that declare their matrix heuristic are left out, and named",
    ),
    source=f"{PAPER}, the template of token mixing",
    slug=SLUG,
)
DISTRIBUTED = Statement(
    name="distributed attention",
    text="Workers that pass keys and values round a ring compute attention to 1e-5, hold at most b² scores each and "
    "send 2(P−1)·L·D words in all.",
    hypotheses=("P = 1, 2 and 4 workers in turn within one process, one head of width 64, float32",),
    source=f"{PAPER}, distributed multi-head attention",
    slug=SLUG,
)


@dataclass(frozen=True)
class Mixed:
    """One mixer run once: what it is as a matrix and values, and its hook_z, [batch head pos d_head] each."""

    effective: Effective
    z: Tensor

    @property
    def error(self) -> float:
        """Largest difference between M·V and hook_z, relative to the largest output."""
        product = self.effective.matrix @ self.effective.values
        return ((product - self.z).abs().max() / self.z.abs().max().clamp(min=1e-30)).item()

    @property
    def static_residual(self) -> float:
        """What the best constant matrix of each head leaves of hook_z over all examples, relative to its norm."""
        values, z = (x.transpose(0, 1).transpose(1, 2).flatten(2) for x in (self.effective.values, self.z))
        constant = torch.linalg.lstsq(values.mT, z.mT, driver="gelsd").solution.mT
        return ((constant @ values - z).norm() / z.norm()).item()


def mixed(mixer: str, causal: bool, shape: tuple[int, int], dtype: torch.dtype, seed: int) -> Mixed:
    """The mixer in a layer of its own on random tokens [batch pos]."""
    model = zoo.sequence(
        mixer=mixer,
        position="none",
        feedforward="none",
        d_vocab=VOCAB,
        d_model=WIDTH,
        n_layers=1,
        n_heads=HEADS,
        n_ctx=shape[1],
        causal=causal,
        seed=seed,
    ).to(dtype)
    tokens = torch.randint(VOCAB, shape, generator=torch.Generator().manual_seed(seed))
    name = f"blocks.0.{model.blocks[0].slot}.hook_z"
    with torch.no_grad():
        z = model.run_with_cache(tokens, names_filter=name)[1][name]
    effective = model.effective_attention(tokens)[0]
    channels = effective.values.shape[1]
    return Mixed(effective, z.flatten(2).unflatten(2, (channels, -1)).transpose(1, 2))


def directions(part: type[MixerPart]) -> list[bool]:
    """The values of `causal` that a mixer allows."""
    return [causal for causal in (True, False) if not (part.bidirectional_only if causal else part.causal_only)]


def template_errors(seed: int) -> dict[str, tuple[float, float]]:
    """Of every mixer, the error in float64 and in float32; NaN for one whose matrix is declared heuristic."""
    found = {}
    for name in registry.names("mixers"):
        runs = [
            [mixed(name, causal, (2, N), dtype, seed) for causal in directions(registry.load("mixers", name).Part)]
            for dtype in (torch.float64, torch.float32)
        ]
        exact = all(run.effective.exact for of_dtype in runs for run in of_dtype)
        errors = (max(run.error for run in of_dtype) for of_dtype in runs)
        found[name] = tuple(errors) if exact else (float("nan"), float("nan"))
    return found


def _template(budget: str, seed: int) -> Evidence:
    errors = template_errors(seed)
    exact = {name: pair for name, pair in errors.items() if pair[0] == pair[0]}
    static = [name for name in exact if registry.load("mixers", name).Part.template.depends != "input"]
    residuals = {
        name: max(
            mixed(name, causal, (2 * FITTED, FITTED), torch.float64, seed).static_residual
            for causal in directions(registry.load("mixers", name).Part)
        )
        for name in static
    }
    fit = "largest residual of one constant matrix over 2L inputs"
    nonlinear = mixed("mlp_mixer", False, (2 * FITTED, FITTED), torch.float64, seed).static_residual
    heuristic = ", ".join(sorted(set(errors) - set(exact)))
    return Evidence(
        kind="numeric",
        statement=TEMPLATE,
        checks=(
            Check("largest error in float64", max(pair[0] for pair in exact.values()), "<=", 1e-10),
            Check("largest error in float32", max(pair[1] for pair in exact.values()), "<=", 1e-5),
            Check(fit, max(residuals.values()), "<=", 1e-2),
        ),
        control=Control("MLP-Mixer, whose GELU lies between its two matrices", (Check(fit, nonlinear, "<=", 1e-2),)),
        seed=seed,
        budget=budget,
        notes=f"{len(exact)} mixers, of which {', '.join(static)} are static"
        + (f"; {heuristic} declare their matrix heuristic." if heuristic else "."),
    )


class LargestScores(TorchDispatchMode):
    """Watches for the most entries, in one example and head, of a tensor that is no row of features."""

    def __init__(self, d_head: int):
        super().__init__()
        self.d_head, self.largest = d_head, 0

    def __torch_dispatch__(self, func: Callable, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor) and out.ndim == 4 and out.shape[-1] not in (1, self.d_head):
            self.largest = max(self.largest, out.shape[-1] * out.shape[-2])
        return out


def fold_without_rescale(running: Running, q: Tensor, start: int, block: Block, rules: Rules) -> None:
    """As `fold`, but what was summed before the maximum rose keeps its old scale."""
    fresh = Running(torch.zeros_like(running.o), running.m.clone(), torch.zeros_like(running.l))
    fold(fresh, q, start, block, rules)
    running.o.add_(fresh.o)
    running.l.add_(fresh.l)
    running.m.copy_(fresh.m)


def _distributed(budget: str, seed: int) -> Evidence:
    length, d_head, tile = {"quick": (512, 64, 96), "full": (4096, 64, 128)}[budget]
    generator = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(1, 1, length, d_head, generator=generator) for _ in range(3))
    whole = F.scaled_dot_product_attention(q, k, v)
    checks = []
    for workers in (1, 2, 4):
        sizes, traffic = shares(length, workers), Traffic()
        with LargestScores(d_head) as scores:
            z = simulated_attention(q, k, v, sizes=sizes, tile=tile, traffic=traffic)
        checks += [
            Check(f"P = {workers}: output error", (z - whole).abs().max().item(), "<=", 1e-5),
            Check(f"P = {workers}: scores of a worker", scores.largest, "<=", tile * tile),
            Check(f"P = {workers}: words sent", traffic.forward.words, "==", words_moved(workers, length, d_head)),
        ]
    broken = simulated_attention(q, k, v, sizes=shares(length, 4), tile=length, fold=fold_without_rescale)
    return Evidence(
        kind="numeric",
        statement=DISTRIBUTED,
        checks=tuple(checks),
        control=Control(
            "without the factor e^{m−m′} on what was summed before",
            (Check("P = 4: output error", (broken - whole).abs().max().item(), "<=", 1e-5),),
        ),
        seed=seed,
        budget=budget,
        notes=f"L = {length}, b = {tile}.",
    )


CLAIMS = (
    Claim(TEMPLATE, "numeric", _template),
    Claim(DISTRIBUTED, "numeric", _distributed),
)
