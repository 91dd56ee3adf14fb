"""What the URPE statements (Luo et al. 2022) rest on: the functional layers, and the symbolic steps one by one."""

from fractions import Fraction

import pytest
import sympy as sp
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from microtome.theory.constructions.urpe import attention, pattern, random_layer, row_spread, toeplitz, transformer
from microtome.theory.statements import urpe_numeric, urpe_symbolic

HEADS, WIDTH = 2, 8


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def layers(depth, seed=5):
    generator = torch.Generator().manual_seed(seed)
    return tuple(random_layer(WIDTH, HEADS, (), generator) for _ in range(depth))


def by_offset(n, seed):
    return normal(HEADS, 2 * n - 1, seed=seed)


@given(n=st.integers(1, 9), seed=st.integers(0, 2**31))
@settings(max_examples=25)
def test_toeplitz_puts_each_offset_on_its_diagonal(n, seed):
    c = by_offset(n, seed)
    C = toeplitz(c)
    assert C.shape == (HEADS, n, n)
    for i in range(n):
        for j in range(n):
            assert torch.equal(C[:, i, j], c[:, j - i + n - 1])


def test_toeplitz_wants_an_odd_number_of_offsets():
    with pytest.raises(ValueError, match="odd number 2n-1 of offsets; got 4"):
        toeplitz(torch.zeros(2, 4))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("n", [1, 2, 7])
def test_a_factor_of_one_is_plain_attention_and_torch_s_own(causal, n):
    (layer,) = layers(1)
    x, bias = normal(3, n, WIDTH), toeplitz(by_offset(n, 1))
    ones = torch.ones(HEADS, n, n, dtype=torch.float64)
    plain = attention(x, layer, bias, causal=causal)
    torch.testing.assert_close(attention(x, layer, bias, ones, causal), plain, atol=1e-12, rtol=0)
    q, k, v = (x.unsqueeze(1) @ weight for weight in (layer.W_Q, layer.W_K, layer.W_V))
    mask = bias.masked_fill(torch.ones(n, n, dtype=torch.bool).triu(1), -torch.inf) if causal else bias
    torchs = (F.scaled_dot_product_attention(q, k, v, attn_mask=mask) @ layer.W_O).sum(1)
    torch.testing.assert_close(plain, torchs, atol=1e-12, rtol=0)


@pytest.mark.parametrize("window", [1, 3])
def test_in_the_interior_the_output_depends_on_offsets_only(window):
    """Shift the tokens by one: away from the ends, with a causal bias that reaches `window` back, outputs shift too."""
    n, depth = 14, 2
    offsets = torch.arange(-(n - 1), n)
    bias_by_offset = by_offset(n, 1).masked_fill((offsets > 0) | (offsets < -window), -torch.inf)
    bias, factor = toeplitz(bias_by_offset), toeplitz(by_offset(n, 2))
    tokens = normal(n + 1, WIDTH)
    first, second = (transformer(x, layers(depth), bias, factor) for x in (tokens[:-1], tokens[1:]))
    interior = slice(depth * window + 1, n)
    torch.testing.assert_close(first[interior], second[depth * window : n - 1], atol=1e-12, rtol=0)
    assert (first[0] - second[0]).abs().max() > 1e-3


@pytest.mark.parametrize("depth", [1, 2, 4])
@pytest.mark.parametrize("causal", [False, True])
def test_constant_rows_part_only_under_the_factor(depth, causal):
    n = 6
    x = normal(1, WIDTH).expand(n, -1)
    bias, factor = toeplitz(by_offset(n, 1)), toeplitz(by_offset(n, 2))
    assert row_spread(transformer(x, layers(depth), bias, causal=causal)) < 1e-12
    assert row_spread(transformer(x, layers(depth), bias + factor.abs().log(), causal=causal)) < 1e-12
    assert row_spread(transformer(x, layers(depth), bias, factor, causal=causal)) > 1e-2


def test_one_token_has_no_spread():
    assert row_spread(normal(1, WIDTH)) == 0


@pytest.mark.parametrize("n", [1, 3, 64, 100])
def test_row_sums_are_i_over_n(n):
    assert urpe_numeric.row_sums(n) == [Fraction(i, n) for i in range(1, n + 1)]
    wanted = torch.arange(1, n + 1, dtype=torch.float64) / n
    torch.testing.assert_close(urpe_numeric.float_row_sums(n), wanted, atol=1e-14, rtol=0)
    if n == 64:
        assert torch.equal(urpe_numeric.float_row_sums(n), wanted)


@given(n=st.integers(1, 8), seed=st.integers(0, 2**31))
@settings(max_examples=25)
def test_the_factor_s_gradient_sums_along_diagonals(n, seed):
    scores, upstream = normal(HEADS, n, n, seed=seed), normal(HEADS, n, n, seed=seed + 1)
    c = by_offset(n, seed + 2).requires_grad_()
    (pattern(scores, toeplitz(c)) * upstream).sum().backward()
    torch.testing.assert_close(urpe_numeric.diagonal_sums(pattern(scores) * upstream), c.grad, atol=1e-13, rtol=0)


def test_the_lemma_is_for_any_number_of_keys():
    assert urpe_symbolic.softmax_row_sums_to_one()
    assert urpe_symbolic.n.free_symbols == {urpe_symbolic.n}


def test_no_sublayer_s_row_mentions_its_position_unless_the_factor_does():
    C, i = sp.IndexedBase("C"), urpe_symbolic.i
    assert all(i not in row.free_symbols for row in urpe_symbolic.rows_after_layer(lambda h, t, key: sp.Integer(1)))
    with_factor = urpe_symbolic.rows_after_layer(lambda h, t, key: C[h, key - t])
    assert all(i in row.free_symbols for row in with_factor)


def test_the_symbolic_layer_is_the_numeric_one():
    """The expression that the proof is about, with numbers put in, is what the float64 layer computes."""
    n, d, d_head, heads = 3, 2, 2, 1
    layer = random_layer(d, heads, (), torch.Generator().manual_seed(3))
    u, v = normal(d, seed=1), normal(d, seed=2)
    after_attention = urpe_symbolic.rows_after_layer(lambda h, t, key: sp.Integer(1))[0]
    sizes = {urpe_symbolic.d: d, urpe_symbolic.d_head: d_head, urpe_symbolic.heads: heads}
    expression = after_attention.subs(sizes).doit()
    values = {sp.IndexedBase("u")[f + 1]: u[f].item() for f in range(d)}
    values |= {sp.IndexedBase("v")[f + 1]: v[f].item() for f in range(d)}
    for a in range(d):
        for b in range(d_head):
            values[sp.IndexedBase("W_V")[1, a + 1, b + 1]] = layer.W_V[0, a, b].item()
            values[sp.IndexedBase("W_O")[1, b + 1, a + 1]] = layer.W_O[0, b, a].item()
    g = sp.Symbol("g", integer=True, positive=True)
    symbolic = [float(expression.subs(g, coordinate + 1).subs(values)) for coordinate in range(d)]
    numeric = u + attention(v.expand(n, -1), layer, normal(heads, n, n, seed=4))[0]
    torch.testing.assert_close(torch.tensor(symbolic, dtype=torch.float64), numeric, atol=1e-12, rtol=0)


@pytest.mark.parametrize("size", [2, 3, 4])
def test_explicit_matrices_sum_to_one_until_the_factor_multiplies_them(size):
    for causal in (False, True):
        assert urpe_symbolic.rows_not_summing_to_one(urpe_symbolic.explicit_pattern(size, causal=causal)) == 0
    C = urpe_symbolic.symbolic_toeplitz(size)
    multiplied = urpe_symbolic.explicit_pattern(size).multiply_elementwise(C)
    assert urpe_symbolic.rows_not_summing_to_one(multiplied) == size
    constant = urpe_symbolic.explicit_pattern(size).multiply_elementwise(sp.ones(size, size))
    assert urpe_symbolic.rows_not_summing_to_one(constant) == 0
