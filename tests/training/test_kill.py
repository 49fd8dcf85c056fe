"""Killed at random moments and at every moment of a save; full, read-only and wrong: nothing lost.

`killing.py` forks and kills; here its report is judged and the runs compared to the last bit.
"""

import errno
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from llmlib.training import Trainer, next_token_loss, read_metrics
from llmlib.training.checkpointing import checkpoint
from llmlib.training.checkpointing.files import checkpoints, latest, read_manifest

KILLING = Path(__file__).parent / "killing.py"
STEPS, INTERVAL, KILLS = 61, 3, 24
Build = Callable[..., Trainer]


def killed(what: str, folder: Path, seed: int) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(KILLING), what, str(folder), str(seed)],
        capture_output=True, text=True, timeout=900, check=False, cwd=KILLING.parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def losses(run: Path) -> list[float]:
    lines = read_metrics(run / "metrics.jsonl")
    assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
    return [line["loss"] for line in lines]


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


@pytest.mark.slow
@pytest.mark.covers("train.resume")
def test_kills_at_random_moments_change_no_bit(tmp_path: Path) -> None:
    report = killed("chain", tmp_path, seed=17)
    assert len(report["kills"]) == KILLS
    for death in report["kills"]:
        assert death["newest"] % INTERVAL == 0 or death["newest"] == STEPS
        assert death["newest"] >= death["resumed_at"], "what is saved stays"
        assert death["lines"] - death["newest"] <= INTERVAL, "no more than that is done again"
    moments = {(death["lines"] - death["newest"], death["partial"]) for death in report["kills"]}
    assert len(moments) >= 3, "the moments differ"
    expected = losses(tmp_path / "straight")
    straight = latest(tmp_path / "straight/checkpoints")
    assert straight is not None and len(expected) == STEPS
    weights = load_file(straight / "model.safetensors")
    for name in report["runs"]:
        assert losses(tmp_path / name) == expected
        path = tmp_path / name / "checkpoints" / straight.name
        again = load_file(path / "model.safetensors")
        assert all(torch.equal(again[key], weights[key]) for key in weights)
        assert not list(path.parent.glob(".*")), "what the deaths left is cleared away"


@pytest.mark.slow
@pytest.mark.covers("train.resume")
def test_death_before_any_system_call_of_a_save_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    """Step 7 is saved over step 3, which goes: one of the two must be there at each moment."""
    deaths = killed("each_call", tmp_path, seed=0)["deaths"]
    assert len(deaths) > 20
    newest = [death["newest"] for death in deaths]
    assert set(newest) == {3, 7}
    assert newest == sorted(newest), "from the renaming on it is the new one"
    assert any(death["partial"] for death in deaths)
    whole = load_file(tmp_path / f"call_{len(deaths)}/checkpoints/step_00000007/model.safetensors")
    for number in range(1, len(deaths) + 1):
        path = latest(tmp_path / f"call_{number}/checkpoints")
        assert path is not None
        if read_manifest(path)["step"] == 7:
            found = load_file(path / "model.safetensors")
            assert all(torch.equal(found[key], whole[key]) for key in whole)


@pytest.mark.covers("train.resume")
@pytest.mark.parametrize("trouble", ["full", "read-only"])
def test_a_disk_that_takes_no_more_is_named_and_nothing_overwritten(
    new_trainer: Build, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    """The write breaks off in the middle of a file, or no folder can be made (root may do both)."""
    straight = new_trainer("straight")
    straight.run()
    trainer = new_trainer(checkpoint_every=4)
    folder, save_file, mkdir = trainer.folder / "checkpoints", checkpoint.save_file, Path.mkdir

    def cut_short(tensors: Any, file: Path) -> None:
        save_file(tensors, file)
        if "00000008" in str(file) and file.name == "optimizer.safetensors":
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
            raise OSError(errno.ENOSPC, "No space left on device", str(file))

    def refused(path: Path, *arguments: Any, **named: Any) -> None:
        if "00000008" in path.name:
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        mkdir(path, *arguments, **named)

    if trouble == "full":
        monkeypatch.setattr(checkpoint, "save_file", cut_short)
    else:
        monkeypatch.setattr(Path, "mkdir", refused)
    take_step, before = trainer.train_step, dict[str, bytes]()

    def step() -> dict[str, float]:
        if trainer.step == 7:
            before.update(snapshot(folder))
        return take_step()

    trainer.train_step = step
    reason = "No space left" if trouble == "full" else "Read-only file system"
    with pytest.raises(OSError, match=f"step_00000008 could not be written .*{reason}.*are whole"):
        trainer.run()
    assert before and snapshot(folder) == before
    assert [path.name for path in checkpoints(folder)] == ["step_00000004"]
    monkeypatch.undo()
    again = new_trainer(checkpoint_every=4)
    assert again.run().finished
    assert losses(again.folder) == losses(straight.folder)


def test_a_folder_that_cannot_be_is_refused_before_the_first_step(
    new_trainer: Build, tmp_path: Path
) -> None:
    (tmp_path / "notes").write_text("not a folder")
    trainer = new_trainer("notes/run")
    with pytest.raises(OSError, match="notes"):
        trainer.run()
    assert trainer.step == 0
    assert (tmp_path / "notes").read_text() == "not a folder"


@pytest.mark.covers("train.resume")
@pytest.mark.parametrize("change", ["shape", "ramp", "loss"])
def test_what_does_not_fit_or_is_no_number_leaves_all_files_as_they_were(
    new_trainer: Build, change: str
) -> None:
    from llmlib.training.batches.ramp import BatchRamp

    folder = new_trainer(steps=4, checkpoint_every=4).folder
    new_trainer(checkpoint_every=4).run()
    final = folder / "checkpoints/step_00000011"
    final.rename(final.with_name(".gone"))  # as if it had stopped at step 8
    before = snapshot(folder)
    if change == "shape":
        wrong, error, message = new_trainer(model={"d_model": 30}), ValueError, r"d_model=24 \(now"
    elif change == "ramp":
        ramp = BatchRamp(points=((0, 1), (500, 2)))
        wrong, error, message = new_trainer(batch_ramp=ramp), ValueError, "batch_ramp"
    else:

        def broken(model: Any, batch: Any) -> torch.Tensor:
            return next_token_loss(model, batch) * torch.nan

        wrong, error, message = new_trainer(loss_fn=broken), FloatingPointError, "loss is nan"
    with pytest.raises(error, match=message):
        wrong.run()
    after = snapshot(folder)
    if change == "loss":  # it had begun: the lines that would come again are gone
        lines = [name.pop("metrics.jsonl").splitlines() for name in (before, after)]
        assert lines[1] == lines[0][:8]
    assert after == before
