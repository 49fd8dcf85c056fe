"""What each key of a published configuration means here: used, harmless, or refused by its name.

A key that is passed over in silence is a model that computes something else. So every key is in one
of the tables below, and a key that is in none is an error.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ANYTHING = None
"""Instead of a list of harmless values: whatever it says, the model computes the same."""
Harmless = Mapping[str, tuple[Any, ...] | None]


@dataclass(frozen=True)
class Family:
    """A type of published models."""

    architecture: str
    """What transformers calls its class."""
    used: Mapping[str, Any]
    """Keys of `config.json` that are read, each with what transformers takes where it is absent."""
    harmless: Harmless = field(default_factory=dict)
    """Other keys, with the values at which they change nothing."""


_NULLABLE = frozenset(
    {
        "num_key_value_heads", "head_dim", "rope_parameters", "rope_scaling", "sliding_window",
        "layer_types", "original_max_position_embeddings", "n_inner",
    }
)  # fmt: skip
"""Used keys that may be null, which is not always what their absence means."""

_ABOUT_THE_FILE = (
    "model_type", "architectures", "transformers_version", "torch_dtype", "dtype", "name_or_path",
    "_name_or_path", "_commit_hash", "transformers.js_config", "unsloth_version", "unsloth_fixed",
    "is_llama_config", "task_specific_params", "finetuning_task", "tokenizer_class", "prefix",
    "bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id", "sep_token_id", "cls_token_id",
    "mask_token_id", "decoder_start_token_id", "id2label", "label2id", "num_labels", "problem_type",
)  # fmt: skip
_ABOUT_RUNNING = (
    "use_cache", "output_attentions", "output_hidden_states", "output_router_logits", "return_dict",
    "use_return_dict", "return_dict_in_generate", "gradient_checkpointing", "torchscript",
    "use_bfloat16", "attn_implementation", "experts_implementation", "_attn_implementation",
    "_attn_implementation_autoset", "_attn_implementation_internal", "_experts_implementation",
    "_experts_implementation_internal", "_flash_attn_2_enabled", "chunk_size_feed_forward",
    "pretraining_tp", "keys_to_ignore_at_inference", "tie_last_hidden_states", "base_model_tp_plan",
)  # fmt: skip
_ABOUT_GENERATION = (
    "max_length", "min_length", "max_new_tokens", "do_sample", "early_stopping", "num_beams",
    "num_beam_groups", "diversity_penalty", "temperature", "top_k", "top_p", "typical_p",
    "repetition_penalty", "length_penalty", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size",
    "bad_words_ids", "num_return_sequences", "output_scores", "forced_bos_token_id",
    "forced_eos_token_id", "remove_invalid_values", "exponential_decay_length_penalty",
    "suppress_tokens", "begin_suppress_tokens", "epsilon_cutoff", "eta_cutoff",
)  # fmt: skip
_EVERYWHERE: Harmless = {
    **dict.fromkeys((*_ABOUT_THE_FILE, *_ABOUT_RUNNING, *_ABOUT_GENERATION), ANYTHING),
    "is_decoder": (False, True),
    "is_encoder_decoder": (False,),
    "add_cross_attention": (False,),
    "tie_encoder_decoder": (False,),
    "pruned_heads": ({},),
    "per_layer_config": ({},),
}

_LLAMA_TYPE: dict[str, Any] = {
    "vocab_size": 32_000,
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": None,
    "head_dim": None,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "rope_theta": 10_000.0,
    "rope_parameters": None,
    "rope_scaling": None,
    "original_max_position_embeddings": None,
    "layer_types": None,
}
_MISTRAL: dict[str, Any] = {
    **_LLAMA_TYPE,
    "num_key_value_heads": 8,
    "intermediate_size": 14_336,
    "max_position_embeddings": 131_072,
    "sliding_window": 4096,
}
_ONE_ROPE: Harmless = {
    "partial_rotary_factor": (1,),
    "rope_interleaved": (False,),
    "use_mrope": (False,),
    "attention_dropout": (0,),  # ours drops out more than the attention weights
}
_NO_BIAS: Harmless = {"attention_bias": (False,), "mlp_bias": (False,)}

FAMILIES = {
    "llama": Family(
        "LlamaForCausalLM",
        {
            **_LLAMA_TYPE,
            "intermediate_size": 11_008,
            "max_position_embeddings": 2048,
            "attention_bias": False,
            "mlp_bias": False,
        },
        {**_ONE_ROPE, "use_sliding_window": (False,)},
    ),
    "mistral": Family("MistralForCausalLM", _MISTRAL, {**_ONE_ROPE, **_NO_BIAS}),
    "qwen2": Family(
        "Qwen2ForCausalLM",
        {
            **_LLAMA_TYPE,
            "vocab_size": 151_936,
            "num_key_value_heads": 32,
            "intermediate_size": 22_016,
            "max_position_embeddings": 32_768,
            "use_sliding_window": False,
            "sliding_window": 4096,
            "max_window_layers": 28,
        },
        {**_ONE_ROPE, "attention_bias": (False, True), "mlp_bias": (False,)},
    ),
    "mixtral": Family(
        "MixtralForCausalLM",
        {
            **_MISTRAL,
            "rms_norm_eps": 1e-5,
            "rope_theta": 1_000_000.0,
            "sliding_window": None,
            "num_local_experts": 8,
            "num_experts_per_tok": 2,
            "router_aux_loss_coef": 0.001,
        },
        {**_ONE_ROPE, **_NO_BIAS, "router_jitter_noise": (0,)},
    ),
    "gpt2": Family(
        "GPT2LMHeadModel",
        {
            "vocab_size": 50_257,
            "n_positions": 1024,
            "n_embd": 768,
            "n_layer": 12,
            "n_head": 12,
            "n_inner": None,
            "n_ctx": None,
            "activation_function": "gelu_new",
            "embd_pdrop": 0.1,
            "attn_pdrop": 0.1,
            "resid_pdrop": 0.1,
            "layer_norm_epsilon": 1e-5,
            "initializer_range": 0.02,
            "tie_word_embeddings": True,
        },
        {
            "scale_attn_weights": (True,),
            "scale_attn_by_inverse_layer_idx": (False,),
            "reorder_and_upcast_attn": (False, True),  # the same product, in another order
            "summary_type": ANYTHING,
            "summary_use_proj": ANYTHING,
            "summary_activation": ANYTHING,
            "summary_proj_to_labels": ANYTHING,
            "summary_first_dropout": ANYTHING,
        },
    ),
}
"""Our families of published models, by their `model_type`."""

ROPE_USED = frozenset(
    {"rope_type", "type", "rope_theta", "factor", "original_max_position_embeddings"}
)
ROPE_HARMLESS: Harmless = {
    "partial_rotary_factor": (1,), "beta_fast": (32,), "beta_slow": (1,), "truncate": (True,),
    "finetuned": ANYTHING,
}  # fmt: skip
"""What the RoPE settings of a `config.json` may say besides."""

GGUF_USED = frozenset(
    {
        "context_length", "embedding_length", "block_count", "feed_forward_length", "vocab_size",
        "attention.head_count", "attention.head_count_kv", "attention.key_length",
        "attention.value_length", "attention.layer_norm_rms_epsilon", "rope.dimension_count",
        "rope.freq_base", "rope.scaling.type", "rope.scaling.factor", "rope.scale_linear",
    }
)  # fmt: skip
GGUF_HARMLESS: Harmless = {
    "rope.scaling.finetuned": ANYTHING,
    "rope.scaling.original_context_length": ANYTHING,  # which YaRN alone needs
    "rope.scaling.attn_factor": (1,),
    "attention.causal": (True,),
    "attention.sliding_window": (0,),
    "attention.clamp_kqv": (0,),
    "attention.max_alibi_bias": (0,),
    "attention.scale": (0,),
    "use_parallel_residual": (False,),
    "tensor_data_layout": ("Meta AI original pth",),
    "expert_count": (0,),
    "expert_used_count": (0,),
    "logit_scale": (0, 1),
    "residual_scale": (0, 1),
    "embedding_scale": (0, 1),
    "pooling_type": (0,),
}
"""Values of a GGUF file's `llama.` that llama.cpp does not take for this architecture, or at which
it does nothing."""


def refuse_unless(condition: bool, what: str) -> None:
    """Raise a `ValueError` unless what a file asks for is supported."""
    if not condition:
        raise ValueError(f"{what} is not supported")


def refuse_unknown(
    values: Mapping[str, Any], used: Mapping[str, Any] | frozenset[str], harmless: Harmless, of: str
) -> None:
    """Name the keys that are neither used nor harmless at their value; null says nothing.

    Raises:
        ValueError: If there are any.
    """
    names = sorted(
        key
        for key, value in values.items()
        if key not in used and value is not None and not _changes_nothing(harmless, key, value)
    )
    if names:
        found = ", ".join(f"{name}={values[name]!r}" for name in names)
        raise ValueError(f"{of} {', '.join(names)} is not supported; the file has {found}")


def _changes_nothing(harmless: Harmless, key: str, value: Any) -> bool:
    if key not in harmless:
        return False
    allowed = harmless[key]
    return allowed is ANYTHING or value in allowed


def with_defaults(family: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return all keys that a family uses, the absent ones as transformers' class has them.

    Raises:
        ValueError: If `config.json` says something else that changes what the model computes.
    """
    known = FAMILIES[family]
    refuse_unknown(values, known.used, {**_EVERYWHERE, **known.harmless}, f"{family}'s setting")
    null = [key for key in known.used if key in values and values[key] is None]
    wrong = [key for key in null if key not in _NULLABLE and known.used[key] is not None]
    refuse_unless(not wrong, f"null for {', '.join(wrong)}")
    return {**known.used, **{key: values[key] for key in known.used if key in values}}
