"""The decoder's logits equal transformers' on copied weights: LLaMA and GPT-2."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from llmlib.architecture import ModelConfig, Transformer
from tests.parity.copied_models import (
    State,
    assert_equal_gradients,
    assert_equal_logits_and_greedy_text,
    llama_state,
)


def gpt2_state(theirs: State, n_layers: int) -> State:
    ours: State = {
        "embedding.weight": theirs["transformer.wte.weight"],
        "position_embedding.weight": theirs["transformer.wpe.weight"],
        "norm.weight": theirs["transformer.ln_f.weight"],
        "norm.bias": theirs["transformer.ln_f.bias"],
    }
    names = {
        "mixer_norm": "ln_1",
        "mixer.qkv": "attn.c_attn",
        "mixer.out": "attn.c_proj",
        "feedforward_norm": "ln_2",
        "feedforward.up": "mlp.c_fc",
        "feedforward.out": "mlp.c_proj",
    }
    for i in range(n_layers):
        for target, source in names.items():
            weight = theirs[f"transformer.h.{i}.{source}.weight"]
            # GPT-2's projections are stored input-major.
            ours[f"blocks.{i}.{target}.weight"] = weight if weight.dim() == 1 else weight.T
            ours[f"blocks.{i}.{target}.bias"] = theirs[f"transformer.h.{i}.{source}.bias"]
    return ours


@pytest.fixture
def llama() -> tuple[Transformer, LlamaForCausalLM]:
    torch.manual_seed(7)
    theirs = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=101, hidden_size=60, num_hidden_layers=3, num_attention_heads=6,
            num_key_value_heads=3, head_dim=14, intermediate_size=67, rms_norm_eps=1e-5,
            rope_parameters={"rope_type": "default", "rope_theta": 5003.0},
            max_position_embeddings=41, tie_word_embeddings=False, initializer_range=0.2,
        )
    ).eval()  # fmt: skip
    ours = Transformer(
        ModelConfig(
            vocab_size=101, d_model=60, n_layers=3, n_heads=6, n_kv_heads=3, head_dim=14, d_ff=67,
            max_seq_len=41, rope_theta=5003.0, tie_embeddings=False,
        )
    ).eval()  # fmt: skip
    ours.load_state_dict(llama_state(theirs.state_dict(), 3))
    return ours, theirs


@pytest.fixture
def gpt2() -> tuple[Transformer, GPT2LMHeadModel]:
    torch.manual_seed(11)
    theirs = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=103, n_embd=52, n_layer=3, n_head=4, n_inner=71, n_positions=43,
            activation_function="gelu", initializer_range=0.2,
        )
    ).eval()  # fmt: skip
    ours = Transformer(
        ModelConfig(
            vocab_size=103, d_model=52, n_layers=3, n_heads=4, d_ff=71, max_seq_len=43,
            norm="layer", bias=True, activation="gelu", position="learned",
        )
    ).eval()  # fmt: skip
    ours.load_state_dict(gpt2_state(theirs.state_dict(), 3))
    return ours, theirs


@pytest.mark.covers("arch.causal-decoder")
@pytest.mark.parametrize("pair", ["llama", "gpt2"])
def test_logits_and_greedy_text_equal_transformers(pair, request):
    ours, theirs = request.getfixturevalue(pair)
    assert_equal_logits_and_greedy_text(ours, theirs, torch.randint(101, (3, 23)))


def test_gradients_equal_transformers(llama):
    ours, theirs = llama
    ids = torch.randint(101, (2, 19))
    assert_equal_gradients(ours, theirs, ids, lambda state: llama_state(state, 3))
