"""Laws of the row entropy, and how exact its float32 readings are."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from microtome.kernels import softmax
from microtome.kernels.softmax import blockwise, fused

EPSILON = torch.finfo(torch.float32).eps


EITHER = st.booleans()


@st.composite
def problems(draw, biased=EITHER):
    """q, k and terms with logits of any size up to about 1e4, some keys masked, in float32."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    n, d_head = draw(st.integers(1, 40)), draw(st.integers(1, 20))
    q, k = (torch.randn(2, 2, n, d_head, generator=generator) for _ in range(2))
    terms = {
        "causal": draw(st.booleans()),
        "scale": 10.0 ** draw(st.floats(-4, 3)),
        "mask": torch.rand(2, n, generator=generator) < draw(st.floats(0, 1)) if draw(st.booleans()) else None,
        "bias": torch.randn(2, n, n, generator=generator) * 3 if draw(biased) else None,
    }
    return q, k, terms


def attended(n: int, terms: dict) -> torch.Tensor:
    """[batch, 1, query]: how many keys each row may attend to."""
    allowed = torch.ones(n, n, dtype=torch.bool).tril(0 if terms["causal"] else n)
    keep = torch.ones(2, n, dtype=torch.bool) if terms["mask"] is None else terms["mask"]
    return (allowed & keep[:, None]).sum(-1)[:, None]


def largest_logit(q, k, terms) -> float:
    bias = 0.0 if terms["bias"] is None else terms["bias"].abs().max()
    return float((terms["scale"] * (q @ k.mT)).abs().max() + bias)


@given(problems())
@settings(max_examples=50)
def test_entropy_lies_between_zero_and_the_log_of_the_keys_attended(problem) -> None:
    q, k, terms = problem
    entropy = softmax.row_entropy(q, k, **terms)
    assert entropy.isfinite().all()
    assert (entropy >= 0).all()
    most = attended(q.shape[2], terms).clamp_min(1).log()
    assert (entropy <= most + 8 * EPSILON * (1 + largest_logit(q, k, terms))).all()


@given(problems(biased=st.just(True)), st.floats(-50, 50))
@settings(max_examples=30)
def test_a_constant_added_to_a_bias_row_moves_the_normaliser_and_not_the_entropy(problem, by) -> None:
    q, k, terms = problem
    shift = by * torch.linspace(-1, 1, q.shape[2], dtype=torch.float64)[:, None]
    q, k, terms["bias"] = q.double(), k.double(), terms["bias"].double()
    moved = {**terms, "bias": terms["bias"] + shift}
    # An error of some ulp of a logit, times at most log n of slope.
    close = {"atol": 1e-13 * (1 + abs(by) + largest_logit(q, k, terms)), "rtol": 1e-13}
    torch.testing.assert_close(softmax.row_entropy(q, k, **moved), softmax.row_entropy(q, k, **terms), **close)
    torch.testing.assert_close(
        softmax.log_normaliser(q, k, **moved), softmax.log_normaliser(q, k, **terms) + shift[:, 0], **close
    )


@given(problems(biased=st.just(False)))
@settings(max_examples=30)
def test_no_scale_at_all_is_uniform_attention(problem) -> None:
    q, k, terms = problem
    most = attended(q.shape[2], terms).clamp_min(1).log().expand(2, 2, -1)
    close = {"atol": 1e-6, "rtol": 1e-6}
    torch.testing.assert_close(softmax.row_entropy(q, k, **{**terms, "scale": 0.0}), most, **close)
    # Entropy leaves its maximum by half the variance of the logits, here below 1e-10.
    torch.testing.assert_close(softmax.row_entropy(q, k, **{**terms, "scale": 1e-8}), most, **close)


@given(problems())
@settings(max_examples=30)
def test_the_tiles_and_the_fused_pass_agree(problem) -> None:
    q, k, terms = problem
    terms["bias"] = None
    transform = softmax.score_transform(q, k, **terms)
    assert fused.supports(q, transform)
    one, other = fused.forward(q, k, None, transform), blockwise.forward(q, k, None, transform)
    close = {"atol": 16 * EPSILON * (1 + largest_logit(q, k, terms)), "rtol": 1e-5}
    torch.testing.assert_close(one.entropy, other.entropy, **close)
    torch.testing.assert_close(one.lse, other.lse, **close)


@pytest.mark.parametrize("n", [1, 7, 300])
def test_one_key_to_attend_to_has_no_entropy(generator, n) -> None:
    q, k = (torch.randn(2, 2, n, 16, generator=generator) for _ in range(2))
    only = torch.zeros(2, n, dtype=torch.bool)
    only[:, n // 2] = True
    for scale in (1e-3, 1.0, 30.0):
        for bias in (None, torch.randn(1, n, n, generator=generator)):
            entropy = softmax.row_entropy(q, k, mask=only, scale=scale, bias=bias)
            assert (entropy <= 4 * EPSILON * (1 + scale * (q @ k.mT).abs().max())).all()
    assert softmax.row_entropy(q, k, causal=True)[:, :, 0].max() <= 1e-5


@pytest.mark.parametrize("largest", [1.0, 10.0, 100.0, 1000.0])
@pytest.mark.parametrize("biased", [False, True], ids=["fused", "tiles"])
@pytest.mark.parametrize("causal", [False, True], ids=["bidirectional", "causal"])
def test_float32_errors_are_those_the_docstrings_state(generator, causal, biased, largest) -> None:
    q, k = (torch.randn(1, 4, 1024, 32, generator=generator) for _ in range(2))
    q = q * (largest / ((q @ k.mT).abs().max() / math.sqrt(32)))
    bias = torch.zeros(1, 1024, 1024) if biased else None
    wide = softmax.score_transform(q.double(), k.double(), causal=causal)
    exact = softmax.reference(q.double(), k.double(), k.double(), wide)[1]
    error = (softmax.row_entropy(q, k, causal=causal, bias=bias) - exact).abs().max()
    stated = {1.0: 8e-7, 10.0: 3e-6, 100.0: 4e-5, 1000.0: 3e-4}[largest]
    # Twice what is stated: the last bits belong to the processor's vector width.
    assert error <= 2 * (min(stated, 6e-5) if biased else stated)


def test_half_precision_is_read_in_float32(generator) -> None:
    q, k = (torch.randn(2, 2, 50, 8, generator=generator).bfloat16() for _ in range(2))
    entropy = softmax.row_entropy(q, k, causal=True)
    assert entropy.dtype == torch.float32
    torch.testing.assert_close(entropy, softmax.row_entropy(q.float(), k.float(), causal=True), atol=0.0, rtol=0.0)


def test_without_torchs_private_operator_the_tiles_answer(generator, monkeypatch) -> None:
    q, k = (torch.randn(2, 2, 50, 8, generator=generator) for _ in range(2))
    before = softmax.row_entropy(q, k)
    monkeypatch.setattr(fused, "_OPERATOR", None)
    torch.testing.assert_close(softmax.row_entropy(q, k), before, atol=1e-5, rtol=1e-5)


def test_logits_of_a_diverging_model_do_not_make_entropies_of_noise():
    generator = torch.Generator().manual_seed(5)
    q, k = (torch.randn(1, 2, 40, 8, generator=generator) * 1e4 for _ in range(2))
    entropy = softmax.row_entropy(q, k, causal=True)
    wanted = softmax.row_entropy(q.double(), k.double(), causal=True)
    assert (entropy <= math.log(40) + 1e-6).all()
    torch.testing.assert_close(entropy.double(), wanted, atol=1e-3, rtol=0)
