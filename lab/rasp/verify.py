"""Holding a compiled model against the interpreter: every direction of its stream, on all inputs or on drawn ones."""

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from microtome.lab.rasp.compiler.allocate import Life
from microtome.lab.rasp.compiler.facts import Setting
from microtome.lab.rasp.compiler.operations import Direction
from microtome.lab.rasp.errors import RaspError
from microtome.lab.rasp.interpreter import evaluate, trace
from microtome.lab.rasp.language import Indices
from microtome.lab.rasp.values import Value, is_numeric, key

if TYPE_CHECKING:
    from microtome.lab.rasp.compiled import Compiled

EXHAUSTIVE_LIMIT = 20_000
"""Up to how many inputs all of them are run."""
CHUNK = 500_000
"""Most numbers of residual stream that one forward pass may leave, a layer."""
ROUNDING = 1e-5
"""How far a coordinate may be off beyond its certified error, relative to its size."""

Input = tuple[Value, ...]


@dataclass(frozen=True)
class Mismatch:
    """The first input on which the model differs, and the first direction there, in the order of computation."""

    tokens: Input
    node: str
    position: int
    expected: Value
    found: Value


@dataclass(frozen=True)
class Report:
    """What `verify` found.

    Attributes:
        inputs: how many inputs were run.
        exhaustive: whether these are all inputs of length 1 to max_len.
        mismatch: the first difference, or None.
        deviation: the largest distance of any coordinate of the stream from what the interpreter's values say it should
            be, over all inputs and all directions but those that are rounded to a grid on purpose; of these, too, each
            must be right to within its certified error.
        undefined: how many inputs were left out, because the program is not defined on them.
    """

    inputs: int
    exhaustive: bool
    mismatch: Mismatch | None
    deviation: float
    undefined: int = 0

    @property
    def equal(self) -> bool:
        """Whether model and interpreter agree on every input that was run."""
        return self.mismatch is None

    def __str__(self) -> str:
        which = f"all {self.inputs:,} inputs" if self.exhaustive else f"{self.inputs:,} drawn inputs"
        if self.undefined:
            which += f" on which the program is defined (on {self.undefined:,} it is not)"
        if self.mismatch is None:
            return f"equals the interpreter on {which}; largest deviation in the stream {self.deviation:.1e}"
        m = self.mismatch
        return (
            f"differs on input {list(m.tokens)!r}: {m.node} is {m.found!r} at position {m.position} in the model and "
            f"{m.expected!r} in the interpreter ({which} were to be run)"
        )


def verify(compiled: "Compiled", *, exhaustive: bool | None, samples: int, limit: int, seed: int) -> Report:
    """Runs model and interpreter side by side; see `Compiled.verify`."""
    setting = compiled.lowered.plan.setting
    total = sum(len(setting.vocab) ** length for length in range(1, setting.max_len + 1))
    exhaustive = total <= limit if exhaustive is None else exhaustive
    if not exhaustive and samples < 1:
        raise RaspError(f"to draw inputs from {total:,}, samples must be at least 1, not {samples}")
    inputs = every_input(setting.vocab, setting.max_len) if exhaustive else draw(setting, samples, seed)
    run, undefined, deviation = 0, 0, 0.0
    for chunk in _chunks(inputs, CHUNK // (len(compiled.labels) * (1 + setting.max_len))):
        traced = [_traced(compiled, tokens) for tokens in chunk]
        defined = [i for i, values in enumerate(traced) if values is not None]
        undefined += len(chunk) - len(defined)
        if not defined:
            continue
        mismatch, distance = _compare(compiled, [chunk[i] for i in defined], [traced[i] for i in defined])
        run, deviation = run + len(defined), max(deviation, distance)
        if mismatch is not None:
            return Report(run, exhaustive, mismatch, deviation, undefined)
    return Report(run, exhaustive, None, deviation, undefined)


def every_input(vocab: Sequence[Value], max_len: int) -> Iterator[Input]:
    """All inputs of length 1 to max_len, shorter ones first."""
    return itertools.chain.from_iterable(itertools.product(vocab, repeat=n) for n in range(1, max_len + 1))


def draw(setting: Setting, samples: int, seed: int) -> Iterator[Input]:
    """Inputs sorted by length: half of full length, the rest of any; tokens from a random part of the vocabulary, so
    that there are inputs with many repetitions and with few; a quarter with as few repetitions as can be."""
    generator = random.Random(seed)
    drawn = []
    for i in range(samples):
        length = setting.max_len if i % 2 else generator.randint(1, setting.max_len)
        part = generator.sample(setting.vocab, generator.randint(1, len(setting.vocab)))
        if i % 4 == 2:
            length = min(length, len(setting.vocab))
            drawn.append(tuple(generator.sample(setting.vocab, length)))
        else:
            drawn.append(tuple(generator.choices(part, k=length)))
    return iter(sorted(drawn, key=len))


def _chunks(inputs: Iterator[Input], most: int) -> Iterator[list[Input]]:
    for _, group in itertools.groupby(inputs, key=len):
        while chunk := list(itertools.islice(group, max(1, most))):
            yield chunk


def _traced(compiled: "Compiled", tokens: Input) -> tuple[dict, list[Value]] | None:
    """The values of every node of the compiled program, and the given program's; None where that is not defined.

    Raises:
        RaspError: if the simplified program is not defined where the given one is, which would be the compiler's fault.
    """
    causal = compiled.lowered.plan.setting.causal
    try:
        values = evaluate(compiled.program, tokens, causal=causal)
    except RaspError:
        return None
    return trace(compiled.lowered.core, tokens, causal=causal), values


def _compare(compiled: "Compiled", inputs: list[Input], traced: list) -> tuple[Mismatch | None, float]:
    """The first mismatch on inputs of one length, and the largest deviation."""
    allocation = compiled.lowered.plan.allocation
    points = {life: point(compiled, life) for life in allocation.lives}
    with torch.no_grad():
        logits, cache = compiled.model.run_with_cache(
            compiled.encode(inputs), names_filter=sorted(set(points.values()) | {point_after(compiled, 0)})
        )
    deviation, first = 0.0, None
    for life in allocation.lives:
        held = cache[points[life]][:, compiled.sink :, life.column].double().cpu().numpy()
        wanted, allowed = _wanted(life.direction, traced, len(inputs[0]))
        distance = np.abs(held - wanted)
        if not life.direction.offset:
            deviation = max(deviation, float(distance.max()))
        wrong = ~(distance <= allowed)
        i, position = next(map(tuple, np.argwhere(wrong).tolist()), (len(inputs), 0))
        if i < (len(inputs) if first is None else first[0]):
            first = (i, position, life.direction.name, wanted[i, position], float(held[i, position]))
    if first is None:
        first = _misread(compiled, [values for _, values in traced], compiled.decode(logits))
    if first is None:
        return None, deviation
    i, position, name, expected, found = first
    return Mismatch(inputs[i], name, position, expected, found), deviation


def point(compiled: "Compiled", life: Life) -> str:
    """The last hook point at which a direction is still held."""
    depth = compiled.model.cfg.n_layers
    return point_after(compiled, 2 * depth if life.cleared is None else life.cleared - 1)


def point_after(compiled: "Compiled", half_layer: int) -> str:
    """The hook point of the stream after a half-layer."""
    if half_layer == 0:
        return "blocks.0.hook_resid_pre"
    layer = (half_layer - 1) // 2
    attends = half_layer % 2 and compiled.model.blocks[layer].mlp is not None
    return f"blocks.{layer}.hook_resid_{'mid' if attends else 'post'}"


def _wanted(direction: Direction, traced: list, length: int) -> tuple[np.ndarray, float]:
    """The coordinate at each position of each input, and how far it may be off."""
    known: dict = {}
    wanted = np.empty((len(traced), length))
    for i, (values, _) in enumerate(traced):
        columns = [
            values[s] if s in values else list(range(length)) if isinstance(s, Indices) else [length] * length
            for s in direction.sops
        ]
        for position, row in enumerate(zip(*columns, strict=True)):
            mark = tuple(map(key, row))
            if mark not in known:
                known[mark] = _expected(direction, row)
            wanted[i, position] = known[mark]
    return wanted, direction.error + ROUNDING * max(1.0, float(np.abs(wanted[np.isfinite(wanted)]).max(initial=0.0)))


def _expected(direction: Direction, row: tuple[Value, ...]) -> float:
    """The coordinate; infinite where the compiler did not foresee the value, so that nothing comes near."""
    try:
        return direction.expected(*row)
    except KeyError:
        return float("inf")


def _misread(compiled: "Compiled", expected: list[list[Value]], found: list[list[Value]]):
    """The first output that is not what the program says."""
    readout = compiled.lowered.readout
    for i, (row, outputs) in enumerate(zip(expected, found, strict=True)):
        for position, (value, output) in enumerate(zip(row, outputs, strict=True)):
            # Numbers are averages, which the given program may have rounded in another order.
            loose = isinstance(value, float) or not readout.levels
            number = readout.values is None and loose and is_numeric(value) and is_numeric(output)
            wrong = abs(value - output) > readout.error + 1e-9 if number else key(value) != key(output)
            if wrong:
                return i, position, compiled.program.label, value, output
    return None
