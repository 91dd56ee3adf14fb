"""The Triton kernel, run by Triton's interpreter, against the equation; and its compilation for a GPU nobody needs."""

import itertools
import subprocess
import sys
import textwrap

import pytest
import torch

from microtome.kernels import ahead_of_time, softmax

triton = pytest.importorskip("triton", reason="Triton has no build for this platform")

pytestmark = pytest.mark.skipif(
    not triton.knobs.runtime.interpret, reason="TRITON_INTERPRET=1 was not set before Triton was imported"
)

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 3e-2, torch.float16: 4e-3}
TRANSFORMS = tuple(itertools.product((False, True), repeat=4))
ALL = (True, True, True, True)
CASES = [
    *((1, 16, flags, torch.float32) for flags in TRANSFORMS),
    *(
        (70, 24, flags, torch.float32)
        for flags in ((False,) * 4, (False, True, False, True), (True, False, True, True))
    ),
    *((n, 16, ALL, torch.float32) for n in (2, 63, 100, 129)),
    *((33, d, ALL, torch.float32) for d in (1, 64, 128, 200)),
    *((65, 32, ALL, dtype) for dtype in (torch.bfloat16, torch.float16)),
]


def name(case) -> str:
    n, d, flags, dtype = case
    on = [w for w, flag in zip(("causal", "mask", "bias", "factor"), flags, strict=True) if flag]
    return f"{n}x{d}-{'-'.join(on) or 'plain'}-{str(dtype)[6:]}"


def draw(generator, n, d_head, flags, dtype, keys):
    causal, mask, bias, factor = flags
    # Features first in memory for q, heads beside positions for v: no stride may be taken for granted.
    q = torch.randn(2, 2, d_head, n, generator=generator).to(dtype).mT
    k = torch.randn(2, 2, keys, d_head, generator=generator).to(dtype)
    v = torch.randn(2, keys, 2, d_head, generator=generator).to(dtype).transpose(1, 2)
    terms = {
        "causal": causal,
        "mask": torch.rand(2, keys, generator=generator) > 0.4 if mask else None,
        "bias": torch.randn(1, keys, n, generator=generator).mT if bias else None,
        "factor": torch.randn(2, n, keys, generator=generator) if factor else None,
    }
    return q, k, v, terms


def compare(q, k, v, terms, dtype) -> None:
    from microtome.kernels.scores import block
    from microtome.kernels.softmax import triton_path

    wide = [t.double() for t in (q, k, v)]
    expected = softmax.reference(*wide, softmax.score_transform(*wide[:2], **terms))
    transform = softmax.score_transform(q, k, **terms)
    assert block.supports(q)
    found = triton_path.forward(q, k, v, transform)
    assert found.z.dtype == dtype
    for got, want in zip(found, expected, strict=True):
        torch.testing.assert_close(got.double(), want, atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])
    without_values = triton_path.forward(q, k, None, transform)
    assert without_values.z is None
    assert torch.equal(without_values.entropy, found.entropy)
    assert torch.equal(without_values.lse, found.lse)


@pytest.mark.parametrize("case", CASES, ids=name)
def test_interpreted_kernel_gives_the_equation(generator, case) -> None:
    n, d_head, flags, dtype = case
    compare(*draw(generator, n, d_head, flags, dtype, n), dtype)


def test_rows_at_given_positions_and_rows_without_keys(generator) -> None:
    q, k, v, terms = draw(generator, 5, 16, ALL, torch.float32, 70)
    terms["positions"] = torch.tensor([69, 0, 40, 40, 3])
    terms["mask"][0, :10] = False
    compare(q, k, v, terms, torch.float32)
    q, k, v, terms = draw(generator, 5, 16, (False, True, True, True), torch.float32, 40)
    compare(q, k, v, terms, torch.float32)


def test_logits_of_a_thousand_cost_the_entropy_nothing(generator) -> None:
    from microtome.kernels.softmax import triton_path

    q, k = (torch.randn(1, 1, 64, 16, generator=generator) for _ in range(2))
    scale = float(1000 / (q @ k.mT).abs().max())
    wide = softmax.score_transform(q.double(), k.double(), scale=scale)
    exact = softmax.reference(q.double(), k.double(), k.double(), wide)[1]
    found = triton_path.forward(q, k, None, softmax.score_transform(q, k, scale=scale)).entropy
    assert (found - exact).abs().max() <= 1e-4


def test_what_the_kernel_does_not_take() -> None:
    from microtome.kernels.scores import block

    assert not block.supports(torch.zeros(1, 1, 2, 4, dtype=torch.float64))
    assert not block.supports(torch.zeros(1, 1, 2, 257))


def run(script: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_triton_is_not_imported_and_not_missed_on_a_cpu() -> None:
    run(
        """
        import sys
        sys.modules["triton"] = None  # importing it now raises
        import torch
        from microtome.kernels import ahead_of_time, softmax
        q = torch.ones(1, 1, 3, 4)
        z = softmax.attention(q, q, q, factor=torch.ones(1, 3, 3))
        entropy = softmax.row_entropy(q, q)
        assert torch.allclose(z, q) and torch.allclose(entropy, torch.full((1, 1, 3), 3.0).log())
        """
    )


@pytest.mark.slow
@pytest.mark.parametrize("target", [80, 90])
def test_every_variant_fits_any_gpu_since_ampere_and_stays_in_registers(target) -> None:
    from microtome.kernels.softmax import triton_path

    for compiled in ahead_of_time.compile_for(list(triton_path.variants()), target):
        assert compiled.shared <= 99 * 1024, compiled.variant.name
        assert compiled.spilled == 0, compiled.variant.name
