"""From a RASP program to a transformer's weights, one pass after another.

simplify (with infer and truth) → lower (with scores, heads, tables, readouts) → schedule → allocate → emit → load; each
pass is a file that can be read alone.
"""

from collections.abc import Iterable, Set
from typing import TYPE_CHECKING

from microtome.lab.rasp.compiler.facts import Setting
from microtome.lab.rasp.errors import CompileError
from microtome.lab.rasp.language import Selector, SOp
from microtome.lab.rasp.values import Value, plain, unique

if TYPE_CHECKING:
    from microtome.lab.rasp.compiled import Compiled

__all__ = ["compile"]


def compile(
    program: SOp,
    *,
    vocab: Iterable[Value],
    max_len: int,
    causal: bool = False,
    bos: bool | None = None,
    optimize: int = 1,
) -> "Compiled":
    """Puts a program into the weights of a transformer that computes it exactly on every input it is compiled for.

    Args:
        program: the s-op to compute.
        vocab: the tokens that an input may hold.
        max_len: the longest input, in tokens.
        causal: whether a position sees only itself and the positions before.
        bos: whether the model has a position in front of the input to attend to when nothing is selected; None: where
            the program needs one.
        optimize: 0 translates each operation by itself; 1 runs all optimisations.

    Returns:
        Compiled: to be called on a sequence of tokens.

    Raises:
        CompileError: if an operation cannot be made exact, with the operation and the reason.
        UndefinedError: if a function of the program fails on a value that may reach it, other than by arithmetic.
    """
    # These import torch and TransformerLens, which writing and interpreting a program does not need.
    from microtome.lab.rasp.compiled import Compiled
    from microtome.lab.rasp.compiler.emit import emit
    from microtome.lab.rasp.compiler.load import load
    from microtome.lab.rasp.compiler.pipeline import Passes, lowered

    setting = _setting(program, vocab, max_len, causal)
    if optimize not in (0, 1):
        raise CompileError(f"optimize must be 0 or 1, not {optimize!r}", program)
    found = lowered(program, setting, Passes.level(optimize), bos=bos)
    return Compiled(program, found, load(emit(found.plan, program), causal=causal))


def _setting(program: SOp, vocab: Iterable[Value], max_len: int, causal: bool) -> Setting:
    if not isinstance(program, SOp):
        hint = "; take its SelectorWidth or an Aggregate over it" if isinstance(program, Selector) else ""
        raise CompileError(f"only an s-op can be compiled, not {type(program).__name__} {program!r}{hint}")
    if not isinstance(max_len, int) or max_len < 1:
        raise CompileError(f"max_len must be a whole number of at least 1, not {max_len!r}")
    try:
        # A set of strings has another order in every process; the order of directions must not.
        values = unique(plain(token) for token in (sorted(vocab, key=repr) if isinstance(vocab, Set) else vocab))
    except (TypeError, ValueError) as error:
        raise CompileError(f"the vocabulary cannot hold this token: {error}", program) from error
    if not values or None in values:
        raise CompileError(f"the vocabulary must hold at least one token, and not None; it is {values!r}", program)
    return Setting(values, max_len, causal)
