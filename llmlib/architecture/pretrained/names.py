"""Which tensors of a published file make up each of our parameters.

Our decoder stacks what is multiplied with the same input: queries, keys and values in one matrix,
gate and values of a gated layer in another, the experts' matrices too. So a parameter is a list
of parts on top of each other, and the same list read backwards cuts it up for saving.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from llmlib.architecture.config import ModelConfig

MIXER, CHANNEL_MIXER = "mixer", "feedforward"  # what a block calls its two sublayers


@dataclass(frozen=True)
class Part:
    """A tensor of a file that makes up some rows of a parameter.

    Attributes:
        name: The tensor's name in the file.
        shape: Its shape there.
        transposed: Whether it is stored input-major, as GPT-2's projections are.
        paired_heads: Where above zero: RoPE's pairs stand next to each other in each of so many
            heads, as llama.cpp orders them, not half a head apart.
    """

    name: str
    shape: tuple[int, ...]
    transposed: bool = False
    paired_heads: int = 0

    @property
    def rows(self) -> int:
        """Rows of the parameter that it fills."""
        return self.shape[-1] if self.transposed else self.shape[0]

    def to_ours(self, tensor: Tensor) -> Tensor:
        """Bring the file's tensor into our order.

        Args:
            tensor: As the file has it.

        Returns:
            Rows of the parameter, perhaps as a view.
        """
        if self.transposed:
            tensor = tensor.T
        return unpair_heads(tensor, self.paired_heads) if self.paired_heads else tensor

    def to_theirs(self, tensor: Tensor) -> Tensor:
        """Bring rows of the parameter into the file's order.

        Args:
            tensor: Rows of the parameter.

        Returns:
            The tensor as the file has it, contiguous.
        """
        return (tensor.T if self.transposed else tensor).contiguous()


Parts = dict[str, tuple[Part, ...]]


def unpair_heads(rows: Float[Tensor, "rows D"], n_heads: int) -> Float[Tensor, "rows D"]:
    """Turn llama.cpp's order of the rows of a head into ours: 0 2 4 ... 1 3 5 ...

    RoPE turns pairs of components. llama.cpp keeps a pair next to each other, `(0, 1) (2, 3) ...`;
    transformers and this book keep it half a head apart, `(0, K/2) (1, K/2 + 1) ...`.

    Args:
        rows: A projection to queries or keys, a head after the other.
        n_heads: Number of heads in it.

    Returns:
        The same rows in our order.

    Example:
        >>> import torch
        >>> unpair_heads(torch.arange(8.0)[:, None], 2).flatten().tolist()
        [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]
    """
    heads = rows.unflatten(0, (n_heads, -1, 2))  # [H, K/2, 2, D]
    return heads.transpose(1, 2).reshape(rows.shape)


def llama_parts(config: ModelConfig) -> Parts:
    """Name the tensors of the LLaMA family in transformers' files.

    Args:
        config: The model's configuration: LLaMA, Mistral, Qwen2 or Mixtral.

    Returns:
        The parts of each parameter, top to bottom.
    """
    width, vocabulary = (config.d_model,), (config.vocab_size, config.d_model)
    heads, shared = (n * config.head_dim for n in (config.n_heads, config.n_kv_heads))
    parts: Parts = {
        "embedding.weight": (Part("model.embed_tokens.weight", vocabulary),),
        "norm.weight": (Part("model.norm.weight", width),),
    }
    if not config.tie_embeddings:
        parts["head.weight"] = (Part("lm_head.weight", vocabulary),)
    for layer in range(config.n_layers):
        ours, theirs = f"blocks.{layer}.", f"model.layers.{layer}."
        attention = theirs + "self_attn."
        sizes = {"q": heads, "k": shared, "v": shared}
        parts[f"{ours}{MIXER}_norm.weight"] = (Part(theirs + "input_layernorm.weight", width),)
        parts[f"{ours}{CHANNEL_MIXER}_norm.weight"] = (
            Part(theirs + "post_attention_layernorm.weight", width),
        )
        parts[f"{ours}{MIXER}.qkv.weight"] = tuple(
            Part(f"{attention}{n}_proj.weight", (rows, *width)) for n, rows in sizes.items()
        )
        parts[f"{ours}{MIXER}.out.weight"] = (Part(attention + "o_proj.weight", (*width, heads)),)
        if config.qkv_bias:
            parts[f"{ours}{MIXER}.qkv.bias"] = tuple(
                Part(f"{attention}{n}_proj.bias", (rows,)) for n, rows in sizes.items()
            )
        if config.bias:
            parts[f"{ours}{MIXER}.out.bias"] = (Part(attention + "o_proj.bias", width),)
        inner = _expert_parts if config.n_experts else _gated_parts
        parts |= inner(config, f"{ours}{CHANNEL_MIXER}.", theirs)
    return parts


def _gated_parts(config: ModelConfig, ours: str, theirs: str) -> Parts:
    up, down = (config.d_ff, config.d_model), (config.d_model, config.d_ff)
    mlp = theirs + "mlp."
    parts: Parts = {
        ours + "up.weight": tuple(Part(f"{mlp}{n}_proj.weight", up) for n in ("gate", "up")),
        ours + "out.weight": (Part(mlp + "down_proj.weight", down),),
    }
    if config.bias:
        parts[ours + "up.bias"] = tuple(Part(f"{mlp}{n}_proj.bias", up[:1]) for n in ("gate", "up"))
        parts[ours + "out.bias"] = (Part(mlp + "down_proj.bias", down[:1]),)
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
        config: The model's configuration.
        prefix: What every name begins with; the files that OpenAI's weights came in have none.

    Returns:
        The parts of each parameter, top to bottom.
    """
    width, ff = config.d_model, config.d_ff
    parts: Parts = {
        "embedding.weight": (Part(prefix + "wte.weight", (config.vocab_size, width)),),
        "position_embedding.weight": (Part(prefix + "wpe.weight", (config.max_seq_len, width)),),
        "norm.weight": (Part(prefix + "ln_f.weight", (width,)),),
        "norm.bias": (Part(prefix + "ln_f.bias", (width,)),),
    }
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


def gguf_parts(config: ModelConfig) -> Parts:
    """Name the tensors of a LLaMA-type model in a GGUF file.

    Args:
        config: The model's configuration.

    Returns:
        The parts of each parameter, top to bottom.
    """
    width, vocabulary = (config.d_model,), (config.vocab_size, config.d_model)
    heads, shared = (n * config.head_dim for n in (config.n_heads, config.n_kv_heads))
    parts: Parts = {
        "embedding.weight": (Part("token_embd.weight", vocabulary),),
        "norm.weight": (Part("output_norm.weight", width),),
    }
    if not config.tie_embeddings:
        parts["head.weight"] = (Part("output.weight", vocabulary),)
    for layer in range(config.n_layers):
        ours, theirs = f"blocks.{layer}.", f"blk.{layer}."
        up, down = (config.d_ff, config.d_model), (config.d_model, config.d_ff)
        parts |= {
            f"{ours}{MIXER}_norm.weight": (Part(theirs + "attn_norm.weight", width),),
            f"{ours}{CHANNEL_MIXER}_norm.weight": (Part(theirs + "ffn_norm.weight", width),),
            f"{ours}{MIXER}.qkv.weight": (
                Part(theirs + "attn_q.weight", (heads, *width), paired_heads=config.n_heads),
                Part(theirs + "attn_k.weight", (shared, *width), paired_heads=config.n_kv_heads),
                Part(theirs + "attn_v.weight", (shared, *width)),
            ),
            f"{ours}{MIXER}.out.weight": (Part(theirs + "attn_output.weight", (*width, heads)),),
            f"{ours}{CHANNEL_MIXER}.up.weight": (
                Part(theirs + "ffn_gate.weight", up),
                Part(theirs + "ffn_up.weight", up),
            ),
            f"{ours}{CHANNEL_MIXER}.out.weight": (Part(theirs + "ffn_down.weight", down),),
        }
    return parts
