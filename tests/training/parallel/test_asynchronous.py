"""Asynchronous pipelines: as late as theory says, equal to the same delays on one process."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD

from llmlib.architecture.config import ModelConfig
from llmlib.architecture.transformer import Transformer
from llmlib.core.batch import Batch
from llmlib.core.processes.launcher import launch
from llmlib.training.objectives.next_token import next_token_loss
from llmlib.training.parallel.communicator import Communicator
from llmlib.training.parallel.pipelines.asynchronous import AsynchronousPipeline
from llmlib.training.parallel.pipelines.weight_versions import stage_parameters, train_with_delays

STAGES, MICRO, RATE, MOMENTUM = 3, 7, 0.3, 0.5


def model(**changes: Any) -> Transformer:
    torch.manual_seed(1)
    config = ModelConfig(
        vocab_size=29, d_model=22, n_layers=6, n_heads=11, head_dim=2, d_ff=13, max_seq_len=7,
        tie_embeddings=False, init_std=0.2,
    )  # fmt: skip
    return Transformer(config.replace(**changes)).double()


def micro_batches() -> list[Batch]:
    tokens = torch.randint(29, (MICRO, 2, 8), generator=torch.Generator().manual_seed(3))
    return [{"inputs": rows[:, :-1], "targets": rows[:, 1:]} for rows in tokens]


def optimizer(parameters: list[nn.Parameter]) -> SGD:
    return SGD(parameters, lr=RATE, momentum=MOMENTUM)


def never_waiting(rank: int, world_size: int) -> dict[bool, dict[str, Any]]:
    found: dict[bool, dict[str, Any]] = {}
    for stashing in (True, False):
        pipeline = AsynchronousPipeline(model(), Communicator(), optimizer, stashing=stashing)
        losses = pipeline.train(micro_batches())
        found[stashing] = {
            "losses": losses, "staleness": pipeline.staleness,
            "versions": pipeline.most_versions, "sent": dict(pipeline.comm.sent),
            "weights": {name: p.detach() for name, p in pipeline.parameters().items()},
        }  # fmt: skip
    return found


@pytest.fixture(scope="module")
def runs() -> list[dict[bool, dict[str, Any]]]:
    return launch(never_waiting, STAGES, timeout_s=240)


def written_out() -> tuple[list[float], dict[str, torch.Tensor]]:
    """PipeDream with stashing on one process, all versions kept for ever, in plain loops."""
    own = model()
    names = {p: name for name, p in own.named_parameters()}
    stages = [[names[p] for p in stage] for stage in stage_parameters(own, STAGES)]
    history = [{name: p.detach().clone() for name, p in own.named_parameters()}]
    speed = {name: torch.zeros_like(p) for name, p in own.named_parameters()}
    losses: list[float] = []
    for m, batch in enumerate(micro_batches()):
        for s, stage in enumerate(stages):
            late = max(0, m - (STAGES - 1 - s))
            for name in stage:
                own.get_parameter(name).data = history[late][name].clone()
        own.zero_grad()
        loss = next_token_loss(own, batch)
        loss.backward()
        losses.append(loss.item())
        new: dict[str, torch.Tensor] = {}
        for name, parameter in own.named_parameters():
            assert parameter.grad is not None
            speed[name] = MOMENTUM * speed[name] + parameter.grad
            new[name] = history[m][name] - RATE * speed[name]
        history.append(new)
    return losses, history[-1]


@pytest.mark.covers("train.pipeline-async")
def test_staleness_is_that_of_theory(runs: list[dict[bool, dict[str, Any]]]) -> None:
    for stage, run in enumerate(runs):
        assert run[True]["staleness"] == [min(m, STAGES - 1 - stage) for m in range(MICRO)]
        assert run[True]["versions"] == STAGES - stage


@pytest.mark.covers("train.pipeline-async")
def test_updates_equal_the_same_delays_on_one_process(
    runs: list[dict[bool, dict[str, Any]]],
) -> None:
    losses, weights = written_out()
    seen: set[str] = set()
    for run in runs:
        assert run[True]["losses"].tolist() == pytest.approx(losses, rel=1e-10)
        for name, weight in run[True]["weights"].items():
            torch.testing.assert_close(weight, weights[name], rtol=1e-10, atol=1e-12)
        seen |= run[True]["weights"].keys()
    assert seen == weights.keys()
    # A step sends on what a synchronous pipeline sends, and nothing for the updates.
    each = MICRO * 2 * 7 * 22 * 8 * (STAGES - 1)
    for name in ("activations", "gradients"):
        assert sum(run[True]["sent"].get(name, 0) for run in runs) == each


@pytest.mark.covers("train.pipeline-async")
@pytest.mark.parametrize("stashing", [True, False])
def test_the_simulation_equals_the_processes(
    runs: list[dict[bool, dict[str, Any]]], stashing: bool
) -> None:
    own = model()
    losses = train_with_delays(own, micro_batches(), STAGES, optimizer, stashing=stashing)
    for run in runs:
        assert run[stashing]["losses"].tolist() == pytest.approx(losses, rel=1e-10)
        for name, weight in run[stashing]["weights"].items():
            torch.testing.assert_close(weight, own.get_parameter(name), rtol=1e-10, atol=1e-12)


def gradients_at(versions: list[dict[str, torch.Tensor]], batch: Batch) -> torch.Tensor:
    own = model()
    for stage, version in zip(stage_parameters(own, STAGES), versions, strict=True):
        for name, parameter in own.named_parameters():
            if any(parameter is p for p in stage):
                parameter.data = version[name]
    next_token_loss(own, batch).backward()
    return torch.cat([p.grad.flatten() for p in own.parameters() if p.grad is not None])


def test_without_stashing_a_gradient_is_of_neither_version() -> None:
    """Of the second micro-batch, whose first stages have seen no update in its forward pass."""
    batches = micro_batches()[:2]

    def weights_after(steps: int) -> dict[str, torch.Tensor]:
        own = model()
        train_with_delays(own, batches[:steps], STAGES, optimizer)
        return {name: p.detach().clone() for name, p in own.named_parameters()}

    start, one = weights_after(0), weights_after(1)
    steps = {}
    for stashing in (True, False):
        own = model()
        train_with_delays(own, batches, STAGES, optimizer, stashing=stashing)
        end = {name: p.detach() for name, p in own.named_parameters()}
        # Momentum adds half of the first step, which is the same for both.
        steps[stashing] = torch.cat([
            ((one[n] - end[n]) - MOMENTUM * (start[n] - one[n])).flatten() / RATE for n in end
        ])  # fmt: skip
    forward_versions = gradients_at([start, start, one], batches[1])
    newest = gradients_at([one, one, one], batches[1])
    torch.testing.assert_close(steps[True], forward_versions, rtol=1e-9, atol=1e-11)
    for gradient in (forward_versions, newest):
        assert (steps[False] - gradient).norm() > 0.01 * gradient.norm()


def test_one_stage_is_plain_training() -> None:
    delayed, plain = model(), model()
    losses = train_with_delays(delayed, micro_batches(), 1, optimizer)
    steps = optimizer(list(plain.parameters()))
    for batch, loss in zip(micro_batches(), losses, strict=True):
        own = next_token_loss(plain, batch)
        assert own.item() == pytest.approx(loss, rel=1e-12)
        steps.zero_grad()
        own.backward()
        steps.step()


def test_an_optimizer_on_the_parameters_themselves_is_refused_by_autograd() -> None:
    own, batches = model(), micro_batches()
    loss = next_token_loss(own, batches[0])
    next_token_loss(own, batches[1]).backward()
    optimizer(list(own.parameters())).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_what_cannot_be_cut_is_refused() -> None:
    with pytest.raises(ValueError, match="take tie_embeddings=False"):
        train_with_delays(model(tie_embeddings=True), [], 2, optimizer)
    with pytest.raises(ValueError, match="6 layers are not 4 runs"):
        train_with_delays(model(), [], 4, optimizer)
