"""The network: what heads do, how many parameters there are, and the house's contract."""

from itertools import product

import pytest
import torch
from transformer_lens import ActivationCache

from microtome.lab.rasp.learned import transformer_programs as tp
from microtome.lab.rasp.learned.gates import Gumbel
from microtome.lab.rasp.learned.heads import distance_bias
from microtome.lab.rasp.learned.network import TransformerProgram
from microtome.lab.rasp.learned.options import BOS, PAD, UNK, Options
from microtome.lab.rasp.learned.training import sampling
from microtome.probes.entropy import EntropyTracker

TOKENS, POSITIONS = 0, 1


@pytest.fixture
def tokens(generator):
    return torch.randint(1, 5, (6, 5), generator=generator)


def trainable(model) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("causal", [False, True])
def test_each_categorical_attention_row_is_one_hot(random_network, tokens, causal):
    model = random_network(n_layers=3, n_cat_heads=3, causal=causal)
    _, cache = model.run_with_cache(tokens)
    for layer in range(3):
        pattern = cache["pattern", layer]
        assert torch.equal(pattern.sort(-1).values, torch.eye(5)[-1].double().expand_as(pattern))
        assert not causal or torch.equal(pattern, pattern.tril())


def test_each_numerical_output_is_the_number_of_matches(random_network, tokens):
    for causal in (False, True):
        model = random_network(n_num_heads=4, causal=causal)
        _, cache = model.run_with_cache(tokens)
        heads, variables = (
            model.blocks[0].num_attn,
            cache["resid_pre", 0][..., : 2 * 5].unflatten(-1, (2, 5)).argmax(-1),
        )
        for head, (query, key) in enumerate(heads.gate.chosen.T.tolist()):
            wanted = heads.predicate[head].argmax(-1)[variables[:, :, query]]
            match = wanted[:, :, None] == variables[:, None, :, key]
            counted = (match.tril() if causal else match).sum(-1).double()
            assert torch.equal(cache["blocks.0.num_attn.hook_z"][:, :, head, 0], counted)
            name = f"num_attn_0_{head}"
            (found,) = (v for v in model.options.variables if v.name == name)
            assert torch.equal(cache["resid_post", 0][:, :, found.start], counted)


def test_a_numerical_head_adds_counts_up_in_the_next_layer(options, set_head):
    model = TransformerProgram(options(n_layers=2, n_cat_heads=0, n_num_heads=1, n_cat_mlps=0, n_num_mlps=0))
    for layer, value in ((0, 0), (1, 1)):
        set_head(model.blocks[layer].num_attn, 0, TOKENS, TOKENS, value, [0, 1, 2, 3, 4])
    ids = model.to_tokens([[BOS, "a", "b", "a"]])
    _, cache = model.run_with_cache(ids)
    assert cache["blocks.0.num_attn.hook_z"][0, :, 0, 0].tolist() == [1, 2, 1, 2]
    assert cache["blocks.1.num_attn.hook_z"][0, :, 0, 0].tolist() == [1, 4, 1, 4]


def test_no_match_gives_the_value_at_the_first_position(options, set_head):
    model = TransformerProgram(options())
    set_head(model.blocks[0].attn, 0, TOKENS, TOKENS, POSITIONS, [0, 0, 0, 4, 0])  # only "b" looks for something: "c"
    _, cache = model.run_with_cache(model.to_tokens([["a", "b", "a", "c", "a"], [BOS, "a", "a", "b", "b"]]))
    assert cache["z", 0][:, :, 0].argmax(-1).tolist() == [[0, 3, 0, 0, 0], [0, 0, 0, 0, 0]]


def nearest(matches: set[int], query: int) -> int:
    return min(matches, key=lambda j: (j == query, abs(query - j), j))


@pytest.mark.parametrize("n", [1, 2, 3, 8])
def test_the_nearest_match_is_chosen_the_earlier_of_two_and_itself_last(options, set_head, n):
    model = TransformerProgram(options(n_ctx=n, letters="ab"))
    set_head(model.blocks[0].attn, 0, POSITIONS, TOKENS, POSITIONS, [2] * model.options.d_var)  # all look for "a"
    sentences = [list(letters) for letters in product("ab", repeat=n)]
    _, cache = model.run_with_cache(model.to_tokens(sentences))
    for sentence, chosen in zip(sentences, cache["z", 0][:, :, 0].argmax(-1).tolist(), strict=True):
        matches = {i for i, letter in enumerate(sentence) if letter == "a"} or {0}
        assert chosen == [nearest(matches, i) for i in range(n)]


def test_a_self_match_comes_after_a_match_at_distance_five(options, set_head):
    """Query 1 with matches {1, 6} of 8: attention goes to 6, not to itself."""
    model = TransformerProgram(options(n_ctx=8))
    set_head(model.blocks[0].attn, 0, POSITIONS, TOKENS, POSITIONS, [2] * 8)
    _, cache = model.run_with_cache(model.to_tokens([list("babbbbab")]))
    assert cache["z", 0][0, 1, 0].argmax() == 6


def test_the_bias_falls_with_distance_as_in_the_paper():
    bias = distance_bias(6)
    assert bias[3].tolist() == pytest.approx([-2 / 5, -1 / 5, 0, -2, 0, -1 / 4])
    assert distance_bias(1).tolist() == [[-2]]


@pytest.mark.parametrize("causal", [False, True])
def test_padding_changes_nothing(random_network, tokens, causal):
    model = random_network(n_layers=2, n_cat_heads=2, causal=causal)
    padded = torch.cat([tokens[:, :3], torch.zeros_like(tokens[:, :2])], 1)
    torch.testing.assert_close(model(padded)[:, :3], model(tokens[:, :3]))
    mask = torch.arange(5).expand(6, -1) < 3
    torch.testing.assert_close(model(tokens, mask=mask)[:, :3], model(tokens[:, :3]))


def test_a_causal_network_ignores_later_tokens(random_network, tokens):
    model = random_network(n_layers=2, causal=True)
    changed = tokens.clone()
    changed[:, 3:] = 1 + changed[:, 3:] % 4
    assert torch.equal(model(tokens)[:, :3], model(changed)[:, :3])


@pytest.mark.parametrize(("name", "count"), [("hist", 2_969), ("double_hist", 8_837), ("reverse", 10_200)])
def test_named_configurations_have_the_trainable_counts_of_the_paper(name, count):
    _, options = tp.configuration(name)
    assert options.d_var == 8
    assert trainable(tp.build(options)) == count


def test_the_trainable_count_is_unaffected_by_frozen_embeddings(options):
    """A learned variable costs a logit for each token and value; a token as it is costs none."""
    frozen, one, three = (TransformerProgram(options(n_embeddings=n, n_cat_mlps=0)) for n in (0, 1, 3))
    assert trainable(one) - trainable(frozen) == 5 * 5
    assert not any("embed" in name or "position" in name for name in frozen.state_dict())
    more_variables = 2 * (3 + 2)  # two further logits in each gate that chooses a categorical variable
    assert trainable(three) - trainable(one) == 2 * 5 * 5 + more_variables + 2 * 5 * len(three.options.classes)


def test_padding_is_never_answered(random_network, tokens):
    model = random_network()
    assert (model(tokens)[..., 0] == -1e30).all()
    assert not (model(tokens).argmax(-1) == 0).any()


def test_every_variable_has_its_own_slice_of_the_stream(random_network, tokens):
    model = random_network(n_layers=2, n_cat_heads=2, n_num_heads=2, n_cat_mlps=2, n_num_mlps=1, n_embeddings=2)
    variables = model.options.variables
    assert [v.start for v in variables] == [0, *(v.stop for v in variables[:-1])]
    assert variables[-1].stop == model.options.d_model == len(model.W_U)
    assert len({v.name for v in variables}) == len(variables)
    _, cache = model.run_with_cache(tokens)
    stream = {v.name: cache["resid_post", 1][..., v.start : v.stop] for v in variables}
    for v in variables:
        if v.kind == "categorical":
            assert torch.equal(stream[v.name].sort(-1).values[0, 0], torch.eye(5)[-1].double()), v.name
    assert torch.equal(stream["positions"].argmax(-1)[0], torch.arange(5))
    assert torch.equal(stream["attn_1_1"], cache["z", 1][:, :, 1])
    assert torch.equal(stream["num_attn_0_1"], cache["blocks.0.num_attn.hook_z"][:, :, 1])
    torch.testing.assert_close(model(tokens)[..., 1:], (cache["resid_post", 1] @ model.W_U)[..., 1:])


def test_the_stream_is_a_sum_of_writes(random_network, tokens):
    model = random_network(n_layers=2)
    _, cache = model.run_with_cache(tokens)
    torch.testing.assert_close(cache["resid_pre", 0], cache["embed"] + cache["pos_embed"])
    for i in range(2):
        assert torch.equal(cache["resid_mid", i], cache["resid_pre", i] + cache["attn_out", i])
        assert torch.equal(cache["resid_post", i], cache["resid_mid", i] + cache["mlp_out", i])
    pieces = cache.decompose_resid(mode="all", apply_ln=False)
    torch.testing.assert_close(pieces.sum(0), cache["resid_post", 1])


def test_weights_act_on_the_stream_as_the_gates_do(random_network, tokens):
    model = random_network(n_layers=2, n_cat_heads=3)
    _, cache = model.run_with_cache(tokens)
    for i, block in enumerate(model.blocks):
        for name, weight in (("q", block.attn.W_Q), ("k", block.attn.W_K), ("v", block.attn.W_V)):
            read = torch.einsum("bpm,hmk->bphk", cache["resid_pre", i], weight)
            torch.testing.assert_close(read, cache[name, i])
        written = torch.einsum("bphk,hkm->bpm", cache["z", i], block.attn.W_O)
        own = written != 0
        torch.testing.assert_close(written[own], cache["attn_out", i][own])


def test_points_say_what_they_carry(random_network, tokens):
    model = random_network(n_layers=2, n_cat_heads=2, n_num_heads=3, n_cat_mlps=2, n_num_mlps=1)
    output, cache = model.run_with_cache(tokens, names_filter=lambda _: True)
    assert isinstance(cache, ActivationCache)
    assert torch.equal(output, model(tokens))
    d_model = model.options.d_model
    sizes = {"batch": 6, "pos": 5, "query": 5, "key": 5, "d_head": 5, "d_model": d_model, "d_mlp": 64, "one": 1}
    for info in model.points():
        if info.status != "absent":
            counts = {"head": 3 if "num_attn" in info.name else 2, "mlp": 1 if "num_mlp" in info.name else 2}
            assert cache[info.name].shape == tuple((sizes | counts)[axis] for axis in info.axes), info.name


def test_edits_of_the_pattern_are_honoured(random_network, tokens):
    model = random_network(n_cat_heads=2)

    def first_key(pattern, hook):
        return torch.eye(5)[0].double().expand_as(pattern)

    with model.hooks(fwd_hooks=[("blocks.0.attn.hook_pattern", first_key)]):
        _, cache = model.run_with_cache(tokens)
    assert torch.equal(cache["z", 0], cache["v", 0][:, :1].expand_as(cache["z", 0]))


def test_the_entropy_tracker_reads_it(random_network, tokens, generator):
    model = random_network(n_layers=2, n_cat_heads=2)
    with EntropyTracker(model) as tracker:
        model(tokens)
        with sampling(model, Gumbel(3.0, generator)):
            model(tokens)
    assert (tracker.checks[0].entropy == 0).all(), "a discrete head looks at one place"
    assert (tracker.checks[1].entropy > 0).all()
    assert (tracker.checks[0].score_norm > 0).all()


def test_absent_points_say_why(options):
    model = TransformerProgram(options(n_num_heads=0, n_cat_mlps=0))
    with pytest.raises(KeyError, match="the model was built without num_attn"):
        model.run_with_cache(torch.ones(1, 1, dtype=torch.long), names_filter="blocks.0.num_attn.hook_pattern")
    model = TransformerProgram(options())
    with pytest.raises(KeyError, match="no distributions"):
        model.run_with_cache(torch.ones(1, 1, dtype=torch.long), names_filter="blocks.0.num_attn.hook_row_entropy")


def test_sizes_down_to_nothing_work(options):
    nothing = {"n_cat_heads": 0, "n_num_heads": 0, "n_cat_mlps": 0, "n_num_mlps": 0}
    model = TransformerProgram(options(n_ctx=1, **nothing))
    assert model(torch.tensor([[2]])).shape == (1, 1, 4)


def test_the_seed_alone_decides_the_parameters(options):
    first, again, other = (TransformerProgram(options(), seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["W_U"], other["W_U"])


@pytest.mark.usefixtures("untyped")
def test_bad_options_are_refused(options):
    for name, value in (("n_ctx", 0), ("n_layers", 0), ("d_mlp", 0), ("n_cat_heads", -1), ("n_embeddings", -1)):
        with pytest.raises(ValueError, match=rf"{name} must be at least [01], not {value}"):
            options(**{name: value})
    with pytest.raises(ValueError, match=r"d_var=4 cannot hold the positions and the vocabulary: .* at least 5"):
        options(d_var=4)
    with pytest.raises(ValueError, match="d_var=4 cannot hold the positions: it must be at least 5"):
        options(d_var=4, n_embeddings=1)
    for tokens in ((BOS, PAD), (PAD,), (PAD, "a", "a")):
        with pytest.raises(ValueError, match="tokens must be different words, '<pad>' first and one more at least"):
            Options(tokens, (PAD, UNK), 3, 1, 5, 1, 1, 1, 1)


@pytest.mark.usefixtures("untyped")
def test_bad_inputs_are_refused(options):
    model = TransformerProgram(options())
    for bad in (torch.zeros(0, 3, dtype=torch.long), torch.zeros(3), torch.zeros(2, 2)):
        with pytest.raises(ValueError, match=r"whole numbers of shape \[batch, pos\]"):
            model(bad)
    with pytest.raises(ValueError, match="token 5 is not in the vocabulary 0 … 4"):
        model(torch.tensor([[5]]))
    with pytest.raises(ValueError, match="6 positions; this model takes at most 5"):
        model(torch.ones(1, 6, dtype=torch.long))
    with pytest.raises(ValueError, match=r"mask must be \[batch, pos\] = \[1, 2\], not \[1, 3\]"):
        model(torch.ones(1, 2, dtype=torch.long), mask=torch.ones(1, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"'<t>' is not in the vocabulary \(did you mean '<s>'\?\)"):
        model.predict([["<t>"]])
    for sentences in ([], [[]], [["a"] * 6]):
        with pytest.raises(ValueError, match="sentences must have 1 to 5 words each"):
            model.predict(sentences)


def test_an_unknown_configuration_is_refused():
    with pytest.raises(KeyError, match="did you mean hist"):
        tp.configuration("hisst")
