"""The phase picture: an exam of known predictors in the learner's place, small training, and the figure."""

import pytest
import torch
from matplotlib.patches import Rectangle

from microtome.lab.bayes import KNN, OLS, BayesLinear, GradientDescent, Predictor, Ridge
from microtome.lab.report import phases as room
from microtome.lab.report.phases import phase_figure, phases, trained
from microtome.lab.tasks import LinearRegression


@pytest.fixture(autouse=True)
def _few_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "PROMPTS", 64)
    monkeypatch.setattr(room, "CONTEXTS", 8)


EXAM = {  # (depth, σ): who sits in the learner's place, and what the picture must call it
    (1, 0.5): (GradientDescent(1, 0.1), "gradient descent"),
    (2, 0.5): (Ridge(1.0), "ridge"),
    (3, 0.5): (OLS(), "least squares"),
    (1, 0.0): (KNN(3), "k-NN"),
    (2, 0.0): (Ridge(4.0), "ridge"),
    (3, 0.0): (BayesLinear(0.0), "Bayes"),
}


def in_place(depth: int, noise: float) -> Predictor:
    return EXAM[depth, noise][0]


def test_known_predictors_are_called_by_their_names() -> None:
    found = phases((1, 2, 3), (0.5, 0.0), in_place, dim=3, points=5)
    for cell, (_, family) in EXAM.items():
        assert found.cells[cell].nearest.family == family, cell
        assert found.cells[cell].nearest_by_weights.family == family, cell
    assert found.cells[2, 0.5].nearest.detail == "λ=1"
    assert found.cells[2, 0.5].predictions["ridge λ=1"] < 1e-10


def test_the_figure_shows_every_cell() -> None:
    found = phases((1, 2, 3), (0.0, 0.5), in_place, dim=3, points=5)
    figure = phase_figure(found)
    assert figure.get_size_inches()[1] <= 3.5
    for axes in figure.axes:
        squares = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
        words = {text.get_position(): text.get_text() for text in axes.texts}
        assert len(squares) == len(words) == 6
        assert len({square.get_facecolor() for square in squares}) == 5, "one colour a family; ridge occurs twice"
        assert words[1, 1].startswith("λ=1\n"), "ridge at two layers and σ = ½"
        assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2", "3"]
    named = [text.get_text() for text in figure.legends[0].get_texts()]
    assert named[:4] == ["gradient descent", "k-NN", "ridge", "least squares"]
    assert named[4] == "Bayes (without noise: least squares)"


def test_one_cell_is_a_picture_too() -> None:
    figure = phase_figure(phases((2,), (0.5,), in_place, dim=3, points=5))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["ridge"]


def test_learners_train_into_cells_and_the_seed_decides() -> None:
    depths, noises = (1, 2), (0.0, 0.5)

    def run(seed: int) -> list[float]:
        def learner(depth: int, noise: float) -> Predictor:
            return trained(depth, LinearRegression(2, noise), steps=3, d_model=8, seed=seed)

        found = phases(depths, noises, learner)
        assert set(found.cells) == {(depth, noise) for depth in depths for noise in noises}
        assert found.depths == depths
        return [
            value for cell in found.cells.values() for value in (*cell.predictions.values(), *cell.weights.values())
        ]

    first, again, other = run(0), run(0), run(1)
    assert first == again
    assert first != other
    assert all(torch.tensor(first).isfinite())


def test_training_moves_a_learner_to_bayes() -> None:
    """After 200 steps a two-layer learner is nearer to Bayes than after one, and k-NN is no longer as near."""

    def distances(steps: int) -> dict[str, float]:
        found = phases((2,), (0.5,), lambda depth, noise: trained(depth, LinearRegression(2, noise), steps=steps))
        return found.cells[2, 0.5].predictions

    before, after = distances(1), distances(200)
    assert after["Bayes"] < before["Bayes"]
    assert after["Bayes"] < after["k-NN k=3"] / 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"depths": ()}, "depths must be at least one, each once"),
        ({"depths": (1, 1)}, "depths must be at least one, each once"),
        ({"noises": ()}, "noises must be at least one, each once"),
        ({"noises": (-1.0,)}, "noise_std"),
        ({"dim": 1}, "dim must lie between 2 and points = 6, not 1"),
        ({"dim": 7}, "dim must lie between 2 and points = 6, not 7"),
    ],
)
def test_bad_input_gets_a_sentence(arguments: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        phases(**{"depths": (1,), "noises": (0.5,), "learner": in_place} | arguments)
