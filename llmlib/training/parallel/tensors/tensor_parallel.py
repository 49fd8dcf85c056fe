"""Tensor parallelism: each process holds some columns, rows, heads and words of every matrix."""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from llmlib.architecture.attention.multihead import Attention
from llmlib.architecture.block import Block
from llmlib.architecture.config import ModelConfig
from llmlib.architecture.feedforward import FeedForward
from llmlib.architecture.transformer import Transformer
from llmlib.core.batch import Batch, count_targets
from llmlib.training.objectives.next_token import hidden_states
from llmlib.training.parallel.communicator import Communicator
from llmlib.training.parallel.ring import (
    ring_all_gather,
    ring_all_reduce,
    ring_reduce_scatter,
    sum_together,
)
from llmlib.training.parallel.tensors.vocabulary import (
    VocabularyParallelEmbedding,
    split_cross_entropy,
)
from llmlib.training.parallel.transposed import transposed

Places = Literal["copied", "split"]
"""Between the split products every process has all tokens (`copied`), or its own share of each
row's (`split`, sequence parallelism)."""


def _as_it_is(x: Tensor) -> Tensor:
    return x.view_as(x)


def _summed(x: Tensor, comm: Communicator) -> Tensor:
    flat = x.flatten().clone()
    ring_all_reduce(comm, flat)
    return flat.view(x.shape)


def _gathered(x: Float[Tensor, "B T D"], comm: Communicator) -> Tensor:
    whole = x.new_empty(comm.size, *x.transpose(0, 1).shape)  # [P, T/P, B, D]
    whole[comm.rank] = x.transpose(0, 1)
    ring_all_gather(comm, whole.flatten())
    return whole.flatten(0, 1).transpose(0, 1).contiguous()


def _scattered(x: Float[Tensor, "B T D"], comm: Communicator) -> Tensor:
    tokens_first = x.transpose(0, 1).contiguous()
    own = ring_reduce_scatter(comm, tokens_first.flatten().clone())
    share = (x.shape[1] // comm.size, x.shape[0], x.shape[2])
    return own.view(share).transpose(0, 1).contiguous()


class ColumnParallel(nn.Module):
    """Some columns of a product's output: rows of the stored weight.

    References:
        Shoeybi et al. (2019), Megatron-LM, section 3 (f and g); Korthikanti et al. (2022), Reducing
        Activation Recomputation in Large Transformer Models, section 4.2.2 (split tokens).
    """

    def __init__(self, linear: nn.Linear, rows: Tensor, comm: Communicator, places: Places) -> None:
        super().__init__()
        self.comm = comm
        self.places: Places = places
        self.weight = nn.Parameter(linear.weight.detach()[rows].clone())
        bias = linear.bias
        self.bias = None if bias is None else nn.Parameter(bias.detach()[rows].clone())

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B S F"]:
        """Multiply all tokens by the own columns."""
        return F.linear(enter(x, self.comm, self.places), self.weight, self.bias)


class RowParallel(nn.Module):
    """Some rows of a product's input: columns of the stored weight; the sum is over processes.

    The bias is added once, after the sum.
    """

    def __init__(
        self, linear: nn.Linear, columns: Tensor, comm: Communicator, places: Places
    ) -> None:
        super().__init__()
        self.comm = comm
        self.places: Places = places
        self.weight = nn.Parameter(linear.weight.detach()[:, columns].clone())
        bias = linear.bias
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone())

    def forward(self, x: Float[Tensor, "B T F"]) -> Float[Tensor, "B S D"]:
        """Return the whole product, of all tokens or of the own share."""
        y = leave(F.linear(x, self.weight), self.comm, self.places)
        return y if self.bias is None else y + self.bias


def enter(x: Float[Tensor, "B T D"], comm: Communicator, places: Places) -> Float[Tensor, "B S D"]:
    """Bring all tokens into a split product; the gradient is summed over the processes."""
    if places == "split":
        return transposed(x, partial(_gathered, comm=comm), partial(_scattered, comm=comm))
    return transposed(x, _as_it_is, partial(_summed, comm=comm))


def leave(x: Float[Tensor, "B T D"], comm: Communicator, places: Places) -> Float[Tensor, "B S D"]:
    """Sum what the processes have of a product, for all tokens or the own share."""
    if places == "split":
        return transposed(x, partial(_scattered, comm=comm), partial(_gathered, comm=comm))
    return transposed(x, partial(_summed, comm=comm), _as_it_is)


@dataclass(frozen=True)
class _Split:
    """Where a parameter's own part lies in the whole one."""

    dim: int
    length: int
    own: Tensor


class TensorParallel:
    r"""Splits a decoder's products over processes that all read the same batch.

    Queries, keys, values and the feed-forward's first matrix are split by columns, heads staying
    whole; outputs by rows; embedding and output matrix by words. A layer then needs two sums over
    the processes in the forward and two in the backward pass, each of $BTD$ numbers, of which a
    process sends $2\tfrac{P-1}{P}$. With split tokens, each sum becomes a reduce-scatter and an
    all-gather: the same bytes, and norms and residuals hold 1/P of the activations.

    Args:
        model: Whole, the same on every process; its layers are replaced by their parts.

    Raises:
        ValueError: When heads or widths cannot be shared equally, or the design is not a plain
            decoder with rotary or no positions.

    References:
        Shoeybi et al. (2019), Megatron-LM, section 3; Korthikanti et al. (2022), section 4.2.
    """

    def __init__(self, model: Transformer, comm: Communicator, places: Places = "copied") -> None:
        require_splittable(model.config, comm.size)
        self.model, self.comm = model, comm
        self.places: Places = places
        self.splits: dict[str, _Split] = {}
        self.partial: list[nn.Parameter] = []
        """Whole parameters of whose gradient each process has a part."""
        for i, block in enumerate(model.blocks):
            self._split_block(cast("Block", block), f"blocks.{i}.")
        self._split_words()
        if places == "split":
            self.partial += list(model.norm.parameters())

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        """Return the mean cross-entropy, the same number on every process.

        Raises:
            ValueError: When the tokens of a row cannot be shared equally (`split`).
        """
        self.require_shares(batch)
        return self.loss_of(hidden_states(self.model, batch), batch["targets"])

    def require_shares(self, batch: Batch) -> None:
        """Refuse a batch whose tokens are to be split and cannot be.

        Raises:
            ValueError: When the tokens of a row cannot be shared equally.
        """
        length = batch["inputs"].shape[1]
        if self.places == "split" and length % self.comm.size:
            raise ValueError(
                f"rows of {length} tokens are not {self.comm.size} equal shares: pad them or take "
                "places='copied'"
            )

    def loss_of(
        self, hidden: Float[Tensor, "B S D"], targets: Int[Tensor, "B T"]
    ) -> Float[Tensor, ""]:
        """Return the mean cross-entropy of the last hidden states, of all tokens or a share."""
        whole = enter(hidden, self.comm, self.places)
        return split_cross_entropy(
            whole, self.model.output_weight, targets, self.model.config.vocab_size, self.comm
        )

    def backward(self, batches: list[Batch]) -> Tensor:
        """Compute the own part of the gradient of the mean loss over all targets; return it."""
        counts = [count_targets(batch) for batch in batches]
        if not sum(counts):
            raise ValueError("no target counts: look at the batches")
        loss = torch.zeros((), dtype=torch.float64)
        for batch, count in zip(batches, counts, strict=True):
            mine = self.loss(batch) * (count / sum(counts))
            mine.backward()
            loss += mine.detach()
        self.sum_partial()
        return loss

    def whole(self, name: str, part: Tensor) -> Tensor:
        """Put a parameter, or its gradient, together from all processes' parts."""
        split = self.splits.get(name)
        if split is None:
            return part
        shape = list(part.shape)
        shape[split.dim] = split.length
        full = part.new_zeros(shape).index_copy_(split.dim, split.own, part)
        ring_all_reduce(self.comm, full.view(-1))
        return full

    def _split_block(self, block: Block, name: str) -> None:
        attention, feedforward = block.mixer, block.feedforward
        assert isinstance(attention, Attention) and isinstance(feedforward, FeedForward)
        config, size = attention.config, self.comm.size
        heads = (config.n_heads, config.n_kv_heads, config.n_kv_heads)
        rows = self._own_rows([h * config.head_dim for h in heads])
        columns = self._own_rows([config.n_heads * config.head_dim])
        attention.qkv = self._columns(f"{name}mixer.qkv", attention.qkv, rows)
        attention.out = self._rows(f"{name}mixer.out", attention.out, columns)
        attention.config = config.replace(
            n_heads=config.n_heads // size,
            n_kv_heads=config.n_kv_heads // size,
            head_dim=config.head_dim,
        )
        attention.n_rotated //= size
        up, out = self._own_rows(list(feedforward.up_rows)), self._own_rows([config.d_ff])
        feedforward.up = self._columns(f"{name}feedforward.up", feedforward.up, up)
        feedforward.out = self._rows(f"{name}feedforward.out", feedforward.out, out)
        if config.qk_norm:  # each process's heads have a part
            self.partial += [attention.q_norm.weight, attention.k_norm.weight]
        if self.places == "split":  # each process's tokens have a part
            norms = [module for name, module in block.named_children() if name.endswith("norm")]
            self.partial += [p for norm in norms for p in norm.parameters()]
            biases = (attention.out.bias, feedforward.out.bias)
            self.partial += [bias for bias in biases if bias is not None]

    def _own_rows(self, stacked: list[int]) -> Tensor:
        """Return the own rows of matrices that lie on top of each other."""
        starts = torch.tensor([0, *stacked]).cumsum(0)[:-1]
        return torch.cat([
            start + torch.arange(rows).tensor_split(self.comm.size)[self.comm.rank]
            for start, rows in zip(starts, stacked, strict=True)
        ])  # fmt: skip

    def _columns(self, name: str, linear: nn.Linear, rows: Tensor) -> Any:
        self._note(name, linear, 0, rows, bias=True)
        return ColumnParallel(linear, rows, self.comm, self.places)

    def _rows(self, name: str, linear: nn.Linear, columns: Tensor) -> Any:
        self._note(name, linear, 1, columns, bias=False)
        return RowParallel(linear, columns, self.comm, self.places)

    def _note(self, name: str, linear: nn.Linear, dim: int, own: Tensor, *, bias: bool) -> None:
        self.splits[f"{name}.weight"] = _Split(dim, linear.weight.shape[dim], own)
        if bias and linear.bias is not None:
            self.splits[f"{name}.bias"] = _Split(0, len(linear.bias), own)

    def _split_words(self) -> None:
        model, words = self.model, self._own_rows([self.model.config.vocab_size])
        split = _Split(0, model.config.vocab_size, words)
        self.splits["embedding.weight"] = split
        weight = nn.Parameter(model.embedding.weight.detach()[words].clone())

        def combine(x: Tensor) -> Tensor:
            return leave(x, self.comm, self.places)

        model.embedding = cast("Any", VocabularyParallelEmbedding(weight, int(words[0]), combine))
        if model.head is not None:
            self.splits["head.weight"] = split
            model.head.weight = nn.Parameter(model.head.weight.detach()[words].clone())

    def sum_partial(self) -> None:
        """Add up the gradients of which each process has a part, after the backward passes."""
        gradients = [p.grad for p in self.partial if p.grad is not None]
        if gradients:
            sum_together(self.comm, gradients)


def require_splittable(config: ModelConfig, size: int) -> None:
    """Refuse what so many processes cannot share, or what is not a plain decoder.

    Raises:
        ValueError: When heads or widths are not equal shares, or the design is another.
    """
    for name in ("n_heads", "n_kv_heads", "d_ff"):
        if getattr(config, name) % size:
            raise ValueError(f"{name}={getattr(config, name)} is not {size} equal shares")
    if config.vocab_size < size:
        raise ValueError(f"vocab_size={config.vocab_size} leaves one of {size} without a word")
    plain = {
        "mixer": "attention", "channel_mixer": "feedforward", "n_experts": 0, "dropout": 0.0,
        "embedding_norm": False,
    }  # fmt: skip
    for name, value in plain.items():
        if getattr(config, name) != value:
            raise ValueError(
                f"{name}={getattr(config, name)!r}: tensor parallelism here splits decoders with "
                f"{name}={value!r}"
            )
    if config.position not in ("rope", "none") or config.rope_scaling == "rerope":
        raise ValueError(f"position={config.position!r}: take 'rope' or 'none'")
