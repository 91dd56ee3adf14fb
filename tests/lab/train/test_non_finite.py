"""A step that is not finite stops the run, says where, and leaves the model as it was before that step."""

import copy
import math
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from transformer_lens import HookedRootModule
from transformer_lens.hook_points import HookPoint

from microtome.lab import zoo
from microtome.lab.train import Batch, NonFiniteLoss, TrainConfig, load, train
from microtome.lab.train import trainer as trainer_module

CONFIG = TrainConfig(steps=60, lr=0.01, log_every=5, checkpoint_every=4)


@pytest.fixture(params=[1, 16], ids=["each step", "late"])
def looks(request, monkeypatch):
    """Late, as on an accelerator, the steps after the bad one must leave no trace either."""
    monkeypatch.setattr(trainer_module, "_check_every", lambda device: request.param)


@pytest.mark.usefixtures("looks")
def test_the_step_is_exact_and_nothing_of_it_remains(learner, linear, tmp_path):
    before = train(learner(), linear(), TrainConfig(steps=9, lr=0.01), tmp_path / "before").model.state_dict()
    model = learner()
    config = TrainConfig(steps=60, lr=0.01, log_every=50)
    with pytest.raises(NonFiniteLoss, match="step 9 is not finite") as caught:
        train(model, linear(spoilt=9), config, tmp_path / "run")
    assert caught.value.step == 9
    now = model.state_dict()
    assert all(torch.equal(now[name], before[name]) for name in now)
    assert model.calls == 9


def test_a_loss_that_overflows_though_activations_do_not(learner, linear, tmp_path):
    with pytest.raises(NonFiniteLoss) as caught:
        train(learner(), linear(spoilt=9), CONFIG, tmp_path / "run")
    error = caught.value
    assert (error.step, error.where, error.entropies) == (9, "loss", {})
    assert error.checkpoint == max((tmp_path / "run" / "checkpoints").iterdir())
    assert str(error.checkpoint) in str(error)
    assert "step-000000008" in error.checkpoint.name
    assert load(tmp_path / "run", learner()).step == 8


@pytest.mark.usefixtures("looks")
def test_metrics_end_before_the_step(learner, linear, counter, tmp_path):
    config = replace(CONFIG, log_every=50)
    with pytest.raises(NonFiniteLoss):
        train(learner(), linear(spoilt=9), config, tmp_path / "run", callbacks=[counter()])
    table = load(tmp_path / "run", learner()).metrics()
    assert table.filter(metric="counted")["step"].to_list() == list(range(9))
    assert table["value"].is_finite().all()


class _Replacing(nn.Module):
    """Puts a new tensor in the place of its buffer at each pass, as some running statistics do."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.1))
        self.register_buffer("passes", torch.zeros(1))

    def forward(self, xs, ys):
        self.passes = self.passes + 1
        return self.weight * xs.sum(-1)


@pytest.mark.usefixtures("looks")
def test_buffers_that_are_replaced_are_given_back_too(linear, tmp_path):
    model = _Replacing()
    with pytest.raises(NonFiniteLoss):
        train(model, linear(spoilt=9), TrainConfig(steps=40, log_every=50), tmp_path / "run")
    assert model.passes.item() == 9


def test_the_error_passes_between_processes():
    error = NonFiniteLoss(3, "loss", {"blocks.0.attn.hook_row_entropy": torch.tensor([0.5, 1.0])}, Path("run/step"))
    back = pickle.loads(pickle.dumps(error))
    assert str(back) == str(error)
    assert "hook_row_entropy 0.5 1" in str(error)
    assert (back.step, back.where, back.checkpoint) == (3, "loss", Path("run/step"))


def test_resuming_meets_the_same_step(learner, linear, tmp_path):
    for resume in (False, True):
        with pytest.raises(NonFiniteLoss, match="step 9 is not finite"):
            train(learner(), linear(spoilt=9), CONFIG, tmp_path / "run", resume=resume)


class _Steep(nn.Module):
    """exp(scale · xs), then a linear map: overflows in `power` once scale · x passes 88."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.power = _Exponential()
        self.after = nn.Identity()

    def forward(self, xs, ys):
        return self.after(self.power(self.scale * xs.mean(-1)))


class _Exponential(nn.Module):
    def forward(self, x):
        return x.exp()


class _Growing:
    """x as large as the step; NaN data from step `broken` on."""

    def __init__(self, broken=math.inf):
        self.broken = broken

    def batch(self, step, generator):
        xs = torch.full((2, 3, 1), float(step))
        ys = torch.full((2, 3), math.nan if step >= self.broken else 1.0)
        return Batch((xs, ys), ys)

    def loss(self, model, batch):
        # The logarithm keeps gradients small until exp overflows.
        return (model(*batch.inputs).log() - batch.targets).abs().mean()

    def describe(self):
        return {"objective": "growing"}


def test_names_the_module_of_a_plain_model(tmp_path):
    config = TrainConfig(steps=200, lr=1e-6)
    with pytest.raises(NonFiniteLoss, match="first non-finite value is in power") as caught:
        train(_Steep(), _Growing(), config, tmp_path / "run")
    assert caught.value.step == 89  # the least whole x with exp(x) above the largest float32, 3.4e38
    assert caught.value.checkpoint is None
    assert "none was written" in str(caught.value)


def test_names_the_data(tmp_path):
    with pytest.raises(NonFiniteLoss, match=r"in batch\.inputs\[1\]") as caught:
        train(_Steep(), _Growing(broken=7), TrainConfig(steps=50, lr=1e-6), tmp_path / "run")
    assert caught.value.step == 7


class _Root(nn.Module):
    """|x|^½ through sqrt(x²), whose gradient at 0 is infinite times zero."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Parameter(torch.tensor(0.0))
        self.outer = nn.Parameter(torch.tensor(1.0))

    def forward(self, xs, ys):
        return self.outer * (self.inner * xs[..., 0]).square().sqrt()


def test_names_the_parameter_when_only_the_gradient_is_not_finite(linear, tmp_path):
    with pytest.raises(NonFiniteLoss, match="gradient of inner") as caught:
        train(_Root(), linear(), TrainConfig(steps=5), tmp_path / "run")
    assert caught.value.step == 0


class _Hooked(HookedRootModule):
    """Two hook points around an overflow, in a model that TransformerLens knows."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.inner = nn.Identity()
        self.hook_before, self.hook_after, self.hook_last = HookPoint(), HookPoint(), HookPoint()
        self.setup()

    def forward(self, xs, ys):
        before = self.hook_before(self.scale * xs.mean(-1))
        return self.hook_last(self.inner(self.hook_after(before.exp())))


def test_names_the_hook_point_of_a_hooked_model(tmp_path):
    with pytest.raises(NonFiniteLoss, match="first non-finite value is in hook_after") as caught:
        train(_Hooked(), _Growing(), TrainConfig(steps=200, lr=1e-6), tmp_path / "run")
    assert caught.value.step == 89


def huge_scores(attention):
    """Queries and keys are finite, 1e30 each; their products are not."""
    attention.q.bias.fill_(1e30)
    attention.k.bias.fill_(1e30)


def infinite_query(attention):
    attention.q.bias[0] = math.inf


@pytest.mark.parametrize(
    ("spoil", "where"),
    [(huge_scores, "blocks.1.attn.hook_attn_scores"), (infinite_query, "blocks.1.attn.hook_q")],
    ids=["scores", "query"],
)
def test_names_the_point_and_the_entropies_of_a_zoo_model(spoil, where, linear, tmp_path):
    """The masked scores of layer 0, −∞ in every causal model, are not blamed."""
    model = zoo.sequence(dim=3, d_model=8, n_layers=2, n_heads=2, n_ctx=12)
    with torch.no_grad():
        spoil(model.blocks[1].attn)
    start = copy.deepcopy(model.state_dict())
    with pytest.raises(NonFiniteLoss) as caught:
        train(model, linear(), TrainConfig(steps=5), tmp_path / "run")
    error = caught.value
    assert (error.step, error.where) == (0, where)
    assert list(error.entropies) == [f"blocks.{i}.attn.hook_row_entropy" for i in range(2)]
    fine = error.entropies["blocks.0.attn.hook_row_entropy"]
    # A causal row of length k has at most log k nats, so the mean over 10 rows is at most log(10!)/10.
    assert fine.shape == (2,)
    assert ((fine > 0) & (fine <= math.lgamma(11) / 10)).all()
    assert "blocks.0.attn.hook_row_entropy" in str(error)
    assert all(torch.equal(t, start[name]) for name, t in model.state_dict().items())


def test_a_healthy_zoo_model_trains_and_is_built_again_from_its_folder(linear, tmp_path):
    model = zoo.sequence(dim=3, d_model=8, n_layers=2, n_heads=2, n_ctx=12, seed=4)
    train(model, linear(), TrainConfig(steps=5), tmp_path / "run")
    again = load(tmp_path / "run").model
    assert again is not model
    assert all(torch.equal(t, again.state_dict()[name]) for name, t in model.state_dict().items())


def test_resuming_a_zoo_model_names_the_part_that_differs(linear, tmp_path):
    train(zoo.sequence(dim=3, d_model=8, n_ctx=12), linear(), TrainConfig(steps=1), tmp_path / "run")
    other = zoo.sequence(dim=3, d_model=8, n_ctx=12, norm="rmsnorm")
    with pytest.raises(ValueError, match=r"model\.(parameters|sequence\.norm\.name) is"):
        train(other, linear(), TrainConfig(steps=1), tmp_path / "run", resume=True)
