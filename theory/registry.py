"""All checks of statements: finding them, listing them by kind of evidence, and running them.

Each module under `microtome.theory.statements` declares a tuple `CLAIMS`; nothing registers itself on import.
"""

import importlib
import pkgutil
from collections.abc import Iterable, Iterator

from microtome.theory import statements
from microtome.theory._names import unknown
from microtome.theory.claim import Claim
from microtome.theory.evidence import Evidence, require_budget, require_kind


def listing(kinds: Iterable[str] | None = None, slug: str | None = None) -> tuple[Claim, ...]:
    """The claims under `theory/statements`, ordered by module, of these `kinds` and of this paper only.

    Raises ValueError for an unknown kind and KeyError for a slug that no statement bears.
    """
    wanted = None if kinds is None else tuple(kinds)
    for kind in wanted or ():
        require_kind(kind)
    found = [claim for module in _modules() for claim in module.CLAIMS]
    slugs = {claim.slug for claim in found}
    if slug is not None and slug not in slugs:
        raise KeyError(unknown("slug among the statements", slug, slugs))
    return tuple(c for c in found if (wanted is None or c.kind in wanted) and slug in (None, c.slug))


def run_all(
    kinds: Iterable[str] | None = None, slug: str | None = None, budget: str = "quick", seed: int = 0
) -> Iterator[Evidence]:
    """Runs the claims that `listing` gives and yields the evidence for each as soon as it is there.

    Names are judged before anything runs: ValueError for an unknown kind or budget, KeyError for an unknown slug.
    """
    require_budget(budget)
    claims = listing(kinds, slug)
    return (claim.run(budget, seed) for claim in claims)


def _modules() -> Iterator:
    for info in pkgutil.iter_modules(statements.__path__):
        if not info.name.startswith("_"):
            yield importlib.import_module(f"{statements.__name__}.{info.name}")
