"""How a program's lowering grows with the longest input: measured at lengths that double, and traced to its cause."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from microtome.lab.rasp.compiled import Compiled
from microtome.lab.rasp.compiler.operations import Direction, Head
from microtome.lab.rasp.compiler.pipeline import Lowered, Passes, lowered
from microtome.lab.rasp.errors import RaspError
from microtome.lab.rasp.language import SOp

SHORTEST, LONGEST = 4, 64
"""Lengths at which a lowering is measured, at most: below the first nearly everything is a special case."""

Kind = Literal["constant", "linear", "quadratic", "more", "unknown"]


@dataclass(frozen=True)
class Part:
    """The neurons and directions of one operation, and what they are for."""

    size: int
    what: str


@dataclass(frozen=True)
class Growth:
    """How many neurons and named directions a program needs by max_len.

    Heads are not counted: each writes at least one direction, so there are no more of them. Nor are the neurons that
    clear columns, at most two a direction. The model's matrices are the product of such sizes.

    Attributes:
        kind: by the last three lengths n, 2n and 4n: "constant" if the size is the same at all of them. "linear" if the
            second doubling adds at most twice what the first does, or at most doubles the size, as one of any a + b·n
            with a, b ≥ 0 does both; "quadratic" if so with four times for twice; else "more". "unknown" if the program
            compiles at fewer than three lengths. It is said of the lengths that were measured, no others.
        sizes: neurons and directions by max_len.
        because: the operation that grew most in the last doubling; for "unknown" why it does not compile; "" for
            "constant".
    """

    kind: Kind
    sizes: Mapping[int, int]
    because: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.because}" if self.because else self.kind


def growth(compiled: Compiled) -> Growth:
    """Lowers the program again at max_len 4, 8, 16, and up to 64 until two increments agree on a straight line.

    A compiler that picks the cheapest of several ways jumps where it changes its way, and small tables of any shape are
    cheap. So what three lengths say is believed at once only if it is exactly a straight line.
    """
    sizes: dict[int, int] = {}
    parts: list[dict[str, Part]] = []
    n, refusal = SHORTEST, ""
    while n <= LONGEST and not _straight(list(sizes.values())):
        try:
            found = lowered(
                compiled.program, replace(compiled.lowered.plan.setting, max_len=n), Passes.level(1), bos=None
            )
        except RaspError as error:
            refusal = f"with max_len={n} it is refused: {error}"
            break
        parts.append(_parts(found))
        sizes[n] = sum(part.size for part in parts[-1].values())
        n *= 2
    kind = _kind(list(sizes.values())[-3:])
    if kind == "unknown":
        return Growth(kind, sizes, refusal)
    return Growth(kind, sizes, "" if kind == "constant" else _because(*list(sizes)[-2:], *parts[-2:]))


def _straight(sizes: list[int]) -> bool:
    """Whether the last three sizes lie on a line that does not fall."""
    return len(sizes) >= 3 and sizes[-1] - sizes[-2] == 2 * (sizes[-2] - sizes[-3]) >= 0


def _kind(sizes: list[int]) -> Kind:
    if len(sizes) < 3:
        return "unknown"
    first, second = sizes[1] - sizes[0], sizes[2] - sizes[1]
    if first == second == 0:
        return "constant"
    for kind, factor in (("linear", 2), ("quadratic", 4)):
        if second <= max(factor * first, (factor - 1) * sizes[1]):
            return kind
    return "more"


def _because(before: int, now: int, smaller: Mapping[str, Part], larger: Mapping[str, Part]) -> str:
    """The part that grew most, with its sizes at two lengths."""
    nothing = Part(0, "")
    label, part = max(larger.items(), key=lambda item: item[1].size - smaller.get(item[0], nothing).size)
    return f"{part.what}: {smaller.get(label, nothing).size:,} at max_len {before}, {part.size:,} at {now}"


def _parts(found: Lowered) -> dict[str, Part]:
    """By a name that is the same at every length."""
    parts: dict[str, Part] = {}
    for name, size, what in _counted(found):
        earlier = parts[name].size if name in parts else 0
        parts[name] = Part(earlier + size, what)
    return parts


def _counted(found: Lowered) -> Iterator[tuple[str, int, str]]:
    for sop, directions in found.plan.embedded.items():
        yield f"embedding {sop.label}", len(directions), f"directions for values of {sop.label}"
    for layer in found.plan.layers:
        for head in layer.heads:
            yield f"head {head.label}", len(head.writes), _values_of_head(head)
        for operation in layer.neurons:
            size = len(operation.neurons) + len(operation.writes)
            yield f"neurons {operation.label}", size, _table(found, operation.writes)


def _values_of_head(head: Head) -> str:
    return f"directions for values of {head.label}" + (f" ({head.where})" if head.where else "")


def _table(found: Lowered, writes: tuple[Direction, ...]) -> str:
    """The arguments of some neurons, with their numbers of values and the lines where they are made."""
    sops = writes[0].sops if writes else ()
    if len(sops) == 1:
        return f"neurons on the {_argument(found, sops[0])}"
    return "a table of " + " by ".join(_argument(found, sop) for sop in sops)


def _argument(found: Lowered, sop: SOp) -> str:
    values = found.inference.facts[sop].values
    counted = "many values" if values is None else f"{len(values):,} values"
    return f"{counted} of {sop.label}" + (f" ({sop.where})" if sop.where else "")
