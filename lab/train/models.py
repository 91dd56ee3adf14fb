"""What the trainer asks of a model: a description, a way to build it again, its hook points, and its tensors.

Models of the zoo and of TransformerLens answer more than others. Their classes take seconds to import, and no
object of a class exists before the class is imported; so they are looked up among the imported modules, never
imported here.
"""

import sys
from typing import Any

import torch
from torch import Tensor, nn

from microtome.lab.train.checkpoint import Checkpoint, CheckpointError


def describe(model: nn.Module) -> dict[str, Any]:
    """JSON values that tell this model from others.

    For a composed model of the zoo they suffice to build it again, with its parameters as they started.
    """
    size = sum(parameter.numel() for parameter in model.parameters())
    description = {"class": type(model).__qualname__, "parameters": size}
    if isinstance(model, _imported("microtome.lab.zoo.transformer", "SequenceModel")):
        description["sequence"] = model.spec.describe()
    return description


def build(description: dict[str, Any]) -> nn.Module:
    """The model that `describe` described, with its parameters as they started.

    Raises:
        ValueError: if the description is not of a model of the zoo.
    """
    if "sequence" not in description:
        raise ValueError(f"only models of the zoo are built from their description; give a {description['class']}.")
    from microtome.lab import zoo

    return zoo.sequence(**description["sequence"])


def points(model: nn.Module) -> dict[str, nn.Module]:
    """The modules whose outputs are the model's activations, by name.

    Its TransformerLens hook points that are on the path; all submodules of a model without hook points.
    """
    hook_point = _imported("transformer_lens.hook_points", "HookPoint")
    reading = _imported("microtome.lab.zoo.points", "Reading")
    modules = {name: module for name, module in model.named_modules() if name}
    hooks = {name: module for name, module in modules.items() if isinstance(module, hook_point)}
    return {name: hook for name, hook in hooks.items() if not isinstance(hook, reading)} or modules


def entropy_readings(model: nn.Module) -> list[str]:
    """The names of the points at which a model of the zoo gives the entropies of its attention rows."""
    if not isinstance(model, _imported("microtome.lab.zoo.contract", "HookedModel")):
        return []
    readings = [point.name for point in model.points() if point.status == "reading"]
    return [name for name in readings if name.endswith(".hook_row_entropy")]


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and persistent buffers by name; a tensor under two names (tied weights) is given once.

    Raises:
        TypeError: if a module keeps state other than tensors, which a checkpoint cannot hold.
    """
    once: dict[int, tuple[str, Tensor]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name} keeps state of type {type(tensor).__name__}; a checkpoint holds tensors only.")
        once.setdefault(id(tensor), (name, tensor))
    return dict(once.values())


def restore(checkpoint: Checkpoint, model: nn.Module) -> None:
    """Copies the checkpoint's parameters and buffers into the model.

    Raises:
        CheckpointError: if a name or a shape differs, naming the first.
    """
    saved = checkpoint.under("model/")
    here = tensors_of(model)
    for name in [*here, *saved]:
        if name not in saved or name not in here:
            where = "checkpoint" if name not in saved else "model"
            raise CheckpointError(f"the {where} has no {name}; resume with the model that the run was started with.")
        if saved[name].shape != here[name].shape or saved[name].dtype != here[name].dtype:
            raise CheckpointError(
                f"{name} is {_kind(here[name])} in the model and {_kind(saved[name])} in the checkpoint; "
                "resume with the model that the run was started with."
            )
    with torch.no_grad():
        for name, tensor in here.items():
            tensor.copy_(saved[name])


def _kind(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def _imported(module: str, name: str) -> type | tuple[()]:
    """A class of a module that has been imported, or the empty tuple, of which nothing is an instance."""
    return getattr(sys.modules[module], name) if module in sys.modules else ()
