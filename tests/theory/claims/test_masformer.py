"""MASFormer (Zhang et al. 2023): its checks on the zoo's own models, its published sizes, and its claim."""

from fractions import Fraction

import pytest
import torch

from microtome.lab import zoo
from microtome.lab.zoo.compose import choose
from microtome.lab.zoo.compression.masformer import convert
from microtome.lab.zoo.depth import masformer
from microtome.lab.zoo.mixers.masformer import Part, Span, SpanMixer, triangle
from microtome.lab.zoo.parts import Context
from microtome.lab.zoo.streaming import Stream
from microtome.theory import claims

SPANS = [Span("block", 8), Span("previous", 8), Span("window", 8)]
POSITIONS = ("none", "learned", "rope", "alibi", "relative", "t5")


def model(depth="plain", position="relative", mixer="softmax", **sizes):
    sizes = {"d_vocab": 11, "d_model": 16, "n_heads": 2, "n_layers": 4, "n_ctx": 64, **sizes}
    return zoo.sequence(depth=depth, position=position, mixer=mixer, **sizes).double()


def policy(span=None, **options):
    options = {"full": "middle", "n_full": 1, **options}
    return (
        masformer.Part(**options) if span is None else masformer.Part(pattern=span.pattern, span=span.size, **options)
    )


def named(value):
    return f"{value.pattern}-{value.size}" if isinstance(value, Span) else None


@pytest.fixture
def tokens(generator):
    return torch.randint(11, (2, 50), generator=generator)


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("span", SPANS, ids=named)
def test_all_layers_full_or_spans_longer_than_the_input_give_the_vanilla_model(position, span, tokens):
    vanilla = model(position=position)(tokens)
    all_full = model(policy(span, n_full=4), position)
    long = model(policy(Span(span.pattern, 50)), position)
    torch.testing.assert_close(all_full(tokens), vanilla, atol=0, rtol=0)
    torch.testing.assert_close(long(tokens), vanilla, atol=1e-12, rtol=0)
    assert (model(policy(span), position)(tokens) - vanilla).abs().max() > 1e-6


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "padded"])
@pytest.mark.parametrize("position", ["none", "relative"])
@pytest.mark.parametrize("n", [1, 8, 17, 50])
@pytest.mark.parametrize("span", SPANS, ids=named)
def test_the_fast_path_is_masked_dense_attention(span, n, position, masked, generator):
    built = model(mixer=Part(pattern=span.pattern, span=span.size), position=position, n_layers=1)
    layer = built.blocks[0].attn
    x = torch.randn(2, n, 16, generator=generator, dtype=torch.float64)
    mask = torch.ones(2, n, dtype=torch.bool)
    if masked:
        mask[0, n - n // 3 :] = False
    context = Context(built.pos_embed, n, mask if masked else None, built.pos_embed.bias(torch.arange(n), n))
    q, k, v = layer._heads(x, context)
    scores = q @ k.mT * 8**-0.5 + (0 if context.bias is None else context.bias)
    at = torch.arange(n)
    near = {
        "block": at[:, None] // 8 == at // 8,
        "previous": (at[:, None] // 8 - at // 8 >= 0) & (at[:, None] // 8 - at // 8 <= 1),
        "window": at[:, None] - at <= 8,
    }[span.pattern]
    open_ = (near & (at <= at[:, None]))[None, None] & mask[:, None, None]
    real = mask[:, None, :, None]  # a padded query of an all-padded block sees nothing
    dense = scores.masked_fill(~open_, -1e30).softmax(-1) @ v
    torch.testing.assert_close(layer._fused(q, k, v, context) * real, dense * real, atol=1e-6, rtol=0)


@pytest.mark.parametrize("span", [SPANS[0], SPANS[1]], ids=named)
def test_only_a_full_layer_carries_anything_from_the_first_token_to_the_last(span, generator):
    # Four layers of own block and previous reach at most 4 · 15 = 60 positions back; 95 is beyond.
    tokens = torch.randint(11, (2, 96), generator=generator)
    for n_full, wanted in ((0, False), (1, True)):
        built = model(policy(span, n_full=n_full), n_ctx=96)
        assert (gradient(built, tokens)[:, 0] != 0).any().item() == wanted
        assert (gradient(built, tokens)[:, 90] != 0).any()


def gradient(built, tokens):
    kept = {}
    logits = built.run_with_hooks(tokens, fwd_hooks=[("hook_embed", lambda x, hook: kept.update(x=x))])
    return torch.autograd.grad(logits[:, -1].square().sum(), kept["x"])[0]


@pytest.mark.parametrize("n", [1, 7, 8, 9, 64, 100])
@pytest.mark.parametrize("span", [*SPANS, Span("block", 1), Span("window", 200)], ids=named)
def test_the_counter_of_visible_pairs_counts_the_pattern(span, n):
    at = torch.arange(n)
    assert span.pairs(n) == int((span.sees(at, at) & (at <= at[:, None])).sum())
    for t in range(n):
        seen = span.sees(at[t : t + 1], at[: t + 1])[0].nonzero()
        assert span.first(t) == int(seen.min())


def test_costs_are_those_of_the_formulas():
    n, b = 8192, 1024
    own = Fraction(Span("block", b).pairs(n), triangle(n))
    assert own == Fraction(b + 1, n + 1)
    previous = Span("previous", b).pairs(n) / triangle(n)
    assert previous == pytest.approx(3 * b / n - 2 * b**2 / n**2, rel=2e-3)
    assert Span("window", 64).pairs(n) / triangle(n) == pytest.approx(2 * 64 / n, rel=0.02)
    fractions = [float(policy(n_full=full, span=Span("block", b)).fraction(24, n)) for full in (1, 2, 4)]
    assert fractions == pytest.approx([0.162, 0.198, 0.271], abs=5e-4)


@pytest.mark.parametrize("span", SPANS, ids=named)
def test_converting_changes_no_parameter_and_no_name(span, tokens):
    full = model(mixer={"name": "softmax", "bias": False, "scale": 1.0})
    mixed = convert(full, policy(span))
    before, after = full.state_dict(), mixed.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert {type(block.attn) for block in mixed.blocks} == {SpanMixer, type(full.blocks[0].attn)}
    assert mixed.blocks[0].attn.scale == 1.0
    assert mixed.blocks[0].attn.q.weight.dtype == torch.float64
    torch.testing.assert_close(convert(mixed, policy(n_full=4))(tokens), full(tokens), atol=0, rtol=0)
    assert zoo.sequence(**mixed.spec.describe()).spec == mixed.spec


def test_only_plain_models_are_converted(tokens):
    with pytest.raises(ValueError, match="only a model of depth 'plain' or 'masformer'"):
        convert(model("shared"), policy())
    with pytest.raises(ValueError, match="shortens the span of mixer 'softmax', not of another"):
        convert(model(mixer="relu", position="none"), policy())


@pytest.mark.parametrize("position", ["none", "relative", "rope"])
@pytest.mark.parametrize("span", SPANS, ids=named)
def test_decoding_from_the_cache_is_the_forward_pass_with_the_cache_sizes_stated(span, position, tokens):
    built = model(policy(span, full=(1,)), position)
    stream, outputs = Stream(built, 2), []
    for t, token in enumerate(tokens.unbind(1)):
        outputs.append(stream.push(token))
        sizes = [state[0].shape[2] for state in stream.states]
        short = t + 1 - span.first(t)
        assert sizes == [short, t + 1, short, short]
        assert short <= span.cache
        if span.pattern == "block" and t % 8 == 0:
            assert short == 1
    torch.testing.assert_close(torch.stack(outputs, 1), built(tokens), atol=1e-10, rtol=0)
    assert max(t + 1 - span.first(t) for t in range(50)) == span.cache


def test_full_layers_stand_where_the_placement_says():
    stand = {name: sorted(masformer.Part(full=name, n_full=2).layers(6)) for name in masformer.PLACEMENTS}
    assert stand == {"bottom": [0, 1], "middle": [2, 3], "top": [4, 5], "even": [1, 4]}
    assert masformer.Part(full="middle", n_full=1).layers(4) == {2}
    assert masformer.Part(full=(0, 3)).layers(4) == {0, 3}
    assert masformer.Part(full="even", n_full=0).layers(4) == frozenset()


@pytest.mark.usefixtures("untyped")
def test_bad_policies_are_refused():
    with pytest.raises(ValueError, match="there is no layer 4 to be full; layers are 0 … 3"):
        model(masformer.Part(full=(4,)))
    with pytest.raises(ValueError, match="full layers stand at bottom, middle, top, even"):
        model(masformer.Part(full="midle"))
    with pytest.raises(ValueError, match="n_full must lie between 0 and 4"):
        model(policy(n_full=5))
    with pytest.raises(ValueError, match="a span must be at least 1 long, not 0"):
        model(masformer.Part(span=0))
    with pytest.raises(ValueError, match="a span's pattern is one of block, previous, window, not 'blocks'"):
        model(masformer.Part(pattern="blocks"))


@pytest.mark.parametrize(("variant", "parameters"), [("gpt_neo_125m", 125_198_592), ("gpt_neo_1.3b", 1_315_575_808)])
def test_published_sizes(variant, parameters):
    with torch.device("meta"):
        built = zoo.build("masformer", variant)
    assert sum(p.numel() for p in built.parameters()) == parameters


@pytest.mark.global_rng
def test_the_decoder_is_transformers_gpt_neo_under_its_own_spans(generator):
    """All layers full, and its alternation with local layers, whose window of 5 keys reaches 4 back."""
    from transformers import GPTNeoConfig, GPTNeoForCausalLM

    for kinds, depth in (
        (["global"], {"name": "masformer", "n_full": 2}),
        (["global", "local"], {"name": "masformer", "full": (0,), "pattern": "window", "span": 4}),
    ):
        config = GPTNeoConfig(
            vocab_size=23, hidden_size=16, num_layers=2, num_heads=2, max_position_embeddings=32, window_size=5,
            attention_types=[[kinds, 2 // len(kinds)]], attention_dropout=0.0, embed_dropout=0.0, resid_dropout=0.0,
        )  # fmt: skip
        theirs = GPTNeoForCausalLM(config).double().eval()
        ours = zoo.build("masformer", "gpt_neo_125m", d_vocab=23, d_model=16, n_layers=2, n_heads=2, n_ctx=32, n_full=1)
        ours = convert(ours, choose("depth", depth)).double()
        ours.load_state_dict(translated(theirs))
        tokens = torch.randint(23, (2, 20), generator=generator)
        with torch.no_grad():
            torch.testing.assert_close(ours(tokens), theirs(tokens).logits, atol=1e-9, rtol=0)


def translated(theirs):
    """GPT-Neo's weights under the zoo's names."""
    names = {
        "transformer.wte": "embed", "transformer.wpe": "pos_embed", "transformer.ln_f": "ln_final",
        "lm_head": "unembed", "transformer.h.": "blocks.", "ln_1": "ln1", "ln_2": "ln2",
        "attn.attention.q_proj": "attn.q",
        "attn.attention.k_proj": "attn.k", "attn.attention.v_proj": "attn.v", "attn.attention.out_proj": "attn.o",
        "mlp.c_fc": "mlp.in_", "mlp.c_proj": "mlp.out",
    }  # fmt: skip
    state = {}
    for name, value in theirs.state_dict().items():
        for old, new in names.items():
            name = name.replace(old, new)
        state[name] = value
    return {name: value for name, value in state.items() if not name.endswith((".masked_bias", ".attention.bias"))}


def test_the_claim_s_untrained_part_at_the_quick_budget():
    evidence = claims.load("masformer").run(budget="quick", seed=0)
    assert evidence.verdict == "inconclusive", evidence.to_json()
    assert all(check.passes for check in evidence.checks)


@pytest.mark.slow
def test_the_claim_holds_at_the_full_budget():
    evidence = claims.load("masformer").run(budget="full", seed=0)
    assert evidence.verdict == "holds", evidence.to_json()
