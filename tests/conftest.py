"""What every test has: its own generator, one figure backend, and a watch on the global random state."""

import os
from collections.abc import Iterator

# Before anything imports matplotlib or triton: figures need no screen, kernels need no GPU.
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("TRITON_INTERPRET", "1")

import jaxtyping
import pytest
import torch
from hypothesis import settings

settings.register_profile("house", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "house")

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)


@pytest.fixture
def generator() -> torch.Generator:
    """A fresh generator with a fixed seed; whatever a test draws from it is the same on every run."""
    return torch.Generator().manual_seed(20_260)


@pytest.fixture(autouse=True)
def _global_random_state_is_left_alone(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a test that moves torch's global generator, unless it is marked `global_rng`."""
    if request.node.get_closest_marker("global_rng"):
        yield
        return
    before = torch.get_rng_state()
    yield
    if not torch.equal(before, torch.get_rng_state()):
        pytest.fail(
            "this test, or code it calls, drew from torch's global generator; "
            "pass a torch.Generator, or mark the test global_rng if another library does the drawing"
        )


@pytest.fixture
def untyped() -> Iterator[None]:
    """Turns the run-time check of annotations off: what a user meets, whose sentence the test is about."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
