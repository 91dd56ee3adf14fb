"""What is wanted of a variable."""

from dataclasses import dataclass

import numpy as np

from microtome.lab.rasp.compiler.operations import Direction
from microtome.lab.rasp.language import SOp


@dataclass(frozen=True)
class Variable:
    """S-ops whose joint value the stream holds functions of: one as its head or the embedding leaves it
    (`computed` False), or any as neurons compute them."""

    sops: tuple[SOp, ...]
    computed: bool


@dataclass(eq=False)
class Wish:
    """A function of a variable that somebody reads: its direction and the coordinate for each combination, without
    the offset that rounds it."""

    direction: Direction
    function: np.ndarray
    offset: float = 0.0
