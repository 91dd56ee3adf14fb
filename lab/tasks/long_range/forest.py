"""ListOps' random expression trees, many at a time, level by level.

A forest is a flat list of nodes in which every level stands together and the children of one node stand side by side.
All steps are sums, minima and sorts over such runs, so that no step loops over trees.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from microtome.lab.tasks.long_range.protocol import integers

OPERATORS = ("MIN", "MAX", "MED", "SM")
P_OPERATOR = 0.25
FEWEST_ARGUMENTS = 2
DIGITS = 10
OPENER, CLOSER = 1 + DIGITS, 1 + DIGITS + len(OPERATORS)
"""Ids: 0 is padding, a digit is its value plus one, then one opening bracket an operator, then the closing one."""
D_VOCAB = CLOSER + 1


@dataclass(frozen=True)
class Level:
    """The nodes of one depth.

    Attributes:
        parent: place of each node's parent in the level above; of the roots, the tree's number.
        operator: place in `OPERATORS`, −1 for digits.
        digit: value of digits, 0 elsewhere.
        arguments: number of children, which follow each other in the level below.
    """

    parent: Int[Tensor, " node"]
    operator: Int[Tensor, " node"]
    digit: Int[Tensor, " node"]
    arguments: Int[Tensor, " node"]


def grow(
    trees: int, depth: int, most_arguments: int, longest: int, generator: torch.Generator
) -> tuple[list[Level], Int[Tensor, " tree"]]:
    """Trees whose root is an operator, and their lengths in tokens.

    Below the root a node is an operator with probability 1/4, and at `depth` always a digit. Trees that pass `longest`
    tokens are left unfinished: they have that length or more, and no children are drawn for their last level.

    Args:
        trees: how many to grow.
        depth: levels, the root's included, at least 2.
        most_arguments: of an operator; the fewest are two, and each number is as likely.
        longest: tokens.
        generator: draws everything.
    """
    levels, lengths = [], torch.zeros(trees, dtype=torch.long, device=generator.device)
    parent = root = torch.arange(trees, device=generator.device)
    for d in range(1, depth + 1):
        n = len(parent)
        chance = torch.rand(n, generator=generator, device=generator.device)
        is_operator = (chance < P_OPERATOR) if d > 1 else torch.ones_like(chance, dtype=torch.bool)
        is_operator &= d < depth
        kinds = integers(0, len(OPERATORS) - 1, (n,), generator)
        digits = integers(0, DIGITS - 1, (n,), generator)
        arguments = integers(FEWEST_ARGUMENTS, most_arguments, (n,), generator)
        # Every operator brings at least its own two tokens and one for each argument to come.
        lengths.index_add_(0, root, torch.where(is_operator, 2, 1))
        arguments = arguments * (is_operator & (lengths <= longest)[root])
        levels.append(Level(parent, torch.where(is_operator, kinds, -1), digits * ~is_operator, arguments))
        parent = torch.arange(n, device=parent.device).repeat_interleave(arguments)
        root = root[parent]
        if len(parent) == 0:
            break
    return levels, lengths


def keep(levels: list[Level], wanted: Bool[Tensor, " tree"]) -> list[Level]:
    """The forest of the wanted trees only, in the same order."""
    kept, stays = [], wanted
    for level in levels:
        here = stays[level.parent]
        place = stays.cumsum(0) - 1
        kept.append(Level(place[level.parent[here]], level.operator[here], level.digit[here], level.arguments[here]))
        stays = here
    return [level for level in kept if len(level.parent)]


def evaluate(levels: list[Level]) -> Int[Tensor, " tree"]:
    """The value of every tree, a digit.

    MED is the median cut to a whole number (of an even count, the mean of the middle two), SM the sum modulo 10.
    """
    values = levels[-1].digit
    for above, below in zip(reversed(levels[:-1]), reversed(levels[1:]), strict=True):
        values = _applied(above, below.parent, values)
    return values


def _applied(level: Level, parent: Tensor, values: Tensor) -> Int[Tensor, " node"]:
    """The values of a level, from those of the level below."""
    n = len(level.parent)
    zeros = torch.zeros(n, dtype=torch.long, device=values.device)
    least = zeros.scatter_reduce(0, parent, values, "amin", include_self=False)
    most = zeros.scatter_reduce(0, parent, values, "amax", include_self=False)
    total = zeros.index_add(0, parent, values) % DIGITS
    ordered = (parent * DIGITS + values).sort().values % DIGITS
    first = level.arguments.cumsum(0) - level.arguments
    last = max(len(values) - 1, 0)
    lower = (first + (level.arguments - 1) // 2).clamp(0, last)
    upper = (first + level.arguments // 2).clamp(0, last)
    median = (ordered[lower] + ordered[upper]) // 2
    by_operator = torch.stack((least, most, median, total, level.digit), dim=1)
    return by_operator.gather(1, level.operator[:, None] % len(by_operator[0]))[:, 0]


def write(levels: list[Level], width: int) -> Int[Tensor, "tree pos"]:
    """The trees as rows of ids in reading order, padded with zeros to `width`; the round brackets are left out."""
    sizes = _sizes(levels)
    trees = len(sizes[0])
    row = torch.arange(trees, device=sizes[0].device)
    text, start = row.new_zeros(trees, width), torch.zeros_like(row)
    for depth, (level, size) in enumerate(zip(levels, sizes, strict=True)):
        if depth > 0:
            row, start = row[level.parent], _starts(level.parent, size, start)
        operators = level.operator >= 0
        text[row, start] = torch.where(operators, OPENER + level.operator, 1 + level.digit)
        text[row[operators], (start + size - 1)[operators]] = CLOSER
    return text


def _sizes(levels: list[Level]) -> list[Int[Tensor, " node"]]:
    """The tokens of every node with all that is under it."""
    sizes = [torch.where(level.operator >= 0, 2, 1) for level in levels]
    for i in range(len(levels) - 1, 0, -1):
        sizes[i - 1] = sizes[i - 1].index_add(0, levels[i].parent, sizes[i])
    return sizes


def _starts(parent: Tensor, sizes: Tensor, parents_start: Tensor) -> Int[Tensor, " node"]:
    """Where nodes begin: after their parent's opening bracket and their elder siblings."""
    before = sizes.cumsum(0) - sizes
    first = torch.searchsorted(parent, parent)
    return parents_start[parent] + 1 + before - before[first]
