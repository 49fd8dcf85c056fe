"""Training loops, optimizers, schedules, precision, parallelism and checkpoints."""

from llmlib.training.loss import linear_cross_entropy, next_token_loss
from llmlib.training.muon import Muon, orthogonalize
from llmlib.training.optim import (
    CombinedOptimizer,
    adamw,
    muon_with_adamw,
    param_groups,
    parameter_roles,
)
from llmlib.training.precision import autocast, resolve_precision
from llmlib.training.schedules import Schedule

__all__ = [
    "CombinedOptimizer",
    "Muon",
    "Schedule",
    "adamw",
    "autocast",
    "linear_cross_entropy",
    "muon_with_adamw",
    "next_token_loss",
    "orthogonalize",
    "param_groups",
    "parameter_roles",
    "resolve_precision",
]
