"""The source text of functions, for printing: a name, or for a lambda what was typed, its variables filled in."""

import ast
import builtins
import inspect
import linecache
from collections.abc import Callable
from functools import lru_cache
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType

UNKNOWN = "<lambda>"
"""What stands for a lambda whose source cannot be found."""

FILL_LIMIT = 60
"""Longest value, in characters, that is written out in place of a variable."""

Place = tuple[int, int]


def function_text(f: Callable) -> str:
    """How a program would write the function: `len`, `math.floor`, `{'a': 1}.get`, `lambda x: x + 1`.

    Variables that a lambda took from around it, and defaults of its parameters, are replaced by their values, where
    those are literals or functions; functions of its module stay names.
    """
    if isinstance(f, FunctionType) and f.__name__ == "<lambda>":
        tree = _lambda_tree(f, frozenset())
        return UNKNOWN if tree is None else ast.unparse(tree)
    if isinstance(f, BuiltinFunctionType) and f.__self__ is not builtins:
        owner = f.__self__
        return f"{owner.__name__ if isinstance(owner, ModuleType) else repr(owner)}.{f.__name__}"
    return getattr(f, "__name__", f"<{type(f).__name__}>")


def _lambda_tree(f: FunctionType, around: frozenset[CodeType]) -> ast.Lambda | None:
    found = _find(f.__code__)
    if found is None or f.__code__ in around:
        return None
    tree = ast.parse(ast.unparse(found), mode="eval").body
    around |= {f.__code__}
    for i, value in enumerate(f.__defaults__ or ()):
        tree.args.defaults[i] = _value_tree(value, around) or tree.args.defaults[i]
    outside = inspect.getclosurevars(f)
    taken = {name: value for name, value in outside.globals.items() if not callable(value)} | dict(outside.nonlocals)
    filled = {name: _value_tree(value, around) for name, value in taken.items()}
    return _Fill({name: value for name, value in filled.items() if value is not None}).visit(tree)


def _value_tree(value: object, around: frozenset[CodeType]) -> ast.expr | None:
    if isinstance(value, FunctionType) and value.__name__ == "<lambda>":
        return _lambda_tree(value, around)
    text = function_text(value) if isinstance(value, FunctionType | BuiltinFunctionType | type) else repr(value)
    if len(text) > FILL_LIMIT:
        return None
    try:
        tree = ast.parse(text, mode="eval").body
        if not callable(value):
            ast.literal_eval(tree)
    except (SyntaxError, ValueError):
        return None
    return tree


class _Fill(ast.NodeTransformer):
    """Replaces free names; the parameters of a lambda are not free in it."""

    def __init__(self, filled: dict[str, ast.expr]):
        self._filled = filled

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self._filled.get(node.id, node)

    def visit_Lambda(self, node: ast.Lambda) -> ast.Lambda:
        bound = {argument.arg for argument in ast.walk(node.args) if isinstance(argument, ast.arg)}
        inside = _Fill({name: tree for name, tree in self._filled.items() if name not in bound})
        return ast.Lambda(self.generic_visit(node.args), inside.visit(node.body))


def _find(code: CodeType) -> ast.Lambda | None:
    """The innermost lambda of the source file whose body holds all that the code was compiled from."""
    places = [place for place in code.co_positions() if None not in place and place[3] > 0]
    text = "".join(linecache.getlines(code.co_filename))
    fitting = [
        (first, tree)
        for first, last, tree in _lambdas(text)
        if all(first <= (line, column) and (end_line, end) <= last for line, end_line, column, end in places)
    ]
    if not fitting or not places:
        return None
    _, tree = max(fitting, key=lambda pair: pair[0])
    return tree if _content(_compiled(tree)) == _content(code) else None


def _compiled(tree: ast.Lambda) -> CodeType:
    outer = compile(ast.Expression(tree), "<lambda>", "eval")
    return next(constant for constant in outer.co_consts if isinstance(constant, CodeType))


def _content(code: CodeType) -> tuple:
    """What the code and its source must share, so that a file changed since then is not taken for the source."""
    constants = [repr(constant) for constant in code.co_consts if not isinstance(constant, CodeType)]
    return code.co_varnames, {*code.co_names, *code.co_freevars}, constants


@lru_cache(maxsize=64)
def _lambdas(text: str) -> list[tuple[Place, Place, ast.Lambda]]:
    """Each lambda of the text behind the first and the last place, (line, column), of its body."""
    try:
        nodes = list(ast.walk(ast.parse(text)))
    except SyntaxError:
        return []
    bodies = [(node.body, node) for node in nodes if isinstance(node, ast.Lambda)]
    return [((b.lineno, b.col_offset), (b.end_lineno, b.end_col_offset), node) for b, node in bodies]
