import json
from pathlib import Path

import pytest
import torch

from llmlib.architecture.config import ModelConfig
from llmlib.architecture.transformer import Transformer
from llmlib.training.objectives.next_token import next_token_loss
from llmlib.training.speed.step_profile import kind_of_operation, profile_step


@pytest.mark.covers("train.throughput")
def test_every_kernel_of_a_step_has_its_kind(tmp_path: Path) -> None:
    model = Transformer(
        ModelConfig(vocab_size=101, d_model=48, n_layers=3, n_heads=2, max_seq_len=19)
    )
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    tokens = torch.randint(101, (5, 18))
    batch = {"inputs": tokens[:, :-1], "targets": tokens[:, 1:]}

    def step() -> None:
        next_token_loss(model, batch).backward()
        optimizer.step()
        optimizer.zero_grad()

    found = profile_step(step, trace=tmp_path / "step.json")
    # Twelve linear layers make a product forward and two back; so does the output matrix.
    assert found.calls["matrix products"] == 3 * (4 * 3 + 1)
    assert found.calls["attention"] == 2 * 3
    assert found.calls["optimizer"] >= 1 and "aten::_fused_adamw_" in found.operations
    assert found.calls["other"] == 0
    assert found.kernels == sum(found.calls.values())
    assert sum(found.shares.values()) == pytest.approx(1)
    assert sum(found.operations.values()) == pytest.approx(sum(found.seconds.values()))
    assert [*found.operations.values()] == sorted(found.operations.values(), reverse=True)
    lines = found.table().splitlines()
    assert len(lines) == 6 and all(kind in found.table() for kind in found.seconds)
    names = {
        event["name"] for event in json.loads((tmp_path / "step.json").read_text())["traceEvents"]
    }
    assert "aten::mm" in names


def test_an_operation_counts_once_however_many_wrap_it() -> None:
    x = torch.ones(3, 5)
    found = profile_step(lambda: torch.relu(x).softmax(-1).sum(), warm_up=0)
    assert found.calls["element-wise"] == 3  # relu calls clamp_min, softmax calls _softmax
    assert found.kernels == 3


def test_names_tell_the_kind() -> None:
    kinds = {
        "matrix products": ("mm", "addmm", "addmm_", "bmm", "baddbmm_", "mv", "mkldnn_linear"),
        "attention": (
            "_scaled_dot_product_flash_attention_for_cpu",
            "_scaled_dot_product_flash_attention_for_cpu_backward",
            "_scaled_dot_product_efficient_attention",
        ),
        "element-wise": ("add", "mul_", "silu_backward", "copy_", "sum", "cat", "_softmax"),
        "other": ("view", "empty", "scaled_dot_product_attention", "matmul", "no_such_operation"),
    }
    for kind, names in kinds.items():
        assert {kind_of_operation("aten::" + name) for name in names} == {kind}
    assert kind_of_operation("MmBackward0") == "other"


def test_the_profilers_notes_do_not_reach_the_reader(capfd: pytest.CaptureFixture[str]) -> None:
    profile_step(lambda: torch.ones(2) + 1)
    assert capfd.readouterr().err == ""


def test_a_step_that_fails_leaves_the_profiler_usable() -> None:
    def fails() -> None:
        raise RuntimeError("no step")

    with pytest.raises(RuntimeError, match="no step"):
        profile_step(fails, warm_up=0)
    assert profile_step(lambda: torch.ones(2) + 1).kernels > 0


def test_a_step_that_does_nothing_has_no_shares():
    found = profile_step(lambda: None)
    assert set(found.shares.values()) == {0.0}
    assert "other" in found.table()
