"""Latent attention equals transformers' DeepSeek-V3 on copied weights."""

import pytest
import torch
from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

from llmlib.architecture import ModelConfig, Transformer
from llmlib.architecture.caches.kv_cache import KVCache

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
    state = {
        "embedding.weight": source["model.embed_tokens.weight"],
        "norm.weight": source["model.norm.weight"],
        "head.weight": source["lm_head.weight"],
    }
    for i in range(LAYERS):
        block, layer = f"blocks.{i}.", f"model.layers.{i}."
        attention = layer + "self_attn."
        down = source[attention + "kv_a_proj_with_mqa.weight"]
        query = source[attention + ("q_b_proj.weight" if query_latent_dim else "q_proj.weight")]
        query = heads_first(query, (WIDTH, ROTATED))
        up = source[attention + "kv_b_proj.weight"]
        gate_up = [source[f"{layer}mlp.{name}_proj.weight"] for name in ("gate", "up")]
        state |= {
            block + "mixer.down.weight": halves(down, ROTATED, interleaved=interleaved),
            block + "mixer.latent_norm.weight": source[attention + "kv_a_layernorm.weight"],
            block + "mixer.up.weight": heads_first(up, (WIDTH, WIDTH)),
            block + "mixer.query.weight": halves(query, HEADS * ROTATED, interleaved=interleaved),
            block + "mixer.out.weight": source[attention + "o_proj.weight"],
            block + "mixer_norm.weight": source[layer + "input_layernorm.weight"],
            block + "feedforward_norm.weight": source[layer + "post_attention_layernorm.weight"],
            block + "feedforward.up.weight": torch.cat(gate_up),
            block + "feedforward.out.weight": source[layer + "mlp.down_proj.weight"],
        }
        if query_latent_dim:
            state[block + "mixer.query_down.weight"] = source[attention + "q_a_proj.weight"]
            state[block + "mixer.query_norm.weight"] = source[attention + "q_a_layernorm.weight"]
    ours.load_state_dict(state)
    return ours, theirs


@pytest.mark.covers("arch.attn-mqa-gqa")
@pytest.mark.parametrize("query_latent_dim", [0, 13])
@pytest.mark.parametrize("interleaved", [False, True])
@torch.no_grad()
def test_logits_and_greedy_text_equal(query_latent_dim, interleaved):
    ours, theirs = pair(query_latent_dim, interleaved=interleaved)
    tokens = torch.randint(37, (2, 23))
    expected = theirs(tokens).logits
    torch.testing.assert_close(ours(tokens), expected, atol=1e-4, rtol=1e-4)
    assert expected.std() > 0.1

    cache: KVCache = ours.new_cache(2, 41)  # pyright: ignore[reportAssignmentType]
    text, new = tokens, tokens
    for _ in range(18):
        new = ours(new, cache=cache)[:, -1].argmax(-1, keepdim=True)
        text = torch.cat((text, new), dim=1)
    copied = tokens
    for _ in range(18):
        copied = torch.cat((copied, theirs(copied).logits[:, -1].argmax(-1, keepdim=True)), 1)
    assert torch.equal(text, copied)
