"""A statement together with the procedure that decides it."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

from microtome.theory.checks_figure import draw_checks
from microtome.theory.evidence import Evidence, require_budget, require_kind
from microtome.theory.statement import Statement


@dataclass(frozen=True)
class Claim:
    """A statement, the kind of evidence that will be given for it, and the function that gathers that evidence.

    `gather(budget, seed)` returns `Evidence`. Raises ValueError for a kind that does not exist.
    """

    statement: Statement
    kind: str
    gather: Callable[[str, int], Evidence]

    def __post_init__(self):
        require_kind(self.kind)

    @property
    def slug(self) -> str:
        return self.statement.slug

    def run(self, budget: str = "quick", seed: int = 0) -> Evidence:
        """Gathers the evidence and stamps it with the budget and the seconds it took; numbers get a picture.

        `budget` is "quick" (seconds) or "full" (at most three minutes on two cores); any other raises ValueError.
        """
        require_budget(budget)
        start = time.perf_counter()
        with _one_thread():
            evidence = self.gather(budget, seed)
        if evidence.figure is None and evidence.kind == "numeric":
            evidence = replace(evidence, figure=partial(draw_checks, evidence))
        return replace(evidence, budget=budget, seconds=time.perf_counter() - start)


@contextmanager
def _one_thread() -> Iterator[None]:
    """One torch thread inside.

    Claims work on small tensors, over which threads lose more time waiting for each other than they save; and the
    same bits then come out whatever the number of cores.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
