"""What the zoo holds, found by looking: the papers, the parts of each slot, and what stands for each paper.

Nothing registers itself. A part is a file in its slot's folder, a paper's module a file that bears its slug.
Both are listed without being imported, so that a list costs no torch.
"""

import importlib
import importlib.util
import pkgutil
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

from microtome.lab.spelling import near

_ZOO = Path(__file__).parent
_FLOORS_WITH_MECHANISMS = ("microtome.kernels", "microtome.lab")

SLOTS = ("stems", "mixers", "positions", "norms", "feedforward", "depth")


@dataclass(frozen=True)
class Paper:
    """One paper of the house.

    Attributes:
        slug: its name on every floor, e.g. "urpe".
        title: as printed.
        year: of the preprint or the publication.
        kind: what the mechanism is, e.g. "token-mixer".
        source: the code it was read in, or that there is none.
    """

    slug: str
    title: str
    year: int
    kind: str
    source: str


@dataclass(frozen=True)
class Standing:
    """What exists of a paper's mechanism, as found on disk and imported now.

    Attributes:
        paper: whose standing it is.
        modules: import names of the modules that bear the slug and import.
        broken: pairs of a module that bears the slug but does not import, and the reason.
    """

    paper: Paper
    modules: tuple[str, ...]
    broken: tuple[tuple[str, str], ...]


@cache
def papers() -> tuple[Paper, ...]:
    """Every paper of the house, in alphabetical order of slugs."""
    with (_ZOO / "papers.toml").open("rb") as file:
        tables = tomllib.load(file)
    return tuple(Paper(slug=slug, **tables[slug]) for slug in sorted(tables))


def paper(slug: str) -> Paper:
    """The paper with this slug.

    Raises:
        KeyError: if there is none, with the nearest slugs.
    """
    by_slug = {paper.slug: paper for paper in papers()}
    if slug not in by_slug:
        raise KeyError(f"no paper has the slug {slug!r}{near(slug, by_slug)}; `microtome papers` lists them all")
    return by_slug[slug]


def names(slot: str) -> tuple[str, ...]:
    """The parts that can stand in a slot (one of `SLOTS`), in alphabetical order.

    Raises:
        ValueError: if there is no such slot.
    """
    if slot not in SLOTS:
        raise ValueError(f"no slot is called {slot!r}{near(slot, SLOTS)}; the slots are {', '.join(SLOTS)}")
    return tuple(sorted(_public_modules([_ZOO / slot])))


def load(slot: str, name: str) -> ModuleType:
    """The module of one part, imported now; its `Part` is the frozen dataclass of the part's options.

    Raises:
        ValueError: if the slot or the part does not exist, with the nearest names and the allowed ones.
    """
    allowed = names(slot)
    if name not in allowed:
        there = ", ".join(allowed) or "none yet"
        raise ValueError(f"no part of {slot} is called {name!r}{near(name, allowed)}; there are {there}")
    return importlib.import_module(f"microtome.lab.zoo.{slot}.{name}")


def standing(paper: Paper) -> Standing:
    """Finds and imports every module of `microtome.kernels` and `microtome.lab` that bears the slug."""
    modules, broken = [], []
    for name in _module_names():
        if name.rpartition(".")[2] != paper.slug:
            continue
        try:
            importlib.import_module(name)
        except Exception as error:  # whatever a module raises at import, the table must say so and go on
            broken.append((name, f"{type(error).__name__}: {error}"))
        else:
            modules.append(name)
    return Standing(paper, tuple(modules), tuple(broken))


def system(paper: Paper) -> ModuleType | None:
    """The paper's module in the zoo that holds its whole systems by name (`VARIANTS`), or None."""
    for name in _module_names():
        if name.rpartition(".")[2] == paper.slug and ".zoo." in name:
            module = importlib.import_module(name)
            if "VARIANTS" in vars(module):
                return module
    return None


@cache
def _module_names() -> tuple[str, ...]:
    return tuple(name for floor in _FLOORS_WITH_MECHANISMS for name in _walk(floor, _search_path(floor)))


def _search_path(package: str) -> list[Path]:
    spec = importlib.util.find_spec(package)
    locations = spec.submodule_search_locations if spec else None
    return [Path(location) for location in locations or ()]


def _walk(package: str, path: list[Path]) -> Iterator[str]:
    """Import names of all public modules below a package; unlike `pkgutil.walk_packages` it imports none."""
    for name in _public_modules(path):
        yield f"{package}.{name}"
        yield from _walk(f"{package}.{name}", [folder / name for folder in path if (folder / name).is_dir()])


def _public_modules(path: list[Path]) -> list[str]:
    found = pkgutil.iter_modules([str(folder) for folder in path])
    return [module.name for module in found if not module.name.startswith("_")]
