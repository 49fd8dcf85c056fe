"""Greedy generation and filtered distributions equal transformers' on copied weights."""

from typing import Any, cast

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.generation.logits_process import (
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from llmlib.architecture import ModelConfig, Transformer
from llmlib.utilization import GREEDY, Sampling, filter_logits, generate
from tests.parity.copied_models import llama_state

LAYERS, VOCAB = 3, 97


def copied_pair() -> tuple[Transformer, LlamaForCausalLM]:
    """A small LLaMA of transformers and our decoder with the same weights."""
    theirs = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCAB, hidden_size=44, num_hidden_layers=LAYERS, num_attention_heads=4,
            num_key_value_heads=2, head_dim=10, intermediate_size=59, rms_norm_eps=1e-5,
            max_position_embeddings=47, tie_word_embeddings=False, initializer_range=0.3,
            pad_token_id=0, bos_token_id=None, eos_token_id=None,
        )
    ).eval()  # fmt: skip
    ours = Transformer(
        ModelConfig(
            vocab_size=VOCAB, d_model=44, n_layers=LAYERS, n_heads=4, n_kv_heads=2, head_dim=10,
            d_ff=59, max_seq_len=47, tie_embeddings=False,
        )
    ).eval()  # fmt: skip
    ours.load_state_dict(llama_state(theirs.state_dict(), LAYERS))
    return ours, theirs


def test_greedy_ids_equal_transformers_for_unequal_prompts() -> None:
    torch.manual_seed(13)
    ours, theirs = copied_pair()
    prompts = [torch.randint(1, VOCAB, (n,)).tolist() for n in (11, 3, 1, 7)]
    width, new = 11, 23
    tokens = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    result = cast(Any, theirs).generate(
        tokens, attention_mask=mask, max_new_tokens=new, do_sample=False
    )
    expected = result[:, width:].tolist()
    assert len({tuple(row) for row in expected}) == 4
    assert generate(ours, prompts, max_new_tokens=new, sampling=GREEDY) == expected


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=0.7),
        Sampling(top_k=13),
        Sampling(top_p=0.83),
        Sampling(temperature=1.7, top_k=29, top_p=0.9),
    ],
)
def test_filtered_distributions_equal_transformers(sampling: Sampling) -> None:
    logits = 3 * torch.randn(7, VOCAB)
    no_tokens = torch.zeros(7, 0, dtype=torch.long)
    expected = TemperatureLogitsWarper(float(sampling.temperature))(cast(Any, no_tokens), logits)
    if sampling.top_k is not None:
        expected = TopKLogitsWarper(sampling.top_k)(cast(Any, no_tokens), expected)
    if sampling.top_p is not None:
        expected = TopPLogitsWarper(float(sampling.top_p))(cast(Any, no_tokens), expected)
    got = filter_logits(logits, sampling)
    assert torch.equal(got.isfinite(), expected.isfinite())
    torch.testing.assert_close(got.softmax(-1), expected.softmax(-1))
