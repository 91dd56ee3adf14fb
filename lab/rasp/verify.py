"""Holding a compiled model against the interpreter: every node of the program, on all inputs or on drawn ones."""

import itertools
import random
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from microtome.lab.rasp.compiler.infer import Facts, Setting
from microtome.lab.rasp.compiler.layout import Basis
from microtome.lab.rasp.errors import RaspError
from microtome.lab.rasp.interpreter import trace
from microtome.lab.rasp.language import SOp, topological
from microtome.lab.rasp.reading import coordinates, tolerances, value_at
from microtome.lab.rasp.values import Value, is_numeric, key

if TYPE_CHECKING:
    from microtome.lab.rasp.compiled import Compiled

EXHAUSTIVE_LIMIT = 20_000
"""Up to how many inputs all of them are run."""
CHUNK = 500_000
"""Most numbers of residual stream that one forward pass may leave."""

Input = tuple[Value, ...]


@dataclass(frozen=True)
class Mismatch:
    """The first input on which the model differs, and the first node there, in the order of computation."""

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
        deviation: the largest distance of any coordinate of the final residual stream from what the interpreter's
            values say it should be, over all nodes and inputs.
    """

    inputs: int
    exhaustive: bool
    mismatch: Mismatch | None
    deviation: float

    @property
    def equal(self) -> bool:
        """Whether model and interpreter agree on every input that was run."""
        return self.mismatch is None

    def __str__(self) -> str:
        which = f"all {self.inputs:,} inputs" if self.exhaustive else f"{self.inputs:,} drawn inputs"
        if self.mismatch is None:
            return f"equals the interpreter on {which}; largest deviation in the stream {self.deviation:.1e}"
        m = self.mismatch
        return (
            f"differs on input {list(m.tokens)!r}: {m.node} is {m.found!r} at position {m.position} in the model and "
            f"{m.expected!r} in the interpreter ({which} were to be run)"
        )


def verify(compiled: "Compiled", *, samples: int, limit: int, seed: int) -> Report:
    """Runs model and interpreter side by side; see `Compiled.verify`."""
    setting = compiled.inference.setting
    total = sum(len(setting.vocab) ** length for length in range(1, setting.max_len + 1))
    exhaustive = total <= limit
    if not exhaustive and samples < 1:
        raise RaspError(
            f"there are {total:,} inputs, more than {limit:,}, so samples must be at least 1, not {samples}"
        )
    inputs = every_input(setting.vocab, setting.max_len) if exhaustive else draw(setting, samples, seed)
    run, deviation = 0, 0.0
    for chunk in _chunks(inputs, CHUNK // (len(compiled.labels) * (1 + setting.max_len))):
        mismatch, distance = _compare(compiled, chunk)
        run, deviation = run + len(chunk), max(deviation, distance)
        if mismatch is not None:
            return Report(run, exhaustive, mismatch, deviation)
    return Report(run, exhaustive, None, deviation)


def every_input(vocab: Sequence[Value], max_len: int) -> Iterator[Input]:
    """All inputs of length 1 to max_len, shorter ones first."""
    return itertools.chain.from_iterable(itertools.product(vocab, repeat=n) for n in range(1, max_len + 1))


def draw(setting: Setting, samples: int, seed: int) -> Iterator[Input]:
    """Inputs sorted by length: half of full length, the rest of any; tokens from a random part of the vocabulary, so
    that there are inputs with many repetitions and with few."""
    generator = random.Random(seed)
    drawn = []
    for i in range(samples):
        length = setting.max_len if i % 2 else generator.randint(1, setting.max_len)
        part = generator.sample(setting.vocab, generator.randint(1, len(setting.vocab)))
        drawn.append(tuple(generator.choices(part, k=length)))
    return iter(sorted(drawn, key=len))


def _chunks(inputs: Iterator[Input], most: int) -> Iterator[list[Input]]:
    for _, group in itertools.groupby(inputs, key=len):
        while chunk := list(itertools.islice(group, max(1, most))):
            yield chunk


def _compare(compiled: "Compiled", inputs: list[Input]) -> tuple[Mismatch | None, float]:
    """The first mismatch on inputs of one length, and the largest deviation."""
    traces = [trace(compiled.program, tokens, causal=compiled.inference.setting.causal) for tokens in inputs]
    last = f"blocks.{compiled.model.cfg.n_layers - 1}.hook_resid_post"
    with torch.no_grad():
        logits, cache = compiled.model.run_with_cache(compiled.encode(inputs), names_filter=last)
    stream = cache[last][:, 1:].cpu()
    deviation, first = 0.0, None
    for node in topological(compiled.program):
        if not isinstance(node, SOp):
            continue
        held = stream[..., [compiled.labels.index(d) for d in compiled.basis(node).directions]]
        wrong, distance = _held(compiled, node, [t[node] for t in traces], held)
        deviation = max(deviation, distance)
        i, position = next(map(tuple, wrong.nonzero().tolist()), (len(inputs), 0))
        if i < (len(inputs) if first is None else first[0]):
            first = (i, position, node, value_at(*_basis_and_facts(compiled, node), held[i, position].tolist()))
    if first is None:
        first = _misread(compiled, [t[compiled.program] for t in traces], compiled.decode(logits))
    if first is None:
        return None, deviation
    i, position, node, found = first
    name = compiled.basis(node).variable
    return Mismatch(inputs[i], name, position, traces[i][node][position], found), deviation


def _basis_and_facts(compiled: "Compiled", node: SOp) -> tuple[Basis, Facts]:
    return compiled.basis(node), compiled.inference.facts[compiled.images[node]]


def _held(
    compiled: "Compiled", node: SOp, values: list[list[Value]], held: Float[Tensor, "batch pos direction"]
) -> tuple[Bool[Tensor, "batch pos"], float]:
    """Where the node's directions do not hold its values, and the largest deviation of one of them."""
    basis, facts = _basis_and_facts(compiled, node)
    rows: dict[Hashable, tuple[int, tuple[float, ...]]] = {}
    for value in itertools.chain.from_iterable(values):
        if key(value) not in rows:
            rows[key(value)] = (len(rows), _wanted(basis, facts, value))
    table = torch.tensor([row for _, row in rows.values()], dtype=torch.float64)
    chosen = torch.tensor([[rows[key(value)][0] for value in sequence] for sequence in values])
    distance = (held.double() - table[chosen]).abs()
    allowed = torch.tensor(tolerances(basis, facts), dtype=torch.float64)
    return ~(distance <= allowed).all(-1), float(distance.max())


def _wanted(basis: Basis, facts: Facts, value: Value) -> tuple[float, ...]:
    """The coordinates of the value; infinite where the compiler did not foresee it, so that nothing comes near."""
    try:
        return coordinates(basis, facts, value)
    except KeyError:
        return (float("inf"),) * len(basis.directions)


def _misread(
    compiled: "Compiled", expected: list[list[Value]], found: list[list[Value]]
) -> tuple[int, int, SOp, Value] | None:
    """The first output that is not read off as what the stream holds."""
    facts = compiled.inference.facts[compiled.output]
    for i, (row, outputs) in enumerate(zip(expected, found, strict=True)):
        for position, (value, output) in enumerate(zip(row, outputs, strict=True)):
            number = facts.values is None and is_numeric(value) and is_numeric(output)
            if abs(value - output) > facts.error if number else key(value) != key(output):
                return i, position, compiled.program, output
    return None
