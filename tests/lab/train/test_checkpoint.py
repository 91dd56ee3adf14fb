"""Checkpoint files, and the passage between them and live objects."""

import pytest
import safetensors.torch
import torch
from torch import nn

from microtome.lab.train import Callback, CheckpointError
from microtome.lab.train.checkpoint import Checkpoint, newest, read, write
from microtome.lab.train.models import restore, tensors_of
from microtome.lab.train.state import capture

TENSORS = {
    "scalar": torch.tensor(3.0),
    "empty": torch.zeros(0, 4),
    "half": torch.arange(6, dtype=torch.bfloat16).reshape(2, 3),
    "complex": torch.tensor([1 + 2j]),
    "flags": torch.tensor([True, False]),
    "counts": torch.tensor([2**53 + 1]),
    "special": torch.tensor([float("nan"), float("inf"), -0.0]),
}


def test_what_is_written_is_read(tmp_path):
    rest = {"part": 3, "nested": {"a": [1, None, "ü"]}}
    back = read(write(Checkpoint(7, TENSORS, rest), tmp_path))
    assert (back.step, back.rest) == (7, rest)
    assert back.tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert back.tensors[name].dtype == tensor.dtype
        assert back.tensors[name].shape == tensor.shape
        assert torch.equal(back.tensors[name].nan_to_num(9), tensor.nan_to_num(9))
    assert torch.signbit(back.tensors["special"][2])


def test_the_file_is_plain_safetensors(tmp_path):
    path = write(Checkpoint(7, TENSORS, {}), tmp_path)
    assert safetensors.torch.load_file(path).keys() == TENSORS.keys()


def test_two_are_kept(tmp_path):
    for step in (5, 10, 15):
        write(Checkpoint(step, {}, {}), tmp_path)
    assert [read(path).step for path in sorted(tmp_path.iterdir())] == [10, 15]
    assert newest(tmp_path)[1].step == 15


def test_checkpoints_of_an_abandoned_future_go(tmp_path):
    for step in (5, 10, 7):
        write(Checkpoint(step, {}, {}), tmp_path)
    assert [read(path).step for path in sorted(tmp_path.iterdir())] == [5, 7]


def test_no_folder_means_no_checkpoint(tmp_path):
    assert newest(tmp_path / "none") is None


def test_any_flipped_bit_is_found(tmp_path, generator):
    path = write(Checkpoint(7, TENSORS, {"part": 0}), tmp_path)
    content = path.read_bytes()
    for place in torch.randint(len(content), (200,), generator=generator).tolist():
        damaged = bytearray(content)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="does not have the hash in its name"):
            read(path)


@pytest.mark.parametrize("length", [0, 1, 8, 100])
def test_a_cut_file_is_found(length, tmp_path):
    path = write(Checkpoint(7, TENSORS, {}), tmp_path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(CheckpointError, match="is damaged"):
        read(path)


def as_checkpoint(model):
    optimizer = torch.optim.Adam(list(model.named_parameters()), fused=True)
    return capture(1, model, optimizer, [], {})


def test_tied_weights_are_kept_once_and_stay_tied(learner):
    model = learner()
    assert {"middle.weight", "middle.bias"} < tensors_of(model).keys()
    assert not any(name.startswith("again.") for name in tensors_of(model))
    other = learner(seed=3)
    restore(as_checkpoint(model), other)
    assert other.again.weight is other.middle.weight
    assert torch.equal(other.again.weight, model.middle.weight)


def test_the_capture_is_a_copy(learner):
    model = learner()
    saved = as_checkpoint(model)
    before = saved.tensors["model/head.weight"].clone()
    with torch.no_grad():
        model.head.weight.add_(1)
    assert torch.equal(saved.tensors["model/head.weight"], before)


def test_a_transposed_parameter_is_kept(tmp_path):
    model = nn.Module()
    model.weight = nn.Parameter(torch.arange(6.0).reshape(2, 3).T)
    other = nn.Module()
    other.weight = nn.Parameter(torch.zeros(3, 2))
    restore(read(write(as_checkpoint(model), tmp_path)), other)
    assert torch.equal(other.weight, model.weight)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda m: m.register_buffer("new", torch.zeros(1)), "the checkpoint has no new;"),
        (lambda m: m.__delattr__("idle"), "the model has no idle;"),
        (lambda m: setattr(m, "idle", nn.Parameter(torch.ones(3))), r"idle is \(3,\) float32 in the model"),
        (lambda m: m.double(), r"idle is \(2,\) float64 in the model and \(2,\) float32 in the checkpoint"),
    ],
    ids=["more", "less", "shape", "dtype"],
)
def test_refuses_another_model_by_name_and_leaves_it_alone(change, sentence, learner):
    other = learner(seed=3)
    change(other)
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    with pytest.raises(CheckpointError, match=sentence):
        restore(as_checkpoint(learner()), other)
    assert all(torch.equal(tensor, before[name]) for name, tensor in other.state_dict().items())


def test_refuses_state_that_is_not_tensors():
    class Odd(nn.Linear):
        def get_extra_state(self):
            return {"a": 1}

    with pytest.raises(TypeError, match="_extra_state keeps state of type dict; a checkpoint holds tensors"):
        tensors_of(torch.nn.utils.skip_init(Odd, 2, 2))


def test_a_callback_mixes_tensors_and_values(learner):
    class Both(Callback):
        name = "both"

        def state_dict(self):
            return {"a/b": torch.ones(1), "c": [1, 2]}

    model = learner()
    optimizer = torch.optim.Adam(list(model.named_parameters()), fused=True)
    saved = capture(1, model, optimizer, [Both()], {"part": 0})
    assert torch.equal(saved.under("callback/both/")["a/b"], torch.ones(1))
    assert saved.rest["callbacks"] == {"both": {"c": [1, 2]}}
