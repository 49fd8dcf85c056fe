"""QK-clip: heads whose attention logits have grown too large get smaller query and key weights."""

from collections.abc import Iterator
from math import inf
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from llmlib.architecture.attention.latent import LatentAttention
from llmlib.architecture.attention.multihead import Attention, causal_mask
from llmlib.architecture.attention.rerope import TruncatedAttention
from llmlib.architecture.context import PLAIN, Context, Layout
from llmlib.architecture.transformer import Transformer

AnyAttention = Attention | LatentAttention


@torch.no_grad()
def qk_clip(
    model: Transformer, tokens: Int[Tensor, "B T"], limit: float = 100.0, *, layout: Layout = PLAIN
) -> list[Float[Tensor, " H"]]:
    r"""Bring the largest logit of every head on a batch down to a limit, by its weights.

    With $S_h$ the largest logit of head h and $\gamma_h = \min(1, \tau / S_h)$, its query and its
    key weights are multiplied by $\sqrt{\gamma_h}$ each, biases included. Where heads share a
    key, it stays, and the query's weights take all of $\gamma_h$. Heads below the limit keep every
    bit. Call it after an optimizer's step, with some of the step's rows; the logits before the clip
    come from one forward pass.

    Args:
        model: Changed in place.
        limit: The largest logit that is let by, $\tau$.

    Returns:
        `largest_logits` of each layer, before the clip.

    Raises:
        ValueError: When the limit is not above 0, or the model's logits are not the product of two
            weights: with QK-norm, which bounds them already, with Transformer-XL's scores, with
            position truncation, and in models without attention.

    Example:
        >>> from llmlib.architecture.config import ModelConfig
        >>> _ = torch.manual_seed(0)
        >>> model = Transformer(ModelConfig(
        ...     vocab_size=11, d_model=16, n_layers=1, n_heads=2, max_seq_len=8, init_std=1.0))
        >>> tokens = torch.tensor([[3, 1, 4, 1, 5]])
        >>> [largest] = qk_clip(model, tokens, limit=10.0)
        >>> [again] = qk_clip(model, tokens, limit=10.0)
        >>> bool((largest > 10).all()), [round(x, 3) for x in again.tolist()]
        (True, [10.0, 10.0])

    References:
        Kimi Team (2025), Kimi K2: Open Agentic Intelligence, section 2.1 and algorithm 1. There
        the logits are those of the training step. Latent attention is scaled as there; for grouped
        heads, which the report does not have, its rule for a key part that heads share is used.
    """
    if not 0 < limit < inf:
        raise ValueError(f"limit={limit} must be above 0: Kimi K2 took 100")
    layers = list(_layers(model))
    found: list[Tensor] = []

    def look(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        assert isinstance(module, AnyAttention)
        x, context, _, layer = inputs
        found.append(largest_logits(module, x, context, layer))

    hooks = [layer.register_forward_pre_hook(look) for layer in layers]
    try:
        model.hidden(tokens, layout=layout)
    finally:
        for hook in hooks:
            hook.remove()
    for layer, largest in zip(layers, found, strict=True):
        shrink_heads(layer, limit / largest.clamp_min(limit))
    return found


@torch.no_grad()
def largest_logits(
    attention: AnyAttention, x: Float[Tensor, "B T D"], context: Context, layer: int = 0
) -> Float[Tensor, " H"]:
    r"""Return the largest logit of each head of a layer, $\max_{t, s} q_t^\top k_s / \sqrt K$.

    Only pairs that may see each other count. What ALiBi and T5 add for the distance is left out.

    Args:
        x: What the layer reads, normalized where the model does so.
        layer: Its index, which decides whether its pattern is sparse.
    """
    config = attention.config
    if isinstance(attention, LatentAttention):
        queries, keys = _latent_queries_and_keys(attention, x, context)
    else:
        queries, keys, _ = attention.project(x, context.angles)
    mask = context.layer_mask(is_local=config.is_local(layer))  # [#B, 1 or H, T, S]
    if mask is None and context.is_causal:
        mask = causal_mask(x.shape[1], device=x.device)[None, None]
    elif mask is not None and mask.dtype != torch.bool:
        mask = mask > -inf
    largest: list[Tensor] = []
    for head in range(config.n_heads):  # all heads' logits at once would be the largest tensor here
        shared = head * keys.shape[1] // config.n_heads
        logits = queries[:, head] @ keys[:, shared].mT  # [B, T, S]
        if mask is not None:
            logits = logits.masked_fill(~mask[:, head % mask.shape[1]], -inf)
        largest.append(logits.amax() * config.score_scale)
    return torch.stack(largest)


@torch.no_grad()
def shrink_heads(attention: AnyAttention, factors: Float[Tensor, " H"]) -> None:
    """Multiply every logit of each head by the head's factor, through its weights.

    A head whose factor is 1 keeps every bit.
    """
    config = attention.config
    width, heads = config.head_dim, config.n_heads
    if isinstance(attention, LatentAttention):
        content = heads * width
        _scale_rows(attention.query, 0, width, factors.sqrt())
        _scale_rows(attention.up, 0, width, factors.sqrt())
        # One rotated key serves all heads: it stays, so the query's rotated part takes it all.
        _scale_rows(attention.query, content, config.rope_head_dim, factors)
    elif config.group_size == 1:
        _scale_rows(attention.qkv, 0, width, factors.sqrt())
        _scale_rows(attention.qkv, heads * width, width, factors.sqrt())
    else:
        _scale_rows(attention.qkv, 0, width, factors)


def _scale_rows(linear: nn.Linear, start: int, width: int, factors: Float[Tensor, " H"]) -> None:
    """Multiply one block of rows a head, and their biases, from row `start` on."""
    rows = slice(start, start + width * len(factors))
    for parameter in (linear.weight, linear.bias):
        if parameter is not None and width:
            parameter[rows].unflatten(0, (-1, width)).transpose(0, -1).mul_(factors)


def _latent_queries_and_keys(
    attention: LatentAttention, x: Float[Tensor, "B T D"], context: Context
) -> tuple[Float[Tensor, "B H T width"], Float[Tensor, "B H T width"]]:
    heads = attention.config.n_heads
    queries = torch.cat(attention.project_queries(x, context.angles), dim=-1)
    latents, rotated = attention.compress(x, context.angles)
    built = attention.up(latents).unflatten(-1, (2 * heads, -1)).transpose(1, 2)
    shared = rotated.unsqueeze(1).expand(-1, heads, -1, -1)
    return queries, torch.cat((built[:, :heads], shared), dim=-1)


def _layers(model: Transformer) -> Iterator[AnyAttention]:
    config = model.config
    if config.qk_norm:
        raise ValueError("qk_norm bounds the logits already, whatever the weights: leave out one")
    if config.position == "relative":
        raise ValueError(
            "position='relative' adds scores that are no product of query and key weights"
        )
    for module in model.modules():
        if isinstance(module, TruncatedAttention):
            raise ValueError("rope_scaling='rerope' has two logits a pair: choose another")
        if isinstance(module, AnyAttention):
            yield module
    if not config.is_attention:
        raise ValueError(f"mixer={config.mixer!r} has no attention logits")
