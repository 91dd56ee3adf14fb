"""Mamba, Mamba-2, retention and Aaren: each against its equations and, where there is one, another implementation."""

import math

import pytest
import torch
import torch.nn.functional as F

from microtome.kernels.scan import ssd
from microtome.lab import zoo
from microtome.lab.zoo import survey_mamba
from microtome.lab.zoo.config import Init

SIZES = {"d_vocab": 11, "d_model": 16, "n_heads": 2, "n_layers": 1, "n_ctx": 64, "position": "none"}


def build(mixer, **sizes):
    return zoo.sequence(mixer=mixer, **{**SIZES, **sizes}).double()


def copy_shared(ours, theirs):
    with torch.no_grad():
        ours.embed.weight.copy_(theirs.backbone.embeddings.weight)
        ours.ln_final.weight.copy_(theirs.backbone.norm_f.weight)
        for block, layer in zip(ours.blocks, theirs.backbone.layers, strict=True):
            block.ln1.weight.copy_(layer.norm.weight)


def scrambled(model, seed=1):
    """Every parameter moved away from ones and zeros, where a mix-up would not show."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    return model.double().eval()


@pytest.fixture
def tokens(generator):
    return torch.randint(11, (2, 37), generator=generator)


@pytest.mark.global_rng
def test_mamba_is_the_one_of_transformers(tokens):
    from transformers import MambaConfig, MambaForCausalLM

    config = MambaConfig(vocab_size=11, hidden_size=16, state_size=5, num_hidden_layers=2, time_step_rank=3)
    theirs = scrambled(MambaForCausalLM(config))
    ours = survey_mamba.language_model(16, 2, d_vocab=11, mixer={"name": "mamba", "d_state": 5, "dt_rank": 3}).double()
    copy_shared(ours, theirs)
    with torch.no_grad():
        for block, layer in zip(ours.blocks, theirs.backbone.layers, strict=True):
            mixing, (branch,), source = block.mixing, block.mixing.branches, layer.mixer
            inputs, gate = source.in_proj.weight.chunk(2)
            mixing.inputs.weight.copy_(inputs)
            mixing.gate.weight.copy_(gate)
            mixing.o.weight.copy_(source.out_proj.weight)
            branch.conv.load_state_dict(source.conv1d.state_dict())
            branch.x_proj.weight.copy_(source.x_proj.weight)
            branch.dt_proj.weight.copy_(source.dt_proj.weight)
            branch.b_delta.copy_(source.dt_proj.bias)
            branch.A_log.copy_(source.A_log)
            branch.D.copy_(source.D)
    torch.testing.assert_close(ours(tokens), theirs(tokens).logits.double(), atol=1e-5, rtol=1e-5)


@pytest.mark.global_rng
def test_mamba_2_is_the_one_of_transformers(tokens):
    from transformers import Mamba2Config, Mamba2ForCausalLM

    config = Mamba2Config(
        vocab_size=11,
        hidden_size=16,
        state_size=6,
        num_hidden_layers=2,
        num_heads=4,
        head_dim=8,
        n_groups=1,
        chunk_size=8,
        tie_word_embeddings=True,
    )
    theirs = scrambled(Mamba2ForCausalLM(config))
    ours = survey_mamba.language_model(16, 2, d_vocab=11, mixer={"name": "mamba2", "d_state": 6, "d_head": 8}).double()
    copy_shared(ours, theirs)
    with torch.no_grad():
        for block, layer in zip(ours.blocks, theirs.backbone.layers, strict=True):
            mixing, source = block.mixing, layer.mixer
            mixing.in_proj.weight.copy_(source.in_proj.weight)
            mixing.conv.load_state_dict(source.conv1d.state_dict())
            mixing.b_delta.copy_(source.dt_bias)
            mixing.A_log.copy_(source.A_log)
            mixing.D.copy_(source.D)
            mixing.norm.weight.copy_(source.norm.weight)
            mixing.o.weight.copy_(source.out_proj.weight)
    torch.testing.assert_close(ours(tokens), theirs(tokens).logits.double(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("init", ["fan_in", "normal", Init("truncated", std=0.1)])
def test_mamba_starts_as_published_under_every_law_of_starting(init):
    model = zoo.sequence(mixer="mamba", **{**SIZES, "d_model": 64}, init=init)
    (branch,) = model.blocks[0].mixing.branches
    dt = F.softplus(branch.b_delta)
    assert 0.001 * 0.999 <= dt.min() < dt.max() <= 0.1 * 1.001
    torch.testing.assert_close(branch.A, -torch.arange(1.0, 17).expand(128, -1))
    assert (branch.D == 1).all()
    if init == "fan_in":
        assert branch.dt_proj.weight.abs().max() <= 4**-0.5
    second = zoo.sequence(mixer="mamba2", **{**SIZES, "d_model": 64}, init=init).blocks[0].mixing
    assert -16 <= -second.A_log.exp().max() < -second.A_log.exp().min() <= -1
    dt = F.softplus(second.b_delta)
    assert 0.001 * 0.999 <= dt.min() <= dt.max() <= 0.1 * 1.001


def test_writes_of_a_deep_mamba_start_smaller():
    shallow, deep = (zoo.sequence(mixer="mamba", **{**SIZES, "n_layers": n}) for n in (1, 4))
    bound = 32**-0.5  # U(±1/√fan_in) of W_out
    assert bound / 2 < shallow.blocks[0].mixing.o.weight.abs().max() <= bound
    assert bound / 4 < deep.blocks[3].mixing.o.weight.abs().max() <= bound / 2


def test_what_does_not_select_is_the_same_everywhere(tokens):
    for selective, moving in (((), set()), (("delta",), {"delta"}), (("B", "C"), {"B", "C"})):
        model = build({"name": "mamba", "selective": selective})
        (branch,) = model.blocks[0].mixing.branches
        v = torch.randn(2, 9, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        made = branch.select(v)._asdict()
        assert {name for name, each in made.items() if (each - each[:, :1]).abs().max() > 1e-9} == moving


def test_without_selection_mamba_is_a_convolution(tokens):
    model = build({"name": "mamba", "selective": ()})
    (effective,) = model.effective_attention(tokens)
    for lag in range(3):
        diagonal = effective.matrix.diagonal(-lag, -2, -1)
        torch.testing.assert_close(diagonal, diagonal[..., :1].expand_as(diagonal))


def test_bidirectional_mamba_reads_its_input_from_both_ends(tokens):
    """With both branches alike, reversing the input reverses the output."""
    model = build("mamba", causal=False, feedforward="none")
    forward, backward = model.blocks[0].mixing.branches
    backward.load_state_dict(forward.state_dict())
    torch.testing.assert_close(model(tokens.flip(1)), model(tokens).flip(1), atol=1e-10, rtol=1e-8)


@pytest.mark.parametrize("mixer", ["mamba", "mamba2", "retention", "aaren"])
def test_edits_of_values_and_patterns_reach_the_output(mixer, tokens):
    model = build(mixer)
    slot = model.blocks[0].slot
    plain = model(tokens)
    points = ["hook_v", "hook_z"] + (["hook_pattern"] if mixer != "mamba" else [])
    for point in points:
        hook = (f"blocks.0.{slot}.{point}", lambda t, hook: 2 * t)
        assert (model.run_with_hooks(tokens, fwd_hooks=[hook]) - plain).abs().max() > 1e-6, point


def test_ssd_s_pattern_is_the_published_one(tokens):
    model = build("mamba2")
    mixing = model.blocks[0].mixing
    _, cache = model.run_with_cache(tokens)
    q, k = (cache[f"blocks.0.mixer.hook_{name}"].transpose(1, 2) for name in "qk")
    pattern = cache["blocks.0.mixer.hook_pattern"]
    below = pattern.diagonal(-1, -2, -1) / (q[:, :, 1:] * k[:, :, :-1]).sum(-1)
    assert ((below > 0) & (below < 1)).all()
    on = pattern.diagonal(0, -2, -1) - (q * k).sum(-1)
    torch.testing.assert_close(on, mixing.D[:, None].expand_as(on))


def test_retention_decays_as_published(tokens):
    mixing = build("retention").blocks[0].mixing
    assert mixing.log_decay.exp().tolist() == pytest.approx([1 - 2**-5, 1 - 2**-6], abs=1e-12)
    x = torch.randn(1, 20, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    from microtome.lab.zoo.parts import Context, Position

    terms = mixing._terms(x, Context(Position(), 20))
    q, k = (F.linear(x, w.weight).unflatten(-1, (2, 8)) for w in (mixing.q, mixing.k))
    lag, theta = 7, 10_000.0 ** (-torch.arange(0, 8, 2, dtype=torch.float64) / 8)
    turned = torch.view_as_complex(q[0, 15].unflatten(-1, (4, 2)).contiguous()) * torch.polar(
        torch.ones(4, dtype=torch.float64), lag * theta
    )
    score = (turned * torch.view_as_complex(k[0, 8].unflatten(-1, (4, 2)).contiguous()).conj()).real.sum(-1)
    wanted = score * mixing.log_decay.exp() ** lag / math.sqrt(8)
    torch.testing.assert_close(ssd.matrix(*terms[:2], terms.log_decay)[0, :, 15, 8], wanted, atol=1e-10, rtol=1e-8)


def test_aaren_s_query_is_the_token_through_the_query_map(tokens):
    model = build("aaren")
    mixing = model.blocks[0].mixing
    _, cache = model.run_with_cache(tokens)
    keys = cache["blocks.0.attn.hook_k"]
    q = (mixing.q.weight @ mixing.token + mixing.q.bias).unflatten(0, (2, 8))
    scores = (keys * q).sum(-1) / math.sqrt(8)
    wanted = scores[0, :13].softmax(0).T
    torch.testing.assert_close(cache["blocks.0.attn.hook_pattern"][0, :, 12, :13], wanted)


@pytest.mark.parametrize(
    ("mixer", "sentence"),
    [
        ({"name": "mamba", "d_state": 0}, "d_state must be at least 1, not 0"),
        ({"name": "mamba", "selective": ["delta", "D"]}, "selective names some of delta, B, C, not 'D'"),
        ({"name": "mamba", "dt_min": 0.2}, "dt_min and dt_max must be 0 < dt_min <= dt_max"),
        ({"name": "mamba2", "d_head": 5}, r"the 32 channels \(expand·d_model\) do not divide into heads with d_head=5"),
        ({"name": "mamba2", "d_conv": 0}, "d_conv must be at least 1, not 0"),
        ({"name": "retention", "expand": 0}, "expand must be at least 1, not 0"),
    ],
)
def test_impossible_options_get_a_sentence(mixer, sentence):
    with pytest.raises(ValueError, match=sentence):
        build(mixer)


def test_retention_needs_an_even_head():
    with pytest.raises(ValueError, match="the head's width 3 must be even"):
        build("retention", d_model=6)
    for mixer in ("mamba2", "retention", "aaren"):
        with pytest.raises(ValueError, match="needs causal=True"):
            build(mixer, causal=False)
