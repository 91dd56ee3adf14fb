"""The zoo: any mechanism in any slot, and whole systems at their published sizes.

`sequence` composes a model, `build` makes a paper's system, `papers` lists the papers. The first two import
TransformerLens, which takes seconds, and only when they are first used.
"""

from microtome.lab.zoo.registry import Paper, names, paper, papers

__all__ = ["sequence", "build", "papers", "paper", "names", "Paper"]


def __getattr__(name: str):
    if name in ("sequence", "build"):
        from microtome.lab.zoo import compose

        return getattr(compose, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
