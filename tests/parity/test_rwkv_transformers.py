"""RWKV-4's logits and greedy text equal transformers' on copied weights."""

import pytest
import torch
from transformers import RwkvConfig, RwkvForCausalLM

from llmlib.architecture import ModelConfig, Transformer
from tests.parity.copied_models import (
    State,
    assert_equal_gradients,
    assert_equal_logits_and_greedy_text,
)


def rwkv_state(theirs: State, n_layers: int) -> State:
    ours: State = {
        "embedding.weight": theirs["rwkv.embeddings.weight"],
        "head.weight": theirs["head.weight"],
    }
    for kind in ("weight", "bias"):
        ours[f"embedding_norm.{kind}"] = theirs[f"rwkv.blocks.0.pre_ln.{kind}"]
        ours[f"norm.{kind}"] = theirs[f"rwkv.ln_out.{kind}"]
    names = {
        "mixer_norm.weight": "ln1.weight",
        "mixer_norm.bias": "ln1.bias",
        "feedforward_norm.weight": "ln2.weight",
        "feedforward_norm.bias": "ln2.bias",
        "mixer.log_rates": "attention.time_decay",
        "mixer.bonus": "attention.time_first",
        "mixer.mix_key": "attention.time_mix_key",
        "mixer.mix_value": "attention.time_mix_value",
        "mixer.mix_receptance": "attention.time_mix_receptance",
        "mixer.key.weight": "attention.key.weight",
        "mixer.value.weight": "attention.value.weight",
        "mixer.receptance.weight": "attention.receptance.weight",
        "mixer.out.weight": "attention.output.weight",
        "feedforward.mix_key": "feed_forward.time_mix_key",
        "feedforward.mix_receptance": "feed_forward.time_mix_receptance",
        "feedforward.key.weight": "feed_forward.key.weight",
        "feedforward.receptance.weight": "feed_forward.receptance.weight",
        "feedforward.out.weight": "feed_forward.value.weight",
    }
    for i in range(n_layers):
        for target, source in names.items():
            value = theirs[f"rwkv.blocks.{i}.{source}"]
            ours[f"blocks.{i}.{target}"] = value.flatten() if "mix_" in target else value
    return ours


@pytest.fixture
def pair() -> tuple[Transformer, RwkvForCausalLM]:
    torch.manual_seed(11)
    theirs = RwkvForCausalLM(
        RwkvConfig(
            vocab_size=101, context_length=41, hidden_size=53, num_hidden_layers=3,
            intermediate_size=67, layer_norm_epsilon=1e-5, tie_word_embeddings=False,
            rescale_every=0,  # halves weights and states for float16: no part of the model
        )
    ).eval()  # fmt: skip
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "time_mix" in name:
                parameter.uniform_()
            elif "time_" in name:
                parameter.normal_()
            else:
                parameter.normal_(std=0.3)
    ours = Transformer(
        ModelConfig(
            vocab_size=101, d_model=53, n_layers=3, n_heads=1, max_seq_len=41, mixer="rwkv",
            d_ff=67, norm="layer", norm_bias=True, embedding_norm=True, tie_embeddings=False,
        )
    ).eval()  # fmt: skip
    ours.load_state_dict(rwkv_state(theirs.state_dict(), 3))
    return ours, theirs


@pytest.mark.covers("arch.rwkv")
def test_logits_and_greedy_text_equal_transformers(pair):
    ours, theirs = pair
    assert_equal_logits_and_greedy_text(ours, theirs, torch.randint(101, (3, 23)))


def test_gradients_equal_transformers(pair):
    ours, theirs = pair
    ids = torch.randint(101, (2, 19))
    assert_equal_gradients(ours, theirs, ids, lambda state: rwkv_state(state, 3))
