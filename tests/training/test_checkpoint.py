"""Checkpoints are whole or absent, and a wrong one is refused in one sentence."""

import json
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from llmlib.training import Trainer
from llmlib.training.checkpointing import checkpoint
from llmlib.training.checkpointing.checkpoint import load_model
from llmlib.training.checkpointing.files import best, checkpoints, latest, read_manifest, remove
from llmlib.training.checkpointing.named_state import load_model_tensors, model_tensors

Build = Callable[..., Trainer]


@pytest.fixture
def saved(new_trainer: Build) -> Path:
    """A checkpoint of step 3."""
    return new_trainer(steps=3).run().checkpoint


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def rewrite(path: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    """Change the model's tensors and make the manifest agree."""
    tensors = load_file(path / "model.safetensors")
    change(tensors)
    save_file(tensors, path / "model.safetensors")
    manifest = json.loads((path / "checkpoint.json").read_text())
    manifest["sizes"]["model.safetensors"] = (path / "model.safetensors").stat().st_size
    manifest["tensors"]["model.safetensors"] = len(tensors)
    (path / "checkpoint.json").write_text(json.dumps(manifest))


def test_loads_into_a_fresh_model(new_trainer: Build, saved: Path) -> None:
    trained, fresh = new_trainer(steps=3), new_trainer("fresh")
    trained.run()  # loads, and has nothing left to do
    load_model(saved, fresh.model)
    tokens = torch.arange(13)[None]
    assert torch.equal(trained.model.eval()(tokens), fresh.model.eval()(tokens))
    assert read_manifest(saved)["model_config"]["d_model"] == 24


@pytest.mark.covers("train.resume")
@pytest.mark.parametrize(
    "name", ["model.safetensors", "optimizer.safetensors", "rank_0.safetensors", "rank_0.json"]
)
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_cut_checkpoint_is_refused(
    new_trainer: Build, saved: Path, name: str, damage: str
) -> None:
    file = saved / name
    file.write_bytes(file.read_bytes()[:-7]) if damage == "cut" else file.unlink()
    with pytest.raises(ValueError, match=f"{name} holds .* remove the folder .*step_00000003"):
        new_trainer(steps=3).run()


def test_a_cut_manifest_is_refused(new_trainer: Build, saved: Path) -> None:
    file = saved / "checkpoint.json"
    file.write_text(file.read_text()[:40])
    with pytest.raises(ValueError, match="checkpoint.json cannot be read"):
        new_trainer(steps=3).run()


def test_a_manifest_without_its_keys_is_refused(saved: Path) -> None:
    file = saved / "checkpoint.json"
    whole = json.loads(file.read_text())
    advice = "remove the folder .*step_00000003"
    file.write_text('{"format": 1}')
    with pytest.raises(ValueError, match=f"checkpoint.json lacks 'step': {advice}"):
        best(saved.parent)
    for key in whole.keys() - {"format"}:
        file.write_text(json.dumps({name: whole[name] for name in whole if name != key}))
        with pytest.raises(ValueError, match=f"lacks '{key}': {advice}"):
            read_manifest(saved)
        file.write_text(json.dumps({**whole, key: ["x"]}))
        with pytest.raises(ValueError, match=rf"has {key}=\['x'\], which .* {advice}"):
            read_manifest(saved)
    for key in ("tensors", "sizes"):
        file.write_text(json.dumps({**whole, key: {"model.safetensors": "9"}}))
        with pytest.raises(ValueError, match=f"no whole number: {advice}"):
            read_manifest(saved)


def test_garbled_tensors_are_refused(new_trainer: Build, saved: Path) -> None:
    file = saved / "optimizer.safetensors"
    file.write_bytes(b"\xff" * file.stat().st_size)
    with pytest.raises(ValueError, match=r"optimizer.safetensors cannot be read"):
        new_trainer(steps=3).run()


def test_another_model_is_refused(new_trainer: Build, saved: Path) -> None:
    with pytest.raises(ValueError, match=r"another model configuration: .*n_layers=2 \(now 3\)"):
        new_trainer(steps=3, model={"n_layers": 3}).run()
    with pytest.raises(ValueError, match=r"lacks blocks\.2\..* and 3 more"):
        load_model(saved, new_trainer("other", model={"n_layers": 3}).model)
    with pytest.raises(ValueError, match=r"has unknown tensors blocks\.1\..* and 3 more"):
        load_model(saved, new_trainer("other", model={"n_layers": 1}).model)
    with pytest.raises(ValueError, match=r"embedding.weight has shape \(29, 24\)"):
        load_model(saved, new_trainer("other", model={"vocab_size": 31}).model)


def test_another_recipe_is_refused_but_watching_may_change(new_trainer: Build, saved: Path) -> None:
    with pytest.raises(ValueError, match=r"lr=0\.01 \(now 0\.02\); set it back, or start in a new"):
        new_trainer(steps=3, lr=2e-2).run()
    assert new_trainer(steps=3, checkpoint_every=1, log_every=5, keep=7).run().finished


def test_missing_and_unknown_tensors_are_refused(new_trainer: Build, saved: Path) -> None:
    rewrite(saved, lambda tensors: tensors.pop("norm.weight"))  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"model.safetensors cannot be loaded: lacks norm.weight"):
        new_trainer(steps=3).run()
    rewrite(
        saved, lambda tensors: tensors.update({"norm.weight": torch.ones(24), "x": torch.ones(1)})
    )
    with pytest.raises(ValueError, match="has unknown tensors x"):
        new_trainer(steps=3).run()


def test_more_processes_than_before_are_refused(
    new_trainer: Build, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "world_size", lambda: 2)
    with pytest.raises(ValueError, match="written by 1 processes, this run has 2"):
        new_trainer(steps=3).run()


def test_a_full_disk_leaves_earlier_checkpoints_whole(
    new_trainer: Build, largest_file: Callable[[int], AbstractContextManager[None]]
) -> None:
    trainer = new_trainer(steps=9, checkpoint_every=4)
    result = new_trainer("reference", steps=9).run()
    size = (result.checkpoint / "optimizer.safetensors").stat().st_size
    folder = trainer.folder / "checkpoints"
    for _ in range(4):
        trainer.train_step()
    trainer.save()
    before = snapshot(folder)
    trainer.train_step()
    with (
        largest_file(size - 1000),
        pytest.raises(OSError, match="earlier ones are whole; make room"),
    ):
        trainer.save()
    assert snapshot(folder) == before
    again = new_trainer(steps=9, checkpoint_every=4)  # with room, the same command goes on
    assert again.run().finished


@pytest.mark.covers("train.resume")
@pytest.mark.parametrize("moment", ["write_files", "finish"])
def test_death_while_saving_is_not_noticed_later(
    new_trainer: Build, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    class PowerCut(BaseException):
        pass

    def cut(*arguments: Any) -> None:
        if moment == "finish":
            original(*arguments)
        raise PowerCut

    original = checkpoint.write_files
    trainer = new_trainer(checkpoint_every=4)
    take_step = trainer.train_step

    def step() -> dict[str, float]:
        if trainer.step == 7:
            monkeypatch.setattr(checkpoint, "write_files", cut)
        return take_step()

    trainer.train_step = step
    with pytest.raises(PowerCut):
        trainer.run()
    monkeypatch.undo()
    folder = trainer.folder / "checkpoints"
    assert latest(folder) == folder / "step_00000004"
    assert list(folder.glob(".*.partial"))
    assert new_trainer(checkpoint_every=4).run().finished
    assert [path.name for path in checkpoints(folder)] == ["step_00000008", "step_00000011"]


def test_unfinished_folders_do_not_count(tmp_path: Path, saved: Path) -> None:
    assert latest(tmp_path / "nowhere") is None
    assert best(tmp_path / "nowhere") is None
    (saved.parent / "step_00000099").mkdir()
    (saved.parent / ".step_00000098.partial").mkdir()
    assert latest(saved.parent) == saved


def test_folders_of_other_names_do_not_count(tmp_path: Path, saved: Path) -> None:
    for name in ("step_last", "step_00000099_copy", "step_00000098 (1)", "step_", "step_7", "99"):
        shutil.copytree(saved, saved.parent / name)
    (saved.parent / "step_00000097").symlink_to(tmp_path / "nowhere")
    (saved.parent / "step_00000096").write_text("a file")
    (saved.parent / "step_00000095" / "checkpoint.json").mkdir(parents=True)
    assert checkpoints(saved.parent) == [saved]


def test_the_largest_step_is_the_newest(saved: Path) -> None:
    more = [shutil.copytree(saved, saved.parent / f"step_{n}") for n in (99999999, 100000000)]
    assert checkpoints(saved.parent) == [saved, *more]
    assert latest(saved.parent) == more[-1]


def test_a_copy_under_another_step_is_refused(new_trainer: Build, saved: Path) -> None:
    saved.rename(saved.with_name("step_00000002"))
    with pytest.raises(ValueError, match="step_00000002 holds step 3: give it its name back"):
        new_trainer(steps=3).run()


@pytest.mark.parametrize("kind", ["empty", "half", "file", "link", "dangling", "older"])
def test_what_stands_in_the_way_of_a_checkpoint_is_replaced(
    new_trainer: Build, tmp_path: Path, kind: str
) -> None:
    final = tmp_path / "run/checkpoints/step_00000003"
    final.parent.mkdir(parents=True)
    elsewhere = tmp_path / "elsewhere"
    if kind in ("empty", "half"):
        final.mkdir()
    if kind == "half":
        (final / "model.safetensors").write_bytes(b"12345")
    if kind == "file":
        final.write_text("a file")
    if kind in ("link", "dangling"):
        final.symlink_to(elsewhere)
    if kind == "link":
        elsewhere.mkdir()
    if kind == "older":
        shutil.copytree(new_trainer("older", steps=3, lr=1e-3).run().checkpoint, tmp_path / "copy")
    trainer = new_trainer(steps=3)
    if kind == "older":  # a folder that another run leaves while this one trains
        take_step = trainer.train_step

        def step() -> dict[str, float]:
            if not final.exists():
                (tmp_path / "copy").rename(final)
            return take_step()

        trainer.train_step = step
    path = trainer.run().checkpoint
    straight = new_trainer("straight", steps=3).run().checkpoint
    assert path == final
    assert not final.is_symlink()
    assert elsewhere.exists() == (kind == "link"), "what a link leads to is not ours"
    assert read_manifest(final)["step"] == 3
    saved, expected = (load_file(p / "model.safetensors") for p in (final, straight))
    assert all(torch.equal(saved[name], expected[name]) for name in expected)
    assert not list(final.parent.glob(".*"))


def test_a_link_to_a_checkpoint_counts_and_is_removed_alone(
    new_trainer: Build, tmp_path: Path, saved: Path
) -> None:
    shutil.move(saved, tmp_path / "step_00000003")
    saved.symlink_to(tmp_path / "step_00000003")
    assert latest(saved.parent) == saved
    remove(saved)
    assert not saved.is_symlink()
    assert read_manifest(tmp_path / "step_00000003")["step"] == 3


def test_tied_tensors_are_kept_once() -> None:
    def tied() -> nn.Sequential:
        table, head = nn.Embedding(7, 3), nn.Linear(3, 7, bias=False)
        head.weight = table.weight
        return nn.Sequential(table, head)

    one, other = tied(), tied()
    tensors = model_tensors(one)
    assert list(tensors) == ["0.weight"]
    load_model_tensors(other, tensors)
    assert torch.equal(other.get_parameter("1.weight"), one.get_parameter("1.weight"))
    assert other.get_parameter("1.weight") is other.get_parameter("0.weight")
