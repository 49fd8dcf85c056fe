"""Counts of a configuration against the built model, torch's counter and measured memory."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from llmlib.architecture import ModelConfig, Transformer, counts

CONFIGS = [
    ModelConfig(vocab_size=101, d_model=52, n_layers=3, n_heads=2, max_seq_len=37, d_ff=67),
    ModelConfig(
        vocab_size=103, d_model=42, n_layers=2, n_heads=6, head_dim=10, n_kv_heads=3, d_ff=71,
        max_seq_len=29, norm="layer", bias=True, position="learned", tie_embeddings=False,
        activation="gelu", qk_norm=True,
    ),
    ModelConfig(
        vocab_size=107, d_model=44, n_layers=5, n_heads=4, n_kv_heads=1, max_seq_len=31,
        norm="layer", norm_placement="post", activation="geglu", position="none",
    ),
]  # fmt: skip


@pytest.mark.parametrize("config", CONFIGS)
def test_parameters_equal_the_model(config):
    model = Transformer(config)
    assert counts.parameters(config).total == sum(p.numel() for p in model.parameters())
    matrices = counts.parameters(config)
    inside = sum(p.numel() for p in model.blocks.parameters())
    final = (
        0 if config.norm_placement == "post" else sum(p.numel() for p in model.norm.parameters())
    )
    assert matrices.non_embedding == inside + final


@pytest.mark.parametrize("config", CONFIGS)
def test_flops_equal_torch(config):
    # The math kernel is made of products that torch's counter knows; the fused one on a processor
    # is not in its table.
    model, ids = Transformer(config), torch.randint(config.vocab_size, (3, 23))
    with (
        torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
        FlopCounterMode(display=False) as counter,
    ):
        model(ids).sum().backward()
    assert counter.get_total_flops() == counts.training_flops(config, 3, 23)


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
