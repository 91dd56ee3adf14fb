"""Options are refused with one sentence that says what is allowed."""

import math

import pytest
import torch
from torch import nn

from microtome.lab.train import TrainConfig, train
from microtome.lab.train.config import resolve_device


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"steps": -1}, r"steps must be at least 1, not -1\."),
        ({"steps": 0}, r"steps must be at least 1, not 0\."),
        ({"log_every": 0}, r"log_every must be at least 1, not 0\."),
        ({"checkpoint_every": -5}, r"checkpoint_every must be at least 1, not -5\."),
        ({"optimizer": "adamv"}, r"optimizer must be one of adam, adamw, not 'adamv'; did you mean 'adam"),
        ({"optimizer": "sgd"}, r"optimizer must be one of adam, adamw, not 'sgd'\."),
        ({"schedule": "cosin"}, r"constant, linear, cosine, inverse_sqrt, not 'cosin'; did you mean 'cosine'\?"),
        ({"precision": "bfloat16"}, r"precision must be one of float32, bf16, not 'bfloat16'"),
        ({"lr": math.nan}, r"lr must be finite and positive, not nan\."),
        ({"lr": math.inf}, r"lr must be finite and positive, not inf\."),
        ({"lr": -0.1}, r"lr must be finite and positive, not -0\.1\."),
        ({"eps": 0.0}, r"eps must be finite and positive, not 0\.0\."),
        ({"betas": (0.9, 1.0)}, r"betas must be two numbers in \[0, 1\), not \(0\.9, 1\.0\)\."),
        ({"betas": (math.nan, 0.9)}, r"betas must be two numbers in \[0, 1\)"),
        ({"weight_decay": -1.0}, r"weight_decay must be finite and not negative, not -1\.0\."),
        ({"warmup": 1.5}, r"warmup must be a fraction of the run in \[0, 1\], not 1\.5\."),
        ({"clip": 0.0}, r"clip must be finite and positive, or None, not 0\.0\."),
    ],
    ids=str,
)
def test_refuses(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        TrainConfig(**{"steps": 10} | options)


def test_survives_json():
    config = TrainConfig(steps=3, betas=(0.8, 0.95), clip=1.0)
    assert TrainConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize("device", ["gpu", "mps", "meta", "cpu:x"])
def test_refuses_unknown_devices(device):
    with pytest.raises(ValueError, match=rf"device must be 'cpu' or 'cuda\[:index\]', not '{device}'\."):
        resolve_device(TrainConfig(steps=1, device=device))


def test_refuses_a_cuda_device_that_is_not_there():
    with pytest.raises(ValueError, match=r"device 'cuda:99' is not here: torch sees \d+ CUDA devices"):
        resolve_device(TrainConfig(steps=1, device="cuda:99"))


def test_refuses_bf16_where_the_device_lacks_it(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": False})
    with pytest.raises(ValueError, match="needs bfloat16 arithmetic, which 'cpu' lacks; use 'float32'"):
        resolve_device(TrainConfig(steps=1, precision="bf16"))


def test_trains_in_bf16_where_the_device_has_it(monkeypatch, learner, linear, tmp_path):
    """The CPU computes bfloat16 in software if need be, which serves to see that autocast is on."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    model, seen = learner(), []
    model.middle.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    run = train(model, linear(), TrainConfig(steps=3, precision="bf16"), tmp_path / "run")
    assert set(seen) == {torch.bfloat16}
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    assert run.metrics()["value"].is_finite().all()


def test_refuses_a_model_with_nothing_to_train(linear, tmp_path):
    with pytest.raises(ValueError, match="no parameter to train"):
        train(nn.Identity(), linear(), TrainConfig(steps=1), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_refuses_a_loss_that_trains_nothing(learner, linear, tmp_path):
    objective = linear()
    objective.loss = lambda model, batch: batch.targets.square().mean()
    with pytest.raises(ValueError, match="the loss does not depend on any parameter that is being trained"):
        train(learner(), objective, TrainConfig(steps=1), tmp_path / "run")


def test_refuses_complex_parameters(linear, tmp_path):
    model = nn.Module()
    model.spectrum = nn.Parameter(torch.zeros(2, dtype=torch.complex64))
    with pytest.raises(ValueError, match=r"spectrum is torch\.complex64; only real"):
        train(model, linear(), TrainConfig(steps=1), tmp_path / "run")


def test_refuses_callbacks_of_one_name(learner, linear, counter, tmp_path):
    with pytest.raises(ValueError, match="distinct names, not counter, counter"):
        train(learner(), linear(), TrainConfig(steps=1), tmp_path / "run", callbacks=[counter(), counter()])
    assert not (tmp_path / "run").exists()
