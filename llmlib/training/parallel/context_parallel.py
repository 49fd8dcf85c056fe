"""Context parallelism: each process has some tokens of every row; keys and values travel."""

import math
from collections.abc import Iterator
from functools import partial
from typing import Any, Literal, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, autograd
from torch.autograd.function import once_differentiable

from llmlib.architecture.attention.multihead import Attention
from llmlib.architecture.context import Context
from llmlib.architecture.transformer import Transformer
from llmlib.core.batch import Batch, count_targets
from llmlib.training.memory.chunked_loss import linear_cross_entropy
from llmlib.training.parallel.communicator import Communicator
from llmlib.training.parallel.ring import all_to_all, ring_all_reduce, sum_together
from llmlib.training.parallel.transposed import transposed

Way = Literal["ring", "ulysses"]


def zigzag_shards(length: int, size: int) -> list[Int[Tensor, " _"]]:
    r"""Return the positions of each process: of 2P pieces, piece p and the p-th from the end.

    Under a causal mask a late token meets more keys than an early one; pairs of an early and a
    late piece give every process the same number of scores, to within the pieces' own lengths.

    Raises:
        ValueError: When there are fewer tokens than pieces.

    Example:
        >>> [shard.tolist() for shard in zigzag_shards(9, 2)]
        [[0, 1, 2, 7, 8], [3, 4, 5, 6]]

    References:
        Dubey et al. (2024), The Llama 3 Herd of Models, section 3.3.2.
    """
    if length < 2 * size:
        raise ValueError(f"{length} tokens are fewer than the 2 x {size} pieces of a zigzag")
    pieces = torch.arange(length).tensor_split(2 * size)
    return [torch.cat([pieces[rank], pieces[2 * size - 1 - rank]]) for rank in range(size)]


def ring_attention(
    queries: Float[Tensor, "B H T K"],
    keys: Float[Tensor, "B G T K"],
    values: Float[Tensor, "B G T K"],
    shards: list[Int[Tensor, " _"]],
    comm: Communicator,
) -> Float[Tensor, "B H T K"]:
    r"""Attend causally to the tokens of all processes while their keys and values go round.

    In each of P rounds the own queries meet one process's keys. Rounds are joined as
    FlashAttention joins tiles: by the log-sum-exp of each query's scores. In the backward pass the
    keys go round again, and their gradients with them, until they are home. A process sends
    $(P - 1)(|K| + |V|)$ numbers forward, and as much again backward besides the gradients' P
    rounds.

    Args:
        shards: Positions of each process's tokens; the own ones are the tensors' rows.

    References:
        Liu et al. (2023), Ring Attention with Blockwise Transformers for Near-Infinite Context,
        section 3.
    """
    return cast("Tensor", _RingAttention.apply(queries, keys, values, shards, comm))


def _rounds(
    comm: Communicator, travelling: list[Tensor], shards: list[Tensor], *, laps_home: int = 0
) -> Iterator[tuple[int, list[Tensor]]]:
    """Yield each process's tensors in turn, with its rank, the own ones first.

    Args:
        laps_home: How many of the last tensors go on once more at the end, back to their owner.
    """
    for step in range(comm.size):
        source = (comm.rank - step) % comm.size
        yield source, travelling
        after = (source - 1) % comm.size
        is_last = step == comm.size - 1
        if is_last and not laps_home:
            return
        if comm.size == 1:
            return
        moving = travelling[-laps_home:] if is_last else travelling
        came = [
            tensor.new_empty(*tensor.shape[:2], len(shards[after]), tensor.shape[3])
            for tensor in moving
        ]
        for tensor, into in zip(moving, came, strict=True):
            comm.exchange(
                "keys and values", {comm.next: tensor.contiguous()}, {comm.previous: into}
            )
        travelling[len(travelling) - len(moving) :] = came


def _scores(queries: Tensor, keys: Tensor, own: Tensor, theirs: Tensor) -> Tensor:
    """Return the scores of grouped heads, minus infinity where the key comes later."""
    groups = queries.unflatten(1, (keys.shape[1], -1))  # [B, G, H/G, T, K]
    scores = torch.einsum("bgrtk,bgsk->bgrts", groups, keys) / math.sqrt(queries.shape[-1])
    return scores.masked_fill(own.unsqueeze(1) < theirs, -torch.inf)


class _RingAttention(autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, queries: Tensor, keys: Tensor, values: Tensor, shards: list[Tensor], comm: Any
    ) -> Tensor:
        own, n_groups = shards[comm.rank], keys.shape[1]
        mixed = torch.zeros_like(queries).unflatten(1, (n_groups, -1))
        total = mixed.new_full(mixed.shape[:-1], -torch.inf)  # log-sum-exp so far
        for source, (k, v) in _rounds(comm, [keys, values], shards):
            scores = _scores(queries, k, own, shards[source])
            here = scores.logsumexp(dim=-1)
            # The own tokens come first, so every query has met a key: no inf - inf below.
            joined = torch.logaddexp(total, here)
            weights = (scores - joined.unsqueeze(-1)).exp()
            mixed = mixed * (total - joined).exp().unsqueeze(-1)
            mixed = mixed + torch.einsum("bgrts,bgsk->bgrtk", weights, v)
            total = joined
        out = mixed.flatten(1, 2)
        ctx.save_for_backward(queries, keys, values, out, total)
        ctx.shards, ctx.comm = shards, comm
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        queries, keys, values, out, total = ctx.saved_tensors
        shards, comm = ctx.shards, ctx.comm
        n_groups, own = keys.shape[1], shards[comm.rank]
        grad = grad.unflatten(1, (n_groups, -1))
        along = (grad * out.unflatten(1, (n_groups, -1))).sum(-1, keepdim=True)
        scale = 1 / math.sqrt(queries.shape[-1])
        groups, grad_queries = queries.unflatten(1, (n_groups, -1)), torch.zeros_like(grad)
        travelling = [keys, values, torch.zeros_like(keys), torch.zeros_like(values)]
        for source, (k, v, grad_k, grad_v) in _rounds(comm, travelling, shards, laps_home=2):
            weights = (_scores(queries, k, own, shards[source]) - total.unsqueeze(-1)).exp()
            grad_v += torch.einsum("bgrts,bgrtk->bgsk", weights, grad)
            grad_scores = torch.einsum("bgrtk,bgsk->bgrts", grad, v).sub_(along).mul_(weights)
            grad_queries += torch.einsum("bgrts,bgsk->bgrtk", grad_scores, k) * scale
            grad_k += torch.einsum("bgrts,bgrtk->bgsk", grad_scores, groups) * scale
        return grad_queries.flatten(1, 2), travelling[2], travelling[3], None, None


def heads_for_tokens(
    x: Float[Tensor, "B heads T K"], shards: list[Int[Tensor, " _"]], comm: Communicator
) -> Float[Tensor, "B part S K"]:
    r"""Trade a share of the tokens with all heads for all tokens with a share of the heads.

    All tokens come out in their order. A process sends $\tfrac{P-1}{P}$ of what it has.

    References:
        Jacobs et al. (2023), DeepSpeed Ulysses, section 3.1.
    """
    return transposed(
        x,
        partial(_to_tokens, shards=shards, comm=comm),
        partial(_to_heads, shards=shards, comm=comm),
    )


def tokens_for_heads(
    x: Float[Tensor, "B part S K"], shards: list[Int[Tensor, " _"]], comm: Communicator
) -> Float[Tensor, "B heads T K"]:
    """Trade back: the own tokens, with all heads."""
    return transposed(
        x,
        partial(_to_heads, shards=shards, comm=comm),
        partial(_to_tokens, shards=shards, comm=comm),
    )


def _to_tokens(x: Tensor, shards: list[Tensor], comm: Communicator) -> Tensor:
    batch, heads, _, width = x.shape
    part = heads // comm.size
    shapes = [torch.Size((batch, part, len(shard), width)) for shard in shards]
    came = all_to_all(comm, x.split(part, dim=1), shapes)
    return torch.cat(came, dim=2)[:, :, torch.cat(shards).argsort()]


def _to_heads(x: Tensor, shards: list[Tensor], comm: Communicator) -> Tensor:
    own = torch.Size((*x.shape[:2], len(shards[comm.rank]), x.shape[3]))
    return torch.cat(all_to_all(comm, [x[:, :, s] for s in shards], [own] * comm.size), dim=1)


class ContextParallel:
    """Trains a decoder on rows of which each process has some tokens, and all the weights.

    Everything but attention acts on each token by itself. Gradients are added up over the
    processes, as in data parallelism.

    Args:
        way: `ring`, or `ulysses`, which needs a multiple of P heads, of queries and of keys.

    Raises:
        ValueError: When the design is not a plain causal decoder, or its heads cannot be shared.
    """

    def __init__(self, model: Transformer, comm: Communicator, way: Way = "ring") -> None:
        config = model.config
        is_plain = config.mixer == "attention" and config.attention == "full"
        if not is_plain or config.mask != "causal" or config.dropout or config.n_experts:
            raise ValueError("context parallelism here takes full causal attention, no dropout")
        if config.position not in ("rope", "none") or config.attention_scale:
            raise ValueError(f"position={config.position!r}: take 'rope' or 'none', unscaled")
        if way == "ulysses" and (config.n_heads % comm.size or config.n_kv_heads % comm.size):
            raise ValueError(
                f"{config.n_heads} query and {config.n_kv_heads} key heads are not {comm.size} "
                "equal shares: take way='ring'"
            )
        self.model, self.comm, self.way = model, comm, way
        self.shards: list[Tensor] = []
        for block in model.blocks:
            attention = cast("Attention", block.mixer)
            attention.mix = partial(self._mix, attention.mix)

    def backward(self, batch: Batch) -> Tensor:
        """Compute the gradient of the mean loss over a batch's targets; return that loss.

        Args:
            batch: Whole rows; this process computes with its own tokens of them.

        Raises:
            ValueError: When no target counts, or rows are too short to be cut.
        """
        total = count_targets(batch)
        if not total:
            raise ValueError("no target counts: look at the batch")
        self.shards = zigzag_shards(batch["inputs"].shape[1], self.comm.size)
        own, model = self.shards[self.comm.rank], self.model
        context = model.context(batch["inputs"])
        positions, angles = context.queries[:, own], context.angles
        if angles is not None:
            angles = (angles[0][:, own], angles[1][:, own])
        mine = Context(positions, positions, angles)
        x = model.embed(batch["inputs"][:, own], mine)
        for block in model.blocks:
            x = block(x, mine, None)
        targets = batch["targets"][:, own].contiguous()
        loss = linear_cross_entropy(model.norm(x), model.output_weight, targets)
        share = count_targets({"targets": targets}) / total
        (loss * share).backward()
        found = (loss.detach() * share).double().view(1)
        sum_together(self.comm, [p.grad for p in model.parameters() if p.grad is not None])
        ring_all_reduce(self.comm, found)
        return found[0]

    def _mix(
        self, plain: Any, queries: Tensor, keys: Tensor, values: Tensor, context: Context
    ) -> Tensor:
        if self.way == "ring":
            return ring_attention(queries, keys, values, self.shards, self.comm)
        whole = [heads_for_tokens(x, self.shards, self.comm) for x in (queries, keys, values)]
        everywhere = torch.arange(whole[0].shape[2]).unsqueeze(0)
        mixed = plain(*whole, Context(everywhere, everywhere))
        return tokens_for_heads(mixed, self.shards, self.comm)
