"""Published utilizations, recomputed from what the papers say of model, machine and speed."""

from dataclasses import dataclass
from typing import Any

import pytest

from llmlib.architecture.config import ModelConfig
from llmlib.architecture.counts import decoder_training_flops, parameters
from llmlib.scaling.flops import PEAK_FLOPS, mfu
from llmlib.training.metrics import throughput
from llmlib.training.speed.utilization import hardware_utilization, model_utilization

A100, V100 = PEAK_FLOPS["A100 bf16"], PEAK_FLOPS["V100 fp16"]
TPU_V3 = 123e12  # bfloat16, Google's documentation


def decoder(vocab: int, d_model: int, layers: int, heads: int, **changes: object) -> ModelConfig:
    fields = {"max_seq_len": 2048, "activation": "gelu", "position": "none"} | changes
    return ModelConfig(vocab_size=vocab, d_model=d_model, n_layers=layers, n_heads=heads, **fields)  # pyright: ignore[reportArgumentType]


GPT3 = decoder(50_257, 12_288, 96, 96)
PALM = decoder(
    256_000, 18_432, 118, 48, head_dim=256, n_kv_heads=1, activation="swiglu", d_ff=4 * 18_432,
    parallel=True,
)  # fmt: skip
MT_NLG = decoder(51_200, 20_480, 105, 128)
LLAMA = decoder(
    32_000, 8192, 80, 64, activation="swiglu", d_ff=22_016, tie_embeddings=False
)  # fmt: skip


@dataclass(frozen=True)
class Published:
    """One line of PaLM's table 3, with its sources: section 4.1 and its footnotes."""

    config: ModelConfig
    parameters: float
    tokens_per_second: float
    peak: float
    without_attention: float | None
    mfu: float


PALM_TABLE_3 = {
    "PaLM": Published(PALM, 540.35e9, 238.3e3, 6144 * PEAK_FLOPS["TPU v4 bf16"], 0.457, 0.462),
    "MT-NLG": Published(MT_NLG, 530e9, 65.43e3, 2240 * A100, 0.297, 0.302),
}


@pytest.mark.covers("train.throughput")
@pytest.mark.parametrize("name", PALM_TABLE_3)
def test_published_utilizations_follow_from_published_speeds(name: str) -> None:
    line = PALM_TABLE_3[name]
    assert parameters(line.config).total == pytest.approx(line.parameters, rel=0.002)
    speed: dict[str, Any] = {"tokens_per_second": line.tokens_per_second, "peak_flops": line.peak}
    found = model_utilization(line.config, **speed)
    assert found == pytest.approx(line.mfu, abs=0.001)
    if line.without_attention is not None:
        bare = model_utilization(line.config, **speed, attention=False)
        assert bare == pytest.approx(line.without_attention, abs=0.001)


def test_gophers_published_utilization_follows_from_its_steps_a_second() -> None:
    """0.0152 steps of 3072 rows of 2048 tokens (PaLM's footnote 3; Rae et al., 2021, table 1).

    By the parameters that its name says: a fourteenth of them belong to relative positions, which
    our count of FLOPs knows to be used once a distance and not once a token.
    """
    layers, width, length = 80, 16_384, 2048
    flops = 6 * 280e9 + 12 * layers * width * length
    tokens_per_second = 0.0152 * 3072 * length
    found = mfu(flops * tokens_per_second, 1.0, 4096 * TPU_V3)
    assert found == pytest.approx(0.325, abs=0.001)


def test_gpt3s_published_utilization_does_not_follow_from_its_published_speed() -> None:
    """PaLM's table 3 says 21.3%, of 24.6 TFLOP/s a V100 without attention: that is 19.7%."""
    bare = 24.6e12 / V100
    whole = bare * (
        model_utilization(GPT3, tokens_per_second=1, peak_flops=1)
        / model_utilization(GPT3, tokens_per_second=1, peak_flops=1, attention=False)
    )
    assert bare == pytest.approx(0.197, abs=0.0005)
    assert whole == pytest.approx(0.202, abs=0.0005)
    assert whole < 0.213 - 0.01


# Korthikanti et al. (2022), table 5: GPUs, sequences a batch, seconds, MFU, HFU.
KORTHIKANTI = {
    "22B": (decoder(51_200, 6144, 48, 64), 8, 4, 1.10, 0.415, 0.437),
    "175B": (decoder(51_200, 12_288, 96, 96), 64, 64, 13.75, 0.514, 0.528),
    "530B": (MT_NLG, 280, 280, 37.83, 0.560, 0.570),
    "1T": (decoder(51_200, 25_600, 128, 160), 512, 512, 71.49, 0.563, 0.570),
}


@pytest.mark.covers("train.throughput")
@pytest.mark.parametrize("name", KORTHIKANTI)
def test_selective_recomputation_separates_hardware_from_model_utilization(name: str) -> None:
    """Only attention's own two products are made again, and the paper's HFU counts six of them."""
    config, gpus, sequences, seconds, published, hardware = KORTHIKANTI[name]
    speed: dict[str, Any] = {
        "tokens_per_second": sequences * 2048 / seconds,
        "peak_flops": gpus * A100,
    }
    found = model_utilization(config, **speed)
    rounding = 0.005 / seconds * published + 0.0006
    assert found == pytest.approx(published, abs=rounding)
    attention = 1 - model_utilization(config, **speed, attention=False) / found
    # Their equation doubles attention's whole term, forward and backward.
    assert found * (1 + attention) == pytest.approx(hardware, abs=rounding)
    # What is made again is the forward part, a third of that.
    again = hardware_utilization(found, recomputed=attention)
    assert found < again < hardware - 2 / 3 * found * attention + rounding


def test_it_is_what_the_meter_reports() -> None:
    flops = decoder_training_flops(LLAMA, 1, 2048) / 2048
    read = throughput(380, 1.0, flops_per_token=flops, peak_flops=A100)
    found = model_utilization(LLAMA, tokens_per_second=380, peak_flops=A100)
    assert read["mfu"] == pytest.approx(found, rel=1e-12)
    # Touvron et al. (2023), section 2.4: 380 tokens a second on each of 2048 A100s, 21 days.
    assert pytest.approx(21, abs=0.2) == 1.4e12 / (380 * 2048) / 86_400
    assert found == pytest.approx(0.495, abs=0.001)


def test_shorter_rows_cost_less_and_recomputing_everything_a_third() -> None:
    speed: dict[str, Any] = {"tokens_per_second": 1.0, "peak_flops": 1e15}
    long, short = (model_utilization(LLAMA, **speed, seq_len=n) for n in (2039, 127))
    bare = model_utilization(LLAMA, **speed, attention=False)
    assert bare < short < long
    assert hardware_utilization(0.3, recomputed=1.0) == pytest.approx(0.4)
    assert hardware_utilization(0.3, recomputed=0.0) == 0.3
    # PaLM's 57.8% of hardware FLOPs at 46.2% of the model's: three quarters were made again.
    assert hardware_utilization(0.462, recomputed=0.75) == pytest.approx(0.578, abs=0.001)
    for share in (-0.1, 1.1):
        with pytest.raises(ValueError, match="share"):
            hardware_utilization(0.3, recomputed=share)
