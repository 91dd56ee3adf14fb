"""Training of which nothing is kept: the same parameters as a kept run's, and no file."""

from pathlib import Path

import pytest
import torch

from microtome.lab import zoo
from microtome.lab.tasks import LinearRegression
from microtome.lab.train import InContextRegression, NonFiniteLoss, TrainConfig, fit, train


def learner() -> torch.nn.Module:
    return zoo.sequence(dim=2, n_ctx=8, d_model=8, n_layers=1, n_heads=1)


def test_it_trains_as_a_kept_run_and_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objective, config = InContextRegression(LinearRegression(2), 8, 4), TrainConfig(steps=3)
    kept, unkept = learner(), learner()
    train(kept, objective, config, tmp_path / "run", progress=False)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(elsewhere))
    fit(unkept, objective, config)
    assert not list(elsewhere.iterdir())
    first = learner().state_dict()
    for name, parameter in unkept.state_dict().items():
        assert torch.equal(parameter, kept.state_dict()[name])
    assert any(not torch.equal(parameter, first[name]) for name, parameter in unkept.state_dict().items())


def test_divergence_is_said() -> None:
    model = learner()
    with torch.no_grad():
        model.unembed.weight.fill_(torch.inf)
    with pytest.raises(NonFiniteLoss):
        fit(model, InContextRegression(LinearRegression(2), 8, 4), TrainConfig(steps=3))
