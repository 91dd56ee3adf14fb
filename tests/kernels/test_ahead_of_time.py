"""The harness that compiles Triton kernels without a GPU, on kernels of its own."""

import sys
from dataclasses import replace

import pytest
import torch

from microtome.kernels.ahead_of_time import SHARED_MEMORY, Variant, compile_for, discover

pytest.importorskip("triton", reason="Triton has no build for this platform")

KERNELS = """
import triton
import triton.language as tl

@triton.jit
def _halve(x):
    return x * 0.5

@triton.jit
def halved_sums(x_ptr, sum_ptr, n, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + tl.program_id(0) * n + at, mask=at < n, other=0.0)
    tl.store(sum_ptr + tl.program_id(0), tl.sum(_halve(x.to(tl.float32)), 0))

@triton.autotune(configs=[triton.Config({"BLOCK": 32})], key=["n"])
@triton.jit
def tuned(x_ptr, n, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    tl.store(x_ptr + at, tl.load(x_ptr + at, mask=at < n) + 1, mask=at < n)

@triton.jit
def broken(x_ptr, BLOCK: tl.constexpr):
    tl.store(x_ptr, tl.arange(0, BLOCK))

@triton.jit
def shares(x_ptr, n, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + at, mask=at < n, other=0.0)
    tl.store(x_ptr + at, x / tl.sum(x, 0), mask=at < n)
"""


@pytest.fixture
def kernels(tmp_path, monkeypatch) -> str:
    """The name of a module of kernels that this process and its children can import."""
    (tmp_path / "ahead_of_time_kernels.py").write_text(KERNELS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "ahead_of_time_kernels"


def sums(module: str, dtype: torch.dtype = torch.float32) -> Variant:
    pointers = {"x_ptr": dtype, "sum_ptr": torch.float32}
    return Variant(f"{module}:halved_sums", pointers, {"BLOCK": 64}, dtype=dtype, head_dim=64)


@pytest.mark.parametrize("target", list(SHARED_MEMORY))
def test_kernels_compile_under_the_interpreter_s_variable_to_code_that_differs(kernels, target) -> None:
    wanted = [
        sums(kernels),
        sums(kernels, torch.float16),
        Variant(f"{kernels}:tuned", {"x_ptr": torch.int32}, {"BLOCK": 32}),
    ]
    plain, half, tuned = compile_for(wanted, target)
    assert [c.variant for c in (plain, half, tuned)] == wanted
    assert f".target sm_{target}" in plain.ptx
    assert "ld.global" in plain.ptx
    assert plain.cubin[:4] == b"\x7fELF"
    assert plain.ptx != half.ptx
    assert 8 <= plain.registers <= 255
    assert plain.spilled == 0
    assert plain.fits
    assert tuned.variant.name == f"{kernels}:tuned"
    assert half.variant.name == f"{kernels}:halved_sums fp16 d64"


def test_spills_and_shared_memory_are_those_of_the_kernel(kernels) -> None:
    small = Variant(f"{kernels}:shares", {"x_ptr": torch.float32}, {"BLOCK": 256}, num_warps=1)
    modest, shared, large = compile_for(
        [small, replace(small, num_warps=8), replace(small, constants={"BLOCK": 16384})], 80
    )
    assert modest.spilled == shared.spilled == modest.shared == 0
    assert shared.shared >= 8 * 4, "one float32 a warp"
    assert large.spilled >= 4 * (512 - 255), "512 values a thread, more than there are registers"


def test_a_promise_of_divisibility_and_a_constant_stride_reach_the_code(kernels) -> None:
    plain = replace(sums(kernels), constants={"BLOCK": 512})
    loose, promised, fixed = compile_for(
        [plain, replace(plain, scalars={"n": "i32:16"}), replace(plain, constants={"BLOCK": 512, "n": 512})], 90
    )
    assert len({loose.ptx, promised.ptx, fixed.ptx}) == 3
    assert fixed.ptx.count("setp") < loose.ptx.count("setp"), "a known n leaves nothing to mask"


def test_what_does_not_compile_is_named(kernels) -> None:
    with pytest.raises(RuntimeError, match=r"broken fp32 does not compile for sm_80: .*"):
        compile_for([Variant(f"{kernels}:broken", {"x_ptr": torch.float32}, {"BLOCK": 16}, dtype=torch.float32)], 80)
    with pytest.raises(RuntimeError, match="has no argument 'y_ptr'; it has x_ptr, sum_ptr, n, BLOCK"):
        compile_for([replace(sums(kernels), pointers={"y_ptr": torch.float32})], 80)
    with pytest.raises(ValueError, match="target must be one of 80, 90"):
        compile_for([sums(kernels)], 75)


def test_every_triton_module_of_the_house_declares_what_to_compile() -> None:
    found = discover()
    assert any(v.kernel == "microtome.kernels.softmax.triton_path:_forward" for v in found)
    for variant in found:
        module, _, function = variant.kernel.partition(":")
        assert function in vars(sys.modules[module]), variant.name


@pytest.mark.slow
@pytest.mark.parametrize("target", list(SHARED_MEMORY))
def test_every_kernel_of_the_house_compiles_and_fits(target) -> None:
    for compiled in compile_for(discover(), target):
        assert compiled.fits, f"{compiled.variant.name} asks for {compiled.shared} bytes of shared memory"
