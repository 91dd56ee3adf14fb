"""The one template of token mixing, Y = M·V, and how each mixer fills it in.

Every sequence mixer is channel maps around one matrix M [query key] for each head or channel; methods differ in what M
depends on, in its structure, and in what M·V costs ("A Unified View of Long-Sequence Models towards Modeling
Million-Scale Dependencies", 2023, slug `long_sequence_unified`). Each `MixerPart` states its row; the table is made
from them.
"""

from dataclasses import dataclass

ANY_LENGTH = "any"
"""`Template.lengths` of a mixer whose weights do not bind n."""


@dataclass(frozen=True)
class Template:
    """A mixer's row of the table.

    Attributes:
        matrix: M as a formula, in the symbols of the mixer's own docstring.
        depends: what M is made from: "input", "weights" (static, learned) or "nothing" (fixed).
        structure: what M is, e.g. "dense", "rank ≤ d_head", "Toeplitz".
        cost: of M·V for one head, in n (length), d (width of a head) and the method's own sizes.
        normalised: what makes a row's weights comparable, e.g. "softmax over keys"; "" if nothing does.
        low_rank: what bounds the rank of M, "" if nothing does.
        local: which keys a row is confined to, "" if to none.
        lengths: "any", or what binds the length, e.g. "at most n_ctx".
    """

    matrix: str
    depends: str
    structure: str
    cost: str
    normalised: str = ""
    low_rank: str = ""
    local: str = ""
    lengths: str = ANY_LENGTH

    def __post_init__(self):
        allowed = ("input", "weights", "nothing")
        if self.depends not in allowed:
            raise ValueError(f"a mixing matrix depends on one of {', '.join(allowed)}, not {self.depends!r}.")
