"""Chunks that come and go: the same training, the budget kept, fewer moves with foresight."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from llmlib.architecture import ModelConfig, Transformer
from llmlib.core.batch import Batch
from llmlib.training import param_groups
from llmlib.training.memory.chunks import ChunkedMemory, lay_out, used_share
from llmlib.training.objectives import language_modeling, next_token_loss
from llmlib.training.optimizers.adamw import adamw_from_groups

CHUNK = 12_000  # numbers; the embedding has 3124 and the largest matrix 11264
STEPS = 3
adamw = partial(adamw_from_groups, lr=1e-2)


def model_of(**fields: Any) -> Transformer:
    torch.manual_seed(0)
    sizes = {"vocab_size": 71, "d_model": 44, "n_layers": 3, "n_heads": 2, "max_seq_len": 61}
    return Transformer(ModelConfig(**{**sizes, **fields}))


def batch(step: int) -> Batch:
    generator = torch.Generator().manual_seed(step)
    return language_modeling(torch.randint(71, (3, 60), generator=generator))


def plainly(model: Transformer, *, bfloat16: bool = False) -> list[float]:
    optimizer, losses = adamw(param_groups(model, 0.1)), []
    for step in range(STEPS):
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            loss = next_token_loss(model, batch(step))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def in_chunks(
    model: Transformer, n_chunks: int, policy: Any = "next use", *, bfloat16: bool = False
) -> tuple[list[float], ChunkedMemory]:
    losses = []
    memory = ChunkedMemory(
        model, adamw, chunk=CHUNK, budget=4 * CHUNK * n_chunks, policy=policy,
        groups=param_groups(model, 0.1),
    )  # fmt: skip
    with memory:
        for step in range(STEPS):
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                loss = next_token_loss(model, batch(step))
            loss.backward()
            assert memory.device_bytes <= memory.budget
            memory.step()
            losses.append(loss.item())
    return losses, memory


@pytest.mark.covers("train.offload")
@pytest.mark.parametrize(
    "fields", [{}, {"tie_embeddings": False, "norm": "layer"}, {"n_experts": 3, "d_ff": 29}]
)
@pytest.mark.parametrize("n_chunks", [4, 11])
def test_training_is_the_same_to_the_bit(fields, n_chunks):
    plain, chunked = model_of(**fields), model_of(**fields)
    losses, memory = in_chunks(chunked, n_chunks)
    assert losses == plainly(plain)
    for a, b in zip(plain.parameters(), chunked.parameters(), strict=True):
        assert torch.equal(a, b)
    assert memory.peak_bytes <= memory.budget < 4 * 4 * CHUNK * len(memory.layout)


def test_autocast_reads_chunks_too():
    plain, chunked = model_of(), model_of()
    assert in_chunks(chunked, 4, bfloat16=True)[0] == plainly(plain, bfloat16=True)


@pytest.mark.covers("train.offload")
def test_foresight_moves_less_than_the_oldest_use():
    moved = {
        policy: in_chunks(model_of(), 15, policy)[1].moved_bytes
        for policy in ("next use", "last use")
    }
    assert moved["next use"][0] == moved["last use"][0]  # nothing is known in the first step
    assert moved["next use"][-1] < 0.8 * moved["last use"][-1]


def test_what_fits_whole_stays():
    losses, memory = in_chunks(model_of(), 4 * 15)
    assert len(losses) == STEPS
    assert memory.moved_bytes[1:] == [0] * (STEPS - 1)
    assert memory.peak_bytes == 4 * 4 * CHUNK * len(memory.layout)


class _Witness:
    """Sums up the storages of all chunks at each operation, from outside."""

    def __init__(self, memory: ChunkedMemory) -> None:
        self.memory, self.most = memory, 0

    def __call__(self, module: nn.Module, args: Any, output: Tensor) -> None:
        self.most = max(self.most, sum(c.storage.nbytes() for c in self.memory.chunks))


def test_the_budget_is_kept_inside_of_every_module():
    model = model_of()
    memory = ChunkedMemory(model, adamw, chunk=CHUNK, budget=4 * CHUNK * 5)
    witness = _Witness(memory)
    for module in model.modules():
        module.register_forward_hook(witness)
    with memory:
        next_token_loss(model, batch(0)).backward()
        memory.step()
    assert 0 < witness.most <= memory.peak_bytes <= memory.budget


def test_after_the_context_parameters_are_plain_tensors():
    model = model_of()
    _, memory = in_chunks(model, 4)
    assert all(p.untyped_storage().nbytes() == p.nbytes for p in model.parameters())
    state = memory.optimizer.state[model.embedding.weight]
    assert state["exp_avg"].untyped_storage().nbytes() == state["exp_avg"].nbytes
    assert next_token_loss(model, batch(0)).isfinite()


def test_layout_by_hand():
    """Tensors begin at multiples of 16 numbers; 50 numbers take the room of 64."""
    assert lay_out([50, 64, 16, 128, 1], 128) == [[0, 1], [2], [3], [4]]
    assert used_share([50, 64, 16, 128, 1], 128) == 259 / 512
    assert used_share([50, 64, 16, 128, 1], 272) == 259 / 544


def test_what_cannot_work_is_refused():
    model = model_of()
    with pytest.raises(ValueError, match=r"11,264 numbers does not fit a chunk of 11,000"):
        ChunkedMemory(model, adamw, chunk=11_000, budget=10**9)
    with pytest.raises(ValueError, match="an update needs 4 chunks of 48,000 bytes"):
        ChunkedMemory(model, adamw, chunk=CHUNK, budget=191_999)
    memory = ChunkedMemory(model, adamw, chunk=CHUNK, budget=192_000)
    with memory, pytest.raises(ValueError, match="works on .* bytes of chunks at once"):
        torch.cat([p.flatten() for p in model.parameters()])


def test_layout_of_what_has_no_numbers():
    assert lay_out([0, 5, 0], 16) == [[0, 1, 2]]
    with pytest.raises(ValueError, match="no tensor to lay out"):
        lay_out([], 16)


def test_models_that_do_not_lie_in_chunks_are_refused():
    room: dict[str, Any] = {"chunk": CHUNK, "budget": 10**9}
    with pytest.raises(ValueError, match=r"not \['torch.bfloat16'\]"):
        ChunkedMemory(model_of().bfloat16(), adamw, **room)
    with pytest.raises(ValueError, match="no tensor to lay out"):
        ChunkedMemory(model_of().requires_grad_(False), adamw, **room)
    model = model_of()
    groups = [{"params": [p for p in model.parameters() if p.ndim == 2]}]
    with pytest.raises(ValueError, match=r"norm.*are in no group"):
        ChunkedMemory(model, adamw, **room, groups=groups)
