"""Learned relative positions: T5's bias by bucket, and Transformer-XL's scores."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from llmlib.architecture.positions.sinusoidal import sinusoidal_positions


def relative_buckets(
    offsets: Int[Tensor, "..."], n_buckets: int, max_distance: int, *, bidirectional: bool = False
) -> Int[Tensor, "..."]:
    r"""Return the bucket of each offset: near distances alone, far ones together.

    With $E$ the number of exact buckets, half of those of one direction, and $d$ the distance:
    $b(d) = d$ for $d < E$, else
    $\min(2E - 1,\; E + \lfloor E \ln(d/E) / \ln(d_\text{max}/E) \rfloor)$.

    Args:
        offsets: Position of the key minus position of the query, in tokens.
        n_buckets: Number of buckets, at least 2; bidirectional: at least 4.
        max_distance: Distance from which on all keys share the last bucket, in tokens.
        bidirectional: Give keys after the query buckets of their own, the upper half. Otherwise
            such keys, which a causal mask hides, fall into bucket 0.

    Raises:
        ValueError: When there are too few buckets or `max_distance` lies among the exact ones.

    Example:
        >>> relative_buckets(torch.tensor([0, -1, -3, -4, -8, -16, -99]), 8, 16)
        tensor([0, 1, 3, 4, 6, 7, 7])

    References:
        Raffel et al. (2020), T5, section 2.1; the formula stands in its code alone.
    """
    one_way = n_buckets // 2 if bidirectional else n_buckets
    exact = one_way // 2
    if exact < 1:
        least = 4 if bidirectional else 2
        raise ValueError(f"n_buckets={n_buckets} leaves no exact bucket: use at least {least}")
    if max_distance <= exact:
        raise ValueError(f"max_distance={max_distance} must be above {exact}, the exact buckets")
    distances = offsets.abs() if bidirectional else (-offsets).clamp_min(0)
    # Float32 and this order of operations: where the logarithm meets a whole number, another
    # order would round to the neighbouring bucket and pre-trained weights would be misread.
    share = torch.log(distances.clamp_min(1).float() / exact) / math.log(max_distance / exact)
    far = exact + (share * (one_way - exact)).long()
    buckets = torch.where(distances < exact, distances, far.clamp_max(one_way - 1))
    return buckets + one_way * (offsets > 0) if bidirectional else buckets


class T5Bias(nn.Module):
    r"""A learned number for each head and bucket of distances, added to the attention score.

    $A_{h,t,s} = q_{h,t} \cdot k_{h,s} + b_{h,\,\mathrm{bucket}(s - t)}$

    T5 shares one table between its layers, and so does the decoder.

    References:
        Raffel et al. (2020), T5, section 2.1.
    """

    def __init__(
        self, n_heads: int, n_buckets: int, max_distance: int, *, bidirectional: bool = False
    ) -> None:
        super().__init__()
        self.max_distance = max_distance
        self.bidirectional = bidirectional
        self.weight = nn.Parameter(torch.zeros(n_buckets, n_heads))

    # A table like an embedding: Muon has nothing to orthogonalize here.
    elementwise = ("weight",)

    def forward(
        self, queries: Int[Tensor, "#B T"], keys: Int[Tensor, "#B S"]
    ) -> Float[Tensor, "#B H T S"]:
        """Return the biases of all pairs, to be added to the scores; no mask included."""
        buckets = relative_buckets(
            keys.unsqueeze(-2) - queries.unsqueeze(-1),  # [#B, T, S]
            self.weight.shape[0],
            self.max_distance,
            bidirectional=self.bidirectional,
        )
        return F.embedding(buckets, self.weight).permute(0, 3, 1, 2)  # [#B, H, T, S]


class RelativeScores(nn.Module):
    r"""Transformer-XL's attention scores: content and distance, each with a learned bias.

    $A_{t,s} = (q_t + u) \cdot k_s + (q_t + v) \cdot W_R\,P_{t-s}$

    with $P$ the sinusoids, here of a distance. The second term is computed once for each distance
    that occurs, T + S - 1 of them rather than T x S. Here u and v are a layer's own, where
    Transformer-XL shares them.

    Example:
        >>> scores = RelativeScores(d_model=8, n_heads=2, head_dim=3)
        >>> positions = torch.arange(5).unsqueeze(0)
        >>> queries, bias = scores(torch.randn(1, 2, 5, 3), positions, positions)
        >>> queries.shape, bias.shape
        (torch.Size([1, 2, 5, 3]), torch.Size([1, 2, 5, 5]))

    References:
        Dai et al. (2019), Transformer-XL, section 3.3 (there $W_{k,R}$ and $R_{i-j}$) and appendix
        B; Rae et al. (2021), Gopher, section 3.1, uses it.
    """

    # Vectors, one a head: Muon has nothing to orthogonalize here.
    elementwise = ("content_bias", "position_bias")

    def __init__(self, d_model: int, n_heads: int, head_dim: int) -> None:
        super().__init__()
        self.d_model = d_model
        self.project = nn.Linear(d_model, n_heads * head_dim, bias=False)
        self.content_bias = nn.Parameter(torch.zeros(n_heads, head_dim))  # u
        self.position_bias = nn.Parameter(torch.zeros(n_heads, head_dim))  # v

    def forward(
        self,
        queries: Float[Tensor, "B H T K"],
        query_positions: Int[Tensor, "#B T"],
        key_positions: Int[Tensor, "#B S"],
    ) -> tuple[Float[Tensor, "B H T K"], Float[Tensor, "B H T S"]]:
        """Return the queries with u added, and the second term of the scores, not scaled.

        The first term is the product of these queries with the keys.
        """
        pairs = query_positions.unsqueeze(-1) - key_positions.unsqueeze(-2)  # [#B, T, S]
        lowest, highest = (int(end) for end in pairs.aminmax())
        if highest - lowest < pairs.numel():
            distances = torch.arange(highest, lowest - 1, -1, device=pairs.device)  # [R]
            columns = highest - pairs
        else:  # few pairs, far apart: one new token after a rolling window, for example
            distances, columns = pairs.unique(return_inverse=True)
        sinusoids = sinusoidal_positions(distances, self.d_model).to(self.project.weight.dtype)
        keys = self.project(sinusoids).unflatten(-1, self.position_bias.shape)  # [R, H, K]
        by_distance = (queries + self.position_bias[:, None, :]) @ keys.permute(1, 2, 0)
        n_queries, n_keys = pairs.shape[1:]
        positions = (query_positions, key_positions)
        is_one_text = all(bool((p.diff() == 1).all()) for p in positions)
        if is_one_text and n_queries > 1 and len(distances) == n_queries + n_keys - 1:
            scores = _shift(by_distance, n_keys)
        else:
            columns = columns.unsqueeze(1).expand(*queries.shape[:3], -1)  # [B, H, T, S]
            scores = by_distance.gather(-1, columns)
        return queries + self.content_bias[:, None, :], scores


def _shift(by_distance: Float[Tensor, "B H T R"], n_keys: int) -> Float[Tensor, "B H T S"]:
    """Begin row t at its column T - 1 - t, where the distance of its first key stands."""
    # In memory that is one column less a row than before: a cut and a new width, no index. Dai et
    # al. (2019), appendix B, find the same.
    n_queries, width = by_distance.shape[-2:]
    start, stop = n_queries - 1, n_queries - 1 + n_queries * (width - 1)
    rows = by_distance.flatten(-2)[..., start:stop].unflatten(-1, (n_queries, width - 1))
    return rows[..., :n_keys]
