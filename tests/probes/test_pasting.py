"""Pasting: the upper layers stay as they were, to the bit, and compute what they computed in their donor."""

import pytest
import torch

from microtome.lab import zoo
from microtome.lab.tasks import LinearRegression
from microtome.lab.train import InContextRegression, TrainConfig, train
from microtome.probes.pasting import LinearEmbedding, Pasted, TransformerEmbedding

DIM, POINTS, WIDTH = 3, 5, 16
EMBEDDINGS = {
    "linear": lambda: LinearEmbedding(DIM, WIDTH, POINTS, copying=False),
    "copying": lambda: LinearEmbedding(DIM, WIDTH, POINTS, copying=True),
    "transformer": lambda: TransformerEmbedding(
        zoo.sequence(dim=DIM, d_model=WIDTH, n_layers=1, n_heads=2, n_ctx=2 * POINTS, seed=4)
    ),
}
every_embedding = pytest.mark.parametrize("make", EMBEDDINGS.values(), ids=EMBEDDINGS)


@pytest.fixture
def donor():
    return zoo.sequence(dim=DIM, d_model=WIDTH, n_layers=3, n_heads=2, n_ctx=2 * POINTS)


@pytest.fixture
def prompt(generator):
    return LinearRegression(DIM).sample(4, POINTS, generator)


class Lower(torch.nn.Module):
    """The donor's own lower layers as an embedding."""

    def __init__(self, model, layer):
        super().__init__()
        self.model, self.layer = model, layer

    def forward(self, xs, ys):
        return self.model(xs, ys, stop_at_layer=self.layer)


@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("training", [False, True])
def test_the_donor_s_own_lower_layers_give_back_the_donor(donor, prompt, layer, training):
    pasted = Pasted(donor, layer, Lower(donor, layer)).train(training)
    donor.eval()
    torch.testing.assert_close(pasted(prompt.xs, prompt.ys), donor(prompt.xs, prompt.ys), atol=1e-6, rtol=1e-5)
    assert pasted.upper.cfg.n_layers == 3 - layer
    assert f"blocks.{2 - layer}.hook_resid_post" in pasted.upper.hook_dict


@every_embedding
def test_training_moves_the_embedding_and_no_bit_above_it(donor, make, tmp_path):
    pasted = Pasted(donor, 1, make())
    before = {name: tensor.clone() for name, tensor in pasted.state_dict().items()}
    donated = {name: tensor.clone() for name, tensor in donor.state_dict().items()}
    objective = InContextRegression(LinearRegression(DIM), batch=4, points=POINTS)
    train(pasted, objective, TrainConfig(steps=3, lr=1e-2), tmp_path / "run", progress=False)
    after = pasted.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in after if name.startswith("upper."))
    assert not any(torch.equal(after[name], before[name]) for name, p in pasted.named_parameters() if p.requires_grad)
    assert all(torch.equal(tensor, donated[name]) for name, tensor in donor.state_dict().items())
    assert all(p.requires_grad for p in donor.parameters()), "the donor is copied, so it can go on training"


@every_embedding
def test_a_pasted_learner_is_a_predictor_that_sees_no_future(donor, prompt, make):
    pasted = Pasted(donor, 1, make())
    before = pasted.predict(prompt.xs, prompt.ys).mean
    assert before.shape == (4, POINTS)
    ys = prompt.ys.clone()
    ys[:, 2:] += 1.0
    torch.testing.assert_close(pasted.predict(prompt.xs, ys).mean[:, :3], before[:, :3])


def test_copying_puts_x_beside_its_label(prompt):
    linear, copying = EMBEDDINGS["linear"](), EMBEDDINGS["copying"]()
    streams = [embedding(prompt.xs, prompt.ys) - embedding.position for embedding in (linear, copying)]
    torch.testing.assert_close(streams[0][:, 0::2], streams[1][:, 0::2])
    torch.testing.assert_close(streams[0][:, 0::2] + streams[0][:, 1::2], streams[1][:, 1::2])


def test_another_dimension_can_be_pasted(donor, generator):
    wide = LinearRegression(7).sample(2, POINTS, generator)
    pasted = Pasted(donor, 1, LinearEmbedding(7, WIDTH, POINTS, copying=True))
    assert pasted(wide.xs, wide.ys).shape == (2, POINTS)


def test_bad_pastings_get_a_sentence(donor, prompt):
    for layer in (-1, 3):
        with pytest.raises(ValueError, match=f"layer must lie between 0 and 2, so that a block is pasted, not {layer}"):
            Pasted(donor, layer, EMBEDDINGS["linear"]())
    with pytest.raises(ValueError, match=r"the point carries"):
        Pasted(donor, 1, LinearEmbedding(DIM, WIDTH + 1, POINTS, copying=False))(prompt.xs, prompt.ys)
    with pytest.raises(ValueError, match="must be at least 1"):
        LinearEmbedding(0, WIDTH, POINTS, copying=False)
