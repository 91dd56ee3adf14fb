"""Training: one loop for every model and every objective, exact to the bit when resumed.

Typical use:

    objective = InContextRegression(task, batch=64, points=40)
    run = train(model, objective, TrainConfig(steps=10_000, schedule="cosine"), "runs/first")
    run.metrics()               # a polars table: run_id, step, metric, value, time
    load("runs/first").model    # later; `train(…, resume=True)` takes an interrupted run up
"""

from microtome.lab.train.callbacks import Callback as Callback
from microtome.lab.train.checkpoint import CheckpointError as CheckpointError
from microtome.lab.train.config import TrainConfig as TrainConfig
from microtome.lab.train.curriculum import Curriculum as Curriculum
from microtome.lab.train.curriculum import Ramp as Ramp
from microtome.lab.train.curriculum import over_coordinates as over_coordinates
from microtome.lab.train.curriculum import over_frequencies as over_frequencies
from microtome.lab.train.diagnose import NonFiniteLoss as NonFiniteLoss
from microtome.lab.train.distribution import PosteriorMatching as PosteriorMatching
from microtome.lab.train.next_vector import NextVector as NextVector
from microtome.lab.train.objective import Batch as Batch
from microtome.lab.train.objective import InContextClassification as InContextClassification
from microtome.lab.train.objective import InContextRegression as InContextRegression
from microtome.lab.train.objective import Objective as Objective
from microtome.lab.train.objective import TokenPrediction as TokenPrediction
from microtome.lab.train.run import Run as Run
from microtome.lab.train.run import load as load
from microtome.lab.train.trainer import train as train
from microtome.lab.train.unkept import fit as fit
