"""Laws of prompts and of token sequences, each with what is known about them."""

from microtome.lab.tasks.algorithmic import EvenTokenPrediction, PositionIdentification, RepeatedBlock
from microtome.lab.tasks.inputs import Inputs, Spectrum
from microtome.lab.tasks.protocol import Prompt, Task, TokenBatch, TokenTask
from microtome.lab.tasks.regression import LinearRegression

__all__ = [
    "Prompt",
    "Task",
    "Inputs",
    "LinearRegression",
    "Spectrum",
    "TokenBatch",
    "TokenTask",
    "PositionIdentification",
    "EvenTokenPrediction",
    "RepeatedBlock",
]
