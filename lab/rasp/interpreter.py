"""What a RASP program means: the reference that every compiled model is held against, in plain Python."""

from collections.abc import Hashable, Iterable, Sequence

from microtome.lab.rasp.errors import InputError, UndefinedError
from microtome.lab.rasp.language import (
    Aggregate,
    ConstantSelector,
    ConstantSOp,
    Expression,
    Full,
    Indices,
    Length,
    Map,
    Select,
    SelectorAnd,
    SelectorNot,
    SelectorOr,
    SelectorWidth,
    SequenceMap,
    Tokens,
    topological,
)
from microtome.lab.rasp.values import Value, extreme, mean, plain
from microtome.lab.rasp.values import key as identity

Table = list[list[bool]]


def evaluate(expression: Expression, tokens: Iterable[Value], *, causal: bool = False) -> list:
    """The values of an s-op at each position, or the truth table [query][key] of a selector.

    Args:
        expression: an s-op or selector.
        tokens: the input, at least one token.
        causal: whether a query sees only the keys at its own position and before.

    Raises:
        InputError: if the input is empty. UndefinedError: if a function of the program fails on a value.
    """
    return trace(expression, tokens, causal=causal)[expression]


def trace(expression: Expression, tokens: Iterable[Value], *, causal: bool = False) -> dict[Expression, list]:
    """As `evaluate`, for every expression that `expression` reads and itself."""
    sequence = [plain(token) for token in tokens]
    if not sequence:
        raise InputError("an input must hold at least one token", expression)
    results: dict[Expression, list] = {}
    for node in topological(expression):
        results[node] = _step(node, [results[child] for child in node.children], sequence, causal)
    return results


def apply(node: Map | SequenceMap, *arguments: Value) -> Value:
    """The node's function of the arguments, or None where one of them is None.

    Raises:
        UndefinedError: naming the arguments, if the function raises or returns what is no value of the language.
    """
    if None in arguments:
        return None
    try:
        return plain(node.f(*arguments))
    except Exception as error:  # the function is the user's: whatever it raises must reach them with its arguments
        raise _undefined(node, arguments, error) from error


def holds(node: Select, key: Value, query: Value) -> bool:
    """The node's predicate, False where key or query is None.

    Raises:
        UndefinedError: as `apply`.
    """
    if key is None or query is None:
        return False
    try:
        return bool(node.predicate(key, query))
    except Exception as error:  # as above
        raise _undefined(node, (key, query), error) from error


def _undefined(node: Expression, arguments: tuple[Value, ...], error: Exception) -> UndefinedError:
    shown = ", ".join(map(repr, arguments))
    return UndefinedError(f"the function is not defined on {shown}: {type(error).__name__}: {error}", node)


def _step(node: Expression, children: list[list], sequence: list[Value], causal: bool) -> list:
    n = len(sequence)
    match node:
        case Tokens():
            return sequence
        case Indices():
            return list(range(n))
        case Length():
            return [n] * n
        case Full():
            return [node.fill] * n
        case ConstantSOp():
            return _fitted(node, node.value, n, None)
        case Map() | SequenceMap():
            return [apply(node, *arguments) for arguments in zip(*children, strict=True)]
        case SelectorWidth():
            return [sum(row) for row in children[0]]
        case Aggregate():
            return [_aggregate(node, row, children[1]) for row in children[0]]
    table = _table(node, children, n)
    return [[chosen and (k <= q or not causal) for k, chosen in enumerate(row)] for q, row in enumerate(table)]


def _table(node: Expression, children: list[list], n: int) -> Table:
    match node:
        case Select():
            keys, queries = children
            rows: dict[Hashable, list[bool]] = {}
            for query in queries:
                if identity(query) not in rows:
                    rows[identity(query)] = [holds(node, key, query) for key in keys]
            return [rows[identity(query)] for query in queries]
        case SelectorAnd():
            return [[x and y for x, y in zip(*rows, strict=True)] for rows in zip(*children, strict=True)]
        case SelectorOr():
            return [[x or y for x, y in zip(*rows, strict=True)] for rows in zip(*children, strict=True)]
        case SelectorNot():
            return [[not x for x in row] for row in children[0]]
        case ConstantSelector():
            return [_fitted(node, row, n, False) for row in _fitted(node, node.value, n, (False,) * n)]
    raise TypeError(f"the interpreter does not know {type(node).__name__}")


def _fitted(node: ConstantSOp | ConstantSelector, entries: Sequence, n: int, beyond: object) -> list:
    """The first n entries, with `beyond` after the last."""
    if node.check_length and len(entries) != n:
        raise InputError(f"a constant of length {len(entries)} does not fit an input of length {n}", node)
    return [*entries[:n], *[beyond] * (n - len(entries))]


def _aggregate(node: Aggregate, row: list[bool], values: list[Value]) -> Value:
    selected = [value for value, chosen in zip(values, row, strict=True) if chosen]
    if not selected:
        return node.default
    present = [value for value in selected if value is not None]
    return reduce(node, present) if present else None


def reduce(node: Aggregate, values: Sequence[Value]) -> Value:
    """What the node's reduction makes of values in the order of their positions, at least one and none of them None.

    Raises:
        UndefinedError: if the values have no mean, or no greatest or least.
    """
    match node.reduction:
        case "first":
            return values[0]
        case "last":
            return values[-1]
    try:
        return mean(values) if node.reduction == "mean" else extreme(values, greatest=node.reduction == "max")
    except ValueError as error:
        raise UndefinedError(str(error), node) from error
