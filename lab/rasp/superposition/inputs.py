"""The inputs on which a map is trained and measured."""

from collections.abc import Sequence

from microtome.lab.rasp.compiled import Compiled
from microtome.lab.rasp.values import Value
from microtome.lab.rasp.verify import draw, every_input

TRAINED = 80
"""On how many inputs a map is trained at most; the time of a step grows with them."""
MEASURED = 400
"""On how many inputs it is measured at most."""


def inputs_of(compiled: Compiled, most: int, seed: int) -> list[Sequence[Value]]:
    """All inputs that the program is compiled for if they are at most so many, else so many drawn ones."""
    setting = compiled.lowered.plan.setting
    total = sum(len(setting.vocab) ** n for n in range(1, setting.max_len + 1))
    return list(every_input(setting.vocab, setting.max_len) if total <= most else draw(setting, most, seed))
