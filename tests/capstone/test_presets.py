"""Presets: sizes, budgets, and what shrinking keeps."""

from dataclasses import asdict

import pytest

from llmlib.capstone import PRESETS, preset
from llmlib.capstone.stages import Stages


def test_laptop_has_two_to_five_million_parameters():
    assert 2e6 < PRESETS["laptop"].n_parameters < 5e6
    assert PRESETS["laptop"].corpus.name == "fixed"


@pytest.mark.parametrize(("name", "millions"), [("gpu-124m", 124), ("gpu-350m", 350)])
def test_gpu_presets_have_their_size_and_twenty_tokens_a_parameter(name, millions):
    chosen = PRESETS[name]
    assert chosen.n_parameters / 1e6 == pytest.approx(millions, rel=0.02)
    assert 17 < chosen.tokens / chosen.n_parameters < 23
    assert chosen.batch_size % (8 * chosen.micro_batch) == 0, "eight devices share a batch"
    assert chosen.corpus.name.startswith("hub:")
    assert chosen.corpus.max_bytes > 4 * chosen.tokens
    hours = 6 * chosen.n_parameters * chosen.tokens / 989e12 / 0.4 / 3600
    assert hours < chosen.hours(989e12, 0.4) < 1.5 * hours, "attention comes on top of 6 N D"
    assert "H100 hours" in chosen.describe_time()
    assert "USD" in chosen.describe_time()


@pytest.mark.parametrize("name", PRESETS)
def test_shrinking_keeps_every_choice(name):
    chosen = PRESETS[name]
    small = chosen.shrunk()
    assert small.n_parameters < 100_000
    kept = ("norm", "activation", "position", "qk_norm", "bias", "tie_embeddings", "norm_placement")
    assert {k: asdict(small.model)[k] for k in kept} == {k: asdict(chosen.model)[k] for k in kept}
    for field in ("optimizer", "lr", "muon_lr", "clip", "weight_decay", "precision"):
        assert getattr(small.train, field) == getattr(chosen.train, field)
    assert small.train.schedule.kind == chosen.train.schedule.kind


def test_unknown_preset():
    with pytest.raises(ValueError, match="no preset 'big': choose one of tiny"):
        preset("big")


def test_a_stage_is_done_once(tmp_path):
    calls, said = [], []
    stages = Stages(tmp_path, said.append)

    def make() -> dict:
        calls.append(1)
        return {"value": 7}

    assert stages.once("count", {"a": (1, 2)}, make)["value"] == 7
    assert stages.once("count", {"a": [1, 2]}, make)["value"] == 7
    assert len(calls) == 1
    assert said == ["count ...", "count: done before"]
    with pytest.raises(ValueError, match=r"holds another run \(its count differs in a\)"):
        stages.once("count", {"a": [1, 3]}, make)


def test_a_failed_stage_is_not_done(tmp_path):
    stages = Stages(tmp_path, print)
    with pytest.raises(OSError, match="disk"):
        stages.once("write", {}, lambda: (_ for _ in ()).throw(OSError("disk full")))
    assert not stages.is_done("write")
    assert stages.once("write", {}, dict)["seconds"] >= 0


def test_damaged_stage_record_is_named(tmp_path):
    stages = Stages(tmp_path, print)
    stages.once("clean", {}, dict)
    (tmp_path / "stages" / "clean.json").write_text('{"inputs": {')
    with pytest.raises(ValueError, match=r"clean\.json is damaged"):
        stages.once("clean", {}, dict)
