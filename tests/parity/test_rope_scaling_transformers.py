"""The stretched frequencies equal transformers'."""

import pytest
import torch
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from llmlib.architecture import ModelConfig
from llmlib.architecture.positions.rope_scaling import rope_table

HEAD, TRAINED, FACTOR, THETA = 38, 211, 4.7, 7919.0


@pytest.mark.covers("arch.long-interpolation")
@pytest.mark.parametrize("scaling", ["linear", "dynamic", "yarn"])
@pytest.mark.parametrize("length", [TRAINED, 3 * TRAINED])
def test_frequencies_equal_transformers(scaling, length):
    theirs = LlamaConfig(
        hidden_size=2 * HEAD, num_attention_heads=2, head_dim=HEAD,
        # For `dynamic` transformers takes the trained length from here.
        max_position_embeddings=TRAINED,
        rope_parameters={
            "rope_type": scaling, "rope_theta": THETA, "factor": FACTOR,
            "original_max_position_embeddings": TRAINED,
        },
    )  # fmt: skip
    expected, temperature = ROPE_INIT_FUNCTIONS[scaling](theirs, torch.device("cpu"), length)
    ours = ModelConfig(
        vocab_size=7, d_model=2 * HEAD, n_layers=1, n_heads=2, max_seq_len=3 * TRAINED,
        rope_theta=THETA, rope_scaling=scaling, rope_factor=FACTOR, rope_original_len=TRAINED,
    )  # fmt: skip
    frequencies, scale = rope_table(ours, length)
    torch.testing.assert_close(frequencies, expected, atol=1e-7, rtol=1e-5)
    assert scale == pytest.approx(temperature)
