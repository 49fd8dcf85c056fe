"""Tensor parallelism with torch's own tools: a decoder's products as distributed tensors."""

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial, Replicate
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)

from llmlib.architecture.attention.multihead import Attention
from llmlib.architecture.block import Block
from llmlib.architecture.feedforward import FeedForward
from llmlib.architecture.kernels.fused import rms_norm
from llmlib.architecture.norms import RMSNorm
from llmlib.architecture.transformer import Transformer
from llmlib.training.parallel.tensors.tensor_parallel import require_splittable


def split_products(model: Transformer, mesh: DeviceMesh) -> None:
    """Share the products of every layer among the processes of a mesh with one axis, in place.

    Queries, keys, values and the feed-forward's first matrix are split by rows of the stored
    weight, heads staying whole; both outputs by columns. `parallelize_module` cuts a weight into
    runs of neighbouring rows, but a stacked weight (queries on keys on values, gates on values)
    must give each process its own run of each. So the rows of those are put into that order first;
    `row_orders` says which, and files keep the whole model's order. Embedding, output matrix and
    norms stay whole on every process.

    Raises:
        ValueError: When the layers cannot be shared equally, or are not those of a plain decoder.

    References:
        Shoeybi et al. (2019), Megatron-LM, section 3.
    """
    size = mesh.size()
    require_splittable(model.config, size)
    for module in model.blocks:
        block = cast("Block", module)
        attention, feedforward = block.mixer, block.feedforward
        assert isinstance(attention, Attention) and isinstance(feedforward, FeedForward)
        _reorder(attention, "qkv", attention.stacked_rows["qkv.weight"], size)
        _reorder(feedforward, "up", feedforward.up_rows, size)
        own, config = attention, attention.config
        own.config = config.replace(
            n_heads=config.n_heads // size,
            n_kv_heads=config.n_kv_heads // size,
            head_dim=config.head_dim,
        )
        own.n_rotated //= size
        if config.qk_norm:
            own.q_norm = HeadNorm(own.q_norm, mesh)
            own.k_norm = HeadNorm(own.k_norm, mesh)
        plan = {
            "mixer.qkv": ColwiseParallel(),
            "mixer.out": RowwiseParallel(),
            "feedforward.up": ColwiseParallel(),
            "feedforward.out": RowwiseParallel(),
        }
        parallelize_module(block, mesh, plan)


class HeadNorm(RMSNorm):
    """The norm of queries or keys whose heads are shared out: its weight's gradient is summed."""

    def __init__(self, norm: RMSNorm, mesh: DeviceMesh) -> None:
        super().__init__(len(norm.weight), norm.eps)
        self.weight, self.mesh = norm.weight, mesh

    def forward(self, x: Float[Tensor, "*rows D"]) -> Float[Tensor, "*rows D"]:
        """Normalize the own heads."""
        shared = DTensor.from_local(self.weight, self.mesh, [Replicate()], run_check=False)
        weight = shared.to_local(grad_placements=[Partial()])
        return rms_norm(x, weight, self.eps)


def row_orders(model: nn.Module) -> dict[str, Tensor]:
    """Return for each parameter with rows in another order than the whole model's which they are.

    Example:
        >>> row_orders(nn.Linear(2, 3))
        {}
    """
    return {
        f"{prefix}.{name}": order
        for prefix, module in model.named_modules()
        for name, order in getattr(module, "row_order", {}).items()
    }


def _reorder(owner: nn.Module, name: str, stacked: tuple[int, ...], size: int) -> None:
    """Put a stacked product's rows into the order in which equal shares are each process's own."""
    starts = torch.tensor([0, *stacked]).cumsum(0)[:-1]
    runs = [
        (start + torch.arange(rows)).tensor_split(size)
        for start, rows in zip(starts, stacked, strict=True)
    ]
    order = torch.cat([run[rank] for rank in range(size) for run in runs])
    product = cast("nn.Linear", getattr(owner, name))
    orders = {f"{name}.weight": order}
    product.weight.data = product.weight.data[order]
    if product.bias is not None:
        product.bias.data = product.bias.data[order]
        orders[f"{name}.bias"] = order
    owner.row_order = {**getattr(owner, "row_order", {}), **orders}  # pyright: ignore[reportArgumentType]
