"""In bfloat16 a model agrees with its float32 self as far into a text as transformers' does."""

import copy

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRMSNorm, LlamaRotaryEmbedding

from llmlib.architecture import ModelConfig, Transformer
from llmlib.architecture.kernels.fused import rms_norm
from llmlib.architecture.pretrained import load_pretrained
from tests.parity.copied_models import llama_state

VOCAB, WIDTH, LAYERS, HEADS, LENGTH = 211, 64, 2, 4, 1536
NARROW = [torch.bfloat16, torch.float16]


def their_config(length: int) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=VOCAB, hidden_size=WIDTH, intermediate_size=96, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS, max_position_embeddings=length, tie_word_embeddings=False,
        initializer_range=0.2, rms_norm_eps=1e-5,
    )  # fmt: skip


def our_config(length: int) -> ModelConfig:
    return ModelConfig(
        vocab_size=VOCAB, d_model=WIDTH, d_ff=96, n_layers=LAYERS, n_heads=HEADS,
        max_seq_len=length, tie_embeddings=False,
    )  # fmt: skip


@pytest.mark.parametrize("dtype", NARROW)
def test_angles_equal_transformers(dtype):
    positions = torch.arange(4096)[None]
    # As `from_pretrained` leaves it: `.to(dtype)` would round the frequencies of theirs.
    expected = LlamaRotaryEmbedding(their_config(4096))(torch.zeros(1, dtype=dtype), positions)
    model = Transformer(our_config(4096)).to(dtype)
    found = model.context(torch.zeros_like(positions)).angles
    assert found is not None
    for ours, wanted in zip(found, expected, strict=True):
        half = wanted[..., : WIDTH // HEADS // 2].float()  # theirs stand there twice
        torch.testing.assert_close(ours.to(dtype).float(), half, atol=4e-3, rtol=4e-3)


@torch.no_grad()
def test_the_most_probable_tokens_stay_as_they_do_in_transformers(tmp_path):
    torch.manual_seed(1)
    theirs = LlamaForCausalLM(their_config(LENGTH)).eval()
    theirs.save_pretrained(tmp_path)
    ours = Transformer(our_config(LENGTH)).eval()
    ours.load_state_dict(llama_state(theirs.state_dict(), LAYERS))
    ids = torch.randint(VOCAB, (1, LENGTH))
    wanted = ours(ids).argmax(-1)[:, 1000:]
    torch.testing.assert_close(ours(ids), theirs(ids).logits, atol=1e-3, rtol=1e-3)
    narrow = LlamaForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16).eval()
    their_share = (narrow(ids).logits.argmax(-1)[:, 1000:] == wanted).float().mean().item()
    for model in (
        copy.deepcopy(ours).bfloat16(),
        load_pretrained(tmp_path, dtype=torch.bfloat16),
    ):
        found = model(ids).argmax(-1)[:, 1000:]
        assert (found == wanted).float().mean() > their_share - 0.02
    assert their_share > 0.9


@pytest.mark.parametrize("dtype", NARROW)
def test_a_norms_statistics_are_as_exact_as_transformers(dtype):
    theirs = LlamaRMSNorm(96, 1e-5).to(dtype)
    with torch.no_grad():
        theirs.weight.normal_()
    x = torch.randn(50, 96).to(dtype) * 7
    with torch.no_grad():
        assert torch.equal(rms_norm(x, theirs.weight, 1e-5), theirs(x))
    grads = []
    for norm in (lambda y: rms_norm(y, theirs.weight, 1e-5), theirs):
        y = x.clone().requires_grad_()
        norm(y).square().sum().backward()
        assert y.grad is not None and y.grad.dtype == dtype
        grads.append(y.grad.float())
    torch.testing.assert_close(*grads, atol=0.1, rtol=0.05)
