"""Pass 1: equal sub-expressions become one node, so that each is computed once.

Two operations are equal if they apply the same function to equal children; functions are the same if they are the same
object, or the same operator with the same constant. A `SequenceMap` of one s-op with itself becomes a `Map`.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace

from microtome.lab.rasp.language import (
    Aggregate,
    Expression,
    Map,
    Partial,
    Select,
    SelectorWidth,
    SequenceMap,
    topological,
)
from microtome.lab.rasp.values import Value, key


@dataclass(frozen=True)
class Diagonal:
    """x ↦ f(x, x)."""

    f: Callable[[Value, Value], Value]

    def __call__(self, x: Value) -> Value:
        return self.f(x, x)


def canonical(program: Expression) -> dict[Expression, Expression]:
    """For each expression of the program, the one that stands for it and its equals, with such children throughout.

    That of the program itself is the program to compile. It keeps the first name that one of its equals bears.
    """
    classes: dict[Hashable, list[Expression]] = {}
    class_of: dict[Expression, Hashable] = {}
    numbers: dict[Hashable, int] = {}
    for node in topological(program):
        identity = _identity(node, tuple(numbers[class_of[child]] for child in node.children))
        numbers.setdefault(identity, len(numbers))
        class_of[node] = identity
        classes.setdefault(identity, []).append(node)

    built: dict[Hashable, Expression] = {}
    for identity, copies in classes.items():
        name = next((copy.name for copy in copies if copy.name is not None), None)
        built[identity] = _rebuild(copies[0], [built[class_of[child]] for child in copies[0].children], name)
    return {node: built[identity] for node, identity in class_of.items()}


def _identity(node: Expression, children: tuple[int, ...]) -> Hashable:
    match node:
        case Map(f=f) | SequenceMap(f=f) | Select(predicate=f):
            return (type(node), _function_identity(f), children)
        case Aggregate():
            return (Aggregate, key(node.default), children)
    return (type(node), children)


def _function_identity(f: Callable) -> Hashable:
    if isinstance(f, Partial):
        return (Partial, f.infix, key(f.constant), f.constant_first)
    return f if isinstance(f, Hashable) else id(f)


def _rebuild(node: Expression, children: list[Expression], name: str | None) -> Expression:
    match node:
        case Map():
            return replace(node, inner=children[0], name=name)
        case SequenceMap() if children[0] is children[1]:
            return Map(Diagonal(node.f), children[0], name=name or node.structure)
        case SequenceMap():
            return replace(node, fst=children[0], snd=children[1], name=name)
        case Select():
            return replace(node, keys=children[0], queries=children[1], name=name)
        case SelectorWidth():
            return replace(node, selector=children[0], name=name)
        case Aggregate():
            return replace(node, selector=children[0], sop=children[1], name=name)
    return node
