"""Attention entropy while a model trains, and the alarm when it collapses (Zhai et al. 2023, section 3).

    Ent(A_i) = −Σ_j A_ij log A_ij

averaged over rows and examples, for every layer and head. Uniform attention has entropy log(number of keys); training
that is about to diverge drives the mean towards zero, while the spectral norm of W_Q W_Kᵀ grows.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor, nn

from microtome.lab.train.callbacks import Callback
from microtome.probes.entropy_figure import draw
from microtome.probes.sources import entropy_hooks, layer_of, score_norms, uniform_entropy


@dataclass(frozen=True)
class Collapse:
    """Entropy of a head under the threshold for `patience` checks in a row.

    Attributes:
        layer, head: where.
        step: the check at which the alarm went off.
        relative: mean row entropy over that of uniform attention, at that check.
    """

    layer: int
    head: int
    step: int
    relative: float


@dataclass(frozen=True)
class Check:
    """One look: mean row entropies in nats, the uniform entropy that they are held against, spectral norms of W_QK
    (NaN where a mixer has no queries and keys)."""

    step: int
    entropy: Float[Tensor, "layer head"]
    uniform: float
    score_norm: Float[Tensor, "layer head"]
    loss: float | None = None

    @property
    def relative(self) -> Float[Tensor, "layer head"]:
        """Entropy over uniform entropy, in [0, 1] for inputs without padding; 1 where a row sees one key only."""
        return torch.ones_like(self.entropy) if self.uniform == 0 else self.entropy / self.uniform


class EntropyTracker(Callback):
    """Tracks row entropies per layer and head: a context manager around forward passes, or a callback of `train`.

        with EntropyTracker(model) as tracker:      # every forward pass inside is a check
            model(tokens)
        train(model, objective, config, out, callbacks=[EntropyTracker(model, every=10)])

    Hooks stand only during the checks, read what the fused path computes anyway, and change no bit of it.

    Args:
        model: a model of the lab or any HookedRootModule with queries and keys at hooks.
        every: steps between checks while training.
        threshold: a head is low when its entropy is below this share of the uniform entropy, between 0 and 1.
        patience: low checks in a row that make a collapse.

    Raises:
        ValueError: for options out of range or a model that cannot be read.
    """

    name = "entropy"

    def __init__(self, model: nn.Module, *, every: int = 10, threshold: float = 0.05, patience: int = 3):
        if every < 1 or patience < 1:
            raise ValueError(f"every and patience must be at least 1, not {every} and {patience}.")
        if not 0 < threshold < 1:
            raise ValueError(f"threshold is a share of the uniform entropy between 0 and 1, not {threshold}.")
        self.model, self.every, self.threshold, self.patience = model, every, threshold, patience
        self.causal = getattr(model.cfg, "attention_dir", "causal") == "causal"
        self.checks: list[Check] = []
        self.collapses: list[Collapse] = []
        self._low: Tensor | None = None
        self._fresh: dict[int, Tensor] = {}
        self._rows = self._before = 0
        self._stack = ExitStack()
        self._n_layers = len({layer_of(name) for name, _ in entropy_hooks(model, lambda layer, rows: None)})

    def __enter__(self) -> "EntropyTracker":
        self._before = len(self.checks)
        self._stack.enter_context(self._hooked(each_pass=True))
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        self._stack.close()
        if kind is None and len(self.checks) == self._before:
            raise RuntimeError(
                "no forward pass reached the tracked hooks: none was run inside the tracker, "
                "or the model never fires them."
            )

    @contextmanager
    def _hooked(self, each_pass: bool) -> Iterator[None]:
        """Hooks for the forward passes inside; `each_pass` makes each of them a check, else the trainer says when."""

        def take(layer: int, rows: Float[Tensor, "batch head query"]) -> None:
            # Reduced at once, so that nothing with a query axis outlives the hook.
            self._fresh[layer] = rows.mean((0, 2))
            self._rows = rows.shape[-1]
            if each_pass and len(self._fresh) == self._n_layers:
                self.record(len(self.checks))

        with self.model.hooks(fwd_hooks=entropy_hooks(self.model, take)):
            yield

    def around_forward(self, step: int) -> AbstractContextManager | None:
        return None if step % self.every else self._hooked(each_pass=False)

    def on_step_end(self, step: int, loss: Tensor) -> Mapping[str, Tensor | float] | None:
        if step % self.every:
            return None
        check = self.record(step, loss=float(loss))
        mean = check.entropy.mean(1)
        top = check.score_norm.amax(1)
        entropies = {f"entropy/layer{i}": value for i, value in enumerate(mean)}
        return entropies | {f"score_norm/layer{i}": value for i, value in enumerate(top) if not value.isnan()}

    def progress(self) -> Mapping[str, str]:
        if not self.checks:
            return {}
        low = float(self.checks[-1].relative.min())
        return {
            "lowest entropy": f"{low:.0%} of uniform" + (f", {len(self.collapses)} collapsed" if self.collapses else "")
        }

    def record(self, step: int, loss: float | None = None) -> Check:
        """Makes a check out of the last hooked forward pass, and looks for collapses.

        Raises:
            RuntimeError: if no forward pass has been hooked since the last check.
        """
        if not self._fresh:
            raise RuntimeError(
                "no forward pass has been tracked since the last check; run the model inside the tracker."
            )
        entropy = torch.stack([self._fresh[i] for i in sorted(self._fresh)]).float().cpu()
        self._fresh = {}
        check = Check(
            step,
            entropy,
            uniform_entropy(self._rows, self.causal),
            score_norms(self.model).float().cpu(),
            loss,
        )
        self.checks.append(check)
        self._watch(check)
        return check

    def _watch(self, check: Check) -> None:
        low = check.relative < self.threshold
        before = torch.zeros_like(low, dtype=torch.long) if self._low is None else self._low
        self._low = torch.where(low, before + 1, 0)
        for layer, head in (self._low == self.patience).nonzero().tolist():
            self.collapses.append(Collapse(layer, head, check.step, float(check.relative[layer, head])))

    def state_dict(self) -> Mapping[str, Any]:
        """All checks so far, as tensors and plain values."""
        if not self.checks:
            return {}
        columns = {
            "entropy": torch.stack([c.entropy for c in self.checks]),
            "score_norm": torch.stack([c.score_norm for c in self.checks]),
            "low": self._low,
        }
        rows = {
            "steps": [c.step for c in self.checks],
            "uniform": [c.uniform for c in self.checks],
            "losses": [c.loss for c in self.checks],
            "collapses": [[c.layer, c.head, c.step, c.relative] for c in self.collapses],
        }
        return columns | rows

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.checks, self.collapses, self._low = [], [], None
        if not state:
            return
        each = (state["steps"], state["entropy"], state["uniform"], state["score_norm"], state["losses"])
        self.checks = [Check(*row) for row in zip(*each, strict=True)]
        self.collapses = [Collapse(*row) for row in state["collapses"]]
        self._low = state["low"]

    def figure(self) -> Figure:
        """Entropy per head, spectral norm of W_QK and loss over the checks, in one figure.

        Raises:
            ValueError: if nothing has been tracked.
        """
        if not self.checks:
            raise ValueError("nothing has been tracked yet, so there is nothing to draw.")
        return draw(self.checks, self.collapses, self.threshold)
