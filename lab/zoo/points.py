"""Hook points that know what they carry.

A `Point` is a TransformerLens `HookPoint` with axis names, a role and a status:

- `live`: on the path of every forward pass; reading and editing always work;
- `recomputable`: not made on the fused path; made beside it from saved inputs when a hook asks, and put on the
  path (in place of the fused computation) when a hook edits it or needs its gradient;
- `reading`: a quantity about the computation (an entropy, an effective pattern), made when asked for, off the path.

A point with no hook costs one truth test.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from transformer_lens.hook_points import HookPoint, LensHandle

Status = Literal["live", "recomputable", "reading"]
ROLES = (
    "stream",
    "write",
    "query",
    "key",
    "value",
    "score",
    "pattern",
    "hidden",
    "norm",
    "gate",
    "state",
    "measure",
)
HookFunction = Callable[..., Any]


def observer(fn: HookFunction) -> HookFunction:
    """Marks a hook as one that only looks: it returns None, edits nothing and wants no gradient.

    Beside an observer the fused path stays in force, so the model's output keeps every bit.
    """
    fn.observes = True
    return fn


def _observes(handle: LensHandle) -> bool:
    return getattr(handle.user_hook, "observes", False)


class Point(HookPoint):
    """A hook point on the path.

    Args:
        axes: names of the tensor's axes, blank-separated, e.g. `"batch pos head d_head"`.
        role: what the tensor is to the computation, one of `ROLES`; probes ask for roles, not for layer types.
    """

    status: Status = "live"

    def __init__(self, axes: str, role: str):
        super().__init__()
        if role not in ROLES:
            raise ValueError(f"a hook point's role must be one of {', '.join(ROLES)}, not {role!r}.")
        self.axes = tuple(axes.split())
        self.role = role
        self.pos_dim = next((i for i, a in enumerate(self.axes) if a.split(":")[0] in ("pos", "query")), None)

    def __call__(self, x: Tensor) -> Tensor:
        # nn.Module's own call costs a microsecond a point, which small models feel.
        if self._forward_hooks or self._backward_hooks:
            return super().__call__(x)
        return x

    def add_hook(self, hook: HookFunction, dir: str = "fwd", **options) -> LensHandle:
        """As TransformerLens', and a forward hook that returns another shape, dtype or type is refused by name."""
        handle = super().add_hook(self._checked(hook) if dir == "fwd" else hook, dir=dir, **options)
        handle.user_hook = hook
        return handle

    def _checked(self, users: HookFunction) -> HookFunction:
        def checked(tensor: Tensor, *, hook: HookPoint) -> Tensor | None:
            out = users(tensor, hook=hook)
            if out is None:
                return None
            if not isinstance(out, Tensor):
                raise TypeError(f"a hook on {self.name} must return a tensor or None, not {type(out).__name__}.")
            if out.shape != tensor.shape or out.dtype != tensor.dtype:
                raise ValueError(
                    f"a hook on {self.name} returned {tuple(out.shape)} {out.dtype}; the point carries "
                    f"{tuple(tensor.shape)} {tensor.dtype} with axes {' '.join(self.axes)}."
                )
            return out

        return checked

    def show(self, tensor: Tensor) -> tuple[Tensor, bool]:
        """The tensor as the hooks leave it, and whether one of them edited it, in place or not."""
        version = tensor._version
        left = self(tensor)
        return left, left is not tensor or tensor._version != version

    @property
    def watched(self) -> bool:
        """Whether any hook, forward or backward, is attached."""
        return bool(self._forward_hooks or self._backward_hooks)


class Recomputable(Point):
    """A point that the fused path does not make; see the module's docstring."""

    status: Status = "recomputable"

    @property
    def needs_path(self) -> bool:
        """Whether an attached hook may edit this tensor or want its gradient, so that it must lie on the path."""
        return bool(self.bwd_hooks) or any(not _observes(h) for h in self.fwd_hooks)


class Reading(Point):
    """A quantity about the computation: made when a hook asks, never on the path."""

    status: Status = "reading"

    def read(self, make: Callable[[], Tensor]) -> None:
        """Makes the tensor, without gradient, and shows it to the hooks; does nothing when there are none.

        Raises:
            ValueError: if a hook tries to edit it.
        """
        if not self._forward_hooks:
            return
        with torch.no_grad():
            if self.show(make())[1]:
                raise ValueError(f"{self.name} is a reading about the computation: it can be looked at, not edited.")
