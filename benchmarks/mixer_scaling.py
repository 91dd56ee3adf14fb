"""What each token mixer of the zoo costs against the length of its input, and against its own reference.

For every mixer: milliseconds of one forward pass of the layer alone (d_model 64, 4 heads, one example, one thread, no
gradient) at n = 512 … 32,768, the slope of log time over log n from 2,048 up, and at n = 2,048 the time of its
reference over that of its fast path. The reference is the matrix of weights times the values; for a mixer that is read
step by step with a state of one size, the loop over its steps. A length is left out where its n × n matrices would take
more than 4 GiB or the length before took more than 8 s.

Run: python benchmarks/mixer_scaling.py [mixer …] [--longest 32768]
"""

import argparse
import math
import time

import torch
from timing import machine
from torch import Tensor

from microtome.lab import zoo
from microtome.lab.zoo import registry
from microtome.lab.zoo.parts import Context
from microtome.lab.zoo.streaming import Moment, Streaming
from microtome.lab.zoo.transformer import SequenceModel

D_MODEL, HEADS = 64, 4
REFERENCE_LENGTH = 2048
FIT_FROM = 2048
LARGEST_MATRIX = 4 << 30
LONGEST_SECONDS = 8.0


def build(mixer: str, n: int) -> tuple[SequenceModel, Tensor, Context]:
    """The layer's model, an input and its context."""
    causal = not registry.load("mixers", mixer).Part.bidirectional_only
    model = zoo.sequence(
        d_vocab=2, mixer=mixer, position="none", d_model=D_MODEL, n_heads=HEADS, n_layers=1, n_ctx=n, causal=causal
    )
    x = torch.randn(1, n, D_MODEL, generator=torch.Generator().manual_seed(n))
    return model, x, Context(model.pos_embed, n, shared=model.shared_mixer)


def seconds(run) -> float:
    """The median of as many calls as fit into a second and a half, at least one after a first that warms up."""
    start = time.perf_counter()
    run()
    first = time.perf_counter() - start
    if first > LONGEST_SECONDS / 2:
        return first
    times = []
    while len(times) < 3 or (sum(times) < 1.5 and len(times) < 30):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2]


def loop(mixer: Streaming, model: SequenceModel, x: Tensor) -> None:
    state = mixer.start(1)
    for t, row in enumerate(x.unbind(1)):
        _, state = mixer.step(row, state, Moment(t, model.pos_embed, model.shared_mixer))


def reference_ratio(mixer: str) -> tuple[float, str]:
    """Time of the reference over that of the fast path, and which reference it was."""
    model, x, context = build(mixer, REFERENCE_LENGTH)
    layer = model.blocks[0].mixing
    fast = seconds(lambda: layer(x, context))
    if isinstance(layer, Streaming) and layer.constant_state:
        return seconds(lambda: loop(layer, model, x)) / fast, "steps"

    def product() -> Tensor:
        effective = layer.effective_attention(x, context)
        return effective.matrix @ effective.values

    return seconds(product) / fast, "matrix"


def slope(times: dict[int, float]) -> float:
    """Least squares of log seconds over log n, from `FIT_FROM` up."""
    points = [(math.log(n), math.log(t)) for n, t in times.items() if n >= FIT_FROM]
    if len(points) < 2:
        return math.nan
    mean_x, mean_y = (sum(p[i] for p in points) / len(points) for i in (0, 1))
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / sum((x - mean_x) ** 2 for x, _ in points)


def measured(mixer: str, lengths: list[int]) -> dict[int, float]:
    times: dict[int, float] = {}
    dense = registry.load("mixers", mixer).Part.template.cost.startswith("n²")
    for n in lengths:
        holds_matrix = dense and mixer not in ("softmax", "sigmoid_attention", "power_softmax")
        if (holds_matrix and 4 * HEADS * n * n > LARGEST_MATRIX) or (times and max(times.values()) > LONGEST_SECONDS):
            break
        model, x, context = build(mixer, n)
        layer = model.blocks[0].mixing
        times[n] = seconds(lambda layer=layer, x=x, context=context: layer(x, context))
    return times


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mixers", nargs="*", help="which; all that the zoo lists if none is named")
    parser.add_argument("--longest", type=int, default=32_768)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    lengths = [n for n in (512 << i for i in range(7)) if n <= chosen.longest]
    print(f"token mixers, forward, d_model {D_MODEL}, {HEADS} heads, batch 1; {machine()}")
    print(f"{'mixer':>18} " + " ".join(f"{f'n={n}':>9}" for n in lengths) + "   slope   reference/fast at n=2048")
    for mixer in chosen.mixers or zoo.names("mixers"):
        times = measured(mixer, lengths)
        cells = " ".join(f"{1e3 * times[n]:>9.2f}" if n in times else f"{'–':>9}" for n in lengths)
        ratio, kind = reference_ratio(mixer)
        print(f"{mixer:>18} {cells}   {slope(times):>5.2f}   {ratio:>6.1f}x ({kind})", flush=True)


if __name__ == "__main__":
    main()
