"""Python text for functions on finite domains: conditions that fold runs of numbers, and ladders of `if`s."""

import json
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence

from jaxtyping import Int
from torch import Tensor

from microtome.lab.rasp.learned.program import Table, Value

INDENT = "    "
Branch = tuple[Sequence[Value], list[str]]
"""Values, and the statements for them."""


def literal(value: Value) -> str:
    """A word or a number as Python text."""
    return json.dumps(value, ensure_ascii=False)


def condition(name: str, values: Sequence[Value], domain: Sequence[Value]) -> str:
    """An expression that is true where the variable `name`, known to lie in `domain`, has one of the values."""
    if not all(isinstance(value, int) for value in domain):
        return _membership(name, sorted(values, key=str))
    places = sorted(domain)
    parts = [_interval(name, run, places) for run in _runs(sorted(values), places)]
    singles = _membership(name, sorted(values))
    joined = " or ".join(parts)
    return joined if len(joined) <= len(singles) else singles


def ladder(name: str, branches: Sequence[Branch], domain: Sequence[Value]) -> list[str]:
    """Statements that go to the branch of the variable's value; the last branch is where all others end up."""
    lines = []
    for values, body in branches[:-1]:
        lines += [f"if {condition(name, values, domain)}:", *(INDENT + line for line in body)]
    return lines + branches[-1][1]


def grouped(values: Sequence[Value], key: Callable[[int], Hashable], weight: Callable[[int], int]) -> list[list[int]]:
    """Indices of the values that share a key; the groups in order of first member, but the heaviest one last."""
    groups: dict[Hashable, list[int]] = {}
    for i in range(len(values)):
        groups.setdefault(key(i), []).append(i)
    heaviest = max(groups.values(), key=lambda group: sum(map(weight, group)))
    return [group for group in groups.values() if group is not heaviest] + [heaviest]


def returns(arguments: Sequence[str], table: Table, say: Callable[[int], str]) -> list[str]:
    """Statements that return `say(output)` for a table of one or two arguments, the most frequent output by default."""
    if table.outputs.ndim == 1:
        return _one(arguments[0], table.domains[0], table.outputs.tolist(), say)
    (first, second), (name, other) = table.domains, arguments
    return min(
        _two((name, other), (first, second), table.outputs, say),
        _two((other, name), (second, first), table.outputs.T, say),
        key=len,
    )


def _one(name: str, domain: Sequence[Value], outputs: list[int], say: Callable[[int], str]) -> list[str]:
    groups = grouped(domain, lambda i: outputs[i], lambda i: 1)
    return ladder(name, [([domain[i] for i in g], [f"return {say(outputs[g[0]])}"]) for g in groups], domain)


def _two(
    names: tuple[str, str],
    domains: tuple[Sequence[Value], Sequence[Value]],
    outputs: Int[Tensor, "first second"],
    say: Callable[[int], str],
) -> list[str]:
    """Values of the first argument whose rows are alike share a ladder over the second."""
    rows = outputs.tolist()
    usual = Counter(value for row in rows for value in row).most_common(1)[0][0]
    groups = grouped(domains[0], lambda i: tuple(rows[i]), lambda i: rows[i].count(usual))
    return ladder(
        names[0],
        [([domains[0][i] for i in g], _one(names[1], domains[1], rows[g[0]], say)) for g in groups],
        domains[0],
    )


def predicate(query: str, key: str, wanted: Mapping[Value, Value | None]) -> list[str]:
    """Statements that say whether a key matches a query: it equals the query, a shift of it, or a fixed value."""
    domain, left, branches = list(wanted), dict(wanted), []
    while left:
        rule, values = max(_rules(query, key, left).items(), key=lambda item: len(item[1]))
        branches.insert(0, (values, [f"return {rule}"]))
        left = {value: sought for value, sought in left.items() if value not in values}
    return ladder(query, branches, domain)


def _rules(query: str, key: str, wanted: Mapping[Value, Value | None]) -> dict[str, list[Value]]:
    """The queries that each way of matching is right for; fixed values first, so that they win when equal."""
    fixed: dict[str, list[Value]] = {}
    relative: dict[str, list[Value]] = {}
    for value, sought in wanted.items():
        fixed.setdefault("False" if sought is None else f"{key} == {literal(sought)}", []).append(value)
        if sought == value:
            relative.setdefault(f"{key} == {query}", []).append(value)
        elif isinstance(sought, int) and isinstance(value, int):
            sign = "+" if sought > value else "-"
            relative.setdefault(f"{key} == {query} {sign} {abs(sought - value)}", []).append(value)
    return fixed | relative


def _membership(name: str, values: Sequence[Value]) -> str:
    if len(values) == 1:
        return f"{name} == {literal(values[0])}"
    return f"{name} in {{{', '.join(map(literal, values))}}}"


def _runs(values: list[int], domain: Sequence[int]) -> list[list[int]]:
    """Values that follow each other in the domain."""
    place = {value: i for i, value in enumerate(domain)}
    runs: list[list[int]] = []
    for value in values:
        if runs and place[value] == place[runs[-1][-1]] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    return runs


def _interval(name: str, run: list[int], domain: Sequence[int]) -> str:
    if len(run) == 1:
        return f"{name} == {run[0]}"
    if run[0] == domain[0]:
        return f"{name} <= {run[-1]}"
    return f"{name} >= {run[0]}" if run[-1] == domain[-1] else f"{run[0]} <= {name} <= {run[-1]}"
