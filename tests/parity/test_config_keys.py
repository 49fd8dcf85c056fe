"""Every key of a published configuration is used, changes nothing, or is refused by its name."""

import json
import random
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig

from llmlib.architecture import ModelConfig, Transformer
from llmlib.architecture.choices import CHOICES
from llmlib.architecture.pretrained import load_pretrained, save_pretrained
from llmlib.architecture.pretrained.config_keys import FAMILIES
from llmlib.architecture.pretrained.configs import config_from_folder, config_to_folder

LENGTH, VOCABULARY = 23, 101
each_family = pytest.mark.parametrize("family", FAMILIES)
SIZES: dict[str, Any] = dict(
    vocab_size=VOCABULARY, hidden_size=24, num_hidden_layers=3, num_attention_heads=6,
    num_key_value_heads=3, intermediate_size=37, max_position_embeddings=47,
)  # fmt: skip
GPT2_SIZES = dict(vocab_size=VOCABULARY, n_embd=24, n_layer=3, n_head=6, n_positions=47)

# What a file may say of a key; `...` is that it does not say anything.
ROPES = (
    ..., ..., None,
    {"rope_type": "default", "rope_theta": 503.0},
    {"rope_type": "linear", "factor": 3.0},
    {"type": "linear", "factor": 2.0, "rope_theta": 503.0},
    {"rope_type": "dynamic", "factor": 2.0},
    {"rope_type": "dynamic", "factor": 2.0, "original_max_position_embeddings": 11},
    {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 17},
    {"rope_type": "yarn", "factor": 4.0, "beta_fast": 32.0, "truncate": True},
    {"rope_type": "yarn", "factor": 4.0, "attention_factor": 1.5},
    {"rope_type": "yarn", "factor": 4.0, "mscale": 2.0, "mscale_all_dim": 1.0},
    {"rope_type": "default", "partial_rotary_factor": 1.0},
    {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
     "original_max_position_embeddings": 17, "rope_theta": 503.0},
)  # fmt: skip
COMMON: dict[str, tuple[Any, ...]] = {
    "hidden_act": (..., "silu", "swish", "gelu", "gelu_pytorch_tanh", "relu"),
    "rms_norm_eps": (..., 1e-5, 0.1),
    "initializer_range": (..., 0.3),
    "tie_word_embeddings": (..., True, False),
    "head_dim": (..., None, 4, 6),
    "rope_theta": (..., 503.0),
    "rope_parameters": ROPES,
    "rope_scaling": (..., ..., ..., *ROPES),
    "original_max_position_embeddings": (..., ..., ..., ..., 29),
    "attention_dropout": (..., 0.0, 0.1),
    "attention_bias": (..., ..., ..., False, True),
    "mlp_bias": (..., ..., ..., False, True),
    "partial_rotary_factor": (..., ..., ..., 1.0, 0.5),
    "layer_types": (..., ..., ..., None, ["full_attention"] * 3, ["sliding_attention"] * 3),
    "sliding_window": (..., None, 5, 0),
    "attn_logit_softcapping": (..., ..., ..., None, 30.0),
    "rope_local_base_freq": (..., ..., ..., None, 503.0),
    "use_cache": (..., False),
    "pad_token_id": (..., 3),
}
OPTIONS: dict[str, dict[str, tuple[Any, ...]]] = {
    "llama": COMMON | {"sliding_window": (..., ..., None, 5), "pretraining_tp": (..., 2)},
    "mistral": COMMON | {"num_key_value_heads": (None, 3)},
    "qwen2": COMMON | {
        "use_sliding_window": (..., True, True), "max_window_layers": (..., 0, 1, 3),
        "layer_types": (..., ..., None, ["full_attention"] * 3, ["sliding_attention"] * 3,
                        ["sliding_attention", "full_attention", "full_attention"]),
    },
    "mixtral": COMMON | {
        "num_local_experts": (..., 5), "num_experts_per_tok": (..., 1, 2, 3),
        "router_aux_loss_coef": (..., 0.5), "router_jitter_noise": (..., ..., 0.0, 0.1),
    },
    "gpt2": {
        "n_inner": (..., None, 37), "n_ctx": (..., 47, 31), "initializer_range": (..., 0.3),
        "activation_function": (..., "gelu_new", "gelu", "relu", "gelu_pytorch_tanh", "silu"),
        "layer_norm_epsilon": (..., 1e-6, 0.1), "tie_word_embeddings": (..., True, False),
        "scale_attn_weights": (..., ..., True, False),
        "scale_attn_by_inverse_layer_idx": (..., ..., False, True),
        "reorder_and_upcast_attn": (..., False, True), "add_cross_attention": (..., ..., False),
        "resid_pdrop": (..., ..., 0.0), "attn_pdrop": (..., ..., 0.0),
        "summary_type": (..., "last"),
    },
}  # fmt: skip


def drawn(options: dict[str, tuple[Any, ...]], generator: random.Random) -> dict[str, Any]:
    """Let half of the keys say nothing, so that most files have something to compare."""
    chosen = {
        key: generator.choice(values) if generator.random() < 0.5 or ... not in values else ...
        for key, values in options.items()
    }
    return {key: value for key, value in chosen.items() if value is not ...}


def random_weights(model: torch.nn.Module) -> None:
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1 or name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.3)


def write(folder: Path, content: dict[str, Any]) -> None:
    """Write the file as it stands, and beside it weights of the shapes that transformers makes."""
    config = AutoConfig.for_model(**json.loads(json.dumps(content)))
    model = AutoModelForCausalLM.from_config(config)
    random_weights(model)
    model.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(content))


def logits_of_transformers(folder: Path, ids: torch.Tensor) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    model.config._experts_implementation = "eager"  # the grouped kernel refuses prime sizes
    with torch.no_grad():
        return model(ids, use_cache=False).logits


def compare_or_refuse(folder: Path, content: dict[str, Any]) -> bool:
    """Return whether the file was read; if it was not, one of its keys is named."""
    try:
        write(folder, content)
        ids = torch.randint(VOCABULARY, (2, LENGTH))
        expected = logits_of_transformers(folder, ids)
    except Exception:  # transformers refuses what contradicts itself, each class in its own way
        return False
    try:
        ours = load_pretrained(folder)
    except ValueError as error:
        ropes = [content.get(key) or {} for key in ("rope_parameters", "rope_scaling")]
        names = {*content, *ropes[0], *ropes[1], "rope_type"} - {"model_type"}
        assert any(name in str(error) for name in names), error
        return False
    with torch.no_grad():
        torch.testing.assert_close(ours(ids), expected, atol=1e-4, rtol=1e-4)
    return True


def draws(family: str, seed: int) -> dict[str, Any]:
    options = drawn(OPTIONS[family], random.Random(f"{family} {seed}"))
    return {"model_type": family, **(GPT2_SIZES if family == "gpt2" else SIZES), **options}


@pytest.mark.slow
@each_family
def test_logits_are_equal_or_a_key_is_refused(family, tmp_path):
    torch.manual_seed(5)
    read = [compare_or_refuse(tmp_path / str(n), draws(family, n)) for n in range(24)]
    assert sum(read) >= 4, "some files say nothing that is refused"


@each_family
def test_absent_keys_have_the_librarys_values(family):
    theirs = type(AutoConfig.for_model(family))
    defaults = {f.name: f.default for f in fields(theirs)}
    known = FAMILIES[family]
    for key, value in known.used.items():
        if key == "rope_theta":
            assert value == theirs.default_theta
        elif key in defaults:
            assert value == defaults[key], key
    inherited = {f.name for f in fields(PreTrainedConfig)}
    unknown = defaults.keys() - inherited - known.used.keys() - known.harmless.keys()
    assert unknown <= {"use_cache", "pretraining_tp", "output_router_logits", "add_cross_attention",
                       "bos_token_id", "eos_token_id", "pad_token_id"}  # fmt: skip


@each_family
def test_a_file_that_says_its_type_and_its_sizes_alone_is_read(family, tmp_path):
    torch.manual_seed(6)
    sizes = GPT2_SIZES if family == "gpt2" else SIZES
    assert compare_or_refuse(tmp_path, {"model_type": family, **sizes})


@each_family
@pytest.mark.parametrize("key", ["logit_scale", "quantization_config", "embedding_multiplier"])
def test_an_unknown_key_is_refused_unless_it_is_null(family, key, tmp_path):
    sizes = GPT2_SIZES if family == "gpt2" else SIZES
    write(tmp_path, {"model_type": family, **sizes, key: None})
    load_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: 0.5}))
    with pytest.raises(ValueError, match=f"{key} is not supported.*{key}=0.5"):
        load_pretrained(tmp_path)


# Our models in files

FIELDS: dict[str, tuple[Any, ...]] = {
    "n_kv_heads": (0, 3), "head_dim": (0, 6), "d_ff": (0, 37), "norm_eps": (1e-6, 1),
    "norm_bias": (None, True, False), "embedding_norm": (True,), "embedding_scale": (2.0,),
    "parallel": (True,), "bias": (True,), "qkv_bias": (True, False), "rope_theta": (503, 503.0),
    "rope_factor": (4, 2.5), "rope_original_len": (17, 47), "rope_window": (5,),
    "window": (5, 7), "stride": (3,), "n_sinks": (2,), "full_every": (2,),
    "attention_scale": (0.5,), "qk_norm": (True,), "latent_dim": (6,), "query_latent_dim": (6,),
    "rope_head_dim": (4,), "n_experts": (5,), "experts_per_token": (1, 2, 3),
    "n_shared_experts": (1,), "expert_capacity": (1.5,), "normalize_gates": (False,),
    "balance_weight": (0, 0.5), "state_dim": (8,), "conv_kernel": (3,), "expand": (1,),
    "relative_buckets": (16,), "relative_max_distance": (64,), "tie_embeddings": (False,),
    "dropout": (0.1,), "init_std": (0.3, 1.5), "d_model": (24, 28), "n_heads": (6,),
    **{name: get_args(kinds) for name, kinds in CHOICES.items()},
}  # fmt: skip
BASES: tuple[dict[str, Any], ...] = (
    {}, {}, {"qkv_bias": True}, {"n_experts": 5}, {"attention": "window", "window": 5},
    {"norm": "layer", "position": "learned", "bias": True, "activation": "gelu_tanh"},
)  # fmt: skip


def random_config(seed: int) -> ModelConfig | None:
    generator = random.Random(seed)
    names = generator.sample(sorted(FIELDS), generator.choice((0, 1, 1, 2, 3)))
    base = dict(vocab_size=VOCABULARY, d_model=24, n_layers=3, n_heads=6, max_seq_len=47, d_ff=37)
    changes = {name: generator.choice(FIELDS[name]) for name in names}
    try:
        return ModelConfig(**{**base, **generator.choice(BASES), **changes})
    except ValueError:
        return None


def saved_equal_or_refused(config: ModelConfig, folder: Path) -> bool:
    model = Transformer(config).eval()
    random_weights(model)
    try:
        save_pretrained(model, folder)
    except ValueError as error:
        assert "no family of" in str(error)
        return False
    ids = torch.randint(VOCABULARY, (2, LENGTH))
    with torch.no_grad():
        expected = model(ids)
        torch.testing.assert_close(load_pretrained(folder)(ids), expected)
    theirs = logits_of_transformers(folder, ids)
    torch.testing.assert_close(theirs, expected, atol=1e-4, rtol=1e-4)
    return True


def test_the_draws_cover_every_field():
    sizes = {"vocab_size", "n_layers", "max_seq_len"}
    assert FIELDS.keys() | sizes == {f.name for f in fields(ModelConfig)}


@pytest.mark.slow
def test_a_saved_model_is_the_same_here_and_in_transformers_or_is_refused(tmp_path):
    torch.manual_seed(7)
    configs = [config for seed in range(50) if (config := random_config(seed)) is not None]
    saved = [saved_equal_or_refused(c, tmp_path / str(n)) for n, c in enumerate(configs)]
    assert 10 < sum(saved) < len(saved) - 10


@pytest.mark.parametrize(
    "changes",
    [
        {"window": 5},
        {"n_sinks": 2, "full_every": 2},
        {"experts_per_token": 1, "normalize_gates": False, "balance": "none"},
        {"state_dim": 8, "rope_original_len": 17},
        {"bias": True, "norm": "layer", "position": "learned", "activation": "gelu",
         "tie_embeddings": False, "dropout": 0.1},
        {"head_dim": 6, "d_model": 28, "d_ff": 37},
    ],
)  # fmt: skip
def test_fields_that_do_nothing_are_not_written_as_if_they_did(changes, tmp_path):
    torch.manual_seed(8)
    sizes: dict[str, Any] = dict(vocab_size=VOCABULARY, d_model=24, n_layers=3, n_heads=6)
    config = ModelConfig(**{**sizes, "max_seq_len": 47, **changes})
    assert saved_equal_or_refused(config, tmp_path)
    assert load_pretrained(tmp_path).config.dropout == config.dropout


@pytest.mark.parametrize(
    "changes",
    [
        {"embedding_scale": 2.0},
        {"dropout": 0.1},
        {"n_experts": 5, "experts_per_token": 1},
        {"n_experts": 5, "expert_capacity": 1.5},
        {"n_experts": 5, "balance": "gshard"},
        {"attention": "window", "window": 5, "full_every": 2},
        {"rope_scaling": "dynamic", "rope_factor": 2.0, "rope_original_len": 17},
        {"rope_scaling": "ntk", "rope_factor": 2.0},
    ],
)
def test_fields_that_would_be_lost_are_refused(changes, tmp_path):
    sizes: dict[str, Any] = dict(vocab_size=VOCABULARY, d_model=24, n_layers=3, n_heads=6)
    config = ModelConfig(**sizes, max_seq_len=47, **changes)
    with pytest.raises(ValueError, match="no family of"):
        save_pretrained(Transformer(config), tmp_path)
    assert not (tmp_path / "config.json").exists()


# The keys that published files have, as their libraries wrote them

_QWEN = dict(
    architectures=["Qwen2ForCausalLM"], attention_dropout=0.0, bos_token_id=151643,
    eos_token_id=151645, hidden_act="silu", hidden_size=896, initializer_range=0.02,
    intermediate_size=4864, max_position_embeddings=32768, max_window_layers=21,
    model_type="qwen2", num_attention_heads=14, num_hidden_layers=24, num_key_value_heads=2,
    rms_norm_eps=1e-06, rope_theta=1000000.0, sliding_window=32768, tie_word_embeddings=True,
    torch_dtype="bfloat16", transformers_version="4.43.1", use_cache=True, use_mrope=False,
    use_sliding_window=False, vocab_size=151936,
)  # fmt: skip
_SMOLLM = dict(
    architectures=["LlamaForCausalLM"], attention_bias=False, attention_dropout=0.0,
    bos_token_id=1, eos_token_id=2, hidden_act="silu", hidden_size=576, initializer_range=0.041666,
    intermediate_size=1536, is_llama_config=True, max_position_embeddings=8192, mlp_bias=False,
    model_type="llama", num_attention_heads=9, num_hidden_layers=30, num_key_value_heads=3,
    pad_token_id=2, pretraining_tp=1, rms_norm_eps=1e-05, rope_interleaved=False,
    rope_scaling=None, rope_theta=100000, tie_word_embeddings=True, torch_dtype="bfloat16",
    transformers_version="4.42.3", use_cache=True, vocab_size=49152,
)  # fmt: skip
_GPT2 = dict(
    activation_function="gelu_new", architectures=["GPT2LMHeadModel"], attn_pdrop=0.1,
    bos_token_id=50256, embd_pdrop=0.1, eos_token_id=50256, initializer_range=0.02,
    layer_norm_epsilon=1e-05, model_type="gpt2", n_ctx=1024, n_embd=768, n_head=12, n_layer=12,
    n_positions=1024, resid_pdrop=0.1, summary_activation=None, summary_first_dropout=0.1,
    summary_proj_to_labels=True, summary_type="cls_index", summary_use_proj=True,
    task_specific_params={"text-generation": {"do_sample": True, "max_length": 50}},
    vocab_size=50257,
)  # fmt: skip
_MIXTRAL = dict(
    architectures=["MixtralForCausalLM"], attention_dropout=0.0, bos_token_id=1, eos_token_id=2,
    hidden_act="silu", hidden_size=4096, initializer_range=0.02, intermediate_size=14336,
    max_position_embeddings=32768, model_type="mixtral", num_attention_heads=32,
    num_experts_per_tok=2, num_hidden_layers=32, num_key_value_heads=8, num_local_experts=8,
    output_router_logits=False, rms_norm_eps=1e-05, rope_theta=1000000.0,
    router_aux_loss_coef=0.02, sliding_window=None, tie_word_embeddings=False,
    torch_dtype="bfloat16", transformers_version="4.36.0.dev0", use_cache=True, vocab_size=32000,
)  # fmt: skip


@pytest.mark.parametrize(
    "content", [_QWEN, _SMOLLM, _GPT2, _MIXTRAL], ids=lambda c: c["model_type"]
)
def test_published_files_are_not_refused(content):
    config = config_from_folder(content)
    assert config.attention == "full"
    assert config_from_folder(config_to_folder(config)) == config
