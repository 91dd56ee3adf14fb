"""Softmax attention: torch's fused path, the whole path and the tiles against the equation."""

import itertools

import pytest
import torch

from microtome.kernels import softmax
from microtome.kernels.scores import tiles, transform
from microtome.kernels.softmax import dispatch, fused

SIZES = (1, 2, 63, 100, 257)
TRANSFORMS = tuple(itertools.product((False, True), repeat=4))
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5, torch.bfloat16: 3e-2}


def name(flags) -> str:
    return "-".join(n for n, on in zip(("causal", "mask", "bias", "factor"), flags, strict=True) if on) or "plain"


def draw(generator, n, flags, dtype=torch.float64, batch=2, head=3, d_head=5, keys=None):
    """Random q, k, v with the keyword arguments of one transform."""
    causal, mask, bias, factor = flags
    keys = n if keys is None else keys

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    q, k, v = normal(batch, head, n, d_head), normal(batch, head, keys, d_head), normal(batch, head, keys, d_head)
    terms = {
        "causal": causal,
        "mask": torch.rand(batch, keys, generator=generator) > 0.4 if mask else None,
        "bias": normal(1, n, keys) if bias else None,
        "factor": normal(head, n, keys) if factor else None,
    }
    return q, k, v, terms


def without_factor(terms: dict) -> dict:
    return {key: value for key, value in terms.items() if key != "factor"}


def expected(q, k, v, terms):
    """z, entropy and lse by the equation, in float64."""
    wide = {key: t.double() if key in ("bias", "factor") and t is not None else t for key, t in terms.items()}
    q, k, v = q.double(), k.double(), v.double()
    return softmax.reference(q, k, v, softmax.score_transform(q, k, **wide))


@pytest.fixture(params=["whole", "tiles"])
def path(request, monkeypatch) -> str:
    """Either path on problems of test size; tiles, without fused passes, cut so far below it that every seam is met."""
    monkeypatch.setattr(dispatch, "WHOLE_SCORES", 1 << 40 if request.param == "whole" else 0)
    monkeypatch.setattr(tiles, "TILE_ELEMENTS", 3000)
    if request.param == "tiles":
        monkeypatch.setattr(fused, "_OPERATOR", None)
    return request.param


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("flags", TRANSFORMS, ids=name)
def test_every_path_gives_the_equations_z_entropy_and_lse(generator, path, flags, n, dtype) -> None:
    q, k, v, terms = draw(generator, n, flags, dtype)
    z, entropy, lse = expected(q, k, v, terms)
    close = {"atol": TOLERANCE[dtype], "rtol": TOLERANCE[dtype]}
    torch.testing.assert_close(softmax.attention(q, k, v, **terms).double(), z, **close)
    found = softmax.attention_with_entropy(q, k, v, **terms)
    assert found[0].dtype == dtype
    assert found[1].dtype == found[2].dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    for got, want in zip(found, (z, entropy, lse), strict=True):
        torch.testing.assert_close(got.double(), want, **close)
    torch.testing.assert_close(softmax.row_entropy(q, k, **without_factor(terms)).double(), entropy, **close)
    torch.testing.assert_close(softmax.log_normaliser(q, k, **without_factor(terms)).double(), lse, **close)


@pytest.mark.parametrize("flags", TRANSFORMS, ids=name)
def test_gradients_of_every_input_are_the_equations(generator, path, flags) -> None:
    q, k, v, terms = draw(generator, 63, flags)
    inputs = [t for t in (q, k, v, terms["bias"], terms["factor"]) if t is not None]
    for t in inputs:
        t.requires_grad_()
    weights = [torch.randn(2, 3, 63, *more, generator=generator, dtype=torch.float64) for more in ((5,), (), ())]

    def gradients(outputs):
        # lse is −∞ where a row has no key, which no loss can use.
        loss = sum((o.masked_fill(o == -torch.inf, 0.0) * w).sum() for o, w in zip(outputs, weights, strict=False))
        return torch.autograd.grad(loss, inputs)

    pairs = (
        (gradients([softmax.attention(q, k, v, **terms)]), gradients([expected(q, k, v, terms)[0]])),
        (gradients(softmax.attention_with_entropy(q, k, v, **terms)), gradients(expected(q, k, v, terms))),
    )
    for found, wanted in pairs:
        for got, want in zip(found, wanted, strict=True):
            torch.testing.assert_close(got, want, atol=1e-11, rtol=1e-10)


@pytest.mark.parametrize("flags", TRANSFORMS, ids=name)
def test_gradcheck(generator, monkeypatch, flags) -> None:
    monkeypatch.setattr(tiles, "TILE_ELEMENTS", 8)
    monkeypatch.setattr(fused, "_OPERATOR", None)
    q, k, v, terms = draw(generator, 4, flags, batch=1, head=2, d_head=2)
    # Masks that leave every row a key: finite differences need a finite lse.
    terms["mask"] = None if terms["mask"] is None else torch.tensor([[True, False, True, False]])
    tables = {key: terms[key] for key in ("bias", "factor") if terms[key] is not None}
    inputs = [t.requires_grad_() for t in (q, k, v, *tables.values())]

    def call(q, k, v, *given):
        return softmax.attention_with_entropy(q, k, v, **{**terms, **dict(zip(tables, given, strict=True))})

    assert torch.autograd.gradcheck(call, inputs)


@pytest.mark.parametrize("flags", TRANSFORMS, ids=name)
def test_entropy_and_normaliser_carry_gradients_on_their_own(generator, flags) -> None:
    q, k, v, terms = draw(generator, 20, flags)
    q.requires_grad_(), k.requires_grad_()
    want_entropy, want_lse = expected(q, k, v, terms)[1:]
    found = (softmax.row_entropy(q, k, **without_factor(terms)), softmax.log_normaliser(q, k, **without_factor(terms)))
    for got, want in zip(found, (want_entropy, want_lse), strict=True):
        finite = want != -torch.inf
        wanted = torch.autograd.grad(want[finite].sum(), (q, k), retain_graph=True)
        for a, b in zip(torch.autograd.grad(got[finite].sum(), (q, k)), wanted, strict=True):
            torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("flags", TRANSFORMS, ids=name)
def test_strides_do_not_matter(generator, path, flags, dtype) -> None:
    q, k, v, terms = draw(generator, 40, flags, dtype)
    # Features laid out first, heads beside positions, every second of a longer row: as callers slice them.
    strided = (
        q.mT.contiguous().mT,
        k.transpose(1, 2).contiguous().transpose(1, 2),
        v.repeat_interleave(2, -1)[..., ::2],
    )
    assert not any(t.is_contiguous() for t in strided)
    tables = {
        key: t.mT.contiguous().mT if key in ("bias", "factor") and t is not None else t for key, t in terms.items()
    }
    for got, want in zip(
        (softmax.attention(*strided, **tables), *softmax.attention_with_entropy(*strided, **tables)),
        (softmax.attention(q, k, v, **terms), *softmax.attention_with_entropy(q, k, v, **terms)),
        strict=True,
    ):
        torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)
    terms, tables = without_factor(terms), without_factor(tables)
    for a, b in ((strided[0], strided[1]), (strided[1], strided[0]), (q, strided[0])):
        torch.testing.assert_close(
            softmax.row_entropy(a, b, **tables),
            softmax.row_entropy(a.contiguous(), b.contiguous(), **terms),
            atol=1e-5,
            rtol=1e-5,
        )


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5)], ids=["batch", "head", "length"])
@pytest.mark.parametrize("flags", TRANSFORMS, ids=name)
def test_empty_inputs_give_empty_outputs(generator, flags, shape) -> None:
    batch, head, n, d_head = shape
    q, k, v, terms = draw(generator, n, flags, torch.float32, batch, head, d_head)
    if head == 0 and flags[3]:
        terms["factor"] = None
    assert softmax.attention(q, k, v, **terms).shape == shape
    for out in softmax.attention_with_entropy(q, k, v, **terms):
        assert out.shape[:3] == shape[:3]
    assert softmax.row_entropy(q, k, **without_factor(terms)).shape == shape[:3]
    assert softmax.log_normaliser(q, k, **without_factor(terms)).shape == shape[:3]


def test_queries_without_any_key_give_zero(generator) -> None:
    q = torch.randn(2, 3, 4, 5, generator=generator)
    k = q[:, :, :0]
    z, entropy, lse = softmax.attention_with_entropy(q, k, k)
    assert torch.equal(z, torch.zeros_like(q))
    assert torch.equal(entropy, torch.zeros(2, 3, 4))
    assert torch.equal(lse, torch.full((2, 3, 4), -torch.inf))


@pytest.mark.parametrize("blocked", ["mask", "bias"])
@pytest.mark.parametrize("with_factor", [False, True], ids=["plain", "factor"])
@pytest.mark.parametrize("causal", [False, True], ids=["bidirectional", "causal"])
def test_rows_that_may_attend_to_nothing_are_zero_and_finite(generator, path, causal, with_factor, blocked) -> None:
    q, k, v, terms = draw(generator, 12, (causal, True, True, with_factor))
    nowhere = torch.zeros(2, 12, dtype=torch.bool)
    if blocked == "mask":
        terms["mask"] = torch.tensor([[False] * 12, [False] * 3 + [True] * 9])
        terms["bias"] = None
        nowhere[0], nowhere[1, :3] = True, causal
    else:
        terms["mask"] = None
        terms["bias"][:, 4] = -torch.inf
        nowhere[:, 4] = True
    for t in (q, k, v):
        t.requires_grad_()
    z = softmax.attention(q, k, v, **terms)
    out, entropy, lse = softmax.attention_with_entropy(q, k, v, **terms)
    read = softmax.row_entropy(q, k, **without_factor(terms))
    for zeros in (z, out, entropy, read):
        rows = zeros.transpose(1, 2)[nowhere]
        assert torch.equal(rows, torch.zeros_like(rows))
    assert torch.equal((lse == -torch.inf).all(1), nowhere)
    (z.sum() + out.sum() + entropy.sum() + read.sum()).backward()
    assert all(t.grad.isfinite().all() for t in (q, k, v))


@pytest.mark.parametrize("with_factor", [False, True], ids=["plain", "factor"])
def test_causal_rows_do_not_see_the_future(generator, path, with_factor) -> None:
    q, k, v, terms = draw(generator, 50, (True, True, True, with_factor))
    seen = 23
    before = (softmax.attention(q, k, v, **terms), *softmax.attention_with_entropy(q, k, v, **terms))
    entropy = softmax.row_entropy(q, k, causal=True, mask=terms["mask"])
    for t in (k, v):
        t[:, :, seen:] += torch.randn(2, 3, 50 - seen, 5, generator=generator, dtype=torch.float64)
    terms["bias"][..., seen:] += 1.0
    after = (softmax.attention(q, k, v, **terms), *softmax.attention_with_entropy(q, k, v, **terms))
    for a, b in zip(before, after, strict=True):
        torch.testing.assert_close(a[:, :, :seen], b[:, :, :seen], atol=1e-13, rtol=1e-13)
        assert not torch.allclose(a[:, :, seen:], b[:, :, seen:])
    again = softmax.row_entropy(q, k, causal=True, mask=terms["mask"])
    torch.testing.assert_close(again[:, :, :seen], entropy[:, :, :seen], atol=1e-13, rtol=1e-13)


@pytest.mark.parametrize("flags", [f for f in TRANSFORMS if f[1]], ids=name)
def test_masked_keys_are_not_seen(generator, path, flags) -> None:
    q, k, v, terms = draw(generator, 30, flags)
    masked = ~terms["mask"][:, None, :, None]
    before = (*softmax.attention_with_entropy(q, k, v, **terms), softmax.row_entropy(q, k, **without_factor(terms)))
    first = softmax.attention(q, k, v, **terms)
    k, v = (torch.where(masked, t + 7.0, t) for t in (k, v))
    after = (*softmax.attention_with_entropy(q, k, v, **terms), softmax.row_entropy(q, k, **without_factor(terms)))
    for a, b in zip(before, after, strict=True):
        torch.testing.assert_close(a, b, atol=1e-13, rtol=1e-13)
    torch.testing.assert_close(first, softmax.attention(q, k, v, **terms), atol=1e-13, rtol=1e-13)


@pytest.mark.parametrize("flags", [f for f in TRANSFORMS if f[0]], ids=name)
def test_positions_pick_rows_of_the_whole(generator, path, flags) -> None:
    q, k, v, terms = draw(generator, 40, flags)
    rows = torch.tensor([39, 0, 7, 7, 21])
    some = {key: t[:, rows] if key in ("bias", "factor") and t is not None else t for key, t in terms.items()}
    some["positions"] = rows
    whole = (softmax.attention(q, k, v, **terms), *softmax.attention_with_entropy(q, k, v, **terms))
    part = (
        softmax.attention(q[:, :, rows], k, v, **some),
        *softmax.attention_with_entropy(q[:, :, rows], k, v, **some),
    )
    for a, b in zip(whole, part, strict=True):
        torch.testing.assert_close(a[:, :, rows], b, atol=1e-12, rtol=1e-12)


def test_bidirectional_attention_takes_fewer_queries_than_keys(generator, path) -> None:
    q, k, v, terms = draw(generator, 9, (False, True, True, True), keys=31)
    for got, want in zip(softmax.attention_with_entropy(q, k, v, **terms), expected(q, k, v, terms), strict=True):
        torch.testing.assert_close(got, want, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("scale", [0.0, -0.7, 3.0])
@pytest.mark.parametrize("flags", TRANSFORMS, ids=name)
def test_any_finite_scale(generator, path, flags, scale) -> None:
    q, k, v, terms = draw(generator, 20, flags)
    terms["scale"] = scale
    z, entropy, _ = expected(q, k, v, terms)
    torch.testing.assert_close(softmax.attention(q, k, v, **terms), z, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(softmax.attention_with_entropy(q, k, v, **terms)[1], entropy, atol=1e-12, rtol=1e-12)
    found = softmax.row_entropy(q, k, **without_factor(terms))
    torch.testing.assert_close(found, entropy, atol=1e-12, rtol=1e-12)


def test_a_factor_of_one_changes_nothing(generator, path) -> None:
    q, k, v, terms = draw(generator, 33, (False, False, True, False), torch.float32)
    ones = torch.ones(3, 33, 33)
    fused = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=terms["bias"][None])
    torch.testing.assert_close(softmax.attention(q, k, v, **{**terms, "factor": ones}), fused, atol=1e-6, rtol=1e-6)


def test_tiles_cover_every_score_once() -> None:
    for shape in ((1, 1, 1, 1), (3, 4, 5, 6), (2, 3, 700, 900), (1, 2, 65, 300_000), (40, 8, 82, 82)):
        count = torch.zeros(shape[:3], dtype=torch.int64)
        for tile in tiles.tiles(*shape):
            count[tile] += 1
            rows = tile.rows.stop - tile.rows.start
            assert count[tile].numel() * shape[3] <= tiles.TILE_ELEMENTS or (count[tile].numel() == rows <= 32)
        assert (count == 1).all(), shape


def test_tiles_leave_autocast_aside(generator, monkeypatch) -> None:
    monkeypatch.setattr(dispatch, "WHOLE_SCORES", 0)
    q, k, v, terms = draw(generator, 20, (True, False, True, True), torch.float32)
    q.requires_grad_()
    want = softmax.attention(q, k, v, **terms)
    (slope,) = torch.autograd.grad(want.sum(), q)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = softmax.attention(q, k, v, **terms)
        (got_slope,) = torch.autograd.grad(got.sum(), q)
    assert torch.equal(got, want)
    assert torch.equal(got_slope, slope)


def test_small_factors_are_twice_differentiable_and_tiles_say_they_are_not(generator, monkeypatch) -> None:
    q, k, v, terms = draw(generator, 4, (False, False, False, True), batch=1, head=1, d_head=2)
    q.requires_grad_()
    assert torch.autograd.gradgradcheck(lambda q: softmax.attention(q, k, v, **terms), (q,), (torch.ones_like(q),))
    monkeypatch.setattr(dispatch, "WHOLE_SCORES", 0)
    (slope,) = torch.autograd.grad(softmax.attention(q, k, v, **terms).square().sum(), q, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        slope.sum().backward()


def zeros(*shape, dtype=torch.float32):
    return torch.zeros(shape, dtype=dtype)


BAD = {
    "rank": (zeros(2, 3, 4), zeros(1, 2, 3, 4), {}, ValueError, "q must be a floating-point tensor"),
    "integers": (zeros(1, 2, 3, 4, dtype=torch.int64), zeros(1, 2, 3, 4), {}, ValueError, "q must be a floating"),
    "dtypes": (zeros(1, 2, 3, 4), zeros(1, 2, 3, 4, dtype=torch.float64), {}, TypeError, "q and k must share dtype"),
    "heads": (zeros(1, 2, 3, 4), zeros(1, 3, 3, 4), {}, ValueError, "k must share batch, head and d_head"),
    "width": (zeros(1, 2, 3, 4), zeros(1, 2, 3, 5), {}, ValueError, "k must share batch, head and d_head"),
    "no features": (zeros(1, 2, 3, 0), zeros(1, 2, 3, 0), {}, ValueError, "d_head must be at least 1"),
    "scale": (*[zeros(1, 2, 3, 4)] * 2, {"scale": float("nan")}, ValueError, "scale must be a finite number, got nan"),
    "bias": (*[zeros(1, 2, 3, 4)] * 2, {"bias": zeros(3, 3, 3)}, ValueError, r"bias must be .* = \(2, 3, 3\)"),
    "factor": (*[zeros(1, 2, 3, 4)] * 2, {"factor": zeros(2, 3, 4)}, ValueError, "factor must be"),
    "mask dtype": (*[zeros(1, 2, 3, 4)] * 2, {"mask": zeros(1, 3)}, ValueError, "mask must be boolean"),
    "mask shape": (*[zeros(1, 2, 3, 4)] * 2, {"mask": zeros(1, 4).bool()}, ValueError, r"mask must .* = \(1, 3\)"),
    "ragged causal": (zeros(1, 2, 2, 4), zeros(1, 2, 3, 4), {"causal": True}, ValueError, "needs positions"),
    "idle positions": (*[zeros(1, 2, 3, 4)] * 2, {"positions": torch.arange(3)}, ValueError, "without causal=True"),
    "positions shape": (
        *[zeros(1, 2, 3, 4)] * 2,
        {"causal": True, "positions": torch.arange(2)},
        ValueError,
        r"positions must be integers \[query\] = \(3,\)",
    ),
    "positions dtype": (
        *[zeros(1, 2, 3, 4)] * 2,
        {"causal": True, "positions": zeros(3)},
        ValueError,
        "positions must be integers",
    ),
    "positions range": (
        *[zeros(1, 2, 3, 4)] * 2,
        {"causal": True, "positions": torch.tensor([0, 1, 3])},
        ValueError,
        r"positions must lie in \[0, 3\), got 0 to 3",
    ),
}


@pytest.mark.parametrize("case", BAD.values(), ids=BAD)
def test_bad_input_is_refused_in_one_sentence(case) -> None:
    q, k, terms, error, message = case
    with pytest.raises(error, match=message) as raised:
        softmax.score_transform(q, k, **terms)
    assert "\n" not in str(raised.value)


def test_values_must_match_keys() -> None:
    with pytest.raises(ValueError, match="v must have the shape of k"):
        transform.check_values(zeros(1, 2, 3, 4), zeros(1, 2, 4, 4))
    with pytest.raises(TypeError, match="k and v must share dtype"):
        transform.check_values(zeros(1, 2, 3, 4), zeros(1, 2, 3, 4, dtype=torch.float64))
