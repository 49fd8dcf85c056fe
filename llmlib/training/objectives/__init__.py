"""What a model is asked: from texts to batches, and from a batch to a loss."""

from typing import TYPE_CHECKING

from llmlib.core.lazy import lazy_face

if TYPE_CHECKING:
    from llmlib.training.memory.chunked_loss import linear_cross_entropy
    from llmlib.training.objectives.causal_and_prefix import (
        language_modeling,
        prefix_language_modeling,
        split_prefix,
    )
    from llmlib.training.objectives.denoising import (
        UL2_DENOISERS,
        Denoiser,
        as_one_sequence,
        denoise,
        mixture_of_denoisers,
        span_corruption,
    )
    from llmlib.training.objectives.masked_spans import (
        SpecialTokens,
        corrupt_spans,
        random_span_mask,
        restore_spans,
        span_counts,
    )
    from llmlib.training.objectives.next_token import (
        hidden_states,
        next_token_loss,
    )

__getattr__, __dir__, __all__ = lazy_face(__name__)
