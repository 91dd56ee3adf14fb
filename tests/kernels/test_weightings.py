"""Sigmoid attention and PowerSoftmax: tiles of every cut against their equations, with gradients and row entropies."""

import itertools
import math

import pytest
import torch

from microtome.kernels import power_softmax, sigmoid_attention
from microtome.kernels.power_softmax import PowerSoftmax
from microtome.kernels.scores import function, tiles, weighting
from microtome.kernels.scores.transform import score_transform
from microtome.kernels.sigmoid_attention.equation import Sigmoid

SIZES = {torch.float64: (1, 2, 63, 130), torch.float32: (100,), torch.bfloat16: (33,)}
TERMS = tuple(itertools.product((False, True), repeat=3))
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5, torch.bfloat16: 3e-2}
WEIGHTINGS = {
    "sigmoid": Sigmoid(-math.log(64)),
    "power-max": PowerSoftmax(p=4),
    "power-2-exact": PowerSoftmax(p=2, epsilon=0.0, delta=0.0),
    "power-6-mean": PowerSoftmax(p=6, form="mean"),
}
every_weighting = pytest.mark.parametrize("weigh", WEIGHTINGS.values(), ids=WEIGHTINGS)


def name(flags) -> str:
    return "-".join(n for n, on in zip(("causal", "mask", "bias"), flags, strict=True) if on) or "plain"


def draw(generator, n, flags, dtype=torch.float64, batch=2, head=3, d_head=5, keys=None):
    """Random q, k, v with the keyword arguments of one transform."""
    causal, mask, bias = flags
    keys = n if keys is None else keys

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    q, k, v = normal(batch, head, n, d_head), normal(batch, head, keys, d_head), normal(batch, head, keys, d_head)
    terms = {
        "causal": causal,
        "mask": torch.rand(batch, keys, generator=generator) > 0.4 if mask else None,
        "bias": normal(1, n, keys) if bias else None,
    }
    return q, k, v, terms


def attention(weigh, q, k, v, **terms):
    if isinstance(weigh, Sigmoid):
        return sigmoid_attention.attention(q, k, v, b=weigh.b, **terms)
    return power_softmax.attention(q, k, v, weigh, **terms)


def row_entropy(weigh, q, k, **terms):
    if isinstance(weigh, Sigmoid):
        return sigmoid_attention.row_entropy(q, k, b=weigh.b, **terms)
    return power_softmax.row_entropy(q, k, weigh, **terms)


def expected(weigh, q, k, v, terms):
    """z by the equation, in float64."""
    wide = {key: t.double() if key == "bias" and t is not None else t for key, t in terms.items()}
    q, k, v = q.double(), k.double(), v.double()
    transform = score_transform(q, k, **wide)
    if isinstance(weigh, Sigmoid):
        return sigmoid_attention.reference(q, k, v, transform, weigh.b)
    return power_softmax.reference(q, k, v, transform, weigh)


@pytest.fixture(params=["whole", "tiles", "slivers"])
def path(request, monkeypatch) -> str:
    """The path of small problems, and tiles cut far below a problem, so that every seam is met."""
    monkeypatch.setattr(function, "WHOLE_SCORES", 1 << 40 if request.param == "whole" else 0)
    cuts = {"whole": (1 << 18, 1024), "tiles": (3000, 40), "slivers": (17, 3)}[request.param]
    monkeypatch.setattr(tiles, "TILE_ELEMENTS", cuts[0])
    monkeypatch.setattr(weighting, "KEYS", cuts[1])
    return request.param


@every_weighting
@pytest.mark.parametrize(("dtype", "n"), [(dtype, n) for dtype, sizes in SIZES.items() for n in sizes], ids=str)
@pytest.mark.parametrize("flags", [TERMS[0], TERMS[4], TERMS[7]], ids=name)
def test_every_path_gives_the_equations_z(generator, path, weigh, flags, n, dtype) -> None:
    q, k, v, terms = draw(generator, n, flags, dtype)
    close = {"atol": TOLERANCE[dtype], "rtol": TOLERANCE[dtype]}
    z = attention(weigh, q, k, v, **terms)
    assert z.dtype == dtype
    torch.testing.assert_close(z.double(), expected(weigh, q, k, v, terms), **close)


@every_weighting
@pytest.mark.parametrize("flags", TERMS, ids=name)
def test_gradients_of_every_input_are_the_equations(generator, path, weigh, flags) -> None:
    q, k, v, terms = draw(generator, 40, flags)
    inputs = [t.requires_grad_() for t in (q, k, v, terms["bias"]) if t is not None]
    weights = torch.randn(2, 3, 40, 5, generator=generator, dtype=torch.float64)
    found = torch.autograd.grad((attention(weigh, q, k, v, **terms) * weights).sum(), inputs)
    wanted = torch.autograd.grad((expected(weigh, q, k, v, terms) * weights).sum(), inputs)
    for got, want in zip(found, wanted, strict=True):
        torch.testing.assert_close(got, want, atol=1e-11, rtol=1e-9)


@pytest.mark.parametrize("weigh", [w for w in WEIGHTINGS.values() if getattr(w, "epsilon", 0) == 0 or w.form == "mean"])
@pytest.mark.parametrize("flags", [TERMS[0], TERMS[7]], ids=name)
def test_gradcheck_where_no_constant_is_held(generator, monkeypatch, weigh, flags) -> None:
    monkeypatch.setattr(function, "WHOLE_SCORES", 0)
    monkeypatch.setattr(tiles, "TILE_ELEMENTS", 8)
    q, k, v, terms = draw(generator, 4, flags, batch=1, head=2, d_head=2)
    terms["mask"] = None if terms["mask"] is None else torch.tensor([[True, False, True, True]])
    inputs = [t.requires_grad_() for t in (q, k, v)]
    assert torch.autograd.gradcheck(lambda q, k, v: attention(weigh, q, k, v, **terms), inputs)


@every_weighting
@pytest.mark.parametrize("flags", TERMS, ids=name)
def test_the_row_entropy_is_that_of_the_normalised_weights(generator, path, weigh, flags) -> None:
    q, k, _, terms = draw(generator, 40, flags)
    w = weigh.plainly(score_transform(q, k, **terms).scores(q, k))
    total = w.sum(-1, keepdim=True)
    share = w / total.masked_fill(total == 0, 1.0)
    wanted = -torch.special.xlogy(share, share).sum(-1)
    torch.testing.assert_close(row_entropy(weigh, q, k, **terms), wanted, atol=1e-11, rtol=1e-9)


@every_weighting
@pytest.mark.parametrize("causal", [False, True])
def test_rows_that_may_attend_to_nothing_are_zero_and_finite(generator, path, weigh, causal) -> None:
    q, k, v, terms = draw(generator, 12, (causal, True, True))
    terms["mask"] = torch.tensor([[False] * 12, [False] * 3 + [True] * 9])
    terms["bias"][:, 7] = -torch.inf
    for t in (q, k, v):
        t.requires_grad_()
    z = attention(weigh, q, k, v, **terms)
    assert torch.equal(z[0], torch.zeros_like(z[0]))
    assert torch.equal(z[1, :, 7], torch.zeros_like(z[1, :, 7]))
    assert torch.equal(row_entropy(weigh, q, k, **terms)[0], torch.zeros(3, 12, dtype=torch.float64))
    z.square().sum().backward()
    assert all(t.grad.isfinite().all() for t in (q, k, v))


@every_weighting
def test_rows_do_not_see_the_future_nor_masked_keys(generator, path, weigh) -> None:
    q, k, v, terms = draw(generator, 50, (True, True, True))
    before = attention(weigh, q, k, v, **terms)
    for t in (k, v):
        t[:, :, 23:] += 1.0
        t.add_((~terms["mask"][:, None, :, None]) * 7.0)
    terms["bias"][..., 23:] += 1.0
    after = attention(weigh, q, k, v, **terms)
    torch.testing.assert_close(after[:, :, :23], before[:, :, :23], atol=1e-13, rtol=1e-13)
    assert not torch.allclose(after[:, :, 23:], before[:, :, 23:])


@every_weighting
def test_gradients_of_masked_keys_are_exactly_zero(generator, path, weigh) -> None:
    q, k, v, terms = draw(generator, 20, (True, True, False))
    k.requires_grad_(), v.requires_grad_()
    attention(weigh, q, k, v, **terms).square().sum().backward()
    hidden = (~terms["mask"])[:, None, :, None].expand_as(k)
    for t in (k, v):
        assert torch.equal(t.grad[hidden], torch.zeros_like(t.grad[hidden]))
        assert (t.grad[~hidden] != 0).any()


@every_weighting
def test_positions_pick_rows_of_the_whole(generator, path, weigh) -> None:
    q, k, v, terms = draw(generator, 40, (True, True, True))
    rows = torch.tensor([39, 0, 7, 7, 21])
    part = attention(weigh, q[:, :, rows], k, v, **{**terms, "bias": terms["bias"][:, rows], "positions": rows})
    torch.testing.assert_close(attention(weigh, q, k, v, **terms)[:, :, rows], part, atol=1e-12, rtol=1e-12)


@every_weighting
@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5)], ids=["batch", "head", "length"])
def test_empty_inputs_give_empty_outputs(weigh, shape) -> None:
    q = torch.zeros(shape)
    assert attention(weigh, q, q, q, causal=True).shape == shape
    assert row_entropy(weigh, q, q, causal=True).shape == shape[:3]


@every_weighting
def test_strides_do_not_matter(generator, path, weigh) -> None:
    q, k, v, terms = draw(generator, 40, (True, True, True))
    strided = (
        q.mT.contiguous().mT,
        k.transpose(1, 2).contiguous().transpose(1, 2),
        v.repeat_interleave(2, -1)[..., ::2],
    )
    torch.testing.assert_close(
        attention(weigh, *strided, **terms), attention(weigh, q, k, v, **terms), atol=1e-12, rtol=1e-12
    )


def test_sigmoid_tiles_may_come_in_any_order(generator) -> None:
    q, k, v, terms = draw(generator, 37, (True, True, True))
    transform, z = score_transform(q, k, **terms), torch.zeros_like(v)
    pieces = [
        (tiles.Tile(slice(0, 2), slice(0, 3), slice(r, min(r + 5, 37))), slice(c, min(c + 7, 37)))
        for r in range(0, 37, 5)
        for c in range(0, 37, 7)
    ]
    for i in torch.randperm(len(pieces), generator=generator).tolist():
        tile, keys = pieces[i]
        s = tiles.scores(q, k, tile, keys, transform)
        z[tile] += sigmoid_attention.weights(s, -2.0) @ v[tile.batch, tile.head, keys]
    torch.testing.assert_close(z, sigmoid_attention.reference(q, k, v, transform, -2.0), atol=1e-12, rtol=1e-12)


@every_weighting
def test_tiles_differentiate_once_and_say_so(generator, monkeypatch, weigh) -> None:
    q, k, v, terms = draw(generator, 4, (False, False, False), batch=1, head=1, d_head=2)
    q.requires_grad_()
    monkeypatch.setattr(function, "WHOLE_SCORES", 0)
    (slope,) = torch.autograd.grad(attention(weigh, q, k, v, **terms).square().sum(), q, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        slope.sum().backward()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"p": 3}, "p must be an even positive whole number, got 3"),
        ({"p": 0}, "p must be an even positive whole number, got 0"),
        ({"epsilon": -1e-3}, "epsilon must be a finite number of at least 0, got -0.001"),
        ({"delta": math.inf}, "delta must be a finite number of at least 0, got inf"),
        ({"form": "median"}, "form must be 'max' or 'mean', got 'median'"),
    ],
)
@pytest.mark.usefixtures("untyped")
def test_bad_options_are_refused_in_one_sentence(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        PowerSoftmax(**options)


def test_a_logit_bias_must_be_finite() -> None:
    q = torch.zeros(1, 1, 2, 3)
    with pytest.raises(ValueError, match="b must be a finite number, got -inf"):
        sigmoid_attention.attention(q, q, q, b=-math.inf)
