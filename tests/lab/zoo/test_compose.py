"""What `zoo.sequence` and `zoo.build` accept, and the one sentence with which they refuse the rest."""

import pytest
import torch

from microtome.lab import zoo
from microtome.lab.zoo.mixers import softmax


def test_three_ways_to_say_a_part_are_one():
    by_name = zoo.sequence(d_vocab=5, mixer="softmax", d_model=8, n_heads=2)
    by_mapping = zoo.sequence(d_vocab=5, mixer={"name": "softmax"}, d_model=8, n_heads=2)
    by_options = zoo.sequence(d_vocab=5, mixer=softmax.Part(), d_model=8, n_heads=2)
    assert by_name.spec == by_mapping.spec == by_options.spec


def test_the_three_stems():
    tokens = zoo.sequence(d_vocab=5, d_model=8, n_heads=2)(torch.zeros(1, 3, dtype=torch.long))
    assert tokens.shape == (1, 3, 5)
    assert zoo.sequence(dim=3, d_model=8, n_heads=2)(torch.zeros(2, 4, 3), torch.zeros(2, 4)).shape == (2, 4)
    small = {"name": "grid", "image_size": 8, "patch": 4, "channels": 1, "n_classes": 3}
    for pool in ("cls", "mean"):
        model = zoo.sequence(stem={**small, "pool": pool}, d_model=8, n_heads=2)
        assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 3)
        assert not model.spec.shape.causal


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({}, "say what goes in"),
        ({"d_vocab": 5, "dim": 3}, "give one of them"),
        ({"d_vocab": 5, "stem": "grid"}, "belongs to the stem 'tokens'"),
        ({"d_vocab": 0}, "d_vocab must be at least 1"),
        ({"dim": 0}, "dim must be at least 1"),
        ({"d_vocab": 5, "mixer": "softmaks"}, "did you mean softmax"),
        ({"d_vocab": 5, "position": "rotary"}, "there are alibi, learned"),
        (
            {"d_vocab": 5, "mixer": {"name": "softmax", "d_heads": 4}},
            "no option 'd_heads'.*did you mean d_head",
        ),
        ({"d_vocab": 5, "depth": {"name": "plain", "x": 1}}, "it has no options"),
        ({"d_vocab": 5, "n_heads": 3}, "d_model=64 is not divisible by n_heads=3"),
        ({"d_vocab": 5, "n_layers": 0}, "n_layers must be a whole number of at least 1"),
        ({"d_vocab": 5, "d_model": 7, "n_heads": 1, "position": "sinusoidal"}, "must be even"),
        ({"d_vocab": 5, "d_model": 10, "n_heads": 2, "position": "rope"}, "must be even"),
        ({"dim": 3, "causal": False}, "would see its own answer"),
        ({"d_vocab": 5, "norm": {"name": "layernorm", "placement": "sandwich"}}, "placement is one of pre"),
        ({"d_vocab": 5, "init": "xavier"}, "init is one of"),
        ({"d_vocab": 5, "position": {"name": "t5", "n_buckets": 2, "max_distance": 1}}, "at least 4 buckets"),
        ({"stem": {"name": "grid", "image_size": 10, "patch": 4}}, "not divisible by patch"),
    ],
)
@pytest.mark.usefixtures("untyped")
def test_refusals_are_one_sentence(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        zoo.sequence(**options)


@pytest.mark.usefixtures("untyped")
def test_a_part_of_another_kind_is_refused():
    with pytest.raises(TypeError, match="a name, a mapping with a name, or an options object"):
        zoo.sequence(d_vocab=5, mixer=3)


@pytest.mark.parametrize(
    ("tokens", "sentence"),
    [
        (torch.zeros(2, 0, dtype=torch.long), "at least one of each"),
        (torch.zeros(0, 2, dtype=torch.long), "at least one of each"),
        (torch.full((1, 2), 5), r"token 5 is not in the vocabulary 0 … 4"),
        (torch.full((1, 2), -1), r"token -1 is not in the vocabulary"),
        (torch.zeros(1, 200, dtype=torch.long), "200 positions; this model takes at most 128"),
    ],
)
@pytest.mark.usefixtures("untyped")
def test_bad_tokens_are_refused(tokens, sentence):
    with pytest.raises(ValueError, match=sentence):
        zoo.sequence(d_vocab=5, d_model=8, n_heads=2)(tokens)


def test_positions_without_a_table_take_longer_inputs():
    for position in ("none", "rope", "alibi", "t5"):
        model = zoo.sequence(d_vocab=5, d_model=8, n_heads=2, n_ctx=4, position=position)
        assert model(torch.zeros(1, 9, dtype=torch.long)).shape == (1, 9, 5)


@pytest.mark.parametrize(
    ("xs", "ys", "sentence"),
    [
        (torch.zeros(2, 4, 5), torch.zeros(2, 4), r"a prompt is xs \[batch, points, 3\]"),
        (torch.zeros(2, 4, 3), torch.zeros(2, 5), r"a prompt is xs \[batch, points, 3\]"),
        (torch.zeros(0, 4, 3), torch.zeros(0, 4), "at least one of each"),
        (torch.full((1, 2, 3), torch.nan), torch.zeros(1, 2), "not finite"),
        (torch.zeros(1, 2, 3), torch.full((1, 2), torch.inf), "not finite"),
        (torch.zeros(1, 70, 3), torch.zeros(1, 70), "140 positions; this model takes at most 128"),
    ],
)
@pytest.mark.usefixtures("untyped")
def test_bad_prompts_are_refused(xs, ys, sentence):
    with pytest.raises(ValueError, match=sentence):
        zoo.sequence(dim=3, d_model=8, n_heads=2)(xs, ys)


@pytest.mark.usefixtures("untyped")
def test_bad_images_and_masks_are_refused():
    grid = zoo.sequence(stem={"name": "grid", "image_size": 8, "patch": 4}, d_model=8, n_heads=2)
    with pytest.raises(ValueError, match=r"images must be \[batch, 3, 8, 8\]"):
        grid(torch.zeros(1, 3, 8, 9))
    model = zoo.sequence(d_vocab=5, d_model=8, n_heads=2)
    with pytest.raises(ValueError, match=r"mask must be \[batch, pos\]"):
        model(torch.zeros(1, 3, dtype=torch.long), mask=torch.ones(1, 4, dtype=torch.bool))


def test_text_is_refused_and_ids_are_taken():
    model = zoo.sequence(d_vocab=5, d_model=8, n_heads=2)
    with pytest.raises(TypeError, match="no tokenizer"):
        model.to_tokens("hello")
    assert model.to_tokens([1, 2]).shape == (1, 2)


def test_a_predictor_answers_like_the_model(generator):
    model = zoo.sequence(dim=3, d_model=8, n_heads=2)
    xs, ys = torch.randn(2, 5, 3, generator=generator), torch.randn(2, 5, generator=generator)
    prediction = model.predict(xs, ys)
    assert torch.equal(prediction.mean, model(xs, ys).detach())
    assert prediction.variance is None


def test_build_refuses_what_does_not_stand():
    with pytest.raises(KeyError, match="did you mean urpe"):
        zoo.build("urp")
    with pytest.raises(ValueError, match="no whole system here yet"):
        zoo.build("swin")
    with pytest.raises(ValueError, match="there are best"):
        zoo.build("icl_linear_algorithms", variant="huge")


@pytest.mark.parametrize(("variant", "parameters"), [("one_layer", 55_937), ("two_layer", 105_921)])
def test_published_learners_have_the_published_parameters(variant, parameters):
    model = zoo.build("icl_linear_algorithms", variant)
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_the_best_published_learner_has_its_head_width():
    model = zoo.build("icl_linear_algorithms")
    assert (model.cfg.n_layers, model.cfg.d_model, model.cfg.n_heads, model.cfg.d_head) == (16, 512, 4, 32)


def test_a_mixer_refuses_positions_that_it_cannot_use():
    with pytest.raises(ValueError, match="mixer 'lstm' cannot use position 'rope', which gives rotation"):
        zoo.sequence(d_vocab=5, mixer="lstm", position="rope")
    with pytest.raises(ValueError, match="mixer 'linformer' looks at the whole input, so that it needs causal=False"):
        zoo.sequence(d_vocab=5, mixer="linformer")


def test_layers_may_have_mixers_of_their_own():
    mixed = ["softmax", {"name": "local", "block": 4}, "linear_attention"]
    depth = {"name": "by_layer", "mixers_by_layer": mixed}
    model = zoo.sequence(d_vocab=5, depth=depth, d_model=8, n_heads=2, n_layers=3, n_ctx=16)
    assert [type(mixer).__name__ for mixer in model.mixers()] == ["SoftmaxMixer", "LocalMixer", "LinearAttention"]
    assert zoo.sequence(**model.spec.describe()).spec == model.spec
    with pytest.raises(ValueError, match="needs one mixer a layer: 2 layers, 3 mixers"):
        zoo.sequence(d_vocab=5, depth=depth, n_layers=2)
    with pytest.raises(ValueError, match="'urpe' shares a module between all layers"):
        zoo.sequence(d_vocab=5, depth={"name": "by_layer", "mixers_by_layer": ["urpe", "softmax"]}, n_layers=2)
    depth = {"name": "by_layer", "mixers_by_layer": ["softmax", "lstm"]}
    with pytest.raises(ValueError, match="mixer 'lstm' reads from left to right"):
        zoo.sequence(d_vocab=5, depth=depth, n_layers=2, causal=False)
