"""The configuration of a published model, as its files give it, in our fields and back."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from llmlib.architecture.config import ModelConfig

FAMILIES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "mixtral": "MixtralForCausalLM",
    "gpt2": "GPT2LMHeadModel",
}
"""Our families of published models, and what transformers calls their classes."""
_GATED_OF = {
    "silu": "swiglu", "swish": "swiglu", "gelu": "geglu", "gelu_pytorch_tanh": "geglu_tanh",
}  # fmt: skip
_PLAIN_OF = {
    "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu", "relu": "relu",
}  # fmt: skip
_ROPE_TYPES = ("linear", "dynamic", "yarn")
# What each of our fields is called there: what every file says, then what some leave out.
_LLAMA_SIZES = {
    "vocab_size": "vocab_size", "d_model": "hidden_size", "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads", "d_ff": "intermediate_size",
}  # fmt: skip
_LLAMA_OPTIONS = {
    "n_kv_heads": "num_key_value_heads", "head_dim": "head_dim", "norm_eps": "rms_norm_eps",
    "tie_embeddings": "tie_word_embeddings", "init_std": "initializer_range",
}  # fmt: skip
_GPT2_SIZES = {
    "vocab_size": "vocab_size", "d_model": "n_embd", "n_layers": "n_layer", "n_heads": "n_head",
    "max_seq_len": "n_positions",
}  # fmt: skip
_GPT2_OPTIONS = {
    "d_ff": "n_inner", "norm_eps": "layer_norm_epsilon", "tie_embeddings": "tie_word_embeddings",
    "init_std": "initializer_range",
}  # fmt: skip


def config_from_folder(values: Mapping[str, Any], max_seq_len: int | None = None) -> ModelConfig:
    """Read the content of a transformers `config.json`.

    Args:
        max_seq_len: Longest sequence to build for. Default: the file's.

    Raises:
        ValueError: If the model's type, or something it does, is not supported.
    """
    family = values.get("model_type")
    if family not in FAMILIES:
        raise ValueError(f"model_type={family!r} is not supported; supported are {[*FAMILIES]}")
    try:
        if family == "gpt2":
            return _gpt2_config(values, max_seq_len)
        return _llama_config(family, values, max_seq_len)
    except KeyError as error:
        raise ValueError(
            f"config.json lacks {error}: it is not a whole {family} model's"
        ) from error


def _choice(table: Mapping[str, str], name: str) -> Any:
    if name not in table:
        raise ValueError(f"the activation {name!r} is not supported; supported are {[*table]}")
    return table[name]


def _refuse_unless(condition: bool, what: str) -> None:
    if not condition:
        raise ValueError(f"{what} is not supported")


def _named(
    values: Mapping[str, Any], sizes: Mapping[str, str], options: Mapping[str, str]
) -> dict[str, Any]:
    """Read the fields that carry another name there and nothing else."""
    fields = {ours: values[theirs] for ours, theirs in sizes.items()}
    given = {ours: values.get(theirs) for ours, theirs in options.items()}
    return fields | {ours: value for ours, value in given.items() if value is not None}


def _llama_config(family: str, values: Mapping[str, Any], max_seq_len: int | None) -> ModelConfig:
    published_len = values["max_position_embeddings"]
    attention_bias = values.get("attention_bias", False)
    _refuse_unless(
        attention_bias == values.get("mlp_bias", False),
        "a bias in the attention alone (attention_bias without mlp_bias, or the reverse)",
    )
    fields: dict[str, Any] = {
        "norm_eps": 1e-6,  # where a file says nothing, its library's defaults
        "tie_embeddings": False,
        **_named(values, _LLAMA_SIZES, _LLAMA_OPTIONS),
        "max_seq_len": max_seq_len or published_len,
        "activation": _choice(_GATED_OF, values.get("hidden_act", "silu")),
        "bias": attention_bias,
        **_rope_fields(values, published_len),
    }
    window = values.get("sliding_window") if family != "llama" else None
    if family == "qwen2":
        fields["qkv_bias"] = True
        window = window if values.get("use_sliding_window") else None
        # Its first `max_window_layers` layers stay full: only all or none can be expressed.
        _refuse_unless(
            not window or values.get("max_window_layers", 0) == 0,
            "a sliding window in some layers (max_window_layers above 0)",
        )
    if window:
        fields |= {"attention": "window", "window": window}
    if family == "mixtral":
        fields |= {
            "n_experts": values["num_local_experts"],
            "experts_per_token": values["num_experts_per_tok"],
            "balance_weight": values.get("router_aux_loss_coef", 0.001),
        }
    return ModelConfig(**fields)


def _rope_fields(values: Mapping[str, Any], published_len: int) -> dict[str, Any]:
    """Read RoPE's settings, which newer files keep together and older ones apart."""
    rope = values.get("rope_parameters") or values.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    theta = rope.get("rope_theta", values.get("rope_theta", 10_000.0))
    fields: dict[str, Any] = {"rope_theta": float(theta), "rope_original_len": published_len}
    if kind == "default":
        return fields
    if kind not in _ROPE_TYPES:
        raise ValueError(f"the RoPE scaling {kind!r} is not supported; {_ROPE_TYPES} are")
    known = {"rope_type", "type", "rope_theta", "factor", "original_max_position_embeddings"}
    others = sorted(key for key in rope.keys() - known if rope[key] is not None)
    _refuse_unless(not others, f"the RoPE setting {', '.join(others)}")
    length = rope.get("original_max_position_embeddings") or published_len
    factor = float(rope["factor"])
    return fields | {"rope_scaling": kind, "rope_factor": factor, "rope_original_len": length}


def _gpt2_config(values: Mapping[str, Any], max_seq_len: int | None) -> ModelConfig:
    _refuse_unless(values.get("scale_attn_weights", True), "scale_attn_weights=false")
    by_layer = values.get("scale_attn_by_inverse_layer_idx", False)
    _refuse_unless(not by_layer, "scale_attn_by_inverse_layer_idx")
    length = values["n_positions"]
    if max_seq_len not in (None, length):
        raise ValueError(f"max_seq_len={max_seq_len}: the model has learned {length} positions")
    return ModelConfig(
        **{"d_ff": 4 * values["n_embd"], **_named(values, _GPT2_SIZES, _GPT2_OPTIONS)},
        norm="layer",
        activation=_choice(_PLAIN_OF, values.get("activation_function", "gelu_new")),
        bias=True,
        position="learned",
    )


def config_from_gguf(
    metadata: Mapping[str, Any], tensors: Collection[str], max_seq_len: int | None = None
) -> ModelConfig:
    """Read the named values of a GGUF file.

    Args:
        tensors: Names of the file's tensors: without an output matrix it is tied.
        max_seq_len: Longest sequence to build for. Default: the file's.

    Raises:
        ValueError: If the model is not of LLaMA's type, or the file lacks a value.
    """
    kind = metadata.get("general.architecture")
    _refuse_unless(kind == "llama", f"the architecture {kind!r} (only 'llama' is); this GGUF file")
    values = {k.removeprefix("llama."): v for k, v in metadata.items() if k.startswith("llama.")}
    scaling = values.get("rope.scaling.type", "none")
    _refuse_unless(scaling == "none", f"the RoPE scaling {scaling!r} of this GGUF file")
    _refuse_unless(not values.get("expert_count"), "a GGUF file with experts")
    try:
        n_heads, d_model = values["attention.head_count"], values["embedding_length"]
        length = values["context_length"]
        head_dim = values.get("attention.key_length") or d_model // n_heads
        turned = values.get("rope.dimension_count", head_dim)
        _refuse_unless(turned == head_dim, "RoPE on a part of each head")
        return ModelConfig(
            vocab_size=values.get("vocab_size") or len(metadata["tokenizer.ggml.tokens"]),
            d_model=d_model,
            n_layers=values["block_count"],
            n_heads=n_heads,
            n_kv_heads=values.get("attention.head_count_kv", n_heads),
            head_dim=head_dim,
            d_ff=values["feed_forward_length"],
            max_seq_len=max_seq_len or length,
            norm_eps=_shortest(values["attention.layer_norm_rms_epsilon"]),
            rope_theta=_shortest(values.get("rope.freq_base", 10_000.0)),
            rope_original_len=length,
            tie_embeddings="output.weight" not in tensors,
        )
    except KeyError as error:
        raise ValueError(f"the GGUF file lacks the value llama.{error.args[0]}") from error


def _shortest(value: float) -> float:
    """Return the number that was rounded to float32: 1e-05, not 9.999999747378752e-06."""
    return float(str(np.float32(value)))


def family_of(config: ModelConfig) -> str:
    """Name the family, one of `FAMILIES`, that a configuration belongs to.

    Raises:
        ValueError: If no family has these choices.
    """
    plain = {
        "mixer": "attention", "channel_mixer": "feedforward", "norm_placement": "pre",
        "embedding_norm": False, "parallel": False, "n_sinks": 0, "full_every": 0,
        "attention_scale": 0.0, "qk_norm": False, "mask": "causal", "n_shared_experts": 0,
        "normalize_gates": True,
    }  # fmt: skip
    odd = [
        f"{name}={getattr(config, name)!r}"
        for name in plain
        if getattr(config, name) != plain[name]
    ]
    is_gpt2 = (
        (config.norm, config.position, config.attention) == ("layer", "learned", "full")
        and config.activation in _PLAIN_OF.values()
        and config.n_heads * config.head_dim == config.d_model
        and config.n_kv_heads == config.n_heads
        and bool(config.bias and config.norm_bias and config.qkv_bias)
        and not config.n_experts
    )
    is_llama_type = (
        (config.norm, config.position) == ("rms", "rope")
        and config.attention in ("full", "window")
        and config.activation in _GATED_OF.values()
        and config.rope_scaling in (*_ROPE_TYPES, "none")
    )
    is_dense, is_full = not config.n_experts, config.attention == "full"
    biases = (bool(config.qkv_bias), config.bias)
    members = {
        "gpt2": is_gpt2,
        "mixtral": is_llama_type and not is_dense and biases == (False, False),
        "qwen2": is_llama_type and is_dense and biases == (True, False),
        "mistral": is_llama_type and is_dense and not is_full and biases == (False, False),
        "llama": is_llama_type and is_dense and is_full and biases[0] == biases[1],
    }
    families = [family for family, is_member in members.items() if is_member and not odd]
    if families:
        return families[0]
    raise ValueError(
        f"no family of {[*FAMILIES]} has this configuration ({', '.join(odd) or config}): "
        "use llmlib.training's checkpoints instead"
    )


def config_to_folder(config: ModelConfig) -> dict[str, Any]:
    """Write a configuration as transformers' `config.json` has it."""
    family = family_of(config)
    is_gpt2 = family == "gpt2"
    names = _GPT2_SIZES | _GPT2_OPTIONS if is_gpt2 else _LLAMA_SIZES | _LLAMA_OPTIONS
    content: dict[str, Any] = {
        "architectures": [FAMILIES[family]],
        "model_type": family,
        "bos_token_id": None,
        "eos_token_id": None,
        **{theirs: getattr(config, ours) for ours, theirs in names.items()},
    }
    if is_gpt2:
        return content | {"activation_function": _inverse(_PLAIN_OF, config.activation)}
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": config.rope_theta}
    if config.rope_scaling != "none":
        rope |= {
            "rope_type": config.rope_scaling,
            "factor": config.rope_factor,
            "original_max_position_embeddings": config.rope_original_len,
        }
    content |= {
        "max_position_embeddings": config.max_seq_len,
        "hidden_act": _inverse(_GATED_OF, config.activation),
        "rope_parameters": rope,
    }
    if family == "llama":
        content |= {"attention_bias": config.bias, "mlp_bias": config.bias}
    else:
        content["sliding_window"] = config.window or None
    if family == "qwen2":
        content |= {"use_sliding_window": config.window > 0, "max_window_layers": 0}
    if family == "mixtral":
        content |= {
            "num_local_experts": config.n_experts,
            "num_experts_per_tok": config.experts_per_token,
            "router_aux_loss_coef": config.balance_weight,
        }
    return content


def _inverse(table: Mapping[str, str], value: str) -> str:
    return next(theirs for theirs, ours in table.items() if ours == value)
