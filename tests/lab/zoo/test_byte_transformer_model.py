"""Models of the zoo run on packed rows: equal outputs, whatever the parts, hooks included."""

import pytest
import torch
from torch import nn

from microtome.lab import zoo
from microtome.lab.zoo.byte_transformer import run_packed

LENGTHS = (20, 0, 7, 3)
WIDE = 20
MUST_RUN = {"layernorm", "rmsnorm", "sigma_reparam", "gelu", "swiglu", "none", "learned", "rope", "plain", "shared"}
PACKABLE = {"norms": "norm", "feedforward": "feedforward", "depth": "depth", "positions": "position"}
MASK = torch.arange(WIDE) < torch.tensor(LENGTHS)[:, None]


def build(**parts):
    sizes = {"d_vocab": 11, "d_model": 16, "n_heads": 2, "n_layers": 2, "n_ctx": 32, "causal": False}
    return zoo.sequence(**(sizes | parts)).double()


@pytest.fixture
def tokens(generator):
    return torch.randint(11, (len(LENGTHS), WIDE), generator=generator)


@pytest.mark.parametrize(
    ("slot", "name"), [(slot, name) for slot in PACKABLE for name in zoo.names(slot)], ids=lambda x: x
)
def test_every_part_runs_packed_with_equal_outputs_or_says_why_not(tokens, slot, name) -> None:
    model = build(**{PACKABLE[slot]: name})
    try:
        found = run_packed(model, tokens, MASK)
    except ValueError as refused:
        why = str(refused)
    else:
        torch.testing.assert_close(found[MASK], model(tokens, mask=MASK)[MASK], atol=1e-11, rtol=0)
        assert (found[~MASK] == 0).all()
        return
    assert why.startswith("run_packed ")
    assert name not in MUST_RUN


@pytest.mark.parametrize("placement", ["pre", "post", "stream", "none"])
def test_every_placement_of_the_norm(tokens, placement) -> None:
    model = build(norm={"name": "layernorm", "placement": placement})
    torch.testing.assert_close(
        run_packed(model, tokens, MASK)[MASK], model(tokens, mask=MASK)[MASK], atol=1e-11, rtol=0
    )


def test_the_encoder_is_torch_s_own_with_the_same_weights(tokens) -> None:
    model = zoo.build("byte_transformer", "small").double()
    block = model.blocks[0]
    with torch.random.fork_rng(devices=[]):
        theirs = nn.TransformerEncoderLayer(256, 4, 1024, 0.0, "gelu", 1e-12, batch_first=True, dtype=torch.float64)
    ours = {
        "self_attn.in_proj_weight": torch.cat([block.attn.q.weight, block.attn.k.weight, block.attn.v.weight]),
        "self_attn.in_proj_bias": torch.cat([block.attn.q.bias, block.attn.k.bias, block.attn.v.bias]),
        "self_attn.out_proj.weight": block.attn.o.weight,
        "self_attn.out_proj.bias": block.attn.o.bias,
        "linear1.weight": block.mlp.in_.weight,
        "linear1.bias": block.mlp.in_.bias,
        "linear2.weight": block.mlp.out.weight,
        "linear2.bias": block.mlp.out.bias,
        **{f"norm{i}.{name}": getattr(getattr(block, f"ln{i}"), name) for i in (1, 2) for name in ("weight", "bias")},
    }
    theirs.load_state_dict({name: value.detach() for name, value in ours.items()})
    seen = {}
    some = MASK.any(1)
    hooks = [
        (f"blocks.0.hook_resid_{at}", lambda x, hook: seen.update({hook.name: x.detach()})) for at in ("pre", "post")
    ]
    model.run_with_hooks(tokens[some], mask=MASK[some], fwd_hooks=hooks)
    wanted = theirs(seen["blocks.0.hook_resid_pre"], src_key_padding_mask=~MASK[some])
    found = {}
    hooks = [("blocks.0.hook_resid_post", lambda x, hook: found.update(x=x.detach()))]
    with model.hooks(fwd_hooks=hooks):
        run_packed(model, tokens, MASK)
    torch.testing.assert_close(found["x"][0], wanted[MASK[some]], atol=1e-11, rtol=0)


def test_hooks_on_packed_rows_edit_what_padded_ones_edit(tokens) -> None:
    model = build()

    def double(tensor, hook):
        return 2 * tensor

    for name in ("hook_embed", "hook_pos_embed", "blocks.0.attn.hook_v", "blocks.1.mlp.hook_post"):
        wanted = model.run_with_hooks(tokens, mask=MASK, fwd_hooks=[(name, double)])
        with model.hooks(fwd_hooks=[(name, double)]):
            found = run_packed(model, tokens, MASK)
        torch.testing.assert_close(found[MASK], wanted[MASK], atol=1e-11, rtol=0)
        assert (found[MASK] - model(tokens, mask=MASK)[MASK]).abs().max() > 1e-3


def test_gradients_are_those_of_the_padded_run(tokens) -> None:
    model = build(position="rope")
    grads = []
    for run in (lambda: run_packed(model, tokens, MASK), lambda: model(tokens, mask=MASK)):
        grads.append(torch.autograd.grad(run()[MASK].square().sum(), list(model.parameters()), allow_unused=True))
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-9)


def test_what_stands_at_padding_is_not_read_and_neighbours_keep_every_bit(tokens, generator) -> None:
    model = build()
    before = run_packed(model, tokens, MASK)
    elsewhere = torch.where(MASK, tokens, torch.full_like(tokens, 10_000))
    assert torch.equal(run_packed(model, elsewhere, MASK), before)
    changed = tokens.clone()
    changed[2] = (tokens[2] + 1) % 11
    after = run_packed(model, changed, MASK)
    assert not torch.equal(after[2], before[2])
    # The products see the same rows at the same places; only what they hold in one sequence differs.
    assert torch.equal(after[[0, 1, 3]], before[[0, 1, 3]])


def test_a_batch_of_padding_gives_zeros(tokens) -> None:
    assert torch.equal(run_packed(build(), tokens, torch.zeros_like(MASK)), torch.zeros(4, WIDE, 11).double())


def test_what_packed_rows_cannot_serve_is_refused_in_one_sentence(tokens, untyped) -> None:
    cases = [
        (build(causal=True), "takes a bidirectional model"),
        (build(mixer="urpe"), "serves plain softmax attention, not"),
        (build(position="alibi"), "no scores to add a position bias to"),
        (zoo.sequence(stem={"name": "vectors", "dim": 3}, causal=False), "takes a token model, not"),
    ]
    for model, words in cases:
        with pytest.raises(ValueError, match=words):
            run_packed(model, tokens, MASK)
    model = build(n_ctx=8)
    with pytest.raises(ValueError, match="20 positions; this model takes at most 8"):
        run_packed(model, tokens, MASK)
    with pytest.raises(ValueError, match=r"mask must be \[batch, pos\] = \[4, 20\], not \[4, 19\]"):
        run_packed(build(), tokens, MASK[:, 1:])
    with pytest.raises(ValueError, match="token 11 is not in the vocabulary"):
        run_packed(build(), torch.full_like(tokens, 11), MASK)


@pytest.mark.parametrize("name", ["hook_pattern", "hook_row_entropy", "hook_effective_pattern"])
def test_a_hook_on_a_pattern_is_refused(tokens, name) -> None:
    model = build()
    with (
        model.hooks(fwd_hooks=[(f"blocks.0.attn.{name}", lambda x, hook: None)]),
        pytest.raises(ValueError, match=f"no pattern is made of packed rows, so that blocks.0.attn.{name}"),
    ):
        run_packed(model, tokens, MASK)


def test_bert_base_has_the_published_size() -> None:
    with torch.device("meta"):
        model = zoo.build("byte_transformer", "bert_base")
    cfg = model.cfg
    assert (cfg.n_layers, cfg.n_heads, cfg.d_head, cfg.d_model, cfg.d_mlp) == (12, 12, 64, 768, 3072)
    assert sum(p.numel() for p in model.blocks.parameters()) == 12 * 7_087_872
