"""What a model is asked: from texts to batches, and from a batch to a loss."""

from llmlib.training.objectives.corruption import (
    SpecialTokens,
    corrupt_spans,
    random_span_mask,
    restore_spans,
    span_counts,
)
from llmlib.training.objectives.denoising import (
    UL2_DENOISERS,
    Denoiser,
    as_one_sequence,
    denoise,
    mixture_of_denoisers,
    span_corruption,
)
from llmlib.training.objectives.language_modeling import (
    language_modeling,
    prefix_language_modeling,
    split_prefix,
)
from llmlib.training.objectives.next_token import (
    hidden_states,
    linear_cross_entropy,
    next_token_loss,
)

__all__ = [
    "Denoiser",
    "SpecialTokens",
    "UL2_DENOISERS",
    "as_one_sequence",
    "corrupt_spans",
    "denoise",
    "hidden_states",
    "language_modeling",
    "linear_cross_entropy",
    "mixture_of_denoisers",
    "next_token_loss",
    "prefix_language_modeling",
    "random_span_mask",
    "restore_spans",
    "span_corruption",
    "span_counts",
    "split_prefix",
]
