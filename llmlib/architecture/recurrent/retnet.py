r"""Retention: attention without the softmax, whose weights fade with distance (RetNet).

With queries and keys turned by their positions, head $h$ with decay $\gamma_h$ computes

$$o_t = \sum_{s \le t} \gamma^{t-s}\, (q_t^\top k_s)\, v_s .$$

Without a softmax the sum can be taken in any order, which gives three programs for one function:
all pairs at once (`parallel_retention`), token by token with a matrix as state
(`recurrent_retention`), and blocks of tokens with a state between them (`chunked_retention`).

Normalization. RetNet divides by the root of K, the weights of a row by the root of their sum of
decays, and the scores of a row by their sum. The forms must agree, so here every factor depends on
the token's own position alone and is applied to its query: $1/\sqrt K$ and
$\sqrt{(1-\gamma)/(1-\gamma^{t+1})}$. The third is left out: it is one positive number a token and
head, and the group norm behind it divides any such number out.

References:
    Sun et al. (2023), Retentive Network: A Successor to Transformer for Large Language Models.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from llmlib.architecture.caches.state_cache import State
from llmlib.architecture.config import ModelConfig
from llmlib.architecture.context import Context
from llmlib.architecture.exact import wide, wide_type
from llmlib.architecture.kernels.fused import rotate
from llmlib.architecture.positions.rope import rope_angles, rope_frequencies
from llmlib.architecture.recurrent.base import RecurrentMixer

CHUNK = 128


def forgotten_shares(n_heads: int, device: torch.device | None = None) -> Float[Tensor, " H"]:
    r"""Return $1 - \gamma_h = 2^{-5-h}$, which has all its digits where $\gamma$ rounds to 1.

    From head 120 on all share the smallest one: nothing fades there within any text.
    """
    heads = torch.arange(n_heads, dtype=torch.float32, device=device)
    return torch.exp2(-5.0 - heads.clamp_max(120))


def retention_decays(n_heads: int, device: torch.device | None = None) -> Float[Tensor, " H"]:
    r"""Return by how much each head's memory fades a token.

    $\gamma_h = 1 - 2^{-5-h}$: head 0 halves its memory in 22 tokens, each next in twice as many.

    Example:
        >>> retention_decays(2).tolist()
        [0.96875, 0.984375]

    References:
        Sun et al. (2023), equation 8.
    """
    return 1 - forgotten_shares(n_heads, device)


def decay_matrix(decays: Float[Tensor, " H"], n_tokens: int) -> Float[Tensor, "H T T"]:
    r"""Return $D_{ts} = \gamma^{t-s}$ for $s \le t$, else 0: causal mask and forgetting in one.

    Example:
        >>> decay_matrix(torch.tensor([0.5]), 3)[0].tolist()
        [[1.0, 0.0, 0.0], [0.5, 1.0, 0.0], [0.25, 0.5, 1.0]]
    """
    steps = torch.arange(n_tokens, device=decays.device)
    ages = (steps[:, None] - steps).clamp_min(0)
    return (decays.log()[:, None, None] * ages).exp().tril()


def parallel_retention(
    queries: Float[Tensor, "*batch H T K"],
    keys: Float[Tensor, "*batch H T K"],
    values: Float[Tensor, "*batch H T Kv"],
    decays: Float[Tensor, " H"],
) -> Float[Tensor, "*batch H T Kv"]:
    r"""Retention from all pairs of tokens: $(Q K^\top \odot D)\,V$.

    Args:
        queries: A head a matrix, positions and factors applied.

    References:
        Sun et al. (2023), equation 5.
    """
    return (queries @ keys.mT * decay_matrix(decays, queries.shape[-2])) @ values


def recurrent_retention(
    queries: Float[Tensor, "B H T K"],
    keys: Float[Tensor, "B H T K"],
    values: Float[Tensor, "B H T Kv"],
    decays: Float[Tensor, " H"],
    state: Float[Tensor, "B H K Kv"] | None = None,
) -> tuple[Float[Tensor, "B H T Kv"], Float[Tensor, "B H K Kv"]]:
    r"""Retention token by token: $S_t = \gamma S_{t-1} + k_t v_t^\top$, $o_t = S_t^\top q_t$.

    The last state, S, is returned too; the first is zero by default.

    References:
        Sun et al. (2023), equation 6.
    """
    if state is None:
        state = _no_state(keys, values)
    outputs = []
    for q, k, v in zip(queries.unbind(2), keys.unbind(2), values.unbind(2), strict=True):
        state = decays[:, None, None] * state + k.unsqueeze(-1) * v.unsqueeze(-2)  # [B, H, K, Kv]
        outputs.append((q.unsqueeze(-2) @ state).squeeze(-2))
    return torch.stack(outputs, dim=2), state


def chunked_retention(
    queries: Float[Tensor, "B H T K"],
    keys: Float[Tensor, "B H T K"],
    values: Float[Tensor, "B H T Kv"],
    decays: Float[Tensor, " H"],
    state: Float[Tensor, "B H K Kv"] | None = None,
    chunk: int = CHUNK,
) -> tuple[Float[Tensor, "B H T Kv"], Float[Tensor, "B H K Kv"]]:
    r"""Retention in chunks: all pairs inside a chunk, a state from chunk to chunk.

    Token j of a chunk gets $\sum_{s \le j} \gamma^{j-s} (q_j^\top k_s) v_s +
    \gamma^{j+1} S^\top q_j$, and a chunk of C tokens leaves
    $\gamma^C S + \sum_s \gamma^{C-1-s} k_s v_s^\top$. The work is linear in the length. Arguments
    and result are those of `recurrent_retention`.

    Args:
        chunk: Tokens in a chunk, C; the last one may be shorter.

    Raises:
        ValueError: When `chunk` is below 1.

    References:
        Sun et al. (2023), equation 7.
    """
    if chunk < 1:
        raise ValueError(f"chunk={chunk}: a chunk has one token or more")
    if state is None:
        state = _no_state(keys, values)
    n_tokens = queries.shape[2]
    whole = n_tokens // chunk * chunk
    outputs = []
    for part, size in ((slice(whole), chunk), (slice(whole, None), n_tokens - whole)):
        q, k, v = queries[:, :, part], keys[:, :, part], values[:, :, part]
        if q.shape[2]:
            output, state = _equal_chunks(q, k, v, decays, state, size)
            outputs.append(output)
    return torch.cat(outputs, dim=2) if len(outputs) > 1 else outputs[0], state


def _equal_chunks(
    queries: Tensor, keys: Tensor, values: Tensor, decays: Tensor, state: Tensor, chunk: int
) -> tuple[Tensor, Tensor]:
    """Run chunks of one length; only the small states are chained one after the other."""
    queries, keys, values = (
        x.unflatten(2, (-1, chunk)).transpose(1, 2) for x in (queries, keys, values)
    )  # [B, chunks, H, C, .]
    steps = torch.arange(chunk, device=decays.device)
    log_decays = decays.log()[:, None, None]
    remaining = (log_decays * (chunk - 1 - steps)[:, None]).exp()  # [H, C, 1]
    added = (keys * remaining).mT @ values  # [B, chunks, H, K, Kv]
    through = (log_decays * chunk).exp()
    before = []
    for new in added.unbind(1):
        before.append(state)
        state = through * state + new
    carried = queries * (log_decays * (steps + 1)[:, None]).exp()
    inside = parallel_retention(queries, keys, values, decays)  # [B, chunks, H, C, Kv]
    outputs = inside + carried @ torch.stack(before, dim=1)
    return outputs.transpose(1, 2).flatten(2, 3), state


def _no_state(keys: Tensor, values: Tensor) -> Tensor:
    return keys.new_zeros(*keys.shape[:2], keys.shape[-1], values.shape[-1])


class Retention(RecurrentMixer):
    r"""Multi-scale retention: heads that forget at different rates, normalized apart and gated.

    $y = W_o\,\bigl(\mathrm{swish}(W_g x) \odot \mathrm{GroupNorm}(o_1, \dots, o_H)\bigr)$

    Queries and keys are turned as in RoPE if `position` says so, as it does by default. The
    paper's values are twice as wide as its keys and its feed-forward layers narrower; here both are
    as wide as a head, so that a layer costs five matrices beside attention's four.

    Args:
        config: The model's configuration; `n_heads` and `head_dim` (even) shape the heads.

    References:
        Sun et al. (2023), sections 2.2 and 2.3, and equation 8.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.width = config.n_heads * config.head_dim
        self.qkvg = nn.Linear(config.d_model, 4 * self.width, bias=config.bias)
        self.group_norm = nn.GroupNorm(config.n_heads, self.width, eps=config.norm_eps)
        self.out = nn.Linear(self.width, config.d_model, bias=config.bias)
        self.reset_parameters()

    @property
    def decays(self) -> Float[Tensor, " H"]:
        """How much each head remembers."""
        return retention_decays(self.config.n_heads, self.out.weight.device)

    @property
    @override
    def stacked_rows(self) -> dict[str, tuple[int, ...]]:
        return {"qkvg.weight": (self.width,) * 4}

    @override
    def reset_parameters(self) -> None:
        self.reset_linear(self.qkvg)
        self.reset_linear(self.out, into_residual=True)
        self.group_norm.reset_parameters()

    @override
    def mix(
        self, x: Float[Tensor, "B T D"], state: State, context: Context | None, *, keeps_state: bool
    ) -> tuple[Float[Tensor, "B T D"], State]:
        if context is None:
            raise ValueError("retention turns queries by their positions: give it a context")
        queries, keys, values, gate = self.project(x, context.queries)
        form = recurrent_retention if x.shape[1] == 1 else chunked_retention
        before = state.get("retention")
        with torch.autocast(x.device.type, enabled=False):
            heads, last = form(wide(queries), wide(keys), wide(values), self.decays, before)
        mixed = heads.transpose(1, 2).flatten(2).to(gate.dtype)  # [B, T, H K]
        normed = self.group_norm(mixed.flatten(0, 1)).view_as(mixed)  # a token and head at a time
        return self.out(F.silu(gate) * normed), {"retention": last}

    def project(
        self, x: Float[Tensor, "B T D"], positions: Int[Tensor, "#B T"]
    ) -> tuple[
        Float[Tensor, "B H T K"],
        Float[Tensor, "B H T K"],
        Float[Tensor, "B H T K"],
        Float[Tensor, "B T width"],
    ]:
        """Return queries, keys and values, positions and factors applied, and the gate."""
        n_heads, head_dim = self.config.n_heads, self.config.head_dim
        qkv, gate = self.qkvg(x).split((3 * self.width, self.width), dim=-1)
        heads = qkv.unflatten(-1, (3 * n_heads, head_dim))  # [B, T, 3H, K]
        queries_keys = heads[:, :, : 2 * n_heads]
        if self.config.position == "rope":
            frequencies = rope_frequencies(head_dim, self.config.rope_theta, x.device)
            frequencies = frequencies.to(wide_type(x.dtype))
            queries_keys = rotate(queries_keys, *rope_angles(positions, frequencies))
        queries, keys = queries_keys.split(n_heads, dim=2)
        queries = queries * self._query_scale(positions)
        values = heads[:, :, 2 * n_heads :]
        return queries.transpose(1, 2), keys.transpose(1, 2), values.transpose(1, 2), gate

    def _query_scale(self, positions: Tensor) -> Tensor:
        """Return one over the root of K and of the sum of a token's decays, [#B, T, H, 1]."""
        shares = forgotten_shares(self.config.n_heads, positions.device)
        # Of 1 - decay^n the difference of two numbers near 1 would leave few digits, or none.
        seen = -torch.expm1(torch.log1p(-shares) * (positions + 1).unsqueeze(-1))  # [#B, T, H]
        return (shares / seen / self.config.head_dim).sqrt().unsqueeze(-1)
