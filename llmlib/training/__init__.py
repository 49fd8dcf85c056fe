"""Training loops, optimizers, schedules, precision, parallelism and checkpoints."""

from typing import TYPE_CHECKING

from llmlib.core.lazy import lazy_face

if TYPE_CHECKING:
    from llmlib.training.checkpointing.checkpoint import load_model
    from llmlib.training.checkpointing.files import best, checkpoints, latest, read_manifest
    from llmlib.training.config import TrainConfig, accumulation
    from llmlib.training.distributed import process_group
    from llmlib.training.memory.chunked_loss import linear_cross_entropy
    from llmlib.training.metrics import read_metrics, throughput
    from llmlib.training.objectives.causal_and_prefix import (
        language_modeling,
        prefix_language_modeling,
    )
    from llmlib.training.objectives.denoising import mixture_of_denoisers, span_corruption
    from llmlib.training.objectives.next_token import next_token_loss
    from llmlib.training.optimizers.adamw import adamw, param_groups, parameter_roles
    from llmlib.training.optimizers.combined import (
        CombinedOptimizer,
        build_optimizer,
        muon_with_adamw,
    )
    from llmlib.training.optimizers.muon import Muon, orthogonalize
    from llmlib.training.optimizers.schedules import Schedule
    from llmlib.training.precision import autocast, resolve_precision
    from llmlib.training.trainer import Trainer, TrainResult

__getattr__, __dir__, __all__ = lazy_face(__name__)
