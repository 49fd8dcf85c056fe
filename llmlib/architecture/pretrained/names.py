"""Which tensors of a published file make up each of our parameters.

Our decoder stacks what is multiplied with the same input: queries, keys and values in one matrix,
gate and values of a gated layer in another, the experts' matrices too. So a parameter is a list
of parts on top of each other, and the same list read backwards cuts it up for saving.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from llmlib.architecture.config import ModelConfig

MIXER, CHANNEL_MIXER = "mixer", "feedforward"  # what a block calls its two sublayers
_IN_FOLDERS = {
    "embedding": "model.embed_tokens", "norm": "model.norm", "head": "lm_head",
    "layer": "model.layers", "mixer_norm": "input_layernorm",
    "feedforward_norm": "post_attention_layernorm", "q": "self_attn.q_proj",
    "k": "self_attn.k_proj", "v": "self_attn.v_proj", "out": "self_attn.o_proj",
    "gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj",
}  # fmt: skip
_IN_GGUF = {
    "embedding": "token_embd", "norm": "output_norm", "head": "output", "layer": "blk",
    "mixer_norm": "attn_norm", "feedforward_norm": "ffn_norm", "q": "attn_q", "k": "attn_k",
    "v": "attn_v", "out": "attn_output", "gate": "ffn_gate", "up": "ffn_up", "down": "ffn_down",
}  # fmt: skip


@dataclass(frozen=True)
class Part:
    """A tensor of a file, its name and shape there, that makes up some rows of a parameter."""

    name: str
    shape: tuple[int, ...]
    transposed: bool = False
    """Whether it is stored input-major, as GPT-2's projections are."""
    paired_heads: int = 0
    """Where above zero: RoPE's pairs stand next to each other in each of so many heads, as
    llama.cpp orders them, not half a head apart."""

    @property
    def rows(self) -> int:
        """Rows of the parameter that it fills."""
        return self.shape[-1] if self.transposed else self.shape[0]

    def to_ours(self, tensor: Tensor) -> Tensor:
        """Bring the file's tensor into the order of our parameter's rows, perhaps as a view."""
        if self.transposed:
            tensor = tensor.T
        return unpair_heads(tensor, self.paired_heads) if self.paired_heads else tensor

    def to_theirs(self, tensor: Tensor) -> Tensor:
        """Bring rows of the parameter into the file's order, contiguous."""
        return (tensor.T if self.transposed else tensor).contiguous()


Parts = dict[str, tuple[Part, ...]]


def unpair_heads(rows: Float[Tensor, "rows D"], n_heads: int) -> Float[Tensor, "rows D"]:
    """Turn llama.cpp's order of the rows of a head into ours: 0 2 4 ... 1 3 5 ...

    RoPE turns pairs of components. llama.cpp keeps a pair next to each other, `(0, 1) (2, 3) ...`;
    transformers and this book keep it half a head apart, `(0, K/2) (1, K/2 + 1) ...`.

    Example:
        >>> import torch
        >>> unpair_heads(torch.arange(8.0)[:, None], 2).flatten().tolist()
        [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]
    """
    heads = rows.unflatten(0, (n_heads, -1, 2))  # [H, K/2, 2, D]
    return heads.transpose(1, 2).reshape(rows.shape)


def llama_parts(config: ModelConfig) -> Parts:
    """Name the tensors of the LLaMA family (Mistral, Qwen2 and Mixtral too) in folders."""
    return _llama_type(config, _IN_FOLDERS)


def gguf_parts(config: ModelConfig) -> Parts:
    """Name the tensors of a LLaMA-type model in a GGUF file."""
    return _llama_type(config, _IN_GGUF, {"q": config.n_heads, "k": config.n_kv_heads})


def _llama_type(
    config: ModelConfig, names: Mapping[str, str], paired_heads: Mapping[str, int] | None = None
) -> Parts:
    width, vocabulary = (config.d_model,), (config.vocab_size, config.d_model)
    heads, shared = (n * config.head_dim for n in (config.n_heads, config.n_kv_heads))
    sizes, paired = {"q": heads, "k": shared, "v": shared}, paired_heads or {}
    parts: Parts = {
        "embedding.weight": (Part(names["embedding"] + ".weight", vocabulary),),
        "norm.weight": (Part(names["norm"] + ".weight", width),),
    }
    if not config.tie_embeddings:
        parts["head.weight"] = (Part(names["head"] + ".weight", vocabulary),)
    for layer in range(config.n_layers):
        ours, layer_name = f"blocks.{layer}.", f"{names['layer']}.{layer}."
        theirs = {name: layer_name + theirs for name, theirs in names.items()}
        mixer = f"{ours}{MIXER}."
        for sublayer in (MIXER, CHANNEL_MIXER):
            norm = Part(theirs[f"{sublayer}_norm"] + ".weight", width)
            parts[f"{ours}{sublayer}_norm.weight"] = (norm,)
        parts[mixer + "qkv.weight"] = tuple(
            Part(theirs[n] + ".weight", (rows, *width), paired_heads=paired.get(n, 0))
            for n, rows in sizes.items()
        )
        parts[mixer + "out.weight"] = (Part(theirs["out"] + ".weight", (*width, heads)),)
        if config.qkv_bias:
            parts[mixer + "qkv.bias"] = tuple(
                Part(theirs[n] + ".bias", (rows,)) for n, rows in sizes.items()
            )
        if config.bias:
            parts[mixer + "out.bias"] = (Part(theirs["out"] + ".bias", width),)
        if config.n_experts:
            parts |= _expert_parts(config, f"{ours}{CHANNEL_MIXER}.", layer_name)
        else:
            parts |= _gated_parts(config, f"{ours}{CHANNEL_MIXER}.", theirs)
    return parts


def _gated_parts(config: ModelConfig, ours: str, theirs: Mapping[str, str]) -> Parts:
    up, down = (config.d_ff, config.d_model), (config.d_model, config.d_ff)
    parts: Parts = {
        ours + "up.weight": tuple(Part(theirs[n] + ".weight", up) for n in ("gate", "up")),
        ours + "out.weight": (Part(theirs["down"] + ".weight", down),),
    }
    if config.bias:
        parts[ours + "up.bias"] = tuple(Part(theirs[n] + ".bias", up[:1]) for n in ("gate", "up"))
        parts[ours + "out.bias"] = (Part(theirs["down"] + ".bias", down[:1]),)
    return parts


def _expert_parts(config: ModelConfig, ours: str, theirs: str) -> Parts:
    """Name Mixtral's experts, whose `w1` is the gate, `w3` the values and `w2` the way out."""
    up, down = (config.d_ff, config.d_model), (config.d_model, config.d_ff)
    moe = theirs + "block_sparse_moe."
    experts = [f"{moe}experts.{expert}." for expert in range(config.n_experts)]
    router = Part(moe + "gate.weight", (config.n_experts, config.d_model))
    return {
        ours + "router.weight": (router,),
        ours + "up.weight": tuple(
            Part(f"{e}{w}.weight", up) for e in experts for w in ("w1", "w3")
        ),
        ours + "out.weight": tuple(Part(f"{e}w2.weight", down) for e in experts),
    }


def gpt2_parts(config: ModelConfig, prefix: str = "transformer.") -> Parts:
    """Name the tensors of GPT-2 in transformers' files, whose projections are input-major.

    Args:
        prefix: What every name begins with; the files that OpenAI's weights came in have none.
    """
    width, ff = config.d_model, config.d_ff
    parts: Parts = {
        "embedding.weight": (Part(prefix + "wte.weight", (config.vocab_size, width)),),
        "position_embedding.weight": (Part(prefix + "wpe.weight", (config.max_seq_len, width)),),
        "norm.weight": (Part(prefix + "ln_f.weight", (width,)),),
        "norm.bias": (Part(prefix + "ln_f.bias", (width,)),),
    }
    if not config.tie_embeddings:
        parts["head.weight"] = (Part("lm_head.weight", (config.vocab_size, width)),)
    matrices = {
        f"{MIXER}.qkv": ("attn.c_attn", width, 3 * width),
        f"{MIXER}.out": ("attn.c_proj", width, width),
        f"{CHANNEL_MIXER}.up": ("mlp.c_fc", width, ff),
        f"{CHANNEL_MIXER}.out": ("mlp.c_proj", ff, width),
    }
    norms = {f"{MIXER}_norm": "ln_1", f"{CHANNEL_MIXER}_norm": "ln_2"}
    for layer in range(config.n_layers):
        ours, theirs = f"blocks.{layer}.", f"{prefix}h.{layer}."
        for name, (source, d_in, d_out) in matrices.items():
            weight = Part(f"{theirs}{source}.weight", (d_in, d_out), transposed=True)
            parts[f"{ours}{name}.weight"] = (weight,)
            parts[f"{ours}{name}.bias"] = (Part(f"{theirs}{source}.bias", (d_out,)),)
        for name, source in norms.items():
            for kind in ("weight", "bias"):
                parts[f"{ours}{name}.{kind}"] = (Part(f"{theirs}{source}.{kind}", (width,)),)
    return parts
