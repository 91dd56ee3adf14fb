"""RASP: programs to weights.

    from microtome.lab import rasp

    same = rasp.Select(rasp.tokens, rasp.tokens, rasp.Comparison.EQ)
    count = rasp.SelectorWidth(same).named("count")
    compiled = rasp.compile(count, vocab="abc", max_len=8)
    compiled(["a", "b", "a"])    # [2, 1, 2], out of a transformer
    compiled.verify()            # held against the interpreter, node by node

The language has tracr's names. `library` holds example programs; compiling imports torch and TransformerLens.
"""

from microtome.lab.rasp.compiler import compile
from microtome.lab.rasp.errors import CompileError, ExpressionError, InputError, RaspError, UndefinedError
from microtome.lab.rasp.interpreter import evaluate
from microtome.lab.rasp.language import (
    Aggregate,
    Comparison,
    Expression,
    Map,
    Select,
    Selector,
    SelectorWidth,
    SequenceMap,
    SOp,
    indices,
    tokens,
)

__all__ = [
    "tokens",
    "indices",
    "Select",
    "Comparison",
    "Aggregate",
    "SelectorWidth",
    "Map",
    "SequenceMap",
    "SOp",
    "Selector",
    "Expression",
    "evaluate",
    "compile",
    "RaspError",
    "ExpressionError",
    "UndefinedError",
    "InputError",
    "CompileError",
]
