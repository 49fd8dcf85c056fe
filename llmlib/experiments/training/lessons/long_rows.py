"""What the processes of the section on context parallelism and layouts do."""

from typing import Any, get_args

import torch
from torch import Tensor

from llmlib.architecture.config import ModelConfig
from llmlib.architecture.transformer import Transformer
from llmlib.core.batch import Batch
from llmlib.training.parallel.communicator import Communicator
from llmlib.training.parallel.context_parallel import ContextParallel, Way
from llmlib.training.parallel.tensors.tensor_parallel import TensorParallel

CONFIG = ModelConfig(
    vocab_size=61, d_model=32, n_layers=3, n_heads=4, n_kv_heads=2, d_ff=64, max_seq_len=29,
    tie_embeddings=False,
)  # fmt: skip


def decoder() -> Transformer:
    """Return the section's model, in float64."""
    torch.manual_seed(5)
    return Transformer(CONFIG).double()


def one_batch() -> Batch:
    """Return three rows of 29 tokens, a length that no number of processes divides."""
    tokens = torch.randint(61, (3, 30), generator=torch.Generator().manual_seed(6))
    return {"inputs": tokens[:, :-1].contiguous(), "targets": tokens[:, 1:].contiguous()}


def gradient(model: Transformer) -> Tensor:
    """Return all gradients as one vector."""
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def cut_the_rows(rank: int, world_size: int) -> dict[str, Any]:
    """Compute loss and gradient of one batch in both ways of context parallelism."""
    found: dict[str, Any] = {}
    for way in get_args(Way):
        model, comm = decoder(), Communicator()
        loss = ContextParallel(model, comm, way).backward(one_batch())
        found[way] = {"loss": loss.item(), "gradient": gradient(model), "sent": dict(comm.sent)}
    comm = Communicator()
    TensorParallel(decoder(), comm).backward([one_batch()])
    found["tensor"] = comm.sent_bytes
    return found
