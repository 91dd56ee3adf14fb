"""A compiled program: a model of the zoo, and how tokens and values enter and leave it."""

import difflib
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from microtome.lab.rasp.compiler.certificate import Certificate, certify
from microtome.lab.rasp.compiler.operations import Direction
from microtome.lab.rasp.compiler.pipeline import Lowered
from microtome.lab.rasp.errors import InputError
from microtome.lab.rasp.explain import explain
from microtome.lab.rasp.language import SOp
from microtome.lab.rasp.reading import Read, read
from microtome.lab.rasp.values import Value, key, plain
from microtome.lab.rasp.verify import EXHAUSTIVE_LIMIT, Report, verify
from microtome.lab.zoo.transformer import SequenceModel

SINK_TOKEN = 0


@dataclass(frozen=True, eq=False, repr=False)
class Compiled:
    """What `compile` returns.

    Attributes:
        program: the s-op as it was given.
        lowered: what the compiler knows: the simplified program, its heads and neurons by layer, the columns.
        model: the zoo's hooked transformer; it takes ids, see `encode`.
    """

    program: SOp
    lowered: Lowered
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
        """Inputs of one length as the model takes them: the sink first, if there is one, then the ids of the tokens.

        Raises:
            InputError: for inputs of several lengths, and as calling the program.
        """
        lengths = {len(tokens) for tokens in batch}
        if len(lengths) != 1:
            raise InputError(
                f"a batch to encode must hold inputs of one length, not of {sorted(lengths)}; `pad` takes several",
                self.program,
            )
        return self.pad(batch)[0]

    def pad(self, batch: Sequence[Sequence[Value]]) -> tuple[Int[Tensor, "batch pos"], Bool[Tensor, "batch pos"]]:
        """Inputs of any lengths as one batch, padded at the end, and the mask to call the model with.

        `model(ids, mask=mask)` then gives at each real position what it gives without padding; what it gives at padded
        positions means nothing.

        Raises:
            InputError: as calling the program.
        """
        setting = self.lowered.plan.setting
        for tokens in batch:
            if not 1 <= len(tokens) <= setting.max_len:
                raise InputError(
                    f"an input has 1 to {setting.max_len} tokens (max_len), not {len(tokens)}", self.program
                )
        ids = {key(token): i for i, token in enumerate(setting.vocab, start=self.sink)}
        rows = [[*([SINK_TOKEN] * self.sink), *(self._id(ids, token) for token in tokens)] for tokens in batch]
        longest = max(map(len, rows))
        device = self.model.cfg.device
        padded = torch.tensor([row + [SINK_TOKEN] * (longest - len(row)) for row in rows], device=device)
        real = torch.tensor([[i < len(row) for i in range(longest)] for row in rows], device=device)
        return padded, real

    def decode(self, logits: Float[Tensor, "batch pos d_vocab"]) -> list[list[Value]]:
        """The values that the model's outputs stand for, without the sink's."""
        return [self.lowered.readout.decode(rows) for rows in logits[:, self.sink :].tolist()]

    @property
    def sink(self) -> int:
        """How many positions stand in front of the input: 1 with a sink, else 0."""
        return int(self.lowered.plan.sink)

    @property
    def directions(self) -> Mapping[Direction, int]:
        """Every named direction of the stream with its column."""
        return self.lowered.plan.allocation.column

    @property
    def labels(self) -> tuple[str, ...]:
        """For each column of the stream, the names of the directions that it holds, one after another."""
        names: list[list[str]] = [[] for _ in range(self.lowered.plan.allocation.width)]
        if self.sink:
            names[0].append("sink")
        for life in self.lowered.plan.allocation.lives:
            names[life.column].append(life.direction.name)
        return tuple(", then ".join(held) for held in names)

    @property
    def certificate(self) -> Certificate:
        """What was proved when compiling: margins, leakage, error, and on what assumptions."""
        return certify(self.lowered)

    def explain(self) -> str:
        """Which variable lives where, and which heads and neurons compute it, as text."""
        return explain(self)

    def read(self, cache, layer: int) -> Read:
        """The values of the program's s-ops as the stream after a layer holds them.

        Args:
            cache: of `model.run_with_cache`, with `blocks.{layer}.hook_resid_post` in it (for −1, the stream before the
                first layer, `blocks.0.hook_resid_pre`).
            layer: which layer, from −1.

        Raises:
            KeyError: if the cache lacks that point. ValueError: if there is no such layer.
        """
        return read(self, cache, layer)

    def to_bridge(self):
        """A TransformerLens `TransformerBridge` with the same weights and outputs."""
        from microtome.lab.zoo.bridge import to_bridge

        return to_bridge(self.model)

    def verify(
        self, *, exhaustive: bool | None = None, samples: int = 500, limit: int = EXHAUSTIVE_LIMIT, seed: int = 0
    ) -> Report:
        """Compares the model with the interpreter, at every direction of the stream and at the outputs.

        Args:
            exhaustive: whether to run all inputs of length 1 to max_len; None: if these are at most `limit`.
            samples: how many inputs to draw otherwise.
            limit: see `exhaustive`.
            seed: of the draw.

        Raises:
            RaspError: if inputs must be drawn and `samples` is below 1.
        """
        return verify(self, exhaustive=exhaustive, samples=samples, limit=limit, seed=seed)

    def _id(self, ids: Mapping[Hashable, int], token: Value) -> int:
        try:
            return ids[key(plain(token))]
        except (KeyError, TypeError, ValueError):
            raise InputError(self._not_in_vocabulary(token), self.program) from None

    def _not_in_vocabulary(self, token: object) -> str:
        vocab = [repr(v) for v in self.lowered.plan.setting.vocab]
        near = difflib.get_close_matches(repr(token), vocab, n=1)
        hint = f", did you mean {near[0]}?" if near else ""
        shown = ", ".join(vocab[:12]) + (", …" if len(vocab) > 12 else "")
        return f"token {token!r} is not in the vocabulary {shown}{hint}"

    def __repr__(self) -> str:
        cfg, setting = self.model.cfg, self.lowered.plan.setting
        parameters = sum(p.numel() for p in self.model.parameters())
        return (
            f"Compiled({self.program.label}: {len(setting.vocab)} tokens, max_len={setting.max_len}, "
            f"{'causal' if setting.causal else 'bidirectional'}; {cfg.n_layers} layers of {cfg.n_heads} heads and "
            f"{cfg.d_mlp or 0} neurons, d_model={cfg.d_model}, d_head={cfg.d_head}, {parameters:,} parameters)"
        )
