"""Between live objects and a checkpoint: what a resumed run needs to equal an uninterrupted one."""

import platform
import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn

from microtome.lab.train.callbacks import Callback
from microtome.lab.train.checkpoint import Checkpoint, CheckpointError
from microtome.lab.train.models import tensors_of


def capture(
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    callbacks: Sequence[Callback],
    rest: Mapping[str, Any],
) -> Checkpoint:
    """The state of model, optimiser and callbacks after `step` steps, copied to the host.

    Args:
        rest: further JSON values to keep beside it.
    """
    tensors = {f"model/{name}": tensor for name, tensor in tensors_of(model).items()}
    saved = optimizer.state_dict()
    names = _names(saved["param_groups"])
    for index, moments in saved["state"].items():
        tensors |= {f"optimizer/{key}/{names[index]}": value for key, value in moments.items()}
    kept: dict[str, dict[str, Any]] = {}
    for callback in callbacks:
        state = callback.state_dict()
        kept[callback.name] = {key: value for key, value in state.items() if not isinstance(value, Tensor)}
        tensors |= {f"callback/{callback.name}/{k}": v for k, v in state.items() if isinstance(v, Tensor)}
    copies = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    return Checkpoint(step, copies, {**rest, "callbacks": kept, "environment": environment()})


def restore_training(checkpoint: Checkpoint, optimizer: torch.optim.Optimizer, callbacks: Sequence[Callback]) -> None:
    """Gives optimiser and callbacks the checkpoint's state; a callback that was not there keeps its own.

    Raises:
        CheckpointError: if the checkpoint has moments of a parameter that is not being trained.
    """
    groups = optimizer.state_dict()["param_groups"]
    index = {name: i for i, name in _names(groups).items()}
    moments: dict[int, dict[str, Tensor]] = {}
    for full_name, tensor in checkpoint.under("optimizer/").items():
        key, name = full_name.split("/", 1)
        if name not in index:
            raise CheckpointError(f"the checkpoint trained {name}, which is frozen in the model given; train it too.")
        moments.setdefault(index[name], {})[key] = tensor.clone()
    optimizer.load_state_dict({"state": moments, "param_groups": groups})
    for callback in callbacks:
        if callback.name in checkpoint.rest["callbacks"]:
            tensors = checkpoint.under(f"callback/{callback.name}/")
            callback.load_state_dict({**checkpoint.rest["callbacks"][callback.name], **tensors})


def _names(groups: Sequence[Mapping[str, Any]]) -> dict[int, str]:
    """The name of each parameter by the number under which the optimiser keeps it."""
    return {i: name for group in groups for i, name in zip(group["params"], group["param_names"], strict=True)}


def warn_if_elsewhere(checkpoint: Checkpoint) -> None:
    """Warns when the checkpoint comes from a machine or a library on which the last bits may differ."""
    then, now = checkpoint.rest["environment"], environment()
    differing = [f"{key} {then.get(key)} (now {now[key]})" for key in now if then.get(key) != now[key]]
    if differing:
        warnings.warn(
            f"the checkpoint was written under {', '.join(differing)}; the resumed run may differ in its last bits.",
            stacklevel=2,
        )


def environment() -> dict[str, Any]:
    """What the last bit of a result depends on beside the configuration."""
    return {
        "microtome": version("microtome"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
