"""The program as the compiler sees it: equal parts once, constants folded, and cheaper forms of the same operations.

It goes from the inputs to the output. Each node is rebuilt on what its children became, looked up among the nodes that
exist already, and known (`infer`) before the next is made, so that rules can rest on values and not only on shapes.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass

import numpy as np

from microtome.lab.rasp.compiler.facts import Inference, same
from microtome.lab.rasp.compiler.infer import infer
from microtome.lab.rasp.compiler.split import split_width
from microtome.lab.rasp.functions import Infix, Linear, Partial
from microtome.lab.rasp.interpreter import apply
from microtome.lab.rasp.language import (
    Aggregate,
    ConstantSelector,
    ConstantSOp,
    Expression,
    Full,
    Map,
    Select,
    SelectorWidth,
    SequenceMap,
    SOp,
    indices,
    length,
    topological,
)
from microtome.lab.rasp.values import Value, is_numeric, key


@dataclass(frozen=True)
class Diagonal:
    """x ↦ f(x, …, x)."""

    f: Callable[..., Value]
    arity: int

    def __call__(self, x: Value) -> Value:
        return self.f(*([x] * self.arity))


@dataclass(frozen=True)
class Lookup:
    """The function of whole numbers from 0 that a tuple of values lists."""

    values: tuple[Value, ...]

    def __call__(self, i: int) -> Value:
        if not i < len(self.values):
            raise ArithmeticError(f"there is no value number {i}")
        return self.values[i]


@dataclass(frozen=True)
class Grid:
    """The predicate on key and query positions that a table [query][key] lists."""

    rows: tuple[tuple[bool, ...], ...]

    def __call__(self, k: int, q: int) -> bool:
        return q < len(self.rows) and k < len(self.rows[q]) and self.rows[q][k]


class Simplifier:
    """Builds the program to compile.

    Attributes:
        inference: what is known of every node made.
        images: for each expression of the given program, the node that stands for it.
    """

    def __init__(self, inference: Inference, *, plain: bool):
        self.inference, self.plain = inference, plain
        self.images: dict[Expression, Expression] = {}
        self._made: dict[Hashable, Expression] = {}
        self._name: dict[Hashable, str] = {}

    def run(self, program: SOp) -> SOp:
        """What stands for the program.

        Raises:
            CompileError, UndefinedError: as `infer`.
        """
        self._collect_names(program)
        self.add(indices)
        for node in topological(program):
            self.images[node] = self._image(node)
        return self.images[program]

    def add(self, node: Expression) -> Expression:
        """The node, or the one that was made before and does the same; its children are nodes made before."""
        identity = _identity(node, tuple(id(child) for child in node.children))
        if identity not in self._made:
            self._made[identity] = node
            infer(node, self.inference)
        return self._made[identity]

    def _collect_names(self, program: SOp) -> None:
        """The first name that one of several equal expressions bears is the name of all."""
        number: dict[Expression, int] = {}
        numbers: dict[Hashable, int] = {}
        self._class: dict[Expression, int] = number
        for node in topological(program):
            identity = _identity(node, tuple(number[child] for child in node.children))
            number[node] = numbers.setdefault(identity, len(numbers))
            if node.name is not None:
                self._name.setdefault(number[node], node.name)

    def _image(self, node: Expression) -> Expression:
        children = [self.images[child] for child in node.children]
        unchanged = same(children, node.children)
        rebuilt = node if unchanged else node.with_children(children)
        name = self._name.get(self._class[node])
        if name is not None and rebuilt.name is None:
            rebuilt = rebuilt.named(name)
        if isinstance(node, ConstantSOp | ConstantSelector) and node.check_length:
            self.inference.assume(f"an input has {len(node.value)} tokens, as {node.label} has")
        rebuilt = _always(rebuilt, self.inference.setting.max_len)
        if isinstance(rebuilt, SequenceMap) and not self.plain:
            # Before its values are listed: those of the single average are far fewer.
            rebuilt = self._one_average(rebuilt)
        known = self.add(rebuilt)
        return known if self.plain else self._better(known)

    def _better(self, node: Expression) -> Expression:
        """A cheaper node with the same values, or the node itself."""
        if not isinstance(node, SOp):
            return node
        facts = self.inference.facts[node]
        if isinstance(node, Map):
            image = self.inference.images.get(node)
            inner = self.inference.facts[node.inner].values
            if image is not None and all(
                i >= 0 and key(facts.values[i]) == key(v) for i, v in zip(image, inner, strict=True)
            ):
                return node.inner
        if facts.values is not None and len(facts.values) == 1 and not isinstance(node, Full):
            return self.add(Full(facts.values[0], name=node.label, where=node.where))
        if isinstance(node, SelectorWidth | Aggregate) and facts.at is not None and facts.values is not None:
            return self._by_place(node)
        if isinstance(node, SelectorWidth):
            return split_width(self, node)
        return node

    def _by_place(self, node: SOp) -> SOp:
        """What depends on the index alone, or on the length alone, as a function of that."""
        facts, places = self.inference.facts[node], self.inference.setting.places
        sources = [(indices, 1)] if self.inference.setting.causal else [(indices, 1), (self.add(length), 0)]
        for inner, column in sources:
            found = _function_of(places[:, column], facts.at)
            if found is None:
                continue
            table = Lookup(tuple(facts.values[i] for i in found))
            # The map of a length to itself, which counting everything is, falls away.
            return self._better(self.add(Map(table, inner, name=node.label, where=node.where)))
        return node

    def _one_average(self, node: SequenceMap) -> SOp:
        """A weighted sum of averages over the same selector as the average of the weighted sum."""
        linear = isinstance(node.f, Linear) or (isinstance(node.f, Infix) and node.f.sign in "+-")
        if not linear or not all(isinstance(s, Aggregate) and s.reduction == "mean" for s in node.sops):
            return node
        first = node.sops[0].selector
        facts = [self.inference.facts[s] for s in node.sops]
        if any(s.selector is not first for s in node.sops) or any(f.strays or not f.averaged for f in facts):
            return node
        if any(self.inference.facts[s.sop].values is None for s in node.sops):
            return node
        defaults = [s.default for s in node.sops]
        empty = not self.inference.truths[first].never_empty
        if empty and not all(is_numeric(d) for d in defaults):
            return node
        inner = self.add(SequenceMap(node.f, *(s.sop for s in node.sops)))
        default = apply(node, *defaults) if empty else None
        return self.add(Aggregate(first, inner, default=default, name=node.label, where=node.where))


def _always(node: Expression, max_len: int) -> Expression:
    """The few kinds that are other kinds in disguise."""
    match node:
        case ConstantSOp():
            values = node.value if node.check_length else (*node.value, *[None] * (max_len - len(node.value)))
            return Map(Lookup(values), indices, name=node.name, where=node.where)
        case ConstantSelector():
            return Select(indices, indices, Grid(node.value), name=node.name, where=node.where)
        case SequenceMap() if all(s is node.sops[0] for s in node.sops):
            same_s_op = Diagonal(node.f, len(node.sops))
            return Map(same_s_op, node.sops[0], name=node.name or node.structure, where=node.where)
    return node


def _function_of(argument: np.ndarray, result: np.ndarray) -> list[int] | None:
    """`result` for each argument from 0 to the largest (the first known one where there is none), or None."""
    table: dict[int, int] = {}
    for a, r in zip(argument.tolist(), result.tolist(), strict=True):
        if table.setdefault(a, r) != r:
            return None
    fill = next(iter(table.values()))
    return [table.get(a, fill) for a in range(max(table) + 1)]


def _identity(node: Expression, children: tuple[int, ...]) -> Hashable:
    match node:
        case Map(f=f) | SequenceMap(f=f) | Select(predicate=f):
            return (type(node) if isinstance(node, Map | Select) else SequenceMap, _function_identity(f), children)
        case Aggregate():
            return (Aggregate, key(node.default), node.reduction, children)
        case Full():
            return (Full, key(node.fill))
        case ConstantSOp() | ConstantSelector():
            return (type(node), tuple(map(key, node.value)) if isinstance(node, ConstantSOp) else node.value)
    return (type(node), children)


def _function_identity(f: Callable) -> Hashable:
    if isinstance(f, Partial):
        return (Partial, f.infix, key(f.constant), f.constant_first)
    if isinstance(f, Lookup):
        return (Lookup, tuple(map(key, f.values)))
    if isinstance(f, Linear):
        return (Linear, tuple(map(key, f.factors)))
    return f if isinstance(f, Hashable) else id(f)
