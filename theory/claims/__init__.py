"""One claim a paper: `load("urpe").run(budget="quick")`.

Each module `<slug>.py` in this folder declares `CLAIM`, a `microtome.theory.claim.Claim`.
"""

import importlib
import pkgutil

from microtome.theory._names import unknown
from microtome.theory.claim import Claim


def available() -> tuple[str, ...]:
    """The slugs of all papers that have a claim, in alphabetical order; imports none of them."""
    return tuple(sorted(info.name for info in pkgutil.iter_modules(__path__) if not info.name.startswith("_")))


def load(slug: str) -> Claim:
    """The claim of the paper with this slug. Raises KeyError, with the nearest names, where there is none."""
    if slug not in available():
        raise KeyError(unknown("claim", slug, available()))
    return importlib.import_module(f"{__name__}.{slug}").CLAIM
