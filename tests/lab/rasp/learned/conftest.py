"""Networks with random and with hand-set parameters."""

from collections.abc import Callable

import pytest
import torch

from microtome.lab.rasp.learned.network import TransformerProgram
from microtome.lab.rasp.learned.options import BOS, PAD, Options


def make_options(letters: str = "abc", n_classes: int = 3, **others) -> Options:
    tokens, classes = (PAD, BOS, *letters), (PAD, *"xyzw"[:n_classes])
    sizes = {"n_ctx": 5, "n_layers": 1, "n_cat_heads": 1, "n_num_heads": 1, "n_cat_mlps": 1, "n_num_mlps": 1} | others
    narrowest = max(sizes["n_ctx"], len(tokens))
    return Options(tokens, classes, **({"d_var": narrowest} | sizes))


@pytest.fixture(scope="session")
def options() -> Callable[..., Options]:
    return make_options


@pytest.fixture(scope="session")
def random_network() -> Callable[..., TransformerProgram]:
    """A network in float64, where no two scores are equal to within rounding; biases are random too."""

    def build(seed: int = 0, **sizes) -> TransformerProgram:
        model = TransformerProgram(make_options(**sizes)).double()
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(generator=generator)
        return model

    return build


@pytest.fixture(scope="session")
def set_head() -> Callable[..., None]:
    """Makes a head of the discrete network read given variables and look for given keys, by index."""

    @torch.no_grad()
    def change(heads, head: int, query: int, key: int, value: int, wanted: list[int]) -> None:
        for gate, variable in ((heads.gate.logits[0], query), (heads.gate.logits[1], key)):
            gate[head] = 0
            gate[head, variable] = 1
        heads.value_gate.logits[head] = 0
        heads.value_gate.logits[head, value] = 1
        heads.predicate[head] = 0
        for value_of_query, value_of_key in enumerate(wanted):
            heads.predicate[head, value_of_query, value_of_key] = 1

    return change
