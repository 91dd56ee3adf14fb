"""Learning algorithms written into the weights of a transformer, nothing trained.

Akyürek et al., "What learning algorithm is in-context learning? Investigations with linear models" (2023). The way
from top to bottom: `predictor` answers whole prompts like the lab's predictors; `gradient_descent` and `ridge` write
programs of primitives; `raw` says what a primitive means; `compiler` turns each into one layer; `machine` runs layers;
`layout` says which row of a token holds what.
"""

from microtome.theory.constructions.icl_linear_algorithms.compiler import Scales, compile_layer
from microtome.theory.constructions.icl_linear_algorithms.construction import Construction
from microtome.theory.constructions.icl_linear_algorithms.gradient_descent import (
    direct_gradient_step,
    direct_sgd_pass,
    gradient_step,
    gradient_steps,
    sgd_pass,
)
from microtome.theory.constructions.icl_linear_algorithms.layout import Layout
from microtome.theory.constructions.icl_linear_algorithms.machine import Head, Layer, run
from microtome.theory.constructions.icl_linear_algorithms.predictor import (
    Constructed,
    constructed_descent,
    constructed_ridge,
    constructed_sgd,
)
from microtome.theory.constructions.icl_linear_algorithms.raw import Divide, Raw, aff, apply, div, itself, mov, mul
from microtome.theory.constructions.icl_linear_algorithms.ridge import direct_ridge, ridge

__all__ = [
    "Constructed",
    "constructed_descent",
    "constructed_sgd",
    "constructed_ridge",
    "Construction",
    "gradient_step",
    "gradient_steps",
    "sgd_pass",
    "ridge",
    "direct_gradient_step",
    "direct_sgd_pass",
    "direct_ridge",
    "Raw",
    "Divide",
    "mov",
    "mul",
    "aff",
    "div",
    "itself",
    "apply",
    "Layout",
    "Scales",
    "compile_layer",
    "Head",
    "Layer",
    "run",
]
