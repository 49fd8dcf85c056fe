"""Training loops, optimizers, schedules, precision, parallelism and checkpoints."""

from llmlib.training.checkpoint import load_model
from llmlib.training.checkpoint_files import best, checkpoints, latest, read_manifest
from llmlib.training.combined import CombinedOptimizer, build_optimizer, muon_with_adamw
from llmlib.training.config import TrainConfig, accumulation
from llmlib.training.distributed import process_group
from llmlib.training.metrics import read_metrics, throughput
from llmlib.training.muon import Muon, orthogonalize
from llmlib.training.objectives import (
    language_modeling,
    linear_cross_entropy,
    mixture_of_denoisers,
    next_token_loss,
    prefix_language_modeling,
    span_corruption,
)
from llmlib.training.optim import adamw, param_groups, parameter_roles
from llmlib.training.precision import autocast, resolve_precision
from llmlib.training.schedules import Schedule
from llmlib.training.trainer import Trainer, TrainResult

__all__ = [
    "CombinedOptimizer",
    "Muon",
    "Schedule",
    "TrainConfig",
    "TrainResult",
    "Trainer",
    "accumulation",
    "adamw",
    "autocast",
    "best",
    "build_optimizer",
    "checkpoints",
    "language_modeling",
    "latest",
    "linear_cross_entropy",
    "load_model",
    "mixture_of_denoisers",
    "muon_with_adamw",
    "next_token_loss",
    "orthogonalize",
    "param_groups",
    "parameter_roles",
    "prefix_language_modeling",
    "process_group",
    "read_manifest",
    "read_metrics",
    "resolve_precision",
    "span_corruption",
    "throughput",
]
