"""Counts of a configuration against the built model, torch's counter and measured memory."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from llmlib.architecture import ModelConfig, Transformer, counts

CONFIGS = [
    ModelConfig(vocab_size=101, d_model=52, n_layers=3, n_heads=2, max_seq_len=37, d_ff=67),
    ModelConfig(
        vocab_size=103,
        d_model=42,
        n_layers=2,
        n_heads=6,
        head_dim=10,
        n_kv_heads=3,
        d_ff=71,
        max_seq_len=29,
        norm="layer",
        bias=True,
        position="learned",
        tie_embeddings=False,
        activation="gelu",
        qk_norm=True,
    ),
    ModelConfig(
        vocab_size=107,
        d_model=44,
        n_layers=5,
        n_heads=4,
        n_kv_heads=1,
        max_seq_len=31,
        norm="layer",
        norm_placement="post",
        activation="geglu",
        position="none",
    ),
    ModelConfig(
        vocab_size=109,
        d_model=46,
        n_layers=3,
        n_heads=2,
        max_seq_len=41,
        d_ff=73,
        norm="layer",
        norm_bias=True,
        norm_placement="sandwich",
        activation="relu",
        position="t5",
        qkv_bias=True,
        embedding_norm=True,
        mask="prefix",
    ),
    ModelConfig(
        vocab_size=113,
        d_model=58,
        n_layers=3,
        n_heads=2,
        n_kv_heads=1,
        max_seq_len=43,
        d_ff=79,
        parallel=True,
        activation="swish",
        position="alibi",
        attention="window",
        window=7,
    ),
    ModelConfig(
        vocab_size=127,
        d_model=62,
        n_layers=3,
        n_heads=2,
        max_seq_len=47,
        d_ff=83,
        norm_placement="deepnorm",
        position="relative",
        bias=True,
    ),
]
BEYOND = [
    ModelConfig(
        vocab_size=131, d_model=34, n_layers=2, n_heads=2, head_dim=14, max_seq_len=53, d_ff=89,
        n_experts=5, experts_per_token=2, n_shared_experts=3, bias=True,
    ),
    ModelConfig(
        vocab_size=137, d_model=38, n_layers=2, n_heads=2, max_seq_len=59, mixer="latent",
        latent_dim=13, rope_head_dim=6,
    ),
    *(
        ModelConfig(vocab_size=139, d_model=44, n_layers=2, n_heads=2, max_seq_len=61, mixer=mixer)
        for mixer in ("s4", "h3", "mamba", "rwkv", "retnet", "hyena")
    ),
]  # fmt: skip


@pytest.mark.parametrize("config", CONFIGS + BEYOND)
def test_parameters_equal_the_model(config):
    model = Transformer(config)
    assert counts.parameters(config).total == sum(p.numel() for p in model.parameters())
    matrices = counts.parameters(config)
    inside = sum(p.numel() for p in model.blocks.parameters())
    inside += sum(p.numel() for p in model.norm.parameters())
    if config.embedding_norm:
        inside += sum(p.numel() for p in model.embedding_norm.parameters())
    assert matrices.non_embedding == inside


@pytest.mark.parametrize("config", CONFIGS)
def test_flops_equal_torch(config):
    # The math kernel is made of products that torch's counter knows; the fused one on a processor
    # is not in its table.
    model, ids = Transformer(config), torch.randint(config.vocab_size, (3, 23))
    with (
        torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
        FlopCounterMode(display=False) as counter,
    ):
        logits = model(ids)
        assert counter.get_total_flops() == counts.forward_flops(config, 3, 23)
        logits.sum().backward()
    # The sinusoids that Transformer-XL projects need no gradient: there 3 times is a bound.
    expected = counts.decoder_training_flops(config, 3, 23)
    total = counter.get_total_flops()
    assert total == expected if config.position != "relative" else total < expected


def test_causal_counts_the_lower_triangle():
    config = CONFIGS[0]
    full, causal = (counts.forward_flops(config, 1, 7, causal=c) for c in (False, True))
    assert full - causal == 4 * 3 * 2 * 26 * (49 - 28)


def test_cache_bytes_equal_an_allocated_cache():
    config = CONFIGS[1]
    cache = Transformer(config).new_cache(3, 19)
    assert counts.kv_cache_bytes(config, 3, 19) == cache.nbytes


def test_activation_estimate_is_near_what_autograd_saves():
    config = ModelConfig(vocab_size=101, d_model=128, n_layers=5, n_heads=4, max_seq_len=64)
    model, ids = Transformer(config), torch.randint(101, (3, 61))
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    saved: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        hidden = model.hidden(ids)
    assert hidden.requires_grad
    measured, estimate = sum(saved.values()), counts.activation_bytes(config, 3, 61)
    assert estimate == pytest.approx(measured, rel=0.15)


def test_training_state_equals_adamw():
    model = Transformer(CONFIGS[0])
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.zeros(1, 3, dtype=torch.long)).sum().backward()
    optimizer.step()
    moments = sum(
        tensor.nbytes
        for state in optimizer.state.values()
        for name, tensor in state.items()
        if name != "step"
    )
    weights = sum(p.nbytes for p in model.parameters())
    gradients = sum(p.grad.nbytes for p in model.parameters() if p.grad is not None)
    total = counts.parameters(CONFIGS[0]).total
    assert weights + gradients + moments == counts.training_state_bytes(total)
