"""What every model of the lab promises: named, labelled activations under TransformerLens' calls.

`HookedModel` is TransformerLens' `HookedRootModule` with four promises added: each point says its axes, role and
status; a name or filter that matches nothing raises, with near names; caching keeps every bit of the output; and
`run_with_stats` reduces activations inside the hook, so that a tracker never holds them.
"""

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformer_lens import ActivationCache, HookedRootModule
from transformer_lens.utilities import Slice

from microtome.lab.zoo.points import HookFunction, Point, Reading, observer

NamesFilter = str | Sequence[str] | Callable[[str], bool] | None


@dataclass(frozen=True)
class PointInfo:
    """One row of `HookedModel.points()`."""

    name: str
    axes: tuple[str, ...]
    role: str
    status: str
    reason: str = ""


class HookedModel(HookedRootModule):
    """Base of every model in the zoo. A subclass builds its modules and then calls `setup()`."""

    def absent(self) -> Mapping[str, str]:
        """Names that users of TransformerLens may ask for and this model does not have, with the reason."""
        return {}

    def points(self) -> list[PointInfo]:
        """Every point of the model, in order of construction, then the absent ones with their reasons."""
        here = [PointInfo(n, p.axes, p.role, p.status) for n, p in self.hook_dict.items()]
        return here + [PointInfo(n, (), "", "absent", reason) for n, reason in self.absent().items()]

    def resolve(self, names: NamesFilter, *, readings: bool = True) -> list[str]:
        """The hook names that a filter selects, in forward order.

        Args:
            names: a name, names, a predicate on names, or None for all.
            readings: whether None reaches readings too; a name or a predicate always does.

        Raises:
            KeyError: if a name is unknown (with near names) or absent (with the reason), or nothing matches.
        """
        if isinstance(names, str):
            return [self._known(names)]
        if names is None or callable(names):
            accept = names or (lambda n: readings or not isinstance(self.hook_dict[n], Reading))
            chosen = [n for n in self.hook_dict if accept(n)]
        else:
            wanted = {self._known(n) for n in names}
            chosen = [n for n in self.hook_dict if n in wanted]
        if not chosen:
            raise KeyError(
                f"the filter matches none of the model's {len(self.hook_dict)} hook points; see model.points()."
            )
        return chosen

    def _known(self, name: str) -> str:
        if name in self.hook_dict:
            return name
        if name in (absent := self.absent()):
            raise KeyError(f"{name} is absent from this model: {absent[name]}.")
        near = difflib.get_close_matches(name, self.hook_dict, n=3, cutoff=0.5)
        hint = f"did you mean {', '.join(near)}?" if near else "see model.points()."
        raise KeyError(f"no hook point is called {name!r}; {hint}")

    def add_hook(self, name: str | Callable[[str], bool], hook: HookFunction, *args, **options) -> None:
        """As TransformerLens'; a name or predicate that matches nothing raises KeyError."""
        for known in self.resolve(name):
            super().add_hook(known, hook, *args, **options)

    def _enable_hook(self, name: str | Callable[[str], bool], hook: HookFunction, dir: str) -> None:
        for known in self.resolve(name):
            self._enable_hook_with_name(name=known, hook=hook, dir=dir)

    def run_with_cache(
        self,
        *inputs: Any,
        names_filter: NamesFilter = None,
        device: Any = None,
        remove_batch_dim: bool = False,
        incl_bwd: bool = False,
        pos_slice: Any = None,
        return_cache_object: bool = True,
        **options: Any,
    ) -> tuple[Any, ActivationCache | dict[str, Tensor]]:
        """Runs the model and returns its output and the activations, as TransformerLens does.

        Args:
            inputs: what `forward` takes.
            names_filter: name, names or predicate; None caches all points but the readings, which cost extra.
            device: where the cached tensors go; the model stays where it is.
            remove_batch_dim: drop the batch axis; the batch must hold one example.
            incl_bwd: also run `backward()` on the (scalar) output and cache gradients under `name + "_grad"`.
            pos_slice: which positions to keep, along the axis that each point labels as position or query.
            return_cache_object: False gives the plain dictionary.
            options: passed to `forward`.

        Returns:
            the output, bit-identical to that of a plain call unless `incl_bwd`, and the cache of detached tensors.

        Raises:
            KeyError: if the filter matches nothing. ValueError: if `remove_batch_dim` meets a batch other than one.
        """
        if remove_batch_dim and inputs[0].shape[0] != 1:
            raise ValueError(f"remove_batch_dim needs a batch of one example, not {inputs[0].shape[0]}.")
        cache: dict[str, Tensor] = {}
        positions = Slice.unwrap(pos_slice)

        def keep(tensor: Tensor, hook: Point, suffix: str = "") -> None:
            kept = tensor.detach()
            if pos_slice is not None and hook.pos_dim is not None:
                kept = positions.apply(kept, dim=hook.pos_dim - kept.ndim)
            kept = kept.to(device) if device is not None else kept
            cache[hook.name + suffix] = kept[0] if remove_batch_dim else kept

        names = self.resolve(names_filter, readings=False)
        forward = [(n, observer(lambda t, hook: keep(t, hook))) for n in names]
        backward = []
        if incl_bwd:
            grads = [n for n in names if not isinstance(self.hook_dict[n], Reading)]
            backward = [(n, lambda t, hook: keep(t, hook, "_grad")) for n in grads]
        with self.hooks(fwd_hooks=forward, bwd_hooks=backward):
            output = self(*inputs, **options)
            if incl_bwd:
                output.backward()
        if not return_cache_object:
            return output, cache
        return output, ActivationCache(cache, self, has_batch_dim=not remove_batch_dim)

    @contextmanager
    def stats(self, names: NamesFilter, reducer: Callable[[Tensor, Point], Any]) -> Iterator[dict[str, Any]]:
        """Within the context, each forward pass fills the yielded dictionary with `reducer(tensor, hook)` by name.

        The reducer runs inside the hook on the detached tensor, which is not kept; the output keeps every bit.
        """
        found: dict[str, Any] = {}

        def reduce(tensor: Tensor, hook: Point) -> None:
            found[hook.name] = reducer(tensor.detach(), hook)

        with self.hooks(fwd_hooks=[(n, observer(reduce)) for n in self.resolve(names)]):
            yield found

    def run_with_stats(
        self, *inputs: Any, names: NamesFilter, reducer: Callable[[Tensor, Point], Any], **options: Any
    ) -> tuple[Any, dict[str, Any]]:
        """Runs the model and returns its output and, by name of point, what `reducer(tensor, hook)` made of each."""
        with self.stats(names, reducer) as found:
            output = self(*inputs, **options)
        return output, found
