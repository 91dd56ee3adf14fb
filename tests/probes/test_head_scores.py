"""Scores of heads: of patterns put in by hand, of the shapes that must not fit, and of a model that is left alone."""

import pytest
import torch

from microtome.lab import zoo
from microtome.lab.tasks.boolean import NearestNeighbour
from microtome.probes.head_scores import attention_to, nearest_neighbour_scores, prefix_scores

DIM, POINTS = 6, 8


@pytest.fixture
def model():
    return zoo.build("icl_boolean", n_layers=2, d_model=16, n_heads=2, dim=DIM, points=2 * POINTS)


@pytest.fixture
def prompt(generator):
    return NearestNeighbour(DIM, start=3).sample(5, POINTS, generator)


def looking(model, layer, head, keys):
    """A hook that makes one head look at the keys that are true, alike at each, and at itself where there are none."""
    own = torch.eye(keys.shape[1], dtype=torch.bool)
    there = torch.where(keys.any(-1, keepdim=True), keys, own).float()
    made = there / there.sum(-1, keepdim=True)

    def edit(pattern, hook):
        pattern = pattern.clone()
        pattern[:, head] = made
        return pattern

    return model.hooks(fwd_hooks=[(f"blocks.{layer}.attn.hook_pattern", edit)])


def nearest_labels(xs):
    """Token places written out one by one."""
    keys = torch.zeros(len(xs), 2 * POINTS, 2 * POINTS, dtype=torch.bool)
    for b, points in enumerate(xs):
        for k in range(1, POINTS):
            agreement = [int((points[k] == points[j]).sum()) for j in range(k)]
            keys[b, 2 * k, 2 * agreement.index(max(agreement)) + 1] = True
    return keys


def test_a_nearest_neighbour_head_is_found(model, prompt) -> None:
    with looking(model, 1, 0, nearest_labels(prompt.xs)):
        found = nearest_neighbour_scores(model, prompt.xs, prompt.ys, start=3)
    assert found.scores.shape == (2, 2)
    assert found.scores[1, 0] == pytest.approx(1)
    assert found.heads == [(1, 0)]
    assert found.scores[0].max() < 0.5


def test_a_prefix_head_is_found(model, prompt) -> None:
    keys = torch.zeros(5, 6 * POINTS, 6 * POINTS, dtype=torch.bool)
    for copy in (1, 2):
        for k in range(POINTS):
            for before in range(copy):
                keys[:, 2 * (copy * POINTS + k), 2 * (before * POINTS + k) + 1] = True
    longer = zoo.build("icl_boolean", n_layers=2, d_model=16, n_heads=2, dim=DIM, points=3 * POINTS)
    with looking(longer, 0, 1, keys):
        found = prefix_scores(longer, prompt.xs, prompt.ys, copies=3)
    assert found.scores[0, 1] == pytest.approx(1)
    assert found.heads == [(0, 1)]


def test_uniform_attention_has_the_score_of_chance(model, prompt) -> None:
    """A query at token 2k spreads over 2k + 1 tokens."""
    causal = torch.ones(2 * POINTS, 2 * POINTS, dtype=torch.bool).tril().expand(5, -1, -1)
    with looking(model, 0, 0, causal):
        score = nearest_neighbour_scores(model, prompt.xs, prompt.ys).scores[0, 0]
    assert score == pytest.approx(sum(1 / (2 * k + 1) for k in range(1, POINTS)) / (POINTS - 1), rel=1e-5)


def test_the_model_is_left_as_it_was(model, prompt) -> None:
    before = model(prompt.xs, prompt.ys)
    nearest_neighbour_scores(model, prompt.xs, prompt.ys)
    assert torch.equal(model(prompt.xs, prompt.ys), before)


def test_a_token_model_is_read_as_well(generator) -> None:
    model = zoo.sequence(d_vocab=7, d_model=16, n_layers=1, n_heads=2, n_ctx=10)
    tokens = torch.randint(7, (3, 10), generator=generator)
    everywhere = torch.ones(3, 10, 10, dtype=torch.bool)
    torch.testing.assert_close(attention_to(model, (tokens,), everywhere).scores, torch.ones(1, 2))


@pytest.mark.usefixtures("untyped")
def test_bad_calls_get_a_sentence(model, prompt) -> None:
    with pytest.raises(ValueError, match="no query has a key"):
        attention_to(model, (prompt.xs, prompt.ys), torch.zeros(5, 16, 16, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"has batch, query and key \[5, 16, 16\], but the keys are \[5, 4, 4\]"):
        attention_to(model, (prompt.xs, prompt.ys), torch.ones(5, 4, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match="start must lie between 1 and 7"):
        nearest_neighbour_scores(model, prompt.xs, prompt.ys, start=8)
    with pytest.raises(ValueError, match="copies must be at least 2"):
        prefix_scores(model, prompt.xs, prompt.ys, copies=1)
