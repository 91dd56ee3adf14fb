"""ListOps: nested lists of digits under MIN, MAX, MED and SM; the class is the value (Nangia and Bowman 2018, at the
lengths of Tay et al. 2020, `long_range_arena`)."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from microtome.lab.tasks.long_range import forest
from microtome.lab.tasks.long_range.protocol import LabelledSequences, SequenceClassification, check_request

KEY_BYTES = 16
LARGEST_CHUNK = 2048
"""Trees grown at once, at most."""
FRUITLESS = 400_000
"""Trees in a row without a new one after which a window of lengths is called empty."""


@dataclass(frozen=True)
class ListOps(SequenceClassification):
    """Random expressions with min_length < tokens < max_length, none twice in one batch.

    A tree grows from depth 1: below `depth` a node is an operator with probability 1/4, else a uniform digit; operators
    are uniform over MIN, MAX, MED, SM and take two to `arguments` arguments, each number as likely. Trees outside the
    window are drawn again. A lone digit, of length 1, never lies in a window, so that roots are drawn as operators:
    the same law. The median of an even number of arguments is cut to a whole number.

    The commonest class is 9 with about 17 % of the published sizes, not 10 %.

    Attributes:
        min_length: tokens that an expression must exceed, at least 1.
        max_length: tokens that it must stay below.
        depth: deepest level, which holds digits only; at least 2.
        arguments: most arguments of an operator, at least 2.

    Raises:
        ValueError: if an attribute is out of range.
    """

    min_length: int = 500
    max_length: int = 2000
    depth: int = 10
    arguments: int = 10

    def __post_init__(self):
        for name, least in {"min_length": 1, "depth": 2, "arguments": forest.FEWEST_ARGUMENTS}.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)}.")
        if self.max_length < self.min_length + 2:
            raise ValueError(
                f"max_length must be above min_length + 1 = {self.min_length + 1}, as both bounds are strict, "
                f"not {self.max_length}."
            )

    @property
    def length(self) -> int:
        return self.max_length

    @property
    def n_classes(self) -> int:
        return forest.DIGITS

    @property
    def d_vocab(self) -> int:
        return forest.D_VOCAB

    def sample(self, batch: int, generator: torch.Generator) -> LabelledSequences:
        """See `SequenceClassification.sample`.

        Raises:
            ValueError: if the window holds no further tree, as far as many draws can tell.
        """
        check_request(batch, generator)
        return next(self.stream(batch, generator))

    def stream(self, batch: int, generator: torch.Generator) -> Iterator[LabelledSequences]:
        """Batches for ever, no tree twice in all of them; of each, a hash of 16 bytes is remembered.

        Raises:
            as `sample`, when the window is used up.
        """
        check_request(batch, generator)
        trees = self._distinct(batch, generator)
        while True:
            rows, values = zip(*(next(trees) for _ in range(batch)), strict=True)
            tokens = torch.stack(rows)
            yield LabelledSequences(tokens, tokens > 0, torch.stack(values))

    def _distinct(
        self, batch: int, generator: torch.Generator
    ) -> Iterator[tuple[Int[Tensor, " pos"], Int[Tensor, ""]]]:
        """Rows of ids and their values, each tree once, in the order of drawing."""
        found: set[bytes] = set()
        fruitless, size = 0, min(4 * batch, LARGEST_CHUNK)
        while fruitless < FRUITLESS:
            fruitless += size
            for row, value in zip(*self._chunk(size, generator), strict=True):
                key = hashlib.blake2b(row.to(torch.uint8).cpu().numpy().tobytes(), digest_size=KEY_BYTES).digest()
                if key not in found:
                    found.add(key)
                    fruitless = 0
                    yield row, value
            size = min(2 * size, LARGEST_CHUNK)
        raise ValueError(
            f"after {len(found)} expressions, {FRUITLESS:,} draws gave no new one with "
            f"{self.min_length} < tokens < {self.max_length}; widen the window, depth or arguments."
        )

    def _chunk(self, trees: int, generator: torch.Generator) -> tuple[Int[Tensor, "tree pos"], Int[Tensor, " tree"]]:
        levels, lengths = forest.grow(trees, self.depth, self.arguments, self.max_length, generator)
        levels = forest.keep(levels, (lengths > self.min_length) & (lengths < self.max_length))
        if not levels:
            none = torch.zeros(0, self.max_length, dtype=torch.long, device=generator.device)
            return none, none[:, 0]
        return forest.write(levels, self.max_length), forest.evaluate(levels)
