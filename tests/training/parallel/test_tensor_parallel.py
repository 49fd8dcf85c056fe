"""Tensor parallelism on real processes equals one process; the bytes are the formula's."""

from typing import Any

import pytest
import torch
from torch import Tensor

from llmlib.architecture import ModelConfig, Transformer
from llmlib.core.batch import IGNORE, Batch
from llmlib.core.processes.launcher import launch
from llmlib.training import next_token_loss
from llmlib.training.parallel.communicator import Communicator
from llmlib.training.parallel.tensors.tensor_parallel import TensorParallel

BASE = ModelConfig(
    vocab_size=29, d_model=19, n_layers=2, n_heads=12, n_kv_heads=6, head_dim=2, d_ff=18,
    max_seq_len=6, tie_embeddings=True,
)  # fmt: skip
DESIGNS = {
    "tied": BASE,
    "untied, biases, layer norm": BASE.replace(
        tie_embeddings=False, norm="layer", bias=True, qkv_bias=True
    ),
    "normed queries, no gate": BASE.replace(qk_norm=True, activation="gelu"),
    "sandwich": BASE.replace(norm_placement="sandwich", n_kv_heads=12),
}


def batches() -> list[Batch]:
    generator = torch.Generator().manual_seed(11)
    tokens = torch.randint(29, (5, 7), generator=generator)
    inputs, targets = tokens[:, :-1], tokens[:, 1:].clone()
    targets[1, 2:] = IGNORE
    targets[4] = IGNORE
    pieces = zip(inputs.split((2, 3)), targets.split((2, 3)), strict=True)
    return [{"inputs": i, "targets": t} for i, t in pieces]


def model(design: str) -> Transformer:
    torch.manual_seed(1)
    own = Transformer(DESIGNS[design].replace(init_std=0.3)).double()
    for parameter in own.parameters():  # biases and norms start as constants
        parameter.data += 0.1 * torch.randn_like(parameter)
    return own


def split(rank: int, world_size: int, design: str, places: Any) -> dict[str, Any]:
    own, comm = model(design), Communicator()
    parallel = TensorParallel(own, comm, places)
    loss = parallel.backward(batches())
    sent = dict(comm.sent)
    gradients = {name: parallel.whole(name, p.grad) for name, p in own.named_parameters()}  # pyright: ignore[reportArgumentType]
    held = sum(p.numel() for p in own.parameters())
    return {"loss": loss.item(), "gradients": gradients, "sent": sent, "held": held}


def every(rank: int, world_size: int) -> dict[Any, Any]:
    return {
        (design, places): split(rank, world_size, design, places)
        for design in DESIGNS
        for places in ("copied", "split")
    }


@pytest.fixture(scope="module")
def runs() -> list[dict[Any, Any]]:
    return launch(every, 3, timeout_s=240)


def alone(design: str) -> tuple[float, dict[str, Tensor]]:
    own = model(design)
    whole = {name: torch.cat([b[name] for b in batches()]) for name in ("inputs", "targets")}
    loss = next_token_loss(own, whole)
    loss.backward()
    return loss.item(), {n: p.grad for n, p in own.named_parameters() if p.grad is not None}


@pytest.mark.covers("train.tensor-parallel", "train.sequence-parallel")
@pytest.mark.parametrize("places", ["copied", "split"])
@pytest.mark.parametrize("design", DESIGNS)
def test_split_products_equal_one_process(
    runs: list[dict[Any, Any]], design: str, places: str
) -> None:
    loss, gradients = alone(design)
    for run in (one[design, places] for one in runs):
        assert run["loss"] == pytest.approx(loss, rel=1e-10)
        assert run["gradients"].keys() == gradients.keys()
        for name, gradient in gradients.items():
            torch.testing.assert_close(
                run["gradients"][name], gradient, rtol=1e-9, atol=1e-12, msg=lambda m, n=name: n + m
            )


def test_what_is_sent_and_held_is_what_the_formula_says(runs: list[dict[Any, Any]]) -> None:
    size, tokens = len(runs), 5 * 6
    summed = tokens * 19 * 8  # the residual stream, in bytes
    per_token = 3 * tokens * 8  # largest logit, normalizer, the target's logit
    for places in ("copied", "split"):
        sent = [sum(run["tied", places]["sent"].values()) for run in runs]
        # Two layers, two sums each, forward and backward; the embedding's and the loss's besides.
        ideal = 2 * (size - 1) * summed * (2 * 2 * 2 + 2)
        rest = sum(sent) - ideal - (size - 1) * per_token * 2
        norms = 2 * (size - 1) * 8 * 5 * 19 if places == "split" else 0
        highest = (size - 1) * tokens * 8 * (size - 2)  # a gather of P rows
        assert rest == norms + highest
    held = [run["tied", "copied"]["held"] for run in runs]
    whole = sum(p.numel() for p in model("tied").parameters())
    norms = 5 * 19
    assert sum(held) == whole + (size - 1) * norms


def test_designs_that_cannot_be_split_are_refused() -> None:
    three = object.__new__(Communicator)  # without the processes
    three.rank, three.size = 0, 3
    for change in ({"n_heads": 11, "n_kv_heads": 11}, {"d_ff": 17}, {"dropout": 0.1},
                   {"position": "learned"}, {"n_experts": 4}):  # fmt: skip
        with pytest.raises(ValueError, match=next(iter(change))):
            TensorParallel(Transformer(BASE.replace(**change)), three)
