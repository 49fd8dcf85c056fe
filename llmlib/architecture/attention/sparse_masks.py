"""Sparse attention as masks: which keys a query keeps, by the positions of both.

Every mask here is True where the query at position i (row) may attend to the key at position j
(column).
"""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from llmlib.architecture.config import ModelConfig


def _offsets(queries: Tensor, keys: Tensor) -> Tensor:
    """Return how far each key lies behind each query, [#B, T, S]."""
    return queries.unsqueeze(-1) - keys.unsqueeze(-2)


def window_mask(
    queries: Int[Tensor, "*batch T"],
    keys: Int[Tensor, "*batch S"],
    window: int,
    n_sinks: int = 0,
) -> Bool[Tensor, "*batch T S"]:
    r"""Allow the last `window` tokens, the query's own included, and the first `n_sinks`.

    $0 \le i - j < w$ or $j < s$, with $j \le i$.

    Example:
        >>> window_mask(torch.tensor([4]), torch.arange(6), window=2, n_sinks=1).int().tolist()
        [[1, 0, 0, 1, 1, 0]]

    References:
        Beltagy et al. (2020), Longformer, section 3.1; Jiang et al. (2023), Mistral 7B, section 2;
        Xiao et al. (2023), Efficient Streaming Language Models with Attention Sinks, section 3.2.
    """
    offsets = _offsets(queries, keys)
    is_sink = (keys < n_sinks).unsqueeze(-2)
    return (offsets >= 0) & ((offsets < window) | is_sink)


def strided_mask(
    queries: Int[Tensor, "*batch T"], keys: Int[Tensor, "*batch S"], stride: int
) -> Bool[Tensor, "*batch T S"]:
    r"""Allow the last `stride` tokens, and before them every token a multiple of it away.

    $0 \le i - j < l$ or $(i - j) \bmod l = 0$, with $j \le i$: both of the paper's heads at once.

    Args:
        stride: The distance l, at least 1; near the root of the length, it costs least.

    Example:
        >>> strided_mask(torch.tensor([7]), torch.arange(8), stride=3).int().tolist()
        [[0, 1, 0, 0, 1, 1, 1, 1]]

    References:
        Child et al. (2019), Generating Long Sequences with Sparse Transformers, section 4.3. Its
        local part reaches one key further, which the strided part holds too.
    """
    offsets = _offsets(queries, keys)
    return (offsets >= 0) & ((offsets < stride) | (offsets % stride == 0))


def fixed_mask(
    queries: Int[Tensor, "*batch T"],
    keys: Int[Tensor, "*batch S"],
    stride: int,
    n_summaries: int = 1,
) -> Bool[Tensor, "*batch T S"]:
    r"""Allow the query's own block, and the last tokens of every block before it.

    $\lfloor i/l \rfloor = \lfloor j/l \rfloor$ or $j \bmod l \ge l - c$, with $j \le i$.

    Args:
        stride: Length of a block, l.
        n_summaries: Tokens at the end of each block that all later tokens see, c.

    Example:
        >>> fixed_mask(torch.tensor([7]), torch.arange(8), stride=3).int().tolist()
        [[0, 0, 1, 0, 0, 1, 1, 1]]

    References:
        Child et al. (2019), section 4.3.
    """
    same_block = (queries // stride).unsqueeze(-1) == (keys // stride).unsqueeze(-2)
    is_summary = (keys % stride >= stride - n_summaries).unsqueeze(-2)
    return (_offsets(queries, keys) >= 0) & (same_block | is_summary)


def global_mask(
    queries: Int[Tensor, "*batch T"],
    keys: Int[Tensor, "*batch S"],
    window: int,
    global_positions: Int[Tensor, " n"],
) -> Bool[Tensor, "*batch T S"]:
    r"""Allow a window to both sides, and let chosen tokens see all and be seen by all.

    $|i - j| \le w/2$, or i or j is global. For models that read in both directions.

    Args:
        window: Width of the window, w; half to each side.
        global_positions: The global tokens, as a classifier's first token or a question.

    Example:
        >>> positions = torch.arange(5)
        >>> global_mask(positions, positions, 2, torch.tensor([0]))[3].int().tolist()
        [1, 0, 1, 1, 1]

    References:
        Beltagy et al. (2020), Longformer, section 3.1.
    """
    near = _offsets(queries, keys).abs() <= window // 2
    is_global = (
        torch.isin(queries, global_positions).unsqueeze(-1),
        torch.isin(keys, global_positions).unsqueeze(-2),
    )
    return near | is_global[0] | is_global[1]


def sparse_mask(
    config: ModelConfig, queries: Int[Tensor, "#B T"], keys: Int[Tensor, "#B S"]
) -> Bool[Tensor, "#B T S"]:
    """Return the pattern that a configuration names, with its sinks; no later key is allowed.

    Example:
        >>> config = ModelConfig(vocab_size=7, d_model=8, n_layers=1, n_heads=2, max_seq_len=5,
        ...                      attention="window", window=2)
        >>> sparse_mask(config, torch.tensor([[3]]), torch.arange(5)[None]).int().tolist()
        [[[0, 0, 1, 1, 0]]]
    """
    match config.attention:
        case "window":
            return window_mask(queries, keys, config.window, config.n_sinks)
        case "strided":
            pattern = strided_mask(queries, keys, config.stride)
        case "fixed":
            pattern = fixed_mask(queries, keys, config.stride)
        case "full":
            return _offsets(queries, keys) >= 0
    if config.n_sinks:
        pattern = pattern | window_mask(queries, keys, 1, config.n_sinks)
    return pattern


def count_attended_pairs(config: ModelConfig, n_tokens: int) -> int:
    r"""Count the query-key pairs that a text's attention computes in one sparse layer.

    With $T = q l + r$ and $b = l q (q - 1) / 2 + r q$ the sum of $\lfloor t/l \rfloor$:

    - full: $T (T + 1) / 2$
    - window w: $w T - w (w - 1) / 2$, and with s sinks $s m - s (s - 1)/2$ more, $m = T - w$
    - strided l: $l T - l (l - 1) / 2 + b$
    - fixed l: $q\, l (l + 1) / 2 + r (r + 1) / 2 + b$

    (for texts longer than window, stride and sinks; shorter ones are handled as well)

    Raises:
        ValueError: For a strided or fixed pattern with sinks, which has no such formula here.

    Example:
        >>> config = ModelConfig(vocab_size=7, d_model=8, n_layers=1, n_heads=2, max_seq_len=16,
        ...                      attention="strided", stride=4)
        >>> [count_attended_pairs(c, 16) for c in (config, config.replace(attention="full"))]
        [82, 136]

    References:
        Child et al. (2019), section 4.2, which states the order $T \sqrt{T}$.
    """
    if config.attention == "full":
        return _triangle(n_tokens)
    if config.attention == "window":
        window = min(config.window, n_tokens)
        outside = n_tokens - window  # queries whose window leaves tokens out
        seen = min(config.n_sinks, outside)
        sinks = config.n_sinks * (outside - seen) + _triangle(seen)
        return _triangle(window) + outside * window + sinks
    if config.n_sinks:
        raise ValueError(f"attention={config.attention!r} is counted without sinks: n_sinks=0")
    stride = config.stride
    whole, rest = divmod(n_tokens, stride)
    earlier_blocks = stride * whole * (whole - 1) // 2 + rest * whole
    if config.attention == "fixed":
        return whole * _triangle(stride) + _triangle(rest) + earlier_blocks
    near = min(stride, n_tokens)
    return _triangle(near) + (n_tokens - near) * near + earlier_blocks


def _triangle(n: int) -> int:
    return n * (n + 1) // 2
