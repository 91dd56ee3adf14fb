"""Laws that both their own tests and those of their exact answers are about."""

import pytest

BOOLEAN = {
    "conjunction": {"name": "Conjunction"},
    "noisy conjunction": {"name": "Conjunction", "dim": 8, "noise": 0.1},
    "disjunction": {"name": "Disjunction"},
    "sparse disjunction": {"name": "Disjunction", "dim": 50, "monotone": True, "sparsity": 4},
    "dnf": {"name": "DNF", "dim": 3},
    "noisy dnf": {"name": "DNF", "dim": 3, "clauses": 2, "noise": 0.1},
    "cnf": {"name": "CNF", "dim": 3},
    "threshold": {"name": "SparseThreshold", "dim": 7},
    "halfspace": {"name": "IntegerHalfspace", "dim": 5},
    "majority": {"name": "SparseMajority", "dim": 10},
    "parity": {"name": "Parity", "dim": 10},
    "sparse parity": {"name": "Parity", "dim": 10, "sparsity": 2},
    "noisy sparse parity": {"name": "Parity", "dim": 10, "sparsity": 2, "noise": 0.1},
    "nearest neighbour": {"name": "NearestNeighbour", "dim": 8, "start": 5},
    "noisy nearest neighbour": {"name": "NearestNeighbour", "dim": 8, "start": 5, "noise": 0.2},
}


@pytest.fixture(params=BOOLEAN.values(), ids=BOOLEAN)
def boolean_task(request: pytest.FixtureRequest):
    """Each law of discrete functions in turn, at a size whose exact answer is quick."""
    from microtome.lab.tasks import catalogue  # not above: annotations are checked only of what is imported later

    return catalogue.build(request.param)
