"""A step without numbers takes the bytes of a real one, and its FLOPs are the formula's."""

from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from llmlib.architecture.config import ModelConfig
from llmlib.architecture.counts import decoder_training_flops, mixing_flops, parameters
from llmlib.architecture.transformer import Transformer
from llmlib.training.memory.estimate import estimate_memory
from llmlib.training.plan.dry_runs import dry_run

KINDS: dict[str, dict[str, Any]] = {
    "LLaMA's": {},
    "GPT's": {"norm": "layer", "activation": "gelu", "position": "learned", "bias": True},
    "grouped, untied": {"n_kv_heads": 1, "tie_embeddings": False, "qk_norm": True},
}


def decoder(**changes: Any) -> ModelConfig:
    sizes = {"vocab_size": 211, "d_model": 44, "n_layers": 3, "n_heads": 2, "max_seq_len": 43}
    return ModelConfig(**{**sizes, **changes})


@pytest.mark.covers("train.3d")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("recomputed", [None, "blocks"])
def test_without_numbers_it_is_the_step_with_them(kind: str, recomputed: Any) -> None:
    config = decoder(**KINDS[kind])
    dry = dry_run(config, 5, 43, recomputed=recomputed)
    real = dry_run(config, 5, 43, recomputed=recomputed, fake=False)
    assert dry.flops == real.flops
    assert dry.peak_bytes == pytest.approx(real.peak_bytes, rel=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_flops_are_those_of_the_formula_exactly(kind: str) -> None:
    config = decoder(**KINDS[kind])
    scores_again = config.n_layers * mixing_flops(config, 43, causal=True) // 2
    expected = decoder_training_flops(config, 5, 43, causal=True) + 5 * scores_again
    assert dry_run(config, 5, 43).flops == expected
    matrices = parameters(config.replace(bias=False, qkv_bias=False, qk_norm=False))
    products = 2 * 43 * (matrices.attention + matrices.feedforward)
    forward = 5 * (products + config.n_layers * mixing_flops(config, 43, causal=True))
    assert dry_run(config, 5, 43, recomputed="blocks").flops == expected + forward


@pytest.mark.parametrize("kind", KINDS)
def test_torchs_counter_of_whole_attention_and_whole_logits_agrees(kind: str) -> None:
    """Attention by plain products, and a loss of all logits, are what torch's counter knows."""
    config = decoder(**KINDS[kind])
    with FakeTensorMode(), FlopCounterMode(display=False) as counter:
        model = Transformer(config)
        tokens = torch.zeros(5, 43, dtype=torch.long)
        with sdpa_kernel(SDPBackend.MATH):
            F.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten()).backward()
    assert counter.get_total_flops() == decoder_training_flops(config, 5, 43)


def test_seven_billion_parameters_on_no_gpu() -> None:
    """LLaMA-7B: each further layer adds the same, so two shallow runs tell the deep one."""
    config = ModelConfig(
        vocab_size=32_000, d_model=4096, n_layers=32, n_heads=32, d_ff=11_008, max_seq_len=2048,
        tie_embeddings=False,
    )  # fmt: skip
    one, two = (dry_run(config.replace(n_layers=n), 1, 2048) for n in (1, 2))
    flops = one.flops + 31 * (two.flops - one.flops)
    scores_again = config.n_layers * mixing_flops(config, 2048, causal=True) // 2
    assert flops == decoder_training_flops(config, 1, 2048, causal=True) + scores_again
    peak = one.peak_bytes + 31 * (two.peak_bytes - one.peak_bytes)
    assert peak == pytest.approx(estimate_memory(config, 1, 2048).peak, rel=0.1)
    assert peak == pytest.approx(16 * parameters(config).total, rel=0.01)


def test_experts_ask_for_numbers() -> None:
    with pytest.raises(ValueError, match="numbers"):
        dry_run(decoder(n_experts=3), 2, 7)
