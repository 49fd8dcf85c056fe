"""The estimated bytes of a step against the memory meter, over a spread of designs."""

import random
from typing import Any, NamedTuple

import pytest
import torch

from llmlib.architecture import PUBLISHED_MODELS, ModelConfig, Transformer
from llmlib.architecture.counts import parameters, training_state_bytes
from llmlib.core.hardware.memory import tracked_allocations
from llmlib.training import adamw
from llmlib.training.memory.estimate import (
    estimate_memory,
    is_plain,
    plain_decoder_activations,
)
from llmlib.training.memory.recomputation import recompute
from llmlib.training.memory.trace import (
    _measure,  # pyright: ignore[reportPrivateUsage]
    traced_step,
)
from llmlib.training.objectives import next_token_loss
from llmlib.training.optimizers.base import state_bytes


class Measured(NamedTuple):
    activations: int
    peak: int
    optimizer: int


def measure(
    config: ModelConfig, rows: int, length: int, *, bfloat16: bool, recomputed: Any, segment: int
) -> Measured:
    """Build a model and train it for two steps, all inside the meter."""
    with tracked_allocations() as memory:
        model = Transformer(config)
        optimizer = adamw(model, 1e-3)
        if recomputed:
            recompute(model, recomputed, segment=segment)
        tokens, kept = torch.randint(config.vocab_size, (rows, length)), 0
        for _ in range(2):
            before = memory.current_bytes
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                loss = next_token_loss(model, {"inputs": tokens, "targets": tokens})
            kept = memory.current_bytes - before
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            del loss
        return Measured(kept, memory.peak_bytes, state_bytes(optimizer))


def assert_near(
    config: ModelConfig, rows: int, length: int, within: float, *, bfloat16: bool = False,
    recomputed: Any = None, segment: int = 1,
) -> None:  # fmt: skip
    measured = measure(
        config, rows, length, bfloat16=bfloat16, recomputed=recomputed, segment=segment
    )
    estimate = estimate_memory(
        config, rows, length, precision="bfloat16" if bfloat16 else "float32",
        recomputed=recomputed, segment=segment,
    )  # fmt: skip
    assert estimate.optimizer == measured.optimizer
    assert estimate.activations == pytest.approx(measured.activations, rel=within)
    assert estimate.peak == pytest.approx(measured.peak, rel=within)


def drawn(seed: int) -> tuple[ModelConfig, int, int, dict[str, Any]]:
    """Draw a plain decoder of odd sizes, a batch, and how it is trained."""
    draw = random.Random(seed)
    head_dim, n_kv_heads = draw.choice([6, 14, 22, 34]), draw.choice([1, 2, 3])
    n_heads = n_kv_heads * draw.choice([1, 2, 3])
    length = draw.choice([17, 43, 131, 263])
    n_experts = draw.choice([0, 0, 0, 3, 5])
    config = ModelConfig(
        vocab_size=draw.choice([101, 503, 2003]),
        d_model=draw.choice([26, 46, 74, 118]),
        n_layers=draw.choice([2, 3, 5, 7]),
        n_heads=n_heads,
        n_kv_heads=n_kv_heads,
        head_dim=head_dim,
        d_ff=draw.choice([37, 109, 241]),
        max_seq_len=length,
        activation=draw.choice(["swiglu", "geglu", "gelu", "relu", "relu_squared", "swish"]),
        norm=draw.choice(["rms", "layer"]),
        norm_placement=draw.choice(["pre", "pre", "post", "sandwich", "deepnorm"]),
        position=draw.choice(["rope", "rope", "learned", "sinusoidal", "none"]),
        qk_norm=draw.choice([False, False, True]),
        bias=draw.choice([False, True]),
        tie_embeddings=draw.choice([False, True]),
        n_experts=n_experts,
        n_shared_experts=draw.choice([0, 1]) if n_experts else 0,
    )
    recomputed, segment = draw.choice(
        [(None, 1), (None, 1), ("blocks", 1), ("blocks", 2), ("mixer", 1), ("feedforward", 1)]
    )
    way = {"recomputed": recomputed, "segment": segment, "bfloat16": draw.random() < 0.4}
    return config, draw.choice([1, 2, 5]), length, way


@pytest.mark.covers("train.memory")
@pytest.mark.parametrize("seed", range(24))
def test_formula_is_within_a_tenth_of_the_meter(seed):
    config, rows, length, way = drawn(seed)
    assert is_plain(config)
    assert_near(config, rows, length, 0.1, **way)


@pytest.mark.covers("train.memory")
@pytest.mark.parametrize("name", ["GPT-2", "LLaMA", "LLaMA-2", "Mixtral", "PaLM"])
def test_small_siblings_of_published_models(name):
    found = next(model for key, model in PUBLISHED_MODELS.items() if key.startswith(name))
    config = found.scaled(d_model=96, n_layers=3, vocab_size=503, max_seq_len=61)
    assert_near(config, 3, 61, 0.1)


TRACED: dict[str, dict[str, Any]] = {
    "window, every second layer full": {"attention": "window", "window": 5, "full_every": 2},
    "t5": {"position": "t5"},
    "dropout": {"dropout": 0.1},
    "latent": {"mixer": "latent", "latent_dim": 12, "rope_head_dim": 8},
    "mamba": {"mixer": "mamba"},
    "rwkv": {"mixer": "rwkv"},
    "retnet": {"mixer": "retnet"},
    "hyena": {"mixer": "hyena"},
}


@pytest.mark.covers("train.memory")
@pytest.mark.parametrize("kind", TRACED)
def test_a_step_without_numbers_takes_the_bytes_of_a_real_one(kind):
    """Two depths are traced, the third follows: within 2% of the meter."""
    sizes = {"vocab_size": 211, "d_model": 44, "n_layers": 6, "n_heads": 2, "max_seq_len": 43}
    config = ModelConfig(**{**sizes, **TRACED[kind]})
    assert not is_plain(config)
    assert_near(config, 3, 43, 0.02, bfloat16=kind in ("t5", "mamba"))


def test_formula_and_trace_agree_where_both_hold(monkeypatch):
    config, rows, length, _ = drawn(3)
    formula = estimate_memory(config.replace(n_experts=0), rows, length)
    monkeypatch.setattr("llmlib.training.memory.estimate.is_plain", lambda _: False)
    traced = estimate_memory(config.replace(n_experts=0), rows, length)
    assert traced.activations == pytest.approx(formula.activations, rel=0.02)


def test_what_needs_numbers_is_refused_by_name():
    config = ModelConfig(vocab_size=31, d_model=22, n_layers=2, n_heads=1, max_seq_len=13)
    for change, name in [
        ({"position": "relative"}, "position='relative'"),
        ({"n_experts": 3, "expert_capacity": 1.5}, "experts"),
    ]:
        with pytest.raises(ValueError, match=name):
            estimate_memory(config.replace(**change), 2, 13)


def test_a_model_of_seven_billion_needs_sixteen_bytes_a_parameter_and_its_activations():
    """LLaMA-7B: table 2 of its paper; 6.74e9 parameters by our count. No memory is taken."""
    config = ModelConfig(
        vocab_size=32000, d_model=4096, n_layers=32, n_heads=32, d_ff=11008, max_seq_len=2048,
        tie_embeddings=False,
    )  # fmt: skip
    assert parameters(config).total == 6_738_415_616
    estimate = estimate_memory(config, 1, 2048)
    states = estimate.parameters + estimate.gradients + estimate.optimizer
    assert states == training_state_bytes(parameters(config).total) == 107_814_649_856
    assert estimate.activations == plain_decoder_activations(config, 1, 2048)
    # One text's activations are less than the gradients that take their place; of four not.
    assert estimate.activations < estimate.gradients
    four = estimate_memory(config, 4, 2048)
    again = estimate_memory(config, 4, 2048, recomputed="blocks")
    assert again.activations < 0.2 * four.activations
    assert again.peak < 0.7 * four.peak


def test_the_billion_and_a_half_of_zero():
    """Rajbhandari et al. (2020), section 3.1: 1.5e9 parameters need 24 GB at least."""
    config = ModelConfig(
        vocab_size=50257, d_model=1600, n_layers=48, n_heads=25, max_seq_len=1024,
        norm="layer", activation="gelu_tanh", bias=True, position="learned",
    )  # fmt: skip
    estimate = estimate_memory(config, 32, 1024)
    total = estimate.parameters + estimate.gradients + estimate.optimizer
    assert total == pytest.approx(24e9, rel=0.05)


@pytest.mark.parametrize(("layers", "segment"), [(5, 2), (11, 3), (7, 5)])
def test_a_last_segment_that_is_shorter_keeps_its_input_too(layers: int, segment: int):
    config = ModelConfig(
        vocab_size=31, d_model=22, n_layers=layers, n_heads=1, max_seq_len=13, position="t5"
    )
    found = traced_step(config, 3, 13, recomputed="blocks", segment=segment)
    whole = _measure(config, layers, 3, 13, False, "blocks", segment)
    assert found == whole


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 0}, "batch_size=0"),
        ({"seq_len": -1}, "seq_len=-1"),
        ({"segment": 0}, "segment=0"),
        ({"segment": 2}, "needs recomputed='blocks'"),
        ({"state_numbers": -1}, "state_numbers=-1"),
    ],
)
def test_settings_out_of_range_are_refused(change: dict[str, Any], message: str):
    config = ModelConfig(vocab_size=31, d_model=22, n_layers=2, n_heads=1, max_seq_len=13)
    with pytest.raises(ValueError, match=message):
        estimate_memory(config, **{"batch_size": 2, "seq_len": 13, **change})
