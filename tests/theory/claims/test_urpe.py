"""URPE (Luo et al. 2022): its checks on the zoo's own model, and its claim."""

import pytest
import torch
import torch.nn.functional as F

from microtome.lab import zoo
from microtome.theory import claims

SIZES = {"d_vocab": 16, "d_model": 32, "n_heads": 4, "n_layers": 2, "n_ctx": 8, "causal": False}


def model(mixer="urpe", **sizes):
    built = zoo.sequence(mixer=mixer, position="relative", **{**SIZES, **sizes}).double()
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        built.pos_embed.weight.normal_(0, 1, generator=generator)
    return built


def factor(built, values):
    with torch.no_grad():
        built.shared_mixer.weight.copy_(values)
    return built


@pytest.fixture
def tokens(generator):
    return torch.randint(16, (3, 8), generator=generator)


@pytest.mark.parametrize("causal", [True, False])
def test_a_factor_of_one_is_relative_attention(tokens, causal):
    urpe, plain = model(causal=causal), model("softmax", causal=causal)
    torch.testing.assert_close(urpe(tokens), plain(tokens), atol=1e-6, rtol=0)
    _, cache = urpe.run_with_cache(tokens)
    q, k, v = (cache[name, 0].transpose(1, 2) for name in "qkv")
    bias = urpe.pos_embed.bias(torch.arange(8), 8)
    if causal:
        bias = bias.masked_fill(torch.ones(8, 8, dtype=torch.bool).triu(1), -torch.inf)
    wanted = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    torch.testing.assert_close(cache["z", 0].transpose(1, 2), wanted, atol=1e-6, rtol=0)


def test_zero_queries_and_a_step_factor_give_row_sums_i_over_n_exactly(tokens):
    urpe = model()
    offsets = torch.arange(-7, 8)
    factor(urpe, (offsets <= 0).double().expand(4, -1))
    with torch.no_grad():
        urpe.pos_embed.weight.zero_()
        for block in urpe.blocks:
            block.attn.q.weight.zero_()
            block.attn.q.bias.zero_()
    for effective in urpe.effective_attention(tokens):
        wanted = (torch.arange(1, 9).double() / 8).expand(3, 4, 8)
        assert torch.equal(effective.matrix.sum(-1), wanted)


def test_the_factor_s_gradient_sums_along_diagonals(tokens, generator):
    urpe = model(n_layers=1)
    factor(urpe, torch.randn(4, 15, generator=generator, dtype=torch.float64))
    kept = {}

    def keep(pattern, hook):
        kept["A"] = pattern.detach()

    upstream = torch.randn(3, 8, 4, 8, generator=generator, dtype=torch.float64)
    values = {}
    hooks = [
        ("blocks.0.attn.hook_pattern", keep),
        ("blocks.0.attn.hook_v", lambda t, hook: values.update(v=t.detach().transpose(1, 2))),
        ("blocks.0.attn.hook_z", lambda t, hook: values.update(z=t)),
    ]
    urpe.run_with_hooks(tokens, fwd_hooks=hooks)
    (values["z"] * upstream).sum().backward()
    d_effective = upstream.transpose(1, 2) @ values["v"].mT
    per_entry = (kept["A"] * d_effective).sum(0)
    wanted = torch.stack([per_entry.diagonal(delta, -2, -1).sum(-1) for delta in range(-7, 8)], dim=-1)
    torch.testing.assert_close(urpe.shared_mixer.weight.grad, wanted, atol=1e-10, rtol=1e-8)


def test_inside_a_window_the_effective_pattern_depends_on_offsets_only(generator):
    """With one token everywhere and a bias that shuts all but near offsets, interior rows are shifts of each other."""
    urpe = model(n_ctx=24)
    factor(urpe, torch.randn(4, 47, generator=generator, dtype=torch.float64))
    offsets = torch.arange(-23, 24)
    with torch.no_grad():
        urpe.pos_embed.weight[:, offsets.abs() > 3] = -1e9
    (first, _) = urpe.effective_attention(torch.full((1, 24), 5))
    rows = torch.stack([first.matrix[0, :, i, i - 3 : i + 4] for i in range(3, 21)])
    torch.testing.assert_close(rows, rows[:1].expand_as(rows), atol=1e-12, rtol=0)
    assert rows[0].std() > 0.05


def test_extra_parameters_do_not_depend_on_depth():
    for n_layers in (1, 2, 5):
        extra = sum(p.numel() for p in model(n_layers=n_layers).parameters()) - sum(
            p.numel() for p in model("softmax", n_layers=n_layers).parameters()
        )
        assert extra == (2 * 8 - 1) * 4
    assert (2 * 16 - 1) * 4 == 124, "n = 16 with 4 heads"


@pytest.mark.parametrize("n_layers", range(1, 7))
def test_on_constant_inputs_rows_stay_together_without_the_factor_and_part_with_it(n_layers, generator):
    constant = torch.full((1, 8), 3)
    for mixer, causal in (("softmax", False), ("softmax", True), ("urpe", False)):
        built = model(mixer, n_layers=n_layers, causal=causal)
        if mixer == "urpe":
            factor(built, torch.randn(4, 15, generator=generator, dtype=torch.float64))
        rows = built(constant)[0]
        spread = (rows - rows[:1]).abs().max().item()
        assert spread <= 1e-5 if mixer == "softmax" else spread > 1e-2


def test_padding_is_not_weighed_by_the_factor(tokens, generator):
    urpe = model()
    factor(urpe, torch.randn(4, 15, generator=generator, dtype=torch.float64))
    mask = torch.ones(3, 8, dtype=torch.bool)
    mask[:, 5:] = False
    _, cache = urpe.run_with_cache(tokens, mask=mask, names_filter="blocks.0.attn.hook_effective_pattern")
    assert (cache["blocks.0.attn.hook_effective_pattern"][..., 5:] == 0).all()


def test_the_claim_holds_at_the_quick_budget():
    evidence = claims.load("urpe").run(budget="quick", seed=0)
    assert evidence.verdict == "holds", evidence.to_json()


@pytest.mark.slow
def test_the_claim_holds_at_the_full_budget():
    evidence = claims.load("urpe").run(budget="full", seed=0)
    assert evidence.verdict == "holds", evidence.to_json()
