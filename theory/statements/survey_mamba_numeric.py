"""State-space duality and the selective scan, without training: four forms of one map, its limits, cost and state.

Source: "A Survey of Mamba" (2024), on Gu & Dao 2023 ("Mamba") and Dao & Gu 2024 ("Transformers are SSMs").
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from microtome.kernels.scan import selective, ssd
from microtome.lab import zoo
from microtome.lab.zoo.streaming import Stream
from microtome.theory.claim import Claim
from microtome.theory.evidence import Check, Control, Evidence
from microtome.theory.statement import Statement

_PAPER = "A Survey of Mamba (2024)"

DUALITY = Statement(
    name="recurrence, scan, chunks and attention are one",
    text="The selective scan in segments, its recurrence and its matrix agree within 1e-12 in float64 and 1e-5 in "
    "float32, and so do the recurrent, chunked and quadratic forms of state-space duality.",
    hypotheses=("batch 2, 200 positions, 8 states", "relative to the largest output"),
    source=f"{_PAPER}, sections 3, 7 and 8",
    slug="survey_mamba",
)
LIMITS = Statement(
    name="selection is what convolutions lack",
    text="With constant Δ, B and C the scan is a convolution, and its blocks below the diagonal have the rank of the "
    "state; without decay state-space duality is causal linear attention.",
    hypotheses=("float64, within 1e-12 of the Fourier convolution, relative to the largest output",),
    source=f"{_PAPER}, sections 2, 3 and 7",
    slug="survey_mamba",
)
GATE = Statement(
    name="gated recurrence needs the zero-order hold",
    text="With N = 1, A = −1 and B = 1 the zero-order hold gives h = (1 − g)h + g x with g = σ(Wx); Euler's step, "
    "which the code takes, gives softplus(Wx) in place of the second g.",
    hypotheses=("Δ = softplus(Wx)",),
    source=f"{_PAPER}, section 3; Gu & Dao 2023, theorem 1",
    slug="survey_mamba",
)
STATE = Statement(
    name="decoding keeps a state of one size",
    text="Mamba, Mamba-2, S4D and retention keep as many floats after 512 tokens as after 8; attention's cache "
    "grows as n.",
    hypotheses=("one layer, d = 16, 2 heads",),
    source=f"{_PAPER}, section 5",
    slug="survey_mamba",
)

COST = Statement(
    name="the scan's work is linear",
    text="The numbers that the selective scan and state-space duality write grow as n to a power of at most 1.15; "
    "attention's grow with one of at least 1.7.",
    hypotheses=("n from 512 to 8,192, to 2,048 if quick; 4 channels, 4 states", "counted operation by operation"),
    source=f"{_PAPER}, sections 4 and 8",
    slug="survey_mamba",
)

RECURRENT = ("mamba", "mamba2", "s4d", "retention")


def scan_inputs(n: int, seed: int, dtype: torch.dtype) -> list[Tensor]:
    """x, Δ, A, B and C of the selective scan."""
    generator = torch.Generator().manual_seed(seed)
    x, delta, B, C = (torch.randn(2, n, 8, generator=generator, dtype=torch.float64) for _ in range(4))
    A = -4 * torch.rand(8, 8, generator=generator, dtype=torch.float64)
    return [each.to(dtype) for each in (x, F.softplus(delta - 1), A, B, C)]


def ssd_inputs(n: int, seed: int, dtype: torch.dtype) -> list[Tensor]:
    """q, k, v and log a of state-space duality."""
    generator = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(2, 2, n, 8, generator=generator, dtype=torch.float64) for _ in range(3))
    log_decay = -torch.rand(2, 2, n, generator=generator, dtype=torch.float64)
    return [each.to(dtype) for each in (q, k, v, log_decay)]


def difference(found: Tensor, wanted: Tensor) -> float:
    """The largest difference, relative to the largest output."""
    return ((found - wanted).abs().max() / wanted.abs().max()).item()


def _duality(budget: str, seed: int) -> Evidence:
    checks, control = [], []
    for dtype, bound in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        kind = str(dtype)[6:]
        x, *rest = scan_inputs(200, seed, dtype)
        wanted = selective.reference(x, *rest)
        matrix = torch.einsum("bcqk,bkc->bqc", selective.effective_matrix(*rest), x)
        scanned = max(difference(each, wanted) for each in (selective.selective_scan(x, *rest), matrix))
        name = f"selective scan in {kind}"
        checks.append(Check(name, scanned, "<=", bound))
        forgetful = torch.cat([selective.selective_scan(x[:, :100], *_part(rest, 0)),
                               selective.selective_scan(x[:, 100:], *_part(rest, 100))], 1)  # fmt: skip
        control.append(Check(name, difference(forgetful, wanted), "<=", bound))
        inputs = ssd_inputs(200, seed, dtype)
        wanted = ssd.reference(*inputs)
        dual = max(difference(form(*inputs), wanted) for form in (ssd.ssd, ssd.recurrent))
        checks.append(Check(f"state-space duality in {kind}", dual, "<=", bound))
    return Evidence(
        kind="numeric",
        statement=DUALITY,
        checks=tuple(checks),
        control=Control("a scan that forgets its state half-way", tuple(control)),
        seed=seed,
        budget=budget,
    )


def _part(rest: list[Tensor], start: int) -> list[Tensor]:
    delta, A, B, C = rest
    part = slice(start, start + 100)
    return [delta[:, part], A, B[:, part], C[:, part]]


def _limits(budget: str, seed: int) -> Evidence:
    x, delta, A, B, C = scan_inputs(200, seed, torch.float64)
    constant = [each[:, :1].expand(-1, 200, -1) for each in (delta, B, C)]
    kernel = (constant[0][:, :, :, None] * A * torch.arange(200)[:, None, None]).exp()
    kernel = torch.einsum("blcn,bn,bn->blc", kernel, B[:, 0], C[:, 0]) * delta[:, :1]
    spectra = (torch.fft.rfft(each, n=400, dim=1) for each in (kernel, x))
    convolved = torch.fft.irfft(next(spectra) * next(spectra), n=400, dim=1)[:, :200]
    fixed = selective.selective_scan(x, constant[0], A, *constant[1:])
    block = selective.effective_matrix(delta, A, B, C)[0, :, 100:, :100]
    ranks = torch.linalg.matrix_rank(block, rtol=1e-10)
    q, k, v, log_decay = ssd_inputs(200, seed, torch.float64)
    linear = ((q @ k.mT).tril()) @ v
    name = "from the Fourier convolution of the first position's Δ, B and C"
    return Evidence(
        kind="numeric",
        statement=LIMITS,
        checks=(
            Check(name, difference(fixed, convolved), "<=", 1e-12),
            Check("rank of a block below the diagonal", ranks.max().item(), "<=", 8),
            Check("without decay, from linear attention",
                  difference(ssd.ssd(q, k, v, torch.zeros_like(log_decay)), linear), "<=", 1e-12),
        ),
        control=Control(
            "Δ, B and C of every position",
            (Check(name, difference(selective.selective_scan(x, delta, A, B, C), convolved), "<=", 1e-12),),
        ),
        seed=seed,
        budget=budget,
    )  # fmt: skip


def gate_errors() -> dict[str, str]:
    """What symbolic algebra leaves of (decay − (1 − σ)) and (input weight − σ), by way of discretising."""
    import sympy as sp

    w = sp.symbols("w", real=True)
    sigma, step = 1 / (1 + sp.exp(-w)), sp.log(1 + sp.exp(w))
    decay = sp.exp(-step)
    weights = {"zero-order hold": 1 - decay, "Euler": step}  # A⁻¹(Ā − I)B and ΔB, at A = −1 and B = 1
    return {name: str(sp.simplify((decay - (1 - sigma)) ** 2 + (each - sigma) ** 2)) for name, each in weights.items()}


def _gate(budget: str, seed: int) -> Evidence:
    left = gate_errors()
    name = "terms left of decay − (1 − g) and of input weight − g"
    return Evidence(
        kind="symbolic",
        statement=GATE,
        checks=(Check(name, int(left["zero-order hold"] != "0"), "==", 0),),
        control=Control("Euler's step ΔB", (Check(name, int(left["Euler"] != "0"), "==", 0),)),
        budget=budget,
    )


def floats_kept(mixer: str, lengths: tuple[int, ...]) -> list[int]:
    """By a stream of one layer, after so many tokens."""
    sizes = {"d_model": 16, "n_heads": 2, "n_layers": 1, "n_ctx": max(lengths)}
    model = zoo.sequence(d_vocab=3, mixer=mixer, position="none", feedforward="none", **sizes)
    stream, found = Stream(model), []
    for t in range(1, max(lengths) + 1):
        stream.push(torch.tensor([t % 3]))
        if t in lengths:
            found.append(stream.floats)
    return found


def _state(budget: str, seed: int) -> Evidence:
    kept = {mixer: floats_kept(mixer, (8, 512)) for mixer in (*RECURRENT, "softmax")}
    growth = {mixer: last / first for mixer, (first, last) in kept.items()}
    name = "floats kept after 512 tokens over those after 8"
    return Evidence(
        kind="numeric",
        statement=STATE,
        checks=(Check(name, max(growth[mixer] for mixer in RECURRENT), "==", 1),),
        control=Control("softmax attention with its cache", (Check(name, growth["softmax"], "==", 1),)),
        budget=budget,
        notes=", ".join(f"{mixer} {first} and {last}" for mixer, (first, last) in kept.items()),
    )


class Written(TorchDispatchMode):
    """Counts the numbers that operations write while it is entered; views write none."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor) and not func.is_view:
            self.count += out.numel()
        return out


def exponent(work: Callable[[int], object], lengths: tuple[int, ...]) -> float:
    """p of n^p, by the line through the logarithms of what `work(n)` writes."""
    counts = []
    for n in lengths:
        with Written() as written:
            work(n)
        counts.append(written.count)
    return float(np.polyfit(np.log(lengths), np.log(counts), 1)[0])


def _scan(n: int) -> Tensor:
    generator = torch.Generator().manual_seed(n)
    x, delta, B, C = (torch.rand(1, n, 4, generator=generator) for _ in range(4))
    return selective.selective_scan(x, delta, -torch.ones(4, 4), B, C)


def _dual(form: Callable[..., Tensor]) -> Callable[[int], Tensor]:
    def work(n: int) -> Tensor:
        generator = torch.Generator().manual_seed(n)
        q, k, v = (torch.rand(1, 1, n, 4, generator=generator) for _ in range(3))
        return form(q, k, v, -torch.rand(1, 1, n, generator=generator))

    return work


def _attention(n: int) -> Tensor:
    q, k, v = torch.rand(3, n, 4, generator=torch.Generator().manual_seed(n))
    return (q @ k.T).softmax(-1) @ v


def _cost(budget: str, seed: int) -> Evidence:
    lengths = tuple(512 * 2**i for i in range({"quick": 3, "full": 5}[budget]))
    found = {
        "selective scan": exponent(_scan, lengths),
        "state-space duality in chunks": exponent(_dual(ssd.ssd), lengths),
        "attention": exponent(_attention, lengths),
    }
    name = "largest exponent of the scans"
    return Evidence(
        kind="numeric",
        statement=COST,
        checks=(
            Check(name, max(found["selective scan"], found["state-space duality in chunks"]), "<=", 1.15),
            Check("exponent of attention", found["attention"], ">=", 1.7),
        ),
        control=Control("state-space duality in its quadratic form",
                        (Check(name, exponent(_dual(ssd.reference), lengths), "<=", 1.15),)),
        seed=seed,
        budget=budget,
        notes=", ".join(f"{name} {power:.2f}" for name, power in found.items()),
    )  # fmt: skip


CLAIMS = (
    Claim(COST, "numeric", _cost),
    Claim(DUALITY, "numeric", _duality),
    Claim(LIMITS, "numeric", _limits),
    Claim(GATE, "symbolic", _gate),
    Claim(STATE, "numeric", _state),
)
