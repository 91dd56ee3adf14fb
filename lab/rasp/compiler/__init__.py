"""From a RASP program to a transformer's weights, one pass after another.

canonical → infer → lay_out → lower → schedule → emit → load; each pass is a file that can be read alone.
"""

from collections.abc import Iterable, Set
from typing import TYPE_CHECKING

from microtome.lab.rasp.compiler.canonical import canonical
from microtome.lab.rasp.compiler.infer import Setting, infer
from microtome.lab.rasp.compiler.layout import lay_out
from microtome.lab.rasp.compiler.lower import lower
from microtome.lab.rasp.compiler.schedule import schedule
from microtome.lab.rasp.errors import CompileError
from microtome.lab.rasp.language import Selector, SOp, Tokens, topological
from microtome.lab.rasp.values import Value, plain, unique

if TYPE_CHECKING:
    from microtome.lab.rasp.compiled import Compiled

__all__ = ["compile"]


def compile(program: SOp, *, vocab: Iterable[Value], max_len: int, causal: bool = False) -> "Compiled":
    """Puts a program into the weights of a transformer that computes it exactly on every input it is compiled for.

    Args:
        program: the s-op to compute.
        vocab: the tokens that an input may hold.
        max_len: the longest input, in tokens.
        causal: whether a position sees only itself and the positions before.

    Returns:
        Compiled: to be called on a sequence of tokens.

    Raises:
        CompileError: if an operation cannot be made exact, with the operation and the reason.
        UndefinedError: if a function of the program fails on a value that may reach it.
    """
    # These import torch and TransformerLens, which writing and interpreting a program does not need.
    from microtome.lab.rasp.compiled import Compiled
    from microtome.lab.rasp.compiler.emit import emit
    from microtome.lab.rasp.compiler.load import load

    setting = _setting(program, vocab, max_len, causal)
    images = canonical(program)
    core = images[program]
    inference = infer(core, setting)
    layout = lay_out(core, inference)
    layers = schedule(lower(core, inference, layout))
    weights = emit(core, inference, layout, layers)
    return Compiled(program, images, inference, layout, load(weights, causal=causal))


def _setting(program: SOp, vocab: Iterable[Value], max_len: int, causal: bool) -> Setting:
    if not isinstance(program, SOp):
        hint = "; take its SelectorWidth or an Aggregate over it" if isinstance(program, Selector) else ""
        raise CompileError(f"only an s-op can be compiled, not {type(program).__name__} {program!r}{hint}")
    if not any(isinstance(node, Tokens) for node in topological(program)):
        raise CompileError("the program never reads tokens, so there is no input to compile it for", program)
    if not isinstance(max_len, int) or max_len < 1:
        raise CompileError(f"max_len must be a whole number of at least 1, not {max_len!r}", program)
    try:
        # A set of strings has another order in every process; the order of directions must not.
        values = unique(plain(token) for token in (sorted(vocab, key=repr) if isinstance(vocab, Set) else vocab))
    except (TypeError, ValueError) as error:
        raise CompileError(f"the vocabulary cannot hold this token: {error}", program) from error
    if not values or None in values:
        raise CompileError(f"the vocabulary must hold at least one token, and not None; it is {values!r}", program)
    return Setting(values, max_len, causal)
