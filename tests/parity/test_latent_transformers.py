"""Latent attention equals transformers' DeepSeek-V3 on copied weights."""

import pytest
import torch
from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

from llmlib.architecture import ModelConfig, Transformer
from tests.parity.copied_models import (
    LLAMA_ATTENTION,
    LLAMA_FEEDFORWARD,
    LLAMA_NORMS,
    assert_equal_logits_and_greedy_text,
    llama_state,
)

LAYERS, HEADS, WIDTH, ROTATED, LATENT = 2, 3, 7, 6, 11


def heads_first(weight: torch.Tensor, parts: tuple[int, int]) -> torch.Tensor:
    """Sort rows from a pair of parts in each head to all heads' first and second parts."""
    first, second = weight.unflatten(0, (HEADS, -1)).split(parts, dim=1)
    return torch.cat((first.flatten(0, 1), second.flatten(0, 1)))


def halves(weight: torch.Tensor, n_rotated: int, *, interleaved: bool) -> torch.Tensor:
    """Sort the rows that RoPE turns from neighbouring pairs to two halves."""
    if not interleaved:
        return weight
    rotated = weight[-n_rotated:].unflatten(0, (-1, ROTATED))
    rotated = torch.cat((rotated[:, ::2], rotated[:, 1::2]), dim=1).flatten(0, 1)
    return torch.cat((weight[:-n_rotated], rotated))


def pair(query_latent_dim: int, *, interleaved: bool) -> tuple[Transformer, DeepseekV3ForCausalLM]:
    torch.manual_seed(5)
    theirs = DeepseekV3ForCausalLM(
        DeepseekV3Config(
            vocab_size=37, hidden_size=26, intermediate_size=19, num_hidden_layers=LAYERS,
            num_attention_heads=HEADS, num_key_value_heads=HEADS, kv_lora_rank=LATENT,
            q_lora_rank=query_latent_dim or None, qk_rope_head_dim=ROTATED, v_head_dim=WIDTH,
            qk_nope_head_dim=WIDTH, first_k_dense_replace=LAYERS, max_position_embeddings=41,
            rope_interleave=interleaved, rms_norm_eps=1e-6, tie_word_embeddings=False,
            initializer_range=0.2, pad_token_id=None, bos_token_id=None, eos_token_id=None,
        )
    ).eval()  # fmt: skip
    config = ModelConfig(
        vocab_size=37, d_model=26, n_layers=LAYERS, n_heads=HEADS, head_dim=WIDTH, d_ff=19,
        max_seq_len=41, norm_eps=1e-6, tie_embeddings=False, mixer="latent", latent_dim=LATENT,
        query_latent_dim=query_latent_dim, rope_head_dim=ROTATED,
    )  # fmt: skip
    ours = Transformer(config).eval()
    source = theirs.state_dict()
    names = {"mixer.out": LLAMA_ATTENTION["mixer.out"], **LLAMA_NORMS, **LLAMA_FEEDFORWARD}
    state = llama_state(source, LAYERS, names)
    for i in range(LAYERS):
        block, attention = f"blocks.{i}.", f"model.layers.{i}.self_attn."
        down = source[attention + "kv_a_proj_with_mqa.weight"]
        query = source[attention + ("q_b_proj.weight" if query_latent_dim else "q_proj.weight")]
        query = heads_first(query, (WIDTH, ROTATED))
        up = source[attention + "kv_b_proj.weight"]
        state |= {
            block + "mixer.down.weight": halves(down, ROTATED, interleaved=interleaved),
            block + "mixer.latent_norm.weight": source[attention + "kv_a_layernorm.weight"],
            block + "mixer.up.weight": heads_first(up, (WIDTH, WIDTH)),
            block + "mixer.query.weight": halves(query, HEADS * ROTATED, interleaved=interleaved),
        }
        if query_latent_dim:
            state[block + "mixer.query_down.weight"] = source[attention + "q_a_proj.weight"]
            state[block + "mixer.query_norm.weight"] = source[attention + "q_a_layernorm.weight"]
    ours.load_state_dict(state)
    return ours, theirs


@pytest.mark.covers("arch.attn-mqa-gqa")
@pytest.mark.parametrize("query_latent_dim", [0, 13])
@pytest.mark.parametrize("interleaved", [False, True])
def test_logits_and_greedy_text_equal(query_latent_dim, interleaved):
    ours, theirs = pair(query_latent_dim, interleaved=interleaved)
    ids = torch.randint(37, (2, 23))
    assert_equal_logits_and_greedy_text(ours, theirs, ids, spread=0.1, n_new=18)
