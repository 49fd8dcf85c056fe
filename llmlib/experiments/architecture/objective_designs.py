"""The families and objectives that are compared: models, batches and what a step costs."""

import torch
from jaxtyping import Int
from torch import Tensor

from llmlib.architecture.config import ModelConfig
from llmlib.architecture.counts import forward_flops
from llmlib.architecture.encoder_decoder import EncoderDecoder, encoder_decoder_flops
from llmlib.architecture.transformer import Transformer
from llmlib.core.batch import Batch
from llmlib.experiments.short_text import VOCAB_SIZE
from llmlib.training.objectives.causal_and_prefix import (
    language_modeling,
    prefix_language_modeling,
    split_prefix,
)
from llmlib.training.objectives.denoising import (
    as_one_sequence,
    mixture_of_denoisers,
    span_corruption,
)
from llmlib.training.objectives.masked_spans import SpecialTokens
from llmlib.training.objectives.next_token import LanguageModel

LENGTH, BATCH, LAYERS = 64, 16, 2
SPECIAL = SpecialTokens(n_text_tokens=VOCAB_SIZE, n_sentinels=16)

DESIGNS: dict[str, tuple[str, str]] = {
    "causal decoder, LM": ("causal", "lm"),
    "prefix decoder, prefix LM": ("prefix", "prefix-lm"),
    "encoder-decoder, prefix LM": ("encoder-decoder", "prefix-lm"),
    "causal decoder, spans": ("causal", "spans"),
    "encoder-decoder, spans": ("encoder-decoder", "spans"),
    "causal decoder, denoisers": ("causal", "denoisers"),
    "prefix decoder, denoisers": ("prefix", "denoisers"),
}
"""Family and objective by the design's name."""

LM, PREFIX_LM = "causal decoder, LM", "prefix decoder, prefix LM"


def build(family: str) -> LanguageModel:
    """Build a decoder of two layers, `causal` or `prefix`, or an `encoder-decoder` of two stacks.

    Two stacks have nearly twice the parameters, and work as much on a token as one: each token
    passes through one of them.
    """
    config = ModelConfig(
        vocab_size=SPECIAL.vocab_size, d_model=64, n_layers=LAYERS, n_heads=4, max_seq_len=128,
        mask="prefix" if family == "prefix" else "causal",
    )  # fmt: skip
    return EncoderDecoder(config) if family == "encoder-decoder" else Transformer(config)


def make_batch(
    rows: Int[Tensor, "B T1"], family: str, objective: str, generator: torch.Generator
) -> Batch:
    """Turn rows of text, a token longer than `LENGTH`, into what a design learns from."""
    if objective == "lm":
        return language_modeling(rows)
    if objective == "prefix-lm" and family != "encoder-decoder":
        return prefix_language_modeling(rows, generator=generator)
    if objective == "prefix-lm":  # one length a batch, so that nothing is padding
        length = int(torch.randint(1, LENGTH + 1, (1,), generator=generator))
        return split_prefix(rows, SPECIAL, length)
    corrupt = span_corruption if objective == "spans" else mixture_of_denoisers
    batch = corrupt(rows[:, :LENGTH], SPECIAL, generator=generator)
    return batch if family == "encoder-decoder" else as_one_sequence(batch, SPECIAL)


def step_flops(model: LanguageModel, batch: Batch) -> int:
    """Count the operations of a training step, padding included: it is computed too."""
    if "inputs" in batch:
        return 3 * forward_flops(model.config, *batch["inputs"].shape)
    rows, n_encoded = batch["encoder_inputs"].shape
    n_decoded = batch["decoder_inputs"].shape[1]
    return 3 * encoder_decoder_flops(model.config, LAYERS, rows, n_encoded, n_decoded)
