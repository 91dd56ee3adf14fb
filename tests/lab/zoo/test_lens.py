"""TransformerLens' own functions called on our models, and parity with its native model and with GPT-2."""

import inspect

import pytest
import torch
from transformer_lens import patching
from transformer_lens.model_protocol import TransformerLensModel

from microtome.lab import zoo
from microtome.lab.zoo.bridge import to_bridge

SIZES = {"d_vocab": 11, "d_model": 32, "n_heads": 4, "n_layers": 2, "n_ctx": 16}
# Path patching adds to one head's own copy of the normalised stream, which a fused projection does not make.
NEEDS_SPLIT_INPUT = {"get_act_patch_direct_path", "get_act_patch_direct_path_all_sources"}
PATCHES = [n for n, _ in inspect.getmembers(patching, callable) if n.startswith("get_act_patch_")]


@pytest.fixture(scope="module")
def runs():
    generator = torch.Generator().manual_seed(0)
    model = zoo.sequence(**SIZES)
    clean, corrupted = (torch.randint(11, (2, 6), generator=generator) for _ in range(2))
    return model, clean, corrupted, model.run_with_cache(clean)[1]


def logit(logits):
    return logits[:, -1, 3].mean()


def test_our_models_satisfy_the_structural_protocol(runs):
    assert isinstance(runs[0], TransformerLensModel)


@pytest.mark.parametrize("name", sorted(set(PATCHES) - NEEDS_SPLIT_INPUT))
def test_patching_helpers_run(runs, name):
    model, _, corrupted, cache = runs
    result = getattr(patching, name)(model, corrupted, cache, logit)
    assert torch.isfinite(result).all()
    assert result.std() > 0


def test_patching_the_whole_stream_restores_the_clean_answer(runs):
    model, clean, corrupted, cache = runs
    hooks = [("blocks.0.hook_resid_pre", lambda t, hook: cache[hook.name])]
    torch.testing.assert_close(model.run_with_hooks(corrupted, fwd_hooks=hooks), model(clean))


@pytest.mark.parametrize("apply_ln", [False, True])
def test_cache_decompositions_run_and_add_up(runs, apply_ln):
    model, _, _, cache = runs
    parts = cache.decompose_resid(apply_ln=apply_ln)
    stream = cache["resid_post", -1] if not apply_ln else cache["ln_final.hook_normalized"]
    torch.testing.assert_close(parts.sum(0), stream, atol=1e-5, rtol=1e-4)
    heads = cache.stack_head_results(layer=1)
    attn = cache["attn_out", 0] - model.blocks[0].attn.b_O
    torch.testing.assert_close(heads.sum(0), attn, atol=1e-5, rtol=1e-4)


def test_full_decomposition_with_biases_is_the_stream(runs):
    _, _, _, cache = runs
    parts = cache.get_full_resid_decomposition(expand_neurons=True)
    torch.testing.assert_close(parts.sum(0), cache["resid_post", -1], atol=1e-5, rtol=1e-4)


def test_logit_attribution_is_the_logit_without_its_bias(runs):
    model, clean, _, cache = runs
    answers = torch.tensor([3, 4])
    parts = cache.get_full_resid_decomposition(expand_neurons=False)
    # TransformerLens divides by the norm's scale alone; its gain is one at the start and its bias zero.
    attributed = cache.logit_attrs(parts, tokens=answers).sum(0)
    wanted = (model(clean) - model.b_U).gather(-1, answers[:, None, None].expand(2, 6, 1))[..., 0]
    torch.testing.assert_close(attributed, wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"norm": "rmsnorm", "feedforward": "relu"},
        {"feedforward": "swiglu", "causal": False},
        {"norm": "none"},
        {"feedforward": "none"},
        {"position": "rope"},
        {"position": {"name": "rope", "rotary_dim": 4, "base": 500.0}},
        {"mixer": {"name": "softmax", "bias": False, "d_head": 5, "scale": 0.7}},
        {"feedforward": {"name": "gelu", "approximate": "none"}},
    ],
    ids=str,
)
def test_bridge_has_the_same_logits(parts, generator):
    model = zoo.sequence(**{**SIZES, **parts})
    tokens = torch.randint(11, (2, 9), generator=generator)
    torch.testing.assert_close(to_bridge(model)(tokens), model(tokens), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ({"mixer": "urpe"}, "no mixer 'urpe'"),
        ({"position": "alibi"}, "no position 'alibi'"),
        ({"norm": {"name": "layernorm", "placement": "post"}}, "no norm placement 'post'"),
        ({"norm": {"name": "layernorm", "final": False}}, "final=False"),
        ({"mixer": {"name": "softmax", "fused_qkv": True}}, "fused_qkv=True"),
    ],
    ids=str,
)
def test_bridge_refuses_by_name(parts, sentence):
    with pytest.raises(ValueError, match=sentence):
        to_bridge(zoo.sequence(**{**SIZES, **parts}))


@pytest.mark.global_rng
def test_block_equals_gpt2_s(generator):
    from transformers import GPT2Config
    from transformers.models.gpt2.modeling_gpt2 import GPT2Block

    config = GPT2Config(
        n_embd=32, n_head=4, n_positions=16, attn_pdrop=0.0, resid_pdrop=0.0, attn_implementation="eager"
    )
    theirs = GPT2Block(config, layer_idx=0).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.normal_(0, 0.3, generator=generator)
    model = zoo.sequence(**SIZES)
    ours = model.blocks[0]
    pairs = [(ours.ln1, theirs.ln_1), (ours.ln2, theirs.ln_2)]
    with torch.no_grad():
        for a, b in pairs:
            a.weight.copy_(b.weight)
            a.bias.copy_(b.bias)
        for i, linear in enumerate((ours.attn.q, ours.attn.k, ours.attn.v)):
            linear.weight.copy_(theirs.attn.c_attn.weight.chunk(3, dim=1)[i].T)
            linear.bias.copy_(theirs.attn.c_attn.bias.chunk(3)[i])
        for linear, conv in (
            (ours.attn.o, theirs.attn.c_proj),
            (ours.mlp.in_, theirs.mlp.c_fc),
            (ours.mlp.out, theirs.mlp.c_proj),
        ):
            linear.weight.copy_(conv.weight.T)
            linear.bias.copy_(conv.bias)
    x = torch.randn(2, 9, 32, generator=generator)
    mask = torch.full((9, 9), torch.finfo(torch.float32).min).triu(1)[None, None]
    wanted = theirs(x, attention_mask=mask)
    wanted = wanted[0] if isinstance(wanted, tuple) else wanted
    torch.testing.assert_close(ours(x, model._context(9, None, x.device)), wanted, atol=1e-5, rtol=1e-5)
