"""The presets: published sizes, the survey's table, and small versions of the same shape."""

import pytest
import torch

from llmlib.architecture import Transformer, counts
from llmlib.architecture.encoder_decoder import EncoderDecoder
from llmlib.architecture.presets import PUBLISHED_MODELS, PublishedModel
from llmlib.core.survey.tables import load_table

TABLE = {row.model: row for row in load_table("architectures")}
NORMS = {"LayerNorm": "layer", "RMSNorm": "rms", "DeepNorm": "layer"}
presets = pytest.mark.parametrize("preset", PUBLISHED_MODELS.values(), ids=lambda p: p.name)


def test_every_row_of_the_table_is_a_preset():
    assert TABLE.keys() <= PUBLISHED_MODELS.keys()
    newer = {"GPT-2", "LLaMA-2", "Mistral", "Mixtral", "Qwen2", "SmolLM2"}
    assert PUBLISHED_MODELS.keys() - TABLE.keys() == newer


@pytest.mark.slow
@pytest.mark.covers("arch.presets")
@presets
def test_size_is_within_three_percent_of_the_published_one(preset: PublishedModel):
    model = preset.build("meta")
    count = sum(p.numel() for p in model.parameters())
    assert all(p.is_meta for p in model.parameters())
    assert count == pytest.approx(preset.parameters, rel=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(PUBLISHED_MODELS.keys() - {"T5"}))  # counts are of decoders
def test_counts_agree_with_the_built_model(name: str):
    preset = PUBLISHED_MODELS[name]
    built = sum(p.numel() for p in preset.build("meta").parameters())
    assert counts.parameters(preset.config).total == built


def test_mixtral_works_with_thirteen_billion_at_a_time():
    assert counts.parameters(PUBLISHED_MODELS["Mixtral"].config).active == pytest.approx(
        13e9, rel=0.03
    )


@pytest.mark.covers("arch.presets")
@pytest.mark.parametrize("name", TABLE)
def test_fields_equal_the_survey_table(name: str):
    config, row = PUBLISHED_MODELS[name].config, TABLE[name]
    for field in ("n_layers", "n_heads", "d_model", "n_kv_heads", "head_dim", "d_ff", "vocab_size"):
        assert getattr(config, field) == getattr(row, field), field
    stated = {
        "max_seq_len": row.max_context_tokens,
        "tie_embeddings": row.tied_embeddings,
        "bias": row.bias,
        "norm": row.norm and NORMS[row.norm],
        "activation": row.activation and row.activation.lower(),
    }
    for field, value in stated.items():
        assert value is None or getattr(config, field) == value, field
    places = {"DeepNorm": "deepnorm"}
    if row.norm is not None:
        assert config.norm_placement == places.get(row.norm, row.norm_placement)
    if row.position == "relative":  # the table does not say which of the two
        assert config.position in ("relative", "t5")
    elif row.position is not None:
        assert config.position == row.position
    assert config.mask == ("prefix" if row.category == "prefix decoder" else "causal")
    assert (PUBLISHED_MODELS[name].n_encoder_layers is not None) == (
        row.category == "encoder-decoder"
    )


SIZES = {"vocab_size": 101, "d_model": 96, "n_layers": 3, "max_seq_len": 64, "head_dim": 8}
PROPORTIONAL = {
    *SIZES, "d_ff", "n_heads", "n_kv_heads", "window", "rope_original_len"
}  # fmt: skip


@presets
def test_a_scaled_preset_keeps_the_choices_and_runs(preset: PublishedModel):
    small, full = preset.scaled(**SIZES), preset.config
    for field, value in full.to_dict().items():
        if field not in PROPORTIONAL:
            assert getattr(small, field) == value, field
    assert small.d_ff / small.d_model == pytest.approx(full.d_ff / full.d_model, rel=0.1)
    assert (small.n_kv_heads == 1) == (full.n_kv_heads == 1)
    assert small.group_size == full.group_size or full.n_kv_heads == 1
    width = small.n_heads * small.head_dim / small.d_model
    assert width == pytest.approx(full.n_heads * full.head_dim / full.d_model, rel=0.35)
    torch.manual_seed(3)
    tokens = torch.randint(101, (2, 13))
    if preset.n_encoder_layers is None:
        assert Transformer(small)(tokens).isfinite().all()
    else:
        assert EncoderDecoder(small, 2)(tokens, tokens[:, :5]).isfinite().all()


def test_a_scaled_preset_takes_changes():
    small = PUBLISHED_MODELS["LLaMA"].scaled(**SIZES, position="alibi")
    assert small.position == "alibi"
