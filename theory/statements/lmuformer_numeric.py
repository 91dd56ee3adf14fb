"""What a Legendre memory holds before anything is trained, beside as many exponential traces.

Source: Liu et al., "LMUFormer: Low Complexity Yet Powerful Spiking Model With Legendre Memory Units" (2024, slug
`lmuformer`), section 3; the read-out is that of Voelker et al. (2019), equation 3.
"""

from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from microtome.kernels import legendre_memory as kernel
from microtome.theory.claim import Claim
from microtome.theory.evidence import Check, Control, Evidence
from microtome.theory.statement import Statement

_PAPER = "Liu et al., LMUFormer (2024)"
STATES, THETA, SMOOTHING = 8, 64.0, 8.0
DELAYS = (0.0, 16.0, 32.0, 64.0)

MEMORY = Statement(
    name="a memory without training",
    text="Eight Legendre coefficients of a window of 64 give the input back 0, 16, 32 and 64 steps later with an error "
    "of at most 0.15 of its standard deviation, by a read-out that is fixed beforehand.",
    hypotheses=(f"Gaussian noise smoothed by a Gaussian of σ = {SMOOTHING:g}", "the first 512 steps are not counted"),
    source=f"{_PAPER}, section 3; Voelker et al. (2019), equation 3",
    slug="lmuformer",
)


def smooth_noise(n: int, generator: torch.Generator) -> Float[Tensor, " pos"]:
    """White noise smoothed by a Gaussian, of unit variance, in float64."""
    white = torch.randn(n, generator=generator, dtype=torch.float64)
    smooth = torch.from_numpy(gaussian_filter1d(white.numpy(), SMOOTHING))
    return smooth / smooth.std()


def legendre_errors(u: Float[Tensor, " pos"], settled: int, delays: tuple[float, ...] = DELAYS) -> list[float]:
    """Root mean square error over the input's standard deviation, of the fixed read-out at each delay."""
    a_bar, b_bar = kernel.system(STATES, THETA)
    response = kernel.impulse_response(a_bar, b_bar, len(u))
    memory = kernel.legendre_memory(u[None], response)[0]
    read = memory @ kernel.read_out(STATES, THETA, torch.tensor(delays)).T
    return [error(read[:, i], u, int(delay), settled) for i, delay in enumerate(delays)]


def trace_error(u: Float[Tensor, " pos"], settled: int, delay: int) -> float:
    """The same for as many exponential traces of time constants from 1 to 64, with the best linear read-out in
    hindsight."""
    constants = torch.logspace(0, np.log10(THETA), STATES, dtype=torch.float64)
    decay = torch.exp(-1 / constants)
    response = (1 - decay)[:, None] * decay[:, None] ** torch.arange(len(u), dtype=torch.float64)
    traces = kernel.legendre_memory(u[None], response)[0]
    target = u.roll(delay)
    weights = torch.linalg.lstsq(traces[settled:], target[settled:, None]).solution
    return error((traces @ weights)[:, 0], u, delay, settled)


def error(read: Float[Tensor, " pos"], u: Float[Tensor, " pos"], delay: int, settled: int) -> float:
    """NRMSE of `read` against the input `delay` steps ago."""
    wanted = u.roll(delay)[settled:]
    return ((read[settled:] - wanted).square().mean().sqrt() / u.std()).item()


def _memory(budget: str, seed: int) -> Evidence:
    generator, settled = torch.Generator().manual_seed(seed), 512
    u = smooth_noise({"quick": 20_000, "full": 200_000}[budget], generator)
    errors = legendre_errors(u, settled)
    names = [f"error at delay {delay:g}" for delay in DELAYS]
    return Evidence(
        kind="numeric",
        statement=MEMORY,
        checks=tuple(Check(name, e, "<=", 0.15) for name, e in zip(names, errors, strict=True)),
        control=Control(
            "eight exponential traces with their best read-out",
            (Check(names[-1], trace_error(u, settled, int(DELAYS[-1])), "<=", 0.15),),
        ),
        seed=seed,
        budget=budget,
        figure=partial(_draw, u, settled),
    )


def _draw(u: Tensor, settled: int):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    a_bar, b_bar = kernel.system(STATES, THETA)
    u_shown = u[: settled + 300]
    memory = kernel.legendre_memory(u_shown[None], kernel.impulse_response(a_bar, b_bar, len(u_shown)))[0]
    read = memory @ kernel.read_out(STATES, THETA, torch.tensor([32.0])).T
    t = torch.arange(settled, len(u_shown))
    left.plot(t, u_shown.roll(32)[settled:], color="0.6", linewidth=2.5, label="input 32 steps ago")
    left.plot(t, read[settled:, 0], color="C0", linewidth=1, label="fixed Legendre read-out")
    left.set(xlabel="position", title="Eight numbers hold a window of 64")
    low, high = left.get_ylim()
    left.set_ylim(low, high + 0.25 * (high - low))
    left.legend(fontsize="small", loc="upper right", ncols=2)
    delays = tuple(range(0, 65, 4))
    right.plot(delays, legendre_errors(u, settled, tuple(map(float, delays))), "C0o-", markersize=3, label="Legendre")
    traces = [trace_error(u, settled, delay) for delay in delays]
    right.plot(delays, traces, "C1x-", markersize=4, label="exponential traces")
    right.axhline(0.15, color="0.5", linestyle=":", linewidth=1)
    right.set(xlabel="delay", ylabel="error / standard deviation", ylim=(0, None), title="8 states each")
    right.legend(fontsize="small")
    return figure


CLAIMS = (Claim(MEMORY, "numeric", _memory),)
