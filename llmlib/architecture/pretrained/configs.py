"""The configuration of a published model, as its files give it, in our fields and back."""

from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from llmlib.architecture.config import ModelConfig
from llmlib.architecture.pretrained.config_keys import (
    FAMILIES,
    GGUF_HARMLESS,
    GGUF_USED,
    ROPE_HARMLESS,
    ROPE_USED,
    refuse_unknown,
    refuse_unless,
    with_defaults,
)

_GATED_OF = {
    "silu": "swiglu", "swish": "swiglu", "gelu": "geglu", "gelu_pytorch_tanh": "geglu_tanh",
}  # fmt: skip
_PLAIN_OF = {
    "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu", "relu": "relu",
}  # fmt: skip
_ROPE_TYPES = ("linear", "dynamic", "yarn")
# What each of our fields is called there; null leaves it to be derived from the others.
_LLAMA_NAMES = {
    "vocab_size": "vocab_size", "d_model": "hidden_size", "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads", "n_kv_heads": "num_key_value_heads", "head_dim": "head_dim",
    "d_ff": "intermediate_size", "norm_eps": "rms_norm_eps", "init_std": "initializer_range",
    "tie_embeddings": "tie_word_embeddings",
}  # fmt: skip
_MIXTRAL_NAMES = {
    "n_experts": "num_local_experts", "experts_per_token": "num_experts_per_tok",
    "balance_weight": "router_aux_loss_coef",
}  # fmt: skip
_GPT2_NAMES = {
    "vocab_size": "vocab_size", "d_model": "n_embd", "n_layers": "n_layer", "n_heads": "n_head",
    "max_seq_len": "n_positions", "d_ff": "n_inner", "norm_eps": "layer_norm_epsilon",
    "init_std": "initializer_range", "tie_embeddings": "tie_word_embeddings",
}  # fmt: skip
_GPT2_DROPOUTS = ("embd_pdrop", "attn_pdrop", "resid_pdrop")


def config_from_folder(values: Mapping[str, Any], max_seq_len: int | None = None) -> ModelConfig:
    """Read the content of a transformers `config.json`.

    A key that is absent has the value that transformers gives it. Every other key is used, or
    known to change nothing at its value.

    Args:
        max_seq_len: Longest sequence to build for. Default: the file's.

    Raises:
        ValueError: If the model's type, or something it does, is not supported.
    """
    family = values.get("model_type")
    if family not in FAMILIES:
        raise ValueError(f"model_type={family!r} is not supported; supported are {[*FAMILIES]}")
    known = with_defaults(family, values)
    if family == "gpt2":
        return _gpt2_config(known, max_seq_len)
    return _llama_config(family, known, max_seq_len)


def _choice(table: Mapping[str, str], values: Mapping[str, Any], key: str) -> Any:
    if values[key] not in table:
        raise ValueError(
            f"{key}: the activation {values[key]!r} is not supported; supported are {[*table]}"
        )
    return table[values[key]]


def _named(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Read the fields that carry another name there and nothing else."""
    found = {ours: values[theirs] for ours, theirs in names.items()}
    return {ours: value for ours, value in found.items() if value is not None}


def _llama_config(family: str, values: Mapping[str, Any], max_seq_len: int | None) -> ModelConfig:
    published_len = values["max_position_embeddings"]
    bias = values.get("attention_bias", False)
    refuse_unless(
        bias == values.get("mlp_bias", False),
        "a bias in the attention alone (attention_bias without mlp_bias, or the reverse)",
    )
    found: dict[str, Any] = {
        **_named(values, _LLAMA_NAMES),
        "max_seq_len": max_seq_len or published_len,
        "activation": _choice(_GATED_OF, values, "hidden_act"),
        "bias": bias,
        **_rope_fields(values, published_len),
    }
    if family == "qwen2":
        found["qkv_bias"] = True
    if window := _window(family, values):
        found |= {"attention": "window", "window": window}
    if family == "mixtral":
        experts, chosen = values["num_local_experts"], values["num_experts_per_tok"]
        # Its gates sum to one. Ours do not where one expert is chosen: that gate could not learn.
        refuse_unless(experts > 0, f"num_local_experts={experts}")
        refuse_unless(chosen != 1, f"num_experts_per_tok={chosen}, whose gate is 1 there,")
        found |= _named(values, _MIXTRAL_NAMES)
    return ModelConfig(**found)


def _window(family: str, values: Mapping[str, Any]) -> int:
    """Read how many tokens the layers see back; 0 where they see all."""
    window, first = values.get("sliding_window"), 0
    if family == "qwen2":
        window = window if values["use_sliding_window"] else None
        first = values["max_window_layers"]  # those before it see all
    n_layers, full, sliding = values["num_hidden_layers"], "full_attention", "sliding_attention"
    derived = [full if window is None or layer < first else sliding for layer in range(n_layers)]
    kinds = derived if values["layer_types"] is None else [*values["layer_types"]]
    known = len(kinds) == n_layers and {*kinds} <= {full, sliding}
    # The other families' classes do not look at the layers' types.
    refuse_unless(known and (family == "qwen2" or kinds == derived), f"layer_types={kinds}")
    refuse_unless(
        len({*kinds}) < 2, "a sliding window in some layers (layer_types, max_window_layers)"
    )
    if sliding not in kinds:
        return 0
    width = window or 0
    refuse_unless(width > 0, f"sliding_window={window}")
    return width


def _rope_fields(values: Mapping[str, Any], published_len: int) -> dict[str, Any]:
    """Read RoPE's settings, which newer files keep in `rope_parameters`."""
    given = [values[name] for name in ("rope_parameters", "rope_scaling") if values[name]]
    read = [_one_rope(rope, values, published_len) for rope in given or [{}]]
    refuse_unless(read[0] == read[-1], "a rope_scaling that contradicts rope_parameters")
    return read[0]


def _one_rope(
    rope: Mapping[str, Any], values: Mapping[str, Any], published_len: int
) -> dict[str, Any]:
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind not in ("default", *_ROPE_TYPES):
        raise ValueError(
            f"rope_type: the RoPE scaling {kind!r} is not supported; {_ROPE_TYPES} are"
        )
    refuse_unknown(rope, ROPE_USED, ROPE_HARMLESS, "the RoPE setting")
    name = "original_max_position_embeddings"
    lengths = {at[name] for at in (rope, values) if at.get(name)} or {published_len}
    # What `dynamic` starts from is the longest text itself.
    refuse_unless(
        len(lengths) == 1 and (kind != "dynamic" or lengths == {published_len}),
        f"{name}={sorted(lengths)} for a RoPE of type {kind!r} and {published_len} positions",
    )
    theta = rope.get("rope_theta") or values["rope_theta"]
    found: dict[str, Any] = {"rope_theta": float(theta), "rope_original_len": lengths.pop()}
    factor = rope.get("factor")
    if kind == "default":
        refuse_unless(factor in (None, 1), f"factor={factor} without rope_type")
        return found
    if factor is None:
        raise ValueError(f"the RoPE scaling {kind!r} lacks factor")
    return {**found, "rope_scaling": kind, "rope_factor": float(factor)}


def _gpt2_config(values: Mapping[str, Any], max_seq_len: int | None) -> ModelConfig:
    length = values["n_positions"]
    refuse_unless(values["n_ctx"] in (None, length), f"n_ctx={values['n_ctx']}")
    if max_seq_len not in (None, length):
        raise ValueError(f"max_seq_len={max_seq_len}: the model has learned {length} positions")
    dropouts = {values[name] for name in _GPT2_DROPOUTS}
    refuse_unless(len(dropouts) == 1, f"unequal dropout ({', '.join(_GPT2_DROPOUTS)})")
    return ModelConfig(
        **{"d_ff": 4 * values["n_embd"], **_named(values, _GPT2_NAMES)},
        norm="layer",
        activation=_choice(_PLAIN_OF, values, "activation_function"),
        bias=True,
        position="learned",
        dropout=dropouts.pop(),
    )


def config_from_gguf(
    metadata: Mapping[str, Any], tensors: Collection[str], max_seq_len: int | None = None
) -> ModelConfig:
    """Read the named values of a GGUF file.

    Args:
        tensors: Names of the file's tensors: without an output matrix it is tied.
        max_seq_len: Longest sequence to build for. Default: the file's.

    Raises:
        ValueError: If the model is not of LLaMA's type, the file lacks a value, or one that it
            has changes what the model computes and is not supported.
    """
    kind = metadata.get("general.architecture")
    refuse_unless(kind == "llama", f"the architecture {kind!r} (only 'llama' is); this GGUF file")
    n_files = metadata.get("split.count", 1)
    refuse_unless(n_files in (0, 1), f"one GGUF file of {n_files} (split.count)")
    values = {k.removeprefix("llama."): v for k, v in metadata.items() if k.startswith("llama.")}
    refuse_unless(not values.get("expert_count"), "a GGUF file with experts (expert_count)")
    refuse_unknown(values, GGUF_USED, GGUF_HARMLESS, "the GGUF value")
    for name in sorted(name for name, value in values.items() if isinstance(value, list)):
        refuse_unless(len({*values[name]}) == 1, f"a GGUF file with unequal layers ({name})")
        values[name] = values[name][0]
    try:
        n_heads, d_model = values["attention.head_count"], values["embedding_length"]
        length = values["context_length"]
        head_dim = values.get("attention.key_length") or d_model // n_heads
        for name in ("rope.dimension_count", "attention.value_length"):
            refuse_unless(
                values.get(name, head_dim) == head_dim,
                f"RoPE on a part of each head, or values of another width ({name})",
            )
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
            **_gguf_scaling(values),
        )
    except KeyError as error:
        raise ValueError(f"the GGUF file lacks the value llama.{error.args[0]}") from error


def _gguf_scaling(values: Mapping[str, Any]) -> dict[str, Any]:
    """Read how RoPE is stretched: linearly unless a type says otherwise, as llama.cpp takes it."""
    kind = values.get("rope.scaling.type", "linear")
    refuse_unless(
        kind in ("none", "linear"),
        f"rope.scaling.type: the RoPE scaling {kind!r} of this GGUF file",
    )
    # Older files have `scale_linear`; zero stands for no scaling.
    factor = values.get("rope.scaling.factor", values.get("rope.scale_linear")) or 1.0
    if kind == "none" or factor == 1:
        return {}
    return {"rope_scaling": "linear", "rope_factor": _shortest(factor)}


def _shortest(value: float) -> float:
    """Return the number that was rounded to float32: 1e-05, not 9.999999747378752e-06."""
    return float(str(np.float32(value)))


def family_of(config: ModelConfig) -> str:
    """Name the family, one of `FAMILIES`, in whose files a configuration loses nothing.

    Raises:
        ValueError: If no family has these choices.
    """
    lost = {family: _lost(config, family) for family in FAMILIES}
    nearest = min(lost, key=lambda family: len(lost[family]))
    if lost[nearest]:
        raise ValueError(
            f"no family of {[*FAMILIES]} has this configuration ({', '.join(lost[nearest])}): "
            "use llmlib.training's checkpoints instead"
        )
    return nearest


def _lost(config: ModelConfig, family: str) -> list[str]:
    """Say what would be another model when it is read back."""
    if family == "llama" and (config.d_model % config.n_heads or config.init_std > 1):
        return ["what transformers' LlamaConfig refuses: d_model is no multiple of n_heads, or "
                f"init_std={config.init_std} is above 1"]  # fmt: skip
    try:
        back = config_from_folder(_content(config, family))
    except ValueError as error:
        return [str(error)]
    wanted, found = _acting(config), _acting(back)
    return [f"{name}={value!r}" for name, value in wanted.items() if found.get(name) != value]


def _acting(config: ModelConfig) -> dict[str, Any]:
    """Return the fields that act, without those that another field turns off."""
    idle = {"state_dim", "conv_kernel", "expand", "stride", "rope_window", "relative_buckets",
            "relative_max_distance", "latent_dim", "query_latent_dim", "rope_head_dim"}  # fmt: skip
    if config.attention == "full":
        idle |= {"window", "n_sinks", "full_every"}
    if config.norm == "rms":
        idle |= {"norm_bias"}
    if not config.n_experts:
        idle |= {"experts_per_token", "n_shared_experts", "expert_capacity", "normalize_gates",
                 "balance", "balance_weight"}  # fmt: skip
    if config.position != "rope":
        idle |= {"rope_theta"}
    if config.rope_scaling == "none":
        idle |= {"rope_factor", "rope_original_len"}
    if config.rope_scaling == "linear":
        idle |= {"rope_original_len"}
    return {f.name: getattr(config, f.name) for f in fields(config) if f.name not in idle}


def config_to_folder(config: ModelConfig) -> dict[str, Any]:
    """Write a configuration as transformers' `config.json` has it.

    Raises:
        ValueError: If no family has its choices.
    """
    return _content(config, family_of(config))


def _content(config: ModelConfig, family: str) -> dict[str, Any]:
    """Write a configuration down as a family's, whether it fits or not."""
    names = _GPT2_NAMES if family == "gpt2" else _LLAMA_NAMES
    content: dict[str, Any] = {
        "architectures": [FAMILIES[family].architecture],
        "model_type": family,
        "bos_token_id": None,
        "eos_token_id": None,
        **_renamed(config, family, names),
    }
    if family == "gpt2":
        content |= dict.fromkeys(_GPT2_DROPOUTS, config.dropout)
        return content | {"activation_function": _inverse(_PLAIN_OF, config.activation)}
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": float(config.rope_theta)}
    if config.rope_scaling != "none":
        rope |= {"rope_type": config.rope_scaling, "factor": float(config.rope_factor)}
    if config.rope_scaling == "yarn":
        rope["original_max_position_embeddings"] = config.rope_original_len
    content |= {
        "max_position_embeddings": config.max_seq_len,
        "hidden_act": _inverse(_GATED_OF, config.activation),
        "rope_parameters": rope,
    }
    window = config.window if config.attention == "window" else None
    if family == "llama":
        return content | {"attention_bias": config.bias, "mlp_bias": config.bias}
    content["sliding_window"] = window
    if family == "qwen2":
        content |= {"use_sliding_window": window is not None, "max_window_layers": 0}
    if family == "mixtral":
        content |= _renamed(config, family, _MIXTRAL_NAMES)
    return content


def _renamed(config: ModelConfig, family: str, names: Mapping[str, str]) -> dict[str, Any]:
    """Write fields under their names, a whole number as 1.0 where their class insists on it."""
    default, given = FAMILIES[family].used, vars(config)
    return {
        theirs: float(given[ours]) if isinstance(default[theirs], float) else given[ours]
        for ours, theirs in names.items()
    }


def _inverse(table: Mapping[str, str], value: str) -> str:
    """Return their name, or ours where they have none, which reading refuses."""
    return next((theirs for theirs, ours in table.items() if ours == value), value)
