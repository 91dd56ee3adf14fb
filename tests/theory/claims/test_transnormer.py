"""TransNormer (Qin et al. 2022): its checks on the zoo's own mixers, its published size, and its claim."""

import pytest
import torch
import torch.nn.functional as F

from microtome.lab import zoo
from microtome.lab.tasks.source_text import SourceText, characters
from microtome.lab.zoo import transnormer
from microtome.lab.zoo.mixers import norm_attention
from microtome.lab.zoo.mixers._lrpe import Lrpe
from microtome.lab.zoo.norms.simple_rmsnorm import SimpleRMSNorm, simple_rms
from microtome.theory import claims

SIZES = {"d_vocab": 11, "position": "none", "d_model": 16, "n_heads": 2, "n_layers": 1, "n_ctx": 200}


def model(mixer, causal=True, **options):
    return zoo.sequence(mixer={"name": mixer, **options}, causal=causal, **SIZES).double()


def outputs(built, tokens, mask=None):
    """z of each head before the root mean square, and what the mixer writes."""
    cache = built.run_with_cache(tokens, mask=mask)[1]
    return cache["z", 0].transpose(1, 2), cache["attn_out", 0]


def mapped(built, tokens, activation):
    """Queries and keys of each head after activation and LRPE, and values."""
    cache = built.run_with_cache(tokens)[1]
    q, k, v = (cache[name, 0].transpose(1, 2) for name in "qkv")
    at = torch.arange(tokens.shape[1])
    return built.blocks[0].attn.lrpe(activation(q), at), built.blocks[0].attn.lrpe(activation(k), at), v


@pytest.fixture
def tokens(generator):
    return torch.randint(11, (2, 150), generator=generator)


@pytest.mark.parametrize(("kind", "activation"), [("t1", F.elu), ("t2", lambda x: 1 + F.elu(x))])
def test_causal_norm_attention_is_a_running_state_and_a_root_mean_square(tokens, kind, activation):
    built = model("norm_attention", kind=kind)
    q, k, v = mapped(built, tokens, activation)
    state, rows = torch.zeros(2, 2, 8, 8, dtype=torch.float64), []
    for t in range(tokens.shape[1]):
        state = state + k[:, :, t, :, None] * v[:, :, t, None, :]
        rows.append((q[:, :, t, None] @ state)[:, :, 0])
    z, out = outputs(built, tokens)
    summed = torch.stack(rows, 2)
    torch.testing.assert_close(z, summed, atol=1e-10, rtol=1e-10)
    together = summed.transpose(1, 2).flatten(2)  # one root mean square over both heads
    root = together.square().mean(-1, keepdim=True).sqrt()
    torch.testing.assert_close(out, built.blocks[0].attn.o(together / (root + 1e-8)))


def test_bidirectional_norm_attention_has_no_denominator_either(tokens):
    built = model("norm_attention", causal=False)
    q, k, v = mapped(built, tokens, F.elu)
    torch.testing.assert_close(outputs(built, tokens)[0], q @ (k.mT @ v))


def test_the_length_of_the_activated_query_does_not_matter(tokens, monkeypatch):
    """RMS forgets the length, up to its 1e-8, whatever all heads' queries are multiplied by."""
    built = model("norm_attention")
    before = outputs(built, tokens)[1]
    plain = norm_attention.NormAttention._heads

    def scaled(self, x, context):
        q, k, v = plain(self, x, context)
        return 7.5 * q, k, v

    monkeypatch.setattr(norm_attention.NormAttention, "_heads", scaled)
    torch.testing.assert_close(outputs(built, tokens)[1], before, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("kind", ["t1", "t2"])
@pytest.mark.parametrize("causal", [True, False])
def test_a_block_hears_of_itself_only(tokens, kind, causal):
    built = model("diag_attention", causal, kind=kind, block=16)
    changed = tokens.clone()
    changed[:, 32:48] = (changed[:, 32:48] + 1) % 11
    different = (outputs(built, tokens)[1] - outputs(built, changed)[1]).abs().amax((0, 2)) > 1e-9
    assert different[32:48].all()
    assert not different[:32].any()
    assert not different[48:].any()


@pytest.mark.parametrize("n", [150, 7])
@pytest.mark.parametrize("causal", [True, False])
def test_local_rows_of_t2_sum_to_one_and_filling_takes_nothing(tokens, n, causal):
    built = model("diag_attention", causal, kind="t2", block=16)
    (effective,) = built.effective_attention(tokens[:, :n])
    torch.testing.assert_close(effective.matrix.sum(-1), torch.ones(2, 2, n, dtype=torch.float64))
    z = outputs(built, tokens[:, :n])[0]
    torch.testing.assert_close(z, effective.matrix @ effective.values)


@pytest.mark.parametrize("kind", ["t1", "t2"])
def test_a_block_is_ordinary_attention_of_queries_and_keys_with_lrpe(tokens, kind):
    built = model("diag_attention", kind=kind, block=16)
    q, k, v = mapped(built, tokens[:, :16], lambda x: x)
    if kind == "t2":
        wanted = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    else:
        wanted = (q @ k.mT * 8**-0.5).relu().tril() @ v
    # The second block has the same tokens, and its positions begin at 0 again.
    z, _ = outputs(built, tokens[:, :16].repeat(1, 2))
    torch.testing.assert_close(z[:, :, :16], wanted)
    torch.testing.assert_close(z[:, :, 16:], wanted)


def test_lrpe_keeps_lengths_and_sees_differences_of_positions(generator):
    with torch.random.fork_rng(devices=[]):
        lrpe = Lrpe(8).double()
    with torch.no_grad():
        lrpe.theta += 0.1 * torch.rand(4, generator=generator)
    x = torch.randn(50, 8, generator=generator, dtype=torch.float64)
    at = torch.arange(50)
    torch.testing.assert_close(lrpe(x, at).norm(dim=-1), x.norm(dim=-1))
    q, k = torch.randn(2, 8, generator=generator, dtype=torch.float64)
    products = lrpe(q.expand(50, 8), at) @ lrpe(k.expand(50, 8), at).mT
    for offset in (-20, -1, 0, 3, 40):
        on = products.diagonal(offset)
        torch.testing.assert_close(on, on[:1].expand_as(on))
    assert (products[0, 1:] - products[0, :1]).abs().max() > 1e-3
    assert lrpe.u.norm().item() == pytest.approx(1.0)
    assert [name for name, _ in lrpe.named_parameters()] == ["theta"]


def test_the_norm_owns_no_parameters_and_has_its_constant_outside_the_root(generator):
    built = zoo.build("transnormer", "t2", d_vocab=20, d_model=16, n_heads=2, n_layers=2, n_ctx=32)
    norms = [module for module in built.modules() if isinstance(module, SimpleRMSNorm)]
    assert len(norms) == 5
    assert not any(list(norm.parameters()) for norm in norms)
    x = torch.randn(3, 16, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(simple_rms(x), F.rms_norm(x, (16,), eps=1e-12), atol=1e-6, rtol=0)
    assert simple_rms(torch.zeros(1, 16)).abs().max() == 0
    tiny = 1e-8 * torch.ones(1, 16, dtype=torch.float64)
    torch.testing.assert_close(simple_rms(tiny), 0.5 * torch.ones(1, 16, dtype=torch.float64))


@pytest.mark.parametrize("kind", ["t1", "t2"])
def test_the_published_size(kind):
    built = zoo.build("transnormer", kind, d_vocab=8)
    inside = sum(p.numel() for block in built.blocks for p in block.parameters() if p.requires_grad)
    assert inside == 18_903_228
    assert sum(p.numel() for p in built.ln_final.parameters()) == 0
    assert [m.__class__.__name__ for m in built.mixers()] == ["DiagAttention"] * 3 + ["NormAttention"] * 3
    assert sum(p.numel() for p in built.blocks[0].attn.parameters()) == 1_050_656
    assert sum(p.numel() for p in built.blocks[5].mlp.parameters()) == 2_099_882
    assert {m.kind for m in built.mixers()} == {kind}


def test_the_gate_is_a_swish_or_nothing(generator):
    x = torch.randn(1, 3, 16, generator=generator)
    for gate, act in (("swish", F.silu), ("identity", lambda t: t)):
        sizes = {"d_model": 16, "n_heads": 2, "n_layers": 2, "n_ctx": 32}
        mlp = transnormer.language_model("t1", gate=gate, d_vocab=20, **sizes).blocks[0].mlp
        torch.testing.assert_close(mlp(x), mlp.out(act(mlp.gate(x)) * mlp.in_(x)))
        assert mlp.d_mlp == 42


def test_unknown_kinds_gates_and_widths_are_refused(untyped):
    with pytest.raises(ValueError, match="kind is one of t1, t2, not 't3'"):
        model("norm_attention", kind="t3")
    with pytest.raises(ValueError, match="a block has at least 1 position, not 0"):
        model("diag_attention", block=0)
    with pytest.raises(ValueError, match="the head's width 3 must be even"):
        zoo.sequence(mixer="norm_attention", **{**SIZES, "d_model": 6})
    with pytest.raises(ValueError, match="activation is one of swish, identity, not 'relu'"):
        zoo.sequence(feedforward={"name": "glu", "gate": "relu"}, **SIZES)


def test_the_task_reads_windows_of_the_library_s_sources(generator):
    batch = SourceText(40).sample(5, generator)
    assert torch.equal(batch.tokens[:, 1:], batch.targets[:, :-1])
    text = bytes(characters().tolist())
    assert all(bytes(row.tolist()) in text for row in batch.tokens)
    assert b"def " in text
    assert int(characters().max()) < 128


def test_at_the_quick_budget_all_but_the_untrained_dilution_holds():
    evidence = claims.load("transnormer").run(budget="quick", seed=0)
    *proofs, dilution = evidence.parts
    assert {part.verdict for part in proofs} == {"holds"}, evidence.to_json()
    assert dilution.verdict == evidence.verdict == "inconclusive"
    evidence.figure()


@pytest.mark.slow
def test_the_claim_holds_at_the_full_budget():
    evidence = claims.load("transnormer").run(budget="full", seed=0)
    assert evidence.verdict == "holds", evidence.to_json()
    evidence.figure()
