"""Four processes that split the layers of a small decoder, for 05_training/08_splitting_layers."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from llmlib.architecture.config import ModelConfig
from llmlib.architecture.feedforward import FeedForward
from llmlib.architecture.transformer import Transformer
from llmlib.core.batch import IGNORE, Batch
from llmlib.training.objectives.next_token import next_token_loss
from llmlib.training.parallel.communicator import Communicator
from llmlib.training.parallel.expert_parallel import ExpertParallel
from llmlib.training.parallel.mesh import Mesh
from llmlib.training.parallel.tensors.squares import linear_2d
from llmlib.training.parallel.tensors.tensor_parallel import (
    ColumnParallel,
    Places,
    RowParallel,
    TensorParallel,
)

DECODER = ModelConfig(
    vocab_size=46, d_model=32, n_layers=2, n_heads=8, n_kv_heads=4, head_dim=4, d_ff=48,
    max_seq_len=12, init_std=0.2,
)  # fmt: skip
WITH_EXPERTS = DECODER.replace(n_experts=8, experts_per_token=2, balance="none")
BLOCK = DECODER.replace(activation="gelu", bias=True)


def seeded_decoder(config: ModelConfig) -> Transformer:
    """Build the same weights on every process, in float64."""
    torch.manual_seed(41)
    return Transformer(config).double()


def lesson_rows(seed: int) -> Batch:
    """Draw two rows of tokens; some targets do not count."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(DECODER.vocab_size, (2, 13), generator=generator)
    targets = tokens[:, 1:].clone()
    targets[0, :5] = IGNORE
    return {"inputs": tokens[:, :-1], "targets": targets}


def gelu_block() -> tuple[FeedForward, Tensor]:
    """Build a feed-forward layer with biases that are not zero, and an input."""
    torch.manual_seed(43)
    layer = FeedForward(BLOCK).double()
    return layer, torch.randn(2, 12, BLOCK.d_model, dtype=torch.float64)


def matrices_for_squares() -> tuple[Tensor, Tensor, Tensor]:
    """Draw X, W and the gradient of X W."""
    generator = torch.Generator().manual_seed(47)
    shapes = ((14, 10), (10, 22), (14, 22))
    x, weight, grad = (
        torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes
    )
    return x, weight, grad


def block_of(matrix: Tensor, row: int, column: int) -> Tensor:
    """Return one block of four."""
    return matrix.chunk(2)[row].chunk(2, dim=1)[column].clone()


def kept_numbers(model: Transformer, loss: Any) -> int:
    """Count what a forward pass keeps for the backward pass, without the weights."""
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.is_floating_point():
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        loss(lesson_rows(0))
    return sum(
        t.untyped_storage().nbytes() // t.element_size()
        for place, t in kept.items()
        if place not in weights
    )


def split_decoder(places: Places) -> dict[str, Any]:
    model, comm = seeded_decoder(DECODER), Communicator()
    parallel = TensorParallel(model, comm, places)
    loss = parallel.backward([lesson_rows(0)])
    sent = dict(comm.sent)
    parts = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {
        "loss": loss.item(),
        "sent": sent,
        "shapes": {name: tuple(part.shape) for name, part in parts.items()},
        "gradients": {name: parallel.whole(name, part) for name, part in parts.items()},
        "kept": kept_numbers(model, parallel.loss),
    }


def split_in_squares() -> dict[str, Any]:
    mesh = Mesh({"row": 2, "column": 2})
    place, comms = mesh.place(dist.get_rank()), mesh.communicators()
    x, weight, grad = (block_of(matrix, **place) for matrix in matrices_for_squares())
    x.requires_grad_()
    weight.requires_grad_()
    # Those of one row differ in their column.
    y = linear_2d(x, weight, along_row=comms["column"], along_column=comms["row"])
    forward = sum(comm.sent_bytes for comm in comms.values())
    y.backward(grad)
    sent = (forward, sum(comm.sent_bytes for comm in comms.values()) - forward)
    return {"place": place, "y": y.detach(), "x": x.grad, "weight": weight.grad, "sent": sent}


def split_experts(capacity: float) -> dict[str, Any]:
    model = seeded_decoder(WITH_EXPERTS.replace(expert_capacity=capacity))
    comm = Communicator()
    parallel = ExpertParallel(model, comm)
    loss = parallel.backward(next_token_loss, [lesson_rows(seed=comm.rank)])
    gradients = {name: p.grad for name, p in model.named_parameters()}
    return {"loss": loss.item(), "gradients": gradients, "sent": comm.sent["all-to-all"]}


def ours_on_the_block() -> dict[str, Tensor]:
    layer, x = gelu_block()
    comm = Communicator()
    own = torch.arange(BLOCK.d_ff).tensor_split(comm.size)[comm.rank]
    up = ColumnParallel(layer.up, own, comm, "copied")
    out = RowParallel(layer.out, own, comm, "copied")
    x.requires_grad_()
    y = out(torch.nn.functional.gelu(up(x)))
    y.square().sum().backward()
    return {"y": y.detach(), "x": x.grad, "up": up.weight.grad}  # pyright: ignore[reportReturnType]


def torch_on_the_block(pair: Any) -> dict[str, Tensor]:
    """Let PyTorch's own tensor parallelism do the same: a witness, which the book does not use."""
    # Only two processes need these, and to import them takes each a second.
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor.parallel import (
        ColwiseParallel,
        RowwiseParallel,
        parallelize_module,
    )

    layer, x = gelu_block()
    mesh = DeviceMesh.from_group(pair, "cpu")
    parallelize_module(layer, mesh, {"up": ColwiseParallel(), "out": RowwiseParallel()})
    x.requires_grad_()
    y = layer(x)
    y.square().sum().backward()
    part: Any = layer.up.weight.grad
    return {"y": y.detach(), "x": x.grad, "up": part.to_local()}  # pyright: ignore[reportReturnType]


def four_processes(rank: int, world_size: int) -> dict[str, Any]:
    """Do it all in one launch: to start the processes takes longer than what they compute."""
    pair = dist.new_group([0, 1])  # everybody has to make it
    return {
        "copied": split_decoder("copied"),
        "split": split_decoder("split"),
        "squares": split_in_squares(),
        "all kept": split_experts(capacity=0.0),
        "some dropped": split_experts(capacity=0.8),
        "ours": ours_on_the_block(),
        "torch": torch_on_the_block(pair) if rank < 2 else None,
    }
