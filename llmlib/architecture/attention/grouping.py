"""From multi-head to grouped-query attention: several key/value heads become one."""

import torch

from llmlib.architecture.transformer import Transformer


@torch.no_grad()
def group_heads(model: Transformer, n_kv_heads: int) -> Transformer:
    r"""Return a model with fewer key/value heads, each the mean of the heads that it replaces.

    $W^K_g = \tfrac1r \sum_{h \in g} W^K_h$ and $W^V_g$ likewise, r heads to a group. Exact where
    the heads of a group are equal; otherwise some training brings most of the quality back.

    Returns:
        A new model with all other weights copied, on the same device and in the same type.

    Raises:
        ValueError: When the mixer is not attention, or the heads do not group evenly.

    Example:
        >>> from llmlib.architecture.config import ModelConfig
        >>> config = ModelConfig(vocab_size=11, d_model=16, n_layers=2, n_heads=4, max_seq_len=8)
        >>> group_heads(Transformer(config), 1).blocks[0].mixer.qkv.weight.shape
        torch.Size([24, 16])

    References:
        Ainslie et al. (2023), GQA, section 2.1.
    """
    config = model.config
    if config.mixer != "attention":
        raise ValueError(f"mixer={config.mixer!r} has no key/value heads to group")
    if not 1 <= n_kv_heads <= config.n_kv_heads or config.n_kv_heads % n_kv_heads:
        raise ValueError(
            f"n_kv_heads={n_kv_heads} does not divide the model's {config.n_kv_heads}: "
            "every group has the same number of heads"
        )
    weight = model.embedding.weight
    with torch.random.fork_rng(devices=[]):  # the weights drawn here are all replaced
        grouped = Transformer(config.replace(n_kv_heads=n_kv_heads))
    grouped = grouped.to(device=weight.device, dtype=weight.dtype).train(model.training)
    shared = config.n_kv_heads * config.head_dim
    state = model.state_dict()
    for name, tensor in state.items():
        if not name.endswith(("mixer.qkv.weight", "mixer.qkv.bias")):
            continue
        queries, keys, values = tensor.split((tensor.shape[0] - 2 * shared, shared, shared))
        means = [
            # [G, r, K, ...]: the mean over the heads of each group
            heads.unflatten(0, (n_kv_heads, -1, config.head_dim)).mean(dim=1).flatten(0, 1)
            for heads in (keys, values)
        ]
        state[name] = torch.cat((queries, *means))
    grouped.load_state_dict(state)
    return grouped
