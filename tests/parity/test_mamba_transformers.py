"""Mamba's logits and greedy text equal transformers' on copied weights."""

import pytest
import torch
from transformers import MambaConfig, MambaForCausalLM

from llmlib.architecture import ModelConfig, Transformer
from tests.parity.copied_models import (
    State,
    assert_equal_gradients,
    assert_equal_logits_and_greedy_text,
)


def mamba_state(theirs: State, n_layers: int) -> State:
    ours: State = {
        "embedding.weight": theirs["backbone.embeddings.weight"],
        "norm.weight": theirs["backbone.norm_f.weight"],
        "head.weight": theirs["lm_head.weight"],
    }
    names = {
        "mixer_norm.weight": "norm.weight",
        "mixer.up.weight": "mixer.in_proj.weight",
        "mixer.conv_bias": "mixer.conv1d.bias",
        "mixer.select.weight": "mixer.x_proj.weight",
        "mixer.step.weight": "mixer.dt_proj.weight",
        "mixer.step.bias": "mixer.dt_proj.bias",
        "mixer.log_rates": "mixer.A_log",
        "mixer.skip": "mixer.D",
        "mixer.out.weight": "mixer.out_proj.weight",
    }
    for i in range(n_layers):
        for target, source in names.items():
            ours[f"blocks.{i}.{target}"] = theirs[f"backbone.layers.{i}.{source}"]
        # Their last tap, our first, is the present token's.
        taps = theirs[f"backbone.layers.{i}.mixer.conv1d.weight"].squeeze(1).flip(-1)
        ours[f"blocks.{i}.mixer.taps"] = taps
    return ours


@pytest.fixture
def pair() -> tuple[Transformer, MambaForCausalLM]:
    torch.manual_seed(7)
    theirs = MambaForCausalLM(
        MambaConfig(
            vocab_size=101, hidden_size=53, state_size=7, num_hidden_layers=3, conv_kernel=5,
            expand=3, time_step_rank="auto", layer_norm_epsilon=1e-5, tie_word_embeddings=False,
        )
    ).eval()  # fmt: skip
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if name.endswith(("A_log", "dt_proj.bias")):  # states that forget within the text
                parameter.add_(torch.randn_like(parameter))
            else:
                parameter.normal_(std=0.3)
    ours = Transformer(
        ModelConfig(
            vocab_size=101, d_model=53, n_layers=3, n_heads=1, max_seq_len=41, mixer="mamba",
            state_dim=7, conv_kernel=5, expand=3, tie_embeddings=False,
        )
    ).eval()  # fmt: skip
    ours.load_state_dict(mamba_state(theirs.state_dict(), 3))
    return ours, theirs


@pytest.mark.covers("arch.mamba")
def test_logits_and_greedy_text_equal_transformers(pair):
    ours, theirs = pair
    assert_equal_logits_and_greedy_text(ours, theirs, torch.randint(101, (3, 23)))


def test_gradients_equal_transformers(pair):
    ours, theirs = pair
    ids = torch.randint(101, (2, 19))
    assert_equal_gradients(ours, theirs, ids, lambda state: mamba_state(state, 3))
