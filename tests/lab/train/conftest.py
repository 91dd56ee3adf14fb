"""Stand-ins that train in milliseconds and have every kind of state that a run must keep."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from microtome.lab.train import Batch, Callback


class Learner(nn.Module):
    """(xs [batch points dim], ys) → ŷ [batch points], with a running buffer, dropout, tied weights and an
    idle parameter.
    """

    def __init__(self, dim: int = 3, width: int = 8, seed: int = 0):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            self.inward = nn.Linear(dim, width)
            self.middle = nn.Linear(width, width)
            self.head = nn.Linear(width, 1)
        self.again = self.middle
        self.dropout = nn.Dropout(0.2)
        self.idle = nn.Parameter(torch.ones(2))
        self.register_buffer("level", torch.zeros(width))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for layer in (self.inward, self.middle, self.head):
                layer.weight.normal_(std=0.4, generator=generator)
                layer.bias.zero_()

    def forward(self, xs: Tensor, ys: Tensor) -> Tensor:
        hidden = self.inward(xs).tanh()
        if self.training:
            with torch.no_grad():
                self.level.lerp_(hidden.float().mean((0, 1)), 0.1)
                self.calls += 1
        hidden = self.dropout(self.middle(hidden - self.level)).tanh()
        return self.head(self.again(hidden)).squeeze(-1)


class Linear:
    """y = Σⱼ xⱼ on standard normal x, with the mean fourth power of the error as loss.

    At step `spoilt`, y is scaled by 1e30: activations stay finite, the loss and its gradient do not.
    """

    def __init__(self, size: int = 4, points: int = 5, dim: int = 3, spoilt: int | None = None):
        self.shape, self.spoilt = (size, points, dim), spoilt
        self.asked: list[int] = []

    def batch(self, step: int, generator: torch.Generator) -> Batch:
        self.asked.append(step)
        xs = torch.randn(self.shape, generator=generator)
        ys = xs.sum(-1) * (1e30 if step == self.spoilt else 1.0)
        return Batch((xs, ys), ys)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        return (model(*batch.inputs) - batch.targets).pow(4).mean()

    def describe(self) -> dict[str, Any]:
        return {"objective": "linear", "shape": list(self.shape), "spoilt": self.spoilt}


class Counter(Callback):
    """Keeps a tensor and a number across resumes, and reports both."""

    name = "counter"

    def __init__(self):
        self.steps, self.total = 0, torch.zeros(2)

    def on_step_end(self, step: int, loss: Tensor) -> dict[str, Tensor | float]:
        self.steps += 1
        self.total += loss
        return {"counted": float(self.steps), "total": self.total[0].clone()}

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "total": self.total}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps, self.total = state["steps"], state["total"].clone()


class At(Callback):
    """Does something after one step."""

    name = "at"

    def __init__(self, step: int, act: Callable[[], None]):
        self.step, self.act = step, act

    def on_step_end(self, step: int, loss: Tensor) -> None:
        if step == self.step:
            self.act()


class Crash(RuntimeError):
    """The end of a process, in the tests that need not end one."""


def crash() -> None:
    raise Crash


@pytest.fixture(scope="session")
def learner() -> type[Learner]:
    return Learner


@pytest.fixture(scope="session")
def linear() -> type[Linear]:
    return Linear


@pytest.fixture(scope="session")
def counter() -> type[Counter]:
    return Counter


@pytest.fixture(scope="session")
def at() -> type[At]:
    return At


@pytest.fixture(scope="session")
def crashes_after() -> Callable[[int], At]:
    return lambda step: At(step, crash)


@pytest.fixture(scope="session")
def crashed() -> type[Crash]:
    return Crash
