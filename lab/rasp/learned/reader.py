"""Reading a discrete network as a program: what each head looks for, what each MLP says, what speaks for each class.

Everything is read for the values that a variable can take, which are followed through the network from the vocabulary
and the positions on: a superset of those that occur. Modules that nothing depends on are left out.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor

from microtome.lab.rasp.learned.gates import argmax
from microtome.lab.rasp.learned.heads import Heads
from microtome.lab.rasp.learned.mlps import Lookups
from microtome.lab.rasp.learned.network import TransformerProgram
from microtome.lab.rasp.learned.points import classifier
from microtome.lab.rasp.learned.program import Classifier, Embedding, Head, Program, Table, Value

Step = Embedding | Head | Table


def read(model: TransformerProgram) -> Program:
    """The program that a discrete network is."""
    with torch.no_grad():
        return _Reader(model).read()


class _Reader:
    """Follows the values of all variables through a network, in the order of its modules.

    Attributes:
        values: of each categorical variable, the indices that can occur and what they stand for.
        numbers: of each numerical variable, the numbers that it can be.
    """

    def __init__(self, model: TransformerProgram):
        self.model, self.options = model, model.options
        names = {
            kind: [v.name for v in self.options.variables if v.kind == kind] for kind in ("categorical", "numerical")
        }
        self.categorical, self.numerical = names["categorical"], names["numerical"]
        self.values: dict[str, dict[int, Value]] = {"positions": {i: i for i in range(self.options.n_ctx)}}
        self.numbers = {"ones": range(1, 2)}
        self.steps: list[Step] = []

    def read(self) -> Program:
        self._inputs()
        for layer, block in enumerate(self.model.blocks):
            for module, prefix in ((block.attn, "attn"), (block.num_attn, "num_attn")):
                if module is not None:
                    self._heads(module, self._names(f"{prefix}_{layer}_"), counts=prefix == "num_attn")
            for module, prefix in ((block.mlp, "mlp"), (block.num_mlp, "num_mlp")):
                if module is not None:
                    self._tables(module, self._names(f"{prefix}_{layer}_"), numerical=prefix == "num_mlp")
        answer = self._answer()
        return Program(self.options, _alive(self.steps, answer.reads), answer)

    def _names(self, prefix: str) -> list[str]:
        return [name for name in self.categorical + self.numerical if name.startswith(prefix)]

    def _inputs(self) -> None:
        # Padding never is in a sentence.
        words = dict(enumerate(self.options.tokens[1:], start=1))
        self.values["tokens"] = words
        if self.options.n_embeddings:
            for name, row in zip(self._names("embedding_"), self.model.embedding.argmax(-1).tolist(), strict=True):
                self.steps.append(Embedding(name, {word: row[i] for i, word in words.items()}))
                self.values[name] = {value: value for value in sorted(set(row[1:]))}

    def _heads(self, heads: Heads, names: list[str], counts: bool) -> None:
        chosen = torch.cat([heads.gate.chosen, heads.value_gate.chosen[None]]).T.tolist()
        for name, matrix, (query, key, value) in zip(names, heads.predicate.argmax(-1).tolist(), chosen, strict=True):
            query, key = self.categorical[query], self.categorical[key]
            value = (self.numerical if counts else self.categorical)[value]
            wanted = {label: self.values[key].get(matrix[i]) for i, label in self.values[query].items()}
            self.steps.append(Head(name, query, key, value, wanted, counts))
            if counts:
                self.numbers[name] = range(self.numbers[value][-1] * self._most_matches(key, wanted) + 1)
            else:
                self.values[name] = self.values[value]

    def _most_matches(self, key: str, wanted: Mapping[Value, Value | None]) -> int:
        if all(sought is None for sought in wanted.values()):
            return 0
        return 1 if key == "positions" else self.options.n_ctx

    def _tables(self, lookups: Lookups, names: list[str], numerical: bool) -> None:
        variables = self.numerical if numerical else self.categorical
        for i, (name, chosen) in enumerate(zip(names, lookups.gate.chosen.tolist(), strict=True)):
            reads = tuple(variables[v] for v in chosen)
            domains = [self.numbers[r] if numerical else list(self.values[r].values()) for r in reads]
            inputs = [
                _numbers(d, lookups) if numerical else self._one_hot(r, lookups)
                for r, d in zip(reads, domains, strict=True)
            ]
            if reads[0] == reads[1]:
                outputs = _say(lookups, i, torch.cat(inputs, -1))
                reads, domains = reads[:1], domains[:1]
            else:
                outputs = _say_all_pairs(lookups, i, *inputs)
            self.steps.append(_narrowed(Table(name, reads, tuple(domains), outputs)))
            self.values[name] = {value: value for value in outputs.unique().tolist()}

    def _one_hot(self, name: str, lookups: Lookups) -> Tensor:
        return F.one_hot(torch.tensor(list(self.values[name])), self.options.d_var).to(lookups.W_in)

    def _answer(self) -> Table | Classifier:
        found = classifier(self.model, self.values, self.numbers)
        if not found.reads:
            return Table("answer", (), (), torch.tensor(found.best({})))
        root = _root(self.steps, found.reads)
        if root is None:
            return found
        name, functions = root
        domain = self.numbers[name] if name in self.numbers else list(self.values[name].values())
        best = [found.best({n: f.get(value, value) for n, f in functions.items()}) for value in domain]
        return _narrowed(Table("answer", (name,), (domain,), torch.tensor(best)))


def _numbers(domain: range, lookups: Lookups) -> Tensor:
    return torch.tensor(domain)[:, None].to(lookups.W_in)


def _say(lookups: Lookups, which: int, inputs: Tensor) -> Int[Tensor, " rows"]:
    """What one of the MLPs says to each row of inputs."""
    read = inputs[None, :, None].expand(-1, -1, len(lookups.W_in), -1)
    return argmax(lookups.log_probabilities(read)[0, :, which]).argmax(-1)


def _say_all_pairs(lookups: Lookups, which: int, first: Tensor, second: Tensor) -> Int[Tensor, "first second"]:
    rows = (torch.cat([row.expand(len(second), -1), second], -1) for row in first)
    return torch.stack([_say(lookups, which, row) for row in rows])


def _narrowed(table: Table) -> Table:
    """The table without the arguments that make no difference."""
    outputs, kept = table.outputs, []
    for axis in reversed(range(outputs.ndim)):
        first = outputs.select(axis, 0)
        if torch.equal(outputs, first.unsqueeze(axis).expand_as(outputs)):
            outputs = first
        else:
            kept.insert(0, axis)
    return Table(table.name, tuple(table.reads[i] for i in kept), tuple(table.domains[i] for i in kept), outputs)


def _root(steps: list[Step], reads: tuple[str, ...]) -> tuple[str, dict[str, dict[Value, Value]]] | None:
    """The one variable that all of these are functions of, and the functions; an empty one leaves values alone."""
    functions: dict[str, tuple[str, dict[Value, Value]]] = {}
    for step in steps:
        if isinstance(step, Head) or len(step.reads) != 1:
            continue
        own = dict(step.values) if isinstance(step, Embedding) else step.mapping()
        root, inner = functions.get(step.reads[0], (step.reads[0], {value: value for value in own}))
        functions[step.name] = (root, {value: own[middle] for value, middle in inner.items()})
    found = {name: functions.get(name, (name, {})) for name in reads}
    roots = {root for root, _ in found.values()}
    return (roots.pop(), {name: function for name, (_, function) in found.items()}) if len(roots) == 1 else None


def _alive(steps: list[Step], reads: tuple[str, ...]) -> tuple[Step, ...]:
    """The steps that the answer depends on."""
    needed, kept = set(reads), []
    for step in reversed(steps):
        if step.name in needed:
            needed |= set(step.reads)
            kept.insert(0, step)
    return tuple(kept)
