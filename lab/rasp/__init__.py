"""RASP: programs to weights.

    from microtome.lab import rasp

    same = rasp.Select(rasp.tokens, rasp.tokens, rasp.Comparison.EQ)
    count = rasp.SelectorWidth(same).named("count")
    compiled = rasp.compile(count, vocab="abc", max_len=8)
    compiled(["a", "b", "a"])    # [2, 1, 2], out of a transformer
    compiled.verify()            # held against the interpreter, node by node

The language has tracr's names. `library` holds example programs, `printing.source` writes a program as lines of text,
`graph.draw` as a picture; `superposition` runs a compiled program in a narrower stream. Compiling imports torch and
TransformerLens; writing and interpreting a program does not.
"""

from microtome.lab.rasp.compiler import compile
from microtome.lab.rasp.errors import CompileError, ExpressionError, InputError, RaspError, UndefinedError
from microtome.lab.rasp.interpreter import evaluate
from microtome.lab.rasp.language import (
    Aggregate,
    Comparison,
    ConstantSelector,
    ConstantSOp,
    Encoding,
    Expression,
    Full,
    Indices,
    Length,
    LinearSequenceMap,
    Map,
    Predicate,
    Select,
    Selector,
    SelectorAnd,
    SelectorNot,
    SelectorOr,
    SelectorWidth,
    SequenceMap,
    SOp,
    Tokens,
    annotate,
    categorical,
    get_encoding,
    indices,
    is_categorical,
    is_numerical,
    length,
    numerical,
    selector_and,
    selector_not,
    selector_or,
    sop_not,
    tokens,
)
from microtome.lab.rasp.values import Value


def decompile(model, *, vocab=None, max_len=None) -> SOp:
    """A program that computes what a compiled model does, out of its weights alone; see `decompiler.decompile`."""
    # Reading weights needs torch, which writing and interpreting a program does not.
    from microtome.lab.rasp import decompiler

    return decompiler.decompile(model, vocab=vocab, max_len=max_len)


RASPExpr, TokensType, IndicesType, LengthType = Expression, Tokens, Indices, Length
"""tracr's names for these."""

SelectorValue = list[list[bool]]
NumericValue = int | float

__all__ = [
    "tokens",
    "indices",
    "length",
    "Full",
    "ConstantSOp",
    "Map",
    "SequenceMap",
    "LinearSequenceMap",
    "Select",
    "Comparison",
    "Predicate",
    "SelectorAnd",
    "SelectorOr",
    "SelectorNot",
    "ConstantSelector",
    "selector_and",
    "selector_or",
    "selector_not",
    "sop_not",
    "SelectorWidth",
    "Aggregate",
    "SOp",
    "Selector",
    "Expression",
    "Tokens",
    "Indices",
    "Length",
    "annotate",
    "Encoding",
    "numerical",
    "categorical",
    "get_encoding",
    "is_numerical",
    "is_categorical",
    "evaluate",
    "compile",
    "decompile",
    "RaspError",
    "ExpressionError",
    "UndefinedError",
    "InputError",
    "CompileError",
    "Value",
    "NumericValue",
    "SelectorValue",
    "RASPExpr",
    "TokensType",
    "IndicesType",
    "LengthType",
]
