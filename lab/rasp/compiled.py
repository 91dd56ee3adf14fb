"""A compiled program: a model of the zoo, and how tokens and values enter and leave it."""

import difflib
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from microtome.lab.rasp.compiler.infer import Inference
from microtome.lab.rasp.compiler.layout import Basis, Layout
from microtome.lab.rasp.errors import InputError
from microtome.lab.rasp.language import Expression, SOp
from microtome.lab.rasp.reading import average_reader
from microtome.lab.rasp.values import Value, key, plain
from microtome.lab.rasp.verify import EXHAUSTIVE_LIMIT, Report, verify
from microtome.lab.zoo.transformer import SequenceModel

SINK_TOKEN = 0


@dataclass(frozen=True, eq=False, repr=False)
class Compiled:
    """What `compile` returns.

    Attributes:
        program: the s-op as it was given.
        images: for each expression of the program, the node of the compiled program that stands for it.
        inference: value sets and facts of those nodes, and the vocabulary, length and mask that they hold for.
        layout: the named bases of the residual stream.
        model: the zoo's hooked transformer; it takes ids with the sink in front, see `encode`.
    """

    program: SOp
    images: Mapping[Expression, Expression]
    inference: Inference
    layout: Layout
    model: SequenceModel

    def __call__(self, tokens: Iterable[Value]) -> list[Value]:
        """The program's value at each token, computed by the model.

        Raises:
            InputError: for an empty input, one longer than max_len, or a token outside the vocabulary.
        """
        return self.run([tokens])[0]

    def run(self, batch: Iterable[Iterable[Value]]) -> list[list[Value]]:
        """As calling it on each input; inputs of one length share a forward pass."""
        sequences = [list(tokens) for tokens in batch]
        by_length: dict[int, list[int]] = {}
        for i, sequence in enumerate(sequences):
            by_length.setdefault(len(sequence), []).append(i)
        results: list[list[Value]] = [[] for _ in sequences]
        for members in by_length.values():
            ids = self.encode([sequences[i] for i in members])
            with torch.no_grad():
                decoded = self.decode(self.model(ids))
            for i, values in zip(members, decoded, strict=True):
                results[i] = values
        return results

    def encode(self, batch: Sequence[Sequence[Value]]) -> Int[Tensor, "batch pos"]:
        """Inputs of one length as the model takes them: the sink first, then the ids of the tokens."""
        setting = self.inference.setting
        ids = {key(token): i for i, token in enumerate(setting.vocab, start=1)}
        lengths = {len(tokens) for tokens in batch}
        if len(lengths) != 1:
            raise InputError(
                f"a batch to encode must hold inputs of one length, not of {sorted(lengths)}", self.program
            )
        (length,) = lengths
        if not 1 <= length <= setting.max_len:
            raise InputError(f"an input has 1 to {setting.max_len} tokens (max_len), not {length}", self.program)
        rows = [[SINK_TOKEN, *(self._id(ids, token) for token in tokens)] for tokens in batch]
        return torch.tensor(rows, device=self.model.cfg.device)

    def decode(self, logits: Float[Tensor, "batch pos d_vocab"]) -> list[list[Value]]:
        """The values that the model's outputs stand for, without the sink's."""
        facts, outputs = self.inference.facts[self.output], logits[:, 1:].cpu()
        if not facts.averaged:
            return [[facts.values[i] for i in row] for row in outputs[..., : len(facts.values)].argmax(-1).tolist()]
        outputs = outputs[..., : 1 + len(facts.strays)].tolist()
        read = average_reader(facts)
        return [[read(number, flags) for number, *flags in row] for row in outputs]

    @property
    def output(self) -> SOp:
        """The node of the compiled program that is read off at the end."""
        return self.images[self.program]

    @property
    def labels(self) -> tuple[str, ...]:
        """The name of each direction of the residual stream, in order."""
        return self.layout.directions

    def basis(self, expression: SOp) -> Basis:
        """The directions in which a sub-expression of the program is held.

        Raises:
            KeyError: if the expression is not part of the program.
        """
        if expression not in self.images:
            raise KeyError(f"{expression!r} is not an expression of {self.program!r}")
        return self.layout.bases[self.images[expression]]

    def verify(self, *, samples: int = 500, limit: int = EXHAUSTIVE_LIMIT, seed: int = 0) -> Report:
        """Compares the model with the interpreter, at every node of the program.

        Args:
            samples: how many inputs to draw when there are more than `limit`.
            limit: up to how many inputs all of length 1 to max_len are run.
            seed: of the draw.

        Raises:
            RaspError: if inputs must be drawn and `samples` is below 1.
        """
        return verify(self, samples=samples, limit=limit, seed=seed)

    def _id(self, ids: Mapping[Hashable, int], token: Value) -> int:
        try:
            return ids[key(plain(token))]
        except (KeyError, TypeError, ValueError):
            raise InputError(self._not_in_vocabulary(token), self.program) from None

    def _not_in_vocabulary(self, token: object) -> str:
        vocab = [repr(v) for v in self.inference.setting.vocab]
        near = difflib.get_close_matches(repr(token), vocab, n=1)
        hint = f", did you mean {near[0]}?" if near else ""
        shown = ", ".join(vocab[:12]) + (", …" if len(vocab) > 12 else "")
        return f"token {token!r} is not in the vocabulary {shown}{hint}"

    def __repr__(self) -> str:
        cfg, setting = self.model.cfg, self.inference.setting
        parameters = sum(p.numel() for p in self.model.parameters())
        return (
            f"Compiled({self.program.label}: {len(setting.vocab)} tokens, max_len={setting.max_len}, "
            f"{'causal' if setting.causal else 'bidirectional'}; {cfg.n_layers} layers of {cfg.n_heads} heads and "
            f"{cfg.d_mlp} neurons, d_model={cfg.d_model}, d_head={cfg.d_head}, {parameters:,} parameters)"
        )
