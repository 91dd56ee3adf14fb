"""Triton kernels compiled for GPUs that are not here: PTX, machine code, and what they take of a GPU.

Triton needs no GPU to generate code, so that code generation, registers, spills and shared memory are checked
wherever the tests run. Nothing here says how fast a kernel is.

**The convention.** A module whose file name begins with `triton` (`kernels/softmax/triton_path.py`) has a function
`variants()` that yields one `Variant` for each kernel, dtype and head dim of its grid; `discover()` finds them all:

    def variants() -> Iterator[Variant]:
        for dtype, d_head in itertools.product((torch.float16, torch.bfloat16, torch.float32), (16, 64, 128, 256)):
            yield Variant(
                kernel=f"{__name__}:_forward",
                dtype=dtype,
                head_dim=d_head,
                pointers={"q_ptr": dtype, "k_ptr": dtype, "z_ptr": dtype, "lse_ptr": torch.float32},
                scalars={"scale": "fp32"},
                constants={"BLOCK_D": d_head, "q_d": 1, "bias_ptr": None},
                num_warps=4,
                num_stages=2,
            )

Every argument that neither `pointers`, `scalars` nor `constants` names is an int32. Constants are the kernel's
constexprs and whatever a launch specialises: a pointer that is None, a stride that is 1. `variants()` is called
where `TRITON_INTERPRET` may be set, so that it must not ask Triton's knobs what the operands are: give the GPU's.

    compiled = compile_for(list(variants()), target=90)      # one child process for the whole list
    assert all(c.fits and c.spilled == 0 for c in compiled)

The work happens in a child process without `TRITON_INTERPRET`, under which `triton.jit` makes interpreted functions,
Triton's own library included.
"""

import contextlib
import importlib
import io
import os
import pickle
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

SHARED_MEMORY = {80: 163 * 1024, 90: 227 * 1024}
"""Bytes of shared memory that one thread block may have, by target (CUDA C++ Programming Guide, table of compute
capabilities)."""
TYPES = {
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.float32: "fp32",
    torch.float64: "fp64",
    torch.int8: "i8",
    torch.int32: "i32",
    torch.int64: "i64",
    torch.bool: "i1",
}
"""Triton's names of the dtypes that a kernel's pointers may have."""


@dataclass(frozen=True)
class Variant:
    """One specialisation of a kernel.

    Attributes:
        kernel: "module:function", the function decorated by `triton.jit`, autotuned or not.
        pointers: the dtype that each pointer argument points to; pointers are aligned to 16 bytes, as torch's are.
        scalars: Triton's type of scalar arguments that are not int32, such as {"scale": "fp32"}; "i32:16" promises
            that 16 divides the value, as a launch finds out for itself.
        constants: constexprs and specialised arguments.
        dtype, head_dim: for the reader of a table; None where a kernel has none.
        num_warps, num_stages: the launch's.
    """

    kernel: str
    pointers: Mapping[str, torch.dtype]
    constants: Mapping[str, Any]
    scalars: Mapping[str, str] = field(default_factory=dict)
    dtype: torch.dtype | None = None
    head_dim: int | None = None
    num_warps: int = 4
    num_stages: int = 2

    @property
    def name(self) -> str:
        """The kernel with its dtype and head dim, for messages and test ids."""
        parts = [self.kernel, TYPES.get(self.dtype), None if self.head_dim is None else f"d{self.head_dim}"]
        return " ".join(part for part in parts if part)


@dataclass(frozen=True)
class Compiled:
    """What a variant became on one target.

    Attributes:
        target: compute capability times ten, 80 for sm_80.
        ptx: the assembly; cubin: the machine code.
        registers: registers a thread, at most 255.
        spilled: bytes a thread stores to local memory because registers ran out.
        shared: bytes of shared memory a thread block.
    """

    variant: Variant
    target: int
    ptx: str
    cubin: bytes
    registers: int
    spilled: int
    shared: int

    @property
    def fits(self) -> bool:
        """Whether one thread block of the target has the shared memory that the variant asks for."""
        return self.shared <= SHARED_MEMORY[self.target]


def compile_for(variants: Sequence[Variant], target: int) -> list[Compiled]:
    """The variants compiled for sm_80 or sm_90, in their order; seconds for the child process, about one for each.

    Raises:
        ValueError: for another target.
        RuntimeError: if a kernel does not compile, with its name and the compiler's last words.
    """
    if target not in SHARED_MEMORY:
        raise ValueError(f"target must be one of {', '.join(map(str, SHARED_MEMORY))} (sm_80 …), got {target}")
    with tempfile.TemporaryDirectory() as cache:
        environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
        # Fused multiply-adds are Triton's default today; saying so keeps it from warning that this will change.
        environment |= {"TRITON_CACHE_DIR": cache, "TRITON_DEFAULT_FP_FUSION": "1"}
        child = subprocess.run(
            [sys.executable, "-c", f"from {__name__} import _serve; _serve()"],
            input=pickle.dumps((list(variants), target)),
            capture_output=True,
            env=environment,
        )
    if child.returncode:
        raise RuntimeError(child.stderr.decode(errors="replace").strip())
    return pickle.loads(child.stdout)


def discover(package: str = "microtome.kernels") -> list[Variant]:
    """Everything that the Triton modules of a package declare: the `variants()` of each module named `triton…`.

    Raises AttributeError if such a module has no `variants`.
    """
    found = []
    for root in map(Path, importlib.import_module(package).__path__):
        for path in sorted(root.rglob("triton*.py")):
            module = ".".join((package, *path.relative_to(root).with_suffix("").parts))
            found += importlib.import_module(module).variants()
    return found


def _serve() -> None:
    """The child: pickled (variants, target) from stdin, pickled list of `Compiled` to stdout."""
    variants, target = pickle.load(sys.stdin.buffer)
    compiled = []
    for variant in variants:
        try:
            compiled.append(_compile(variant, target))
        except Exception as error:
            sys.exit(f"{variant.name} does not compile for sm_{target}: {type(error).__name__}: {error}")
    sys.stdout.buffer.write(pickle.dumps(compiled))


def _compile(variant: Variant, target: int) -> Compiled:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    triton.knobs.nvidia.dump_ptxas_log = True
    # Equal variants would come from the cache, which keeps no log.
    triton.knobs.compilation.always_compile = True
    kernel = _kernel(variant.kernel)
    signature, attributes = {}, {}
    for index, (name, kind) in enumerate(_signature(variant, kernel.arg_names).items()):
        signature[name], _, divisor = kind.partition(":")
        if divisor:
            attributes[(index,)] = [["tt.divisibility", int(divisor)]]
    log = io.StringIO()
    with contextlib.redirect_stdout(log):
        built = triton.compile(
            ASTSource(kernel, signature, dict(variant.constants), attributes),
            target=GPUTarget("cuda", target, 32),
            options={"num_warps": variant.num_warps, "num_stages": variant.num_stages},
        )
    return Compiled(
        variant,
        target,
        ptx=built.asm["ptx"],
        cubin=built.asm["cubin"],
        registers=_largest(r"Used (\d+) registers", log.getvalue()),
        spilled=_largest(r"(\d+) bytes spill stores", log.getvalue()),
        shared=built.metadata.shared,
    )


def _kernel(name: str) -> Any:
    """The compilable function under that name, taken out of any autotuner or heuristics around it."""
    from triton.runtime.jit import JITFunction

    module, _, function = name.partition(":")
    kernel = getattr(importlib.import_module(module), function)
    while not isinstance(kernel, JITFunction):
        kernel = kernel.fn
    return kernel


def _signature(variant: Variant, arguments: Sequence[str]) -> dict[str, str]:
    """Triton's type of each argument, in order."""
    named = {**variant.pointers, **variant.scalars, **variant.constants}
    if unknown := sorted(set(named) - set(arguments)):
        raise ValueError(f"the kernel has no argument {unknown[0]!r}; it has {', '.join(arguments)}")
    types = dict.fromkeys(arguments, "i32")
    types |= {name: f"*{TYPES[dtype]}:16" for name, dtype in variant.pointers.items()}
    return types | variant.scalars | dict.fromkeys(variant.constants, "constexpr")


def _largest(pattern: str, log: str) -> int:
    """The largest figure that ptxas reports of the kernel and of the functions it calls."""
    return max(int(figure) for figure in re.findall(pattern, log))
