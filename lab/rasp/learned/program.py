"""A discrete network as a program: the pieces that `reader` reads and `source` writes down."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Int
from torch import Tensor

from microtome.lab.rasp.learned.options import Options

Value = str | int
Points = tuple[float | int, ...]
"""What speaks for each class."""


@dataclass(frozen=True)
class Embedding:
    """A learned variable of the token, by word."""

    name: str
    values: Mapping[str, int]

    @property
    def reads(self) -> tuple[str, ...]:
        return ("tokens",)


@dataclass(frozen=True)
class Head:
    """A head of the network.

    Attributes:
        name: of the variable that it writes.
        query, key, value: names of the variables that it reads.
        wanted: for each value of the query, the value of the key that matches; None where no key has that value.
        counts: whether it adds the value up over all matches; else it copies the value from the nearest one.
    """

    name: str
    query: str
    key: str
    value: str
    wanted: Mapping[Value, Value | None]
    counts: bool

    @property
    def reads(self) -> tuple[str, ...]:
        return self.query, self.key, self.value


@dataclass(frozen=True)
class Table:
    """An MLP of the network, as a function of the variables that make a difference to it.

    Attributes:
        name: of the variable that it writes.
        reads: names of its arguments, none for a constant.
        domains: the values that each argument can take.
        outputs: the value for each combination.
    """

    name: str
    reads: tuple[str, ...]
    domains: tuple[Sequence[Value], ...]
    outputs: Int[Tensor, "*arguments"]

    def mapping(self) -> dict[Value, int]:
        """The output for each value of the only argument."""
        return dict(zip(self.domains[0], self.outputs.tolist(), strict=True))


@dataclass(frozen=True)
class Classifier:
    """Points for each class, added up over variables; the first class with the most points is the answer.

    Attributes:
        points: of each value of a categorical variable.
        rates: of each unit of a numerical variable.
        always: what the classes have from the start.
    """

    points: Mapping[str, Mapping[Value, Points]]
    rates: Mapping[str, Points]
    always: Points

    @property
    def reads(self) -> tuple[str, ...]:
        return *self.points, *self.rates

    def best(self, values: Mapping[str, Value]) -> int:
        """The index of the class with the most points, given the value of each variable."""
        rows = [self.always, *(rows[values[name]] for name, rows in self.points.items())]
        rows += [[values[name] * rate for rate in row] for name, row in self.rates.items()]
        total = [sum(column) for column in zip(*rows, strict=True)]
        return total.index(max(total))


@dataclass(frozen=True)
class Program:
    """What an exported program is written from.

    Attributes:
        options: of the network.
        steps: the modules that matter to the answer, in an order in which they can be run.
        answer: which of the classes other than padding is said: a table where one variable decides, else points.
    """

    options: Options
    steps: tuple[Embedding | Head | Table, ...]
    answer: Table | Classifier
