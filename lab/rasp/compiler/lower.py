"""From what is known of a program to operations: who needs which function of what, from the output backwards.

A consumer never asks for a variable but for a function of it: its number, whether it is 3, its square. Functions of
one variable that are affine in each other share a direction, and functions of several variables that are sums of
functions of each cost nothing. Only what is left is computed by neurons (`tables`). Every consumer of a variable comes
after it in the program, so that going backwards all wishes are known when it is a variable's turn.
"""

import heapq
import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from microtome.lab.rasp.compiler import arguments, heads, raw, readouts
from microtome.lab.rasp.compiler.facts import Facts, Inference
from microtome.lab.rasp.compiler.operations import Direction, Form, Operation
from microtome.lab.rasp.compiler.wishes import Variable, Wish
from microtome.lab.rasp.errors import CompileError
from microtome.lab.rasp.language import (
    Aggregate,
    Indices,
    Length,
    SelectorWidth,
    SequenceMap,
    SOp,
    Tokens,
    operand,
)
from microtome.lab.rasp.values import key


@dataclass(eq=False)
class Lowering:
    """The state of lowering one program.

    Attributes:
        inference: what is known of the program.
        rank: the place of each s-op in the order of computation.
        plain: whether to translate each operation by itself, with one direction a value.
        wishes: by variable, the functions of it that are read.
        forms: directions that were read and are held as forms of others.
        operations: what computes them.
        embedded: the directions that the embeddings write, by `Tokens` or `Indices`.
        choices: what `arguments.cheapest` chose before.
    """

    inference: Inference
    rank: dict[SOp, int]
    plain: bool
    wishes: dict[Variable, dict[bytes, Wish]] = field(default_factory=dict)
    forms: dict[Direction, Form] = field(default_factory=dict)
    operations: list[Operation] = field(default_factory=list)
    embedded: dict[SOp, list[Direction]] = field(default_factory=dict)
    choices: dict[tuple, int] = field(default_factory=dict)
    _queue: list = field(default_factory=list)
    _order: itertools.count = field(default_factory=itertools.count)
    _names: Counter = field(default_factory=Counter)

    def facts(self, sop: SOp) -> Facts:
        return self.inference.facts[sop]

    # ── what consumers ask for ───────────────────────────────────────────────────────────────────────────────────

    def number(self, sop: SOp, *, exact: bool = False) -> Form:
        """The s-op's number, 0 where it has none."""
        facts = self.facts(sop)
        if facts.linear:
            total = Form({}, facts.bias)
            for factor, child in facts.linear:
                total = total + self.number(child).times(factor)
            return total
        if facts.averaged and not exact:
            return raw.mean(self, sop)
        return self.view((sop,), facts.numbers, name=sop.label, exact=exact)

    def flag(self, sop: SOp, value, *, exact: bool = False) -> Form:
        """1 where the s-op has the value, else 0."""
        facts = self.facts(sop)
        if facts.averaged and key(value) in facts.is_stray and (facts.values is None or not exact):
            return Form({raw.flag(self, sop, value): 1.0})
        function = np.zeros(len(facts.values))
        function[facts.number_of[key(value)]] = 1.0
        return self.view((sop,), function, name=code_name(sop, value), exact=exact)

    def view(self, sops: Sequence[SOp], function: np.ndarray, *, name: str, exact: bool) -> Form:
        """A form that equals a function of the joint value of s-ops.

        Args:
            sops: the arguments.
            function: one axis an argument, over its values in order; NaN where it does not matter.
            name: what to call it if it needs a direction.
            exact: whether rounding from averages of equal values must have been cleaned away.
        """
        sops, function = arguments.reduced(self, list(sops), function)
        if not sops:
            return Form({}, float(np.nan_to_num(function)))
        if self.plain:
            return self._coded(sops, function)
        if len(sops) == 1:
            return self._leaf(sops[0], function, name, exact)
        opened = arguments.opened(self, sops, function)
        for sops, values in opened:
            parts = arguments.additive(values)
            if parts is not None:
                total = Form({}, 0.0)
                for argument, part in zip(sops, parts, strict=True):
                    total = total + self.view((argument,), part, name=f"{name}: {argument.label}", exact=exact)
                return total
        sops, values = arguments.cheapest(self, opened)
        if len(sops) == 1:
            return self._leaf(sops[0], values, name, exact)
        return self.wish(Variable(tuple(sops), True), values, name)

    def wish(self, variable: Variable, function: np.ndarray, name: str) -> Form:
        """A form for a function that the variable will hold a direction for."""
        function = np.asarray(function, dtype=float)
        known = function[~np.isnan(function)]
        if known.size == 0 or np.ptp(known) == 0:
            return Form({}, float(known[0]) if known.size else 0.0)
        held, scale, bias = self._held(variable, function)
        wishes = self.open(variable)
        shape = (held - np.nanmin(held)) / np.ptp(held[~np.isnan(held)])
        mark = np.round(shape, 9).tobytes()
        if mark not in wishes:
            title = self._title(variable, held, name, changed=scale != 1.0 or bias != 0.0)
            wishes[mark] = Wish(self._direction(title, variable, held), held)
            return Form({wishes[mark].direction: scale}, bias)
        held = wishes[mark].function
        scale = float(np.ptp(known) / np.ptp(held[~np.isnan(held)]))
        low, high = np.nanargmin(held), np.nanargmax(held)
        flat = function.ravel()
        sign = 1.0 if flat[high] >= flat[low] else -1.0
        return Form({wishes[mark].direction: sign * scale}, float(flat[low] - sign * scale * held.ravel()[low]))

    def _held(self, variable: Variable, function: np.ndarray) -> tuple[np.ndarray, float, float]:
        """What to hold instead of the function, and how it is got from that by a factor and a bias."""
        known = function[~np.isnan(function)]
        low, high = float(known.min()), float(known.max())
        if len(variable.sops) == 1:
            facts = self.facts(variable.sops[0])
            numbers = facts.numbers
            if facts.all_numeric and np.ptp(numbers) > 0 and not np.isnan(function).any():
                factor = (function[-1] - function[0]) / (numbers[-1] - numbers[0]) if len(numbers) > 1 else 0.0
                first = function[0] - factor * numbers[0]
                if np.abs(function - (factor * numbers + first)).max() <= 1e-12 * max(1.0, abs(high), abs(low)):
                    return numbers, float(factor), float(first)
        levels = np.unique(known)
        if len(levels) == 2:
            ones = function == high
            # 1 on the rarer side, so that a direction says that something is the case.
            if ones.sum() * 2 > known.size and ones.sum() > (function == low).sum():
                held = np.where(np.isnan(function), np.nan, (function == low).astype(float))
                return held, low - high, high
            held = np.where(np.isnan(function), np.nan, ones.astype(float))
            return held, high - low, low
        return function, 1.0, 0.0

    def _title(self, variable: Variable, held: np.ndarray, name: str, *, changed: bool) -> str:
        if len(variable.sops) > 1:
            return f"not {name}" if changed and len(np.unique(held[~np.isnan(held)])) == 2 else name
        sop = variable.sops[0]
        facts = self.facts(sop)
        if facts.all_numeric and np.array_equal(held, facts.numbers):
            return sop.label
        ones = [v for v, one in zip(facts.values, held == 1, strict=True) if one]
        if len(np.unique(held)) == 2 and len(ones) == 1:
            return code_name(sop, ones[0])
        return name

    def _leaf(self, sop: SOp, function: np.ndarray, name: str, exact: bool) -> Form:
        """A function of one variable."""
        facts = self.facts(sop)
        if isinstance(sop, SequenceMap):
            image = self.inference.images[sop]
            opened = np.where(image < 0, np.nan, function[np.maximum(image, 0)])
            return self.view(sop.sops, opened, name=name, exact=exact)
        if isinstance(sop, SelectorWidth | Length) or facts.averaged or (exact and not facts.exact):
            return self.wish(Variable((sop,), True), function, name)
        return self.wish(Variable((sop,), False), function, name)

    def _coded(self, sops: list[SOp], function: np.ndarray) -> Form:
        """Plain translation: every s-op has one direction a value, and every function of several its neurons."""
        if len(sops) > 1:
            return self.wish(Variable(tuple(sops), True), function, " ".join(s.label for s in sops))
        (sop,) = sops
        source = isinstance(sop, Tokens | Indices) or (isinstance(sop, Aggregate) and not self.facts(sop).averaged)
        variable = Variable((sop,), not source)
        total = Form({}, 0.0)
        for i, value in enumerate(self.facts(sop).values):
            code = np.zeros(len(function))
            code[i] = 1.0
            if function[i] != 0 and not np.isnan(function[i]):
                total = total + self.wish(variable, code, code_name(sop, value)).times(float(function[i]))
        return total

    # ── directions ───────────────────────────────────────────────────────────────────────────────────────────────

    def _direction(self, name: str, variable: Variable, function: np.ndarray) -> Direction:
        values = [self.facts(s).values for s in variable.sops]
        places = itertools.product(*(map(key, own) for own in values))
        table = {place: x for place, x in zip(places, function.ravel().tolist(), strict=True) if not math.isnan(x)}
        known = np.fromiter(table.values(), dtype=float)
        whole, largest = np.array_equal(known, np.round(known)), float(np.abs(known).max())
        (sop, *others) = variable.sops
        if variable.computed and not others and not self.plain:
            error = 0.0 if whole else 64 * 2.0**-24 * largest
            return Direction(self.unique(name), variable.sops, table, error=error)
        rounded = not others and not variable.computed and not self.facts(sop).exact
        error = (2 * (self.inference.setting.max_len + 4) if rounded else 0 if whole else 64) * 2.0**-24 * largest
        return Direction(self.unique(name), variable.sops, table, error=error)

    def unique(self, name: str) -> str:
        self._names[name] += 1
        return name if self._names[name] == 1 else f"{name}#{self._names[name]}"

    def open(self, variable: Variable) -> dict[bytes, Wish]:
        """The wishes of a variable, which is queued when the first comes."""
        if variable not in self.wishes:
            self.wishes[variable] = {}
            # Neurons on several variables read what neurons make of one of them, and so have their turn before.
            rank = max(self.rank[s] for s in variable.sops) + 0.5 * variable.computed + 0.25 * (len(variable.sops) > 1)
            heapq.heappush(self._queue, (-rank, next(self._order), variable))
        return self.wishes[variable]

    # ── the way back ─────────────────────────────────────────────────────────────────────────────────────────────

    def run(self) -> None:
        """Lowers every variable that is read, the last first."""
        while self._queue:
            _, _, variable = heapq.heappop(self._queue)
            wishes = self._based(variable)
            (sop, *_) = variable.sops
            if variable.computed:
                self.operations.append(readouts.neurons(self, variable, wishes))
            elif isinstance(sop, Tokens | Indices):
                self.embedded[sop] = [wish.direction for wish in wishes]
            elif isinstance(sop, Aggregate):
                self.operations.append(heads.aggregate(self, sop, wishes))
            elif isinstance(sop, SelectorWidth | Length):
                self.operations.append(heads.width(self, sop))
            else:
                raise CompileError(f"the compiler cannot lower {type(sop).__name__}", sop)
        self.operations = [readouts.resolved(operation, self.forms) for operation in reversed(self.operations)]

    def _based(self, variable: Variable) -> list[Wish]:
        """The wishes, or one direction a value in their place where these are no more."""
        wishes = list(self.wishes[variable].values())
        functions = [w for w in wishes if w.function.size and not w.offset]
        if len(variable.sops) > 1 or not functions or self.plain:
            return wishes
        (sop,) = variable.sops
        facts = self.facts(sop)
        if len(functions) < len(facts.values):
            return wishes
        codes = []
        by_shape = {w.function.tobytes(): w for w in functions}
        for i, value in enumerate(facts.values):
            one = np.zeros(len(facts.values))
            one[i] = 1.0
            wish = by_shape.get(one.tobytes()) or Wish(self._direction(code_name(sop, value), variable, one), one)
            codes.append(wish)
        for wish in functions:
            if wish not in codes:
                # Where it does not matter what the function is, it is 0.
                known = np.nan_to_num(wish.function)
                weights = {c.direction: float(x) for c, x in zip(codes, known, strict=True) if x != 0}
                self.forms[wish.direction] = Form(weights)
        return [*(w for w in wishes if not w.function.size or w.offset), *codes]


def code_name(sop: SOp, value) -> str:
    """What the direction that stands for a value is called."""
    return f"{operand(sop)}={value:.5g}" if isinstance(value, float) else f"{operand(sop)}={value!r}"
