"""What lowering produces: heads and neurons over named directions of the stream, before any index is given."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field

from microtome.lab.rasp.language import SOp
from microtome.lab.rasp.values import Value, is_numeric, key


@dataclass(frozen=True, eq=False)
class Direction:
    """One named direction of the residual stream, and what its coordinate should be on any input.

    Attributes:
        name: unique in the compiled program.
        sops: the s-ops of the compiled program that the coordinate depends on.
        table: the coordinate for each combination of their values, by `values.key`; None for an average's number.
        strays: keys of values that are no number there; the number counts as 0.
        error: bound on the float32 error of the coordinate; 0 where it is exact.
        offset: what is in the coordinate only to round it; the rest is what it means.
    """

    name: str
    sops: tuple[SOp, ...]
    table: Mapping[tuple[Hashable, ...], float] | None
    strays: frozenset[Hashable] = frozenset()
    error: float = 0.0
    offset: float = 0.0

    def expected(self, *values: Value) -> float:
        """The coordinate where the s-ops have these values; KeyError for values that were not foreseen."""
        if self.table is not None:
            return self.table[tuple(map(key, values))]
        (value,) = values
        return float(value) if is_numeric(value) and key(value) not in self.strays else 0.0

    def bound(self, error: float) -> None:
        """Notes a larger bound on the error, once it is known how the coordinate is computed."""
        object.__setattr__(self, "error", max(self.error, error))

    def __repr__(self) -> str:
        return f"Direction({self.name!r})"


Weights = Mapping[Direction, float]


@dataclass(frozen=True, eq=False)
class Form:
    """A linear form on the stream: the sum of weighted coordinates, and a bias."""

    weights: Weights = field(default_factory=dict)
    bias: float = 0.0

    def __add__(self, other: "Form") -> "Form":
        weights = dict(self.weights)
        for direction, weight in other.weights.items():
            weights[direction] = weights.get(direction, 0.0) + weight
        return Form({d: w for d, w in weights.items() if w != 0}, self.bias + other.bias)

    def times(self, factor: float) -> "Form":
        return Form({d: w * factor for d, w in self.weights.items() if factor != 0}, self.bias * factor)

    def resolved(self, forms: Mapping[Direction, "Form"]) -> "Form":
        """With each direction that has a form replaced by it."""
        if not any(direction in forms for direction in self.weights):
            return self
        total = Form({}, self.bias)
        for direction, weight in self.weights.items():
            total = total + forms.get(direction, Form({direction: 1.0})).times(weight)
        return total


@dataclass(frozen=True, eq=False)
class Head:
    """One attention head. Scores are in tiers (see `heads`); `emit` turns a tier into nats.

    The score of a key is the sum over `products` of query form times key form, and `by_key`, and `by_query`.

    Attributes:
        label: of the s-op that it computes.
        selector: what its pattern stands for; heads with the same selector and scores can become one.
        products: pairs of a form at the query and a form at the key.
        by_query, by_key: forms that count alone.
        sink_score: score of the sink, in tiers.
        sink_bonus: added to it, in nats.
        values: what it writes where, as a form at the key.
        constants: what is added there at every position.
        sink_values: what the sink writes.
        needs_sink: whether some query can fall to the sink.
        levels: how many tiers below the selected keys a key that is not selected lies.
        where: the line of the program that the s-op was made in, or None.
    """

    label: str
    selector: Hashable
    products: tuple[tuple[Form, Form], ...]
    by_query: Form
    by_key: Form
    sink_score: float
    sink_bonus: float
    values: Mapping[Direction, Form]
    constants: Weights
    sink_values: Weights
    needs_sink: bool
    levels: int
    where: str | None

    @property
    def forms(self) -> tuple[Form, ...]:
        return (*(f for pair in self.products for f in pair), self.by_query, self.by_key, *self.values.values())

    @property
    def reads(self) -> frozenset[Direction]:
        return frozenset(direction for form in self.forms for direction in form.weights)

    @property
    def writes(self) -> tuple[Direction, ...]:
        return tuple(self.values)

    @property
    def has_key_term(self) -> bool:
        """Whether a dim is spent on what counts by the key alone; the sink's score is there too."""
        return bool(self.by_key.weights)

    def d_head(self, *, sink: bool, causal: bool) -> int:
        """Dims that it needs in a model with or without a sink."""
        # Where nothing hides the other keys from the sink's own query, a dim does.
        by_query = bool(self.by_query.weights) or (sink and not causal)
        scores = len(self.products) + by_query + (self.has_key_term or sink)
        return max(1, scores, len(self.values))


@dataclass(frozen=True, eq=False)
class Neuron:
    """writes · relu(reads)."""

    reads: Form
    writes: Weights


@dataclass(frozen=True, eq=False)
class Neurons:
    """The neurons that compute some directions of one variable, and what is added to these at every position."""

    label: str
    neurons: tuple[Neuron, ...]
    constants: Weights

    @property
    def reads(self) -> frozenset[Direction]:
        return frozenset(direction for neuron in self.neurons for direction in neuron.reads.weights)

    @property
    def writes(self) -> tuple[Direction, ...]:
        written = (*self.constants, *(d for neuron in self.neurons for d in neuron.writes))
        return tuple(dict.fromkeys(written))


Operation = Head | Neurons
