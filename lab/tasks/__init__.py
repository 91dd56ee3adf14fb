"""Laws of prompts and of token sequences, each with what is known about them; `catalogue` has all of them by name.

`boolean` holds functions on bits, `distributions` priors and observations to be inverted.
"""

from microtome.lab.tasks.algorithmic import EvenTokenPrediction, PositionIdentification, RepeatedBlock
from microtome.lab.tasks.boolean import (
    CNF,
    DNF,
    Conjunction,
    Disjunction,
    IntegerHalfspace,
    NearestNeighbour,
    Parity,
    PromptPool,
    SparseMajority,
    SparseThreshold,
)
from microtome.lab.tasks.dynamics import RepresentationDynamics
from microtome.lab.tasks.families import Subsets
from microtome.lab.tasks.features import Fourier, Haar, Monomials
from microtome.lab.tasks.inputs import Inputs, Spectrum
from microtome.lab.tasks.markov import Induction, MarkovChain
from microtome.lab.tasks.mixtures import Mixture
from microtome.lab.tasks.networks import ReLUNetwork
from microtome.lab.tasks.priors import GaussianMixtureRegression, LowRank, SignVector, TaskPool
from microtome.lab.tasks.protocol import Prompt, Task, TokenBatch, TokenTask
from microtome.lab.tasks.regression import LinearRegression
from microtome.lab.tasks.representations import Representation, RepresentationRegression
from microtome.lab.tasks.softmax_regression import SoftmaxRegression
from microtome.lab.tasks.trees import DecisionTree

__all__ = [
    "Prompt",
    "Task",
    "Inputs",
    "Spectrum",
    "LinearRegression",
    "SignVector",
    "LowRank",
    "GaussianMixtureRegression",
    "TaskPool",
    "Mixture",
    "Monomials",
    "Fourier",
    "Haar",
    "Subsets",
    "DecisionTree",
    "ReLUNetwork",
    "Representation",
    "RepresentationRegression",
    "RepresentationDynamics",
    "SoftmaxRegression",
    "Conjunction",
    "Disjunction",
    "DNF",
    "CNF",
    "SparseThreshold",
    "IntegerHalfspace",
    "SparseMajority",
    "Parity",
    "NearestNeighbour",
    "PromptPool",
    "TokenBatch",
    "TokenTask",
    "PositionIdentification",
    "EvenTokenPrediction",
    "RepeatedBlock",
    "MarkovChain",
    "Induction",
]
