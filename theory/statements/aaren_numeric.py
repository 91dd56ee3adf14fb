"""What Aaren's scan is and costs, without training: one value however it is made, and a state that does not grow.

Source: Feng et al., "Attention as an RNN" (2024).
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from microtome.kernels.scan import prefix_softmax
from microtome.lab import zoo
from microtome.lab.zoo.streaming import Stream
from microtome.theory.claim import Claim
from microtome.theory.evidence import Check, Control, Evidence
from microtome.theory.statement import Statement

_PAPER = "Feng et al., Attention as an RNN (2024)"
LONGEST = {"quick": 256, "full": 4096}
SHORTEST = 64

EQUIVALENCE = Statement(
    name="scan, recurrence and softmax are one",
    text="The chunked scan, the Hillis-Steele scan and the recurrence give the softmax attention of every prefix "
    "within 5e-5 in float32, at scores where sums of plain exponentials overflow.",
    hypotheses=("n = 4,096, d_v = 16, scores from N(0, 50²)",),
    source=f"{_PAPER}, sections 3.1 and 3.2",
    slug="aaren",
)
STREAMING = Statement(
    name="a state of one size",
    text="What Aaren keeps of n tokens has one size, and reading them takes work in proportion to n; a cache of keys "
    "and values grows as n, and the products with it as n².",
    hypotheses=(f"one layer, d = 8, 2 heads, from n = {SHORTEST} to {LONGEST['full']:,}; {LONGEST['quick']} if quick",),
    source=f"{_PAPER}, section 3.3",
    slug="aaren",
)

Outputs = Float[Tensor, "pos d_v"]


def plain_sums(scores: Float[Tensor, " pos"], values: Outputs) -> Outputs:
    """Σ e^s v / Σ e^s by cumulative sums, without a maximum."""
    return (scores.exp()[:, None] * values).cumsum(0) / scores.exp().cumsum(0)[:, None]


def by_recurrence(scores: Float[Tensor, " pos"], values: Outputs) -> Outputs:
    """One key after the other."""
    state, outputs = prefix_softmax.identity(values[0]), []
    for score, value in zip(scores, values, strict=True):
        output, state = prefix_softmax.step(state, score, value)
        outputs.append(output)
    return torch.stack(outputs)


def _equivalence(budget: str, seed: int) -> Evidence:
    generator = torch.Generator().manual_seed(seed)
    scores = 50 * torch.randn(4096, generator=generator)
    values = torch.randn(4096, 16, generator=generator)
    wanted = prefix_softmax.reference(scores, values)
    found = {
        "chunked scan": prefix_softmax.prefix_attention(scores, values),
        "Hillis-Steele scan": prefix_softmax.hillis_steele(prefix_softmax.leaves(scores, values))[0].output,
        "recurrence": by_recurrence(scores, values),
    }
    differences = {name: (each - wanted).abs().max().item() for name, each in found.items()}
    plain = plain_sums(scores, values)
    # An output that is not a number is as far off as can be.
    off = (plain - wanted).abs().nan_to_num(nan=torch.inf, posinf=torch.inf).max().item()
    name = "largest difference from the softmax of each prefix"
    return Evidence(
        kind="numeric",
        statement=EQUIVALENCE,
        checks=(Check(name, max(differences.values()), "<=", 5e-5),),
        control=Control("cumulative sums without the maximum", (Check(name, off, "<=", 5e-5),)),
        seed=seed,
        budget=budget,
        notes=", ".join(f"{name} {each:.1e}" for name, each in differences.items())
        + f"; {int((~torch.isfinite(plain)).any(-1).sum())} of 4,096 plain outputs are not finite.",
    )


class Multiplications(TorchDispatchMode):
    """Counts multiplications while it is entered: `products` of matrices in batches, and `all`."""

    def __init__(self):
        super().__init__()
        self.products, self.all = 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        match func.overloadpacket.__name__:
            case "bmm":
                self.products += out.numel() * args[0].shape[-1]
                self.all += out.numel() * args[0].shape[-1]
            case "mm":
                self.all += out.numel() * args[0].shape[-1]
            case "addmm":
                self.all += out.numel() * args[1].shape[-1]
            case "mul":
                self.all += out.numel()
        return out


def read(mixer: str, lengths: tuple[int, ...]) -> dict[int, tuple[int, int, int]]:
    """Of a stream of tokens: (floats kept, all multiplications, those of products) after so many of them."""
    sizes = {"d_model": 8, "n_heads": 2, "n_layers": 1, "n_ctx": max(lengths)}
    model = zoo.sequence(d_vocab=3, mixer=mixer, position="none", feedforward="none", **sizes)
    stream, token, found = Stream(model), torch.tensor([1]), {}
    with Multiplications() as count:
        for t in range(1, max(lengths) + 1):
            stream.push(token)
            if t in lengths:
                found[t] = (stream.floats, count.all, count.products)
    return found


def _grown(found: dict[int, tuple[int, int, int]]) -> tuple[Check, ...]:
    (floats, work, _), (more_floats, more_work, _) = found[min(found)], found[max(found)]
    times = max(found) / min(found)
    return (
        Check("floats kept, longest over shortest", more_floats / floats, "==", 1),
        Check("multiplications over n, longest over shortest, off 1", abs(more_work / work / times - 1), "<=", 0.01),
    )


def _streaming(budget: str, seed: int) -> Evidence:
    lengths = tuple(2**i for i in range(6, LONGEST[budget].bit_length()))
    aaren, softmax = (read(mixer, lengths) for mixer in ("aaren", "softmax"))
    times = lengths[-1] / SHORTEST
    cache = softmax[lengths[-1]][0] / softmax[SHORTEST][0]
    products = softmax[lengths[-1]][2] / softmax[SHORTEST][2]
    return Evidence(
        kind="numeric",
        statement=STREAMING,
        checks=(
            *_grown(aaren),
            Check("growth of the cache of keys and values over that of n", cache / times, "==", 1),
            # 3,000 of the 4,096 that a pure square would give from 64 to 4,096
            Check("growth of attention's products over that of n²", products / times**2, ">=", 3000 / 4096),
        ),
        control=Control("softmax attention with its cache", _grown(softmax)),
        seed=seed,
        budget=budget,
        notes=f"from {SHORTEST} to {lengths[-1]:,}: Aaren keeps {aaren[SHORTEST][0]} floats; the cache grows "
        f"{cache:.0f} times, attention's products {products:.0f} times.",
        figure=lambda: _draw(aaren, softmax),
    )


def _draw(aaren: dict, softmax: dict) -> object:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.4), layout="constrained")
    panels = figure.subplots(1, 2)
    for axes, column, label in zip(panels, (0, 1), ("floats kept", "multiplications so far"), strict=True):
        for found, style, name in ((aaren, "o-", "Aaren"), (softmax, "s--", "softmax attention, cached")):
            axes.loglog(list(found), [each[column] for each in found.values()], style, label=name, markersize=4)
        axes.set(xlabel="tokens read", title=label)
    panels[0].legend(fontsize="small")
    return figure


CLAIMS = (Claim(EQUIVALENCE, "numeric", _equivalence), Claim(STREAMING, "numeric", _streaming))
