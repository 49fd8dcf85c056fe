"""The capstone's command as a user meets it: whole, interrupted, repeated, misused."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from llmlib.capstone.__main__ import app, with_fields
from llmlib.capstone.presets import preset

STEPS = 40
TINY = ["--preset", "tiny", "--steps", str(STEPS)]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "llmlib.capstone", "run", *arguments]


def run(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), env=ENVIRONMENT, capture_output=True, text=True, timeout=240, **options
    )


def run_here(*arguments: str) -> Result:
    """Run the command without the seconds that a new process takes to import everything."""
    return CliRunner().invoke(app, ["run", *arguments])


def losses(folder: Path) -> dict[int, float]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return {line["step"]: line["loss"] for line in map(json.loads, lines)}


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """A whole tiny run."""
    folder = tmp_path_factory.mktemp("capstone") / "run"
    done = run(*TINY, "--out", str(folder))
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "copy"))


@pytest.mark.slow
def test_report_says_all_of_it(finished):
    report = json.loads((finished / "report.json").read_text())
    assert report["training"]["steps"] == STEPS
    assert 1 < report["evaluation"]["model"]["bits_per_byte"] < 5
    baselines = report["evaluation"]["baselines"]
    assert 1 < baselines["ngram_bits_per_byte"] < baselines["xz_bits_per_byte"] < 3
    assert {sample["temperature"] for sample in report["samples"]} == {0.5, 0.8, 1.0}
    assert any(sample["text"] for sample in report["samples"])
    sizes = [step["bytes"] for step in report["data"]["clean"]["funnel"]]
    assert sizes[:4] == sorted(sizes[:4], reverse=True)
    assert report["training"]["peak_memory_bytes"] > 50e6
    assert 0 < report["training"]["mfu"] < 1
    assert list(losses(finished)) == list(range(1, STEPS + 1))
    assert losses(finished)[STEPS] < losses(finished)[1] - 1
    text = (finished / "report.md").read_text()
    for part in (
        "bits per byte",
        "near-duplicates",
        "13 words in a row",
        "MFU",
        "Hoffmann",
        "Temperature 0.8",
    ):
        assert part in text
    for figure in ("loss.png", "funnel.png"):
        assert (finished / figure).read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
@pytest.mark.covers("train.resume")
def test_killed_run_continues_with_the_same_losses(finished, tmp_path):
    folder = tmp_path / "killed"
    process = subprocess.Popen(
        command(*TINY, "--out", str(folder)), env=ENVIRONMENT, stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while len(list(folder.glob("checkpoints/step_*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    done_before = max(losses(folder))
    assert done_before < STEPS, "it was killed in the middle"
    newest = max(int(path.name[5:]) for path in folder.glob("checkpoints/step_*"))
    assert done_before - newest <= 10, "at most one checkpoint interval is lost"

    again = run(*TINY, "--out", str(folder))
    assert again.returncode == 0, again.stderr
    assert "clean: done before" in again.stdout
    assert losses(folder) == losses(finished)
    reports = [json.loads((f / "report.json").read_text()) for f in (folder, finished)]
    assert reports[0]["evaluation"]["model"] == reports[1]["evaluation"]["model"]
    assert reports[0]["samples"] == reports[1]["samples"]


def _heed_ctrl_c() -> None:
    """Undo the ignoring of the signal that a process started in the background inherits."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.slow
def test_interrupted_run_says_how_to_continue(finished, tmp_path):
    folder = tmp_path / "interrupted"
    shutil.copytree(finished / "data", folder / "data")  # it is training that is interrupted
    process = subprocess.Popen(
        command(*TINY, "--out", str(folder)), env=ENVIRONMENT, stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL, text=True, preexec_fn=_heed_ctrl_c,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not list(folder.glob("checkpoints/step_*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, message = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command continues" in message
    assert "Traceback" not in message


@pytest.mark.slow
def test_second_start_repeats_nothing(copy):
    before = (copy / "checkpoints").stat().st_mtime_ns, losses(copy)
    again = run_here(*TINY, "--out", str(copy))
    assert again.exit_code == 0
    for stage in ("clean", "tokenizer", "tokens", "pretrain", "evaluate"):
        assert f"{stage}: done before" in again.stdout
    assert before == ((copy / "checkpoints").stat().st_mtime_ns, losses(copy))


@pytest.mark.slow
@pytest.mark.usefixtures("forked_workers")
def test_prepared_data_are_taken_up(tmp_path):
    small = ["--preset", "tiny", "--shrunk", "--out", str(tmp_path / "run")]
    done = CliRunner().invoke(app, ["prepare", *small])
    assert done.exit_code == 0, done.stderr
    assert "tokens ..." in done.stdout
    again = run_here(*small)
    assert again.exit_code == 0, again.stderr
    assert "tokens: done before" in again.stdout


def sentence(status: int, stderr: str) -> str:
    """Return the one sentence with which the command refused."""
    assert status == 2, stderr
    lines = [line for line in stderr.splitlines() if line.startswith("capstone: ")]
    assert len(lines) == 1, stderr
    assert "Traceback" not in stderr
    return lines[0]


def refused(*arguments: str, **options) -> str:
    done = run(*arguments, **options)
    return sentence(done.returncode, done.stderr)


def refused_here(*arguments: str) -> str:
    done = run_here(*arguments)
    return sentence(done.exit_code, done.stderr)


@pytest.mark.slow
def test_another_run_in_the_same_folder_is_refused(copy):
    before = (copy / "report.json").read_bytes()
    message = refused_here(*TINY, "--out", str(copy), "--seed", "1")
    assert "holds another run" in message
    assert "seed" in message
    assert (copy / "report.json").read_bytes() == before


@pytest.mark.slow
def test_damaged_checkpoint_is_refused(copy):
    (copy / "stages" / "evaluate.json").unlink()
    checkpoint = max(copy.glob("checkpoints/step_*"))
    weights = checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    message = refused_here(*TINY, "--out", str(copy))
    assert "model.safetensors" in message
    assert "bytes" in message


@pytest.mark.slow
def test_checkpoint_of_another_configuration_is_refused(copy):
    for stage in ("pretrain", "evaluate"):
        (copy / "stages" / f"{stage}.json").unlink()
    message = refused_here("--preset", "tiny", "--steps", "50", "--out", str(copy))
    assert "steps" in message
    assert max(copy.glob("checkpoints/step_*")).name == f"step_{STEPS:08d}"


@pytest.mark.slow
def test_unusable_corpora_are_refused(tmp_path):
    empty, latin, short = tmp_path / "empty", tmp_path / "latin.txt", tmp_path / "short.txt"
    empty.mkdir()
    latin.write_bytes("Café in a file that is not UTF-8\n".encode("latin-1") * 100)
    short.write_text("Too little text to learn a thousand tokens from, or to hold out.\n\n")
    common = ("--preset", "tiny", "--out", str(tmp_path / "out"), "--corpus")
    assert str(empty) in refused_here(*common, str(empty))
    assert "latin.txt" in refused_here(*common, str(latin))
    assert "split" in refused_here(*common, str(short))
    assert "nowhere" in refused_here(*common, str(tmp_path / "nowhere"))


@pytest.mark.slow
def test_too_large_a_vocabulary_is_refused(copy):
    for stage in ("tokenizer", "tokens", "pretrain", "evaluate"):
        for folder in (copy, copy / "data"):
            (folder / "stages" / f"{stage}.json").unlink(missing_ok=True)
    before = (copy / "data" / "tokenizer.json").read_bytes()
    message = refused_here(*TINY, "--out", str(copy), "--vocab-size", "900000")
    assert "vocab" in message
    assert (copy / "data" / "tokenizer.json").read_bytes() == before


def _small_files() -> None:
    """Let no file grow above 100 kB, as a full disk would; the signal would end the process."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))


@pytest.mark.slow
def test_full_disk_leaves_earlier_artifacts_whole(copy):
    for stage in ("pretrain", "evaluate"):
        (copy / "stages" / f"{stage}.json").unlink()
    shutil.rmtree(max(copy.glob("checkpoints/step_*")))  # a step is left to do
    kept = {path: path.stat().st_size for path in copy.rglob("*") if path.is_file()}
    message = refused(*TINY, "--out", str(copy), preexec_fn=_small_files)
    assert "could not be written" in message
    assert {path: path.stat().st_size for path in kept} == kept | {
        copy / "metrics.jsonl": (copy / "metrics.jsonl").stat().st_size
    }
    assert run_here(*TINY, "--out", str(copy)).exit_code == 0


@pytest.mark.slow
@pytest.mark.parametrize("mixer", ["rwkv", "latent"])
def test_another_design_is_trained_by_a_field(mixer, tmp_path):
    settings = [f"mixer={mixer}", "n_layers=1", "norm=layer"]
    if mixer == "latent":
        settings += ["latent_dim=16", "rope_head_dim=8", "qk_norm=false"]
    fields = [part for setting in settings for part in ("--model", setting)]
    small = ["--preset", "tiny", "--shrunk", "--workers", "1", "--steps", "3"]
    done = run_here(*small, "--out", str(tmp_path), *fields)
    assert done.exit_code == 0, done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["model"]["mixer"] == mixer
    assert 0 < report["evaluation"]["model"]["bits_per_byte"] < 10


def test_impossible_fields_are_refused():
    config = preset("tiny").model
    for change, message in (
        ("colour=red", "write FIELD=VALUE"),
        ("n_layers", "write FIELD=VALUE"),
        ("vocab_size=7", "option of its own"),
    ):
        with pytest.raises(ValueError, match=message):
            with_fields(config, [change])
    with pytest.raises(ValueError, match="acts on attention scores"):
        with_fields(config, ["mixer=mamba", "position=alibi"])
    changed = with_fields(config, ["mixer=mamba", "state_dim=8", "norm=layer"])
    assert changed == config.replace(mixer="mamba", state_dim=8, norm="layer")
    assert (changed.position, changed.channel_mixer) == ("none", "none")


def test_unknown_preset_names_the_known_ones(tmp_path):
    message = refused_here("--preset", "huge", "--out", str(tmp_path))
    assert "tiny, laptop, gpu-124m, gpu-350m" in message


@pytest.mark.slow
@pytest.mark.covers("train.engine")
@pytest.mark.parametrize("name", ["gpu-124m", "gpu-350m"])
def test_gpu_presets_train_alike_on_one_process_and_on_two(name, tmp_path):
    settings = ["--preset", name, "--shrunk", "--device", "cpu", "--precision", "float32"]
    settings += ["--workers", "1"]
    alone = run_here(*settings, "--out", str(tmp_path / "one"))
    assert alone.exit_code == 0, alone.stderr
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    together = subprocess.run(
        [*torchrun, *command(*settings, "--out", str(tmp_path / "two"))[1:]],
        env=ENVIRONMENT, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert together.returncode == 0, together.stderr
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert one.keys() == two.keys() == set(range(1, 7))
    assert all(abs(one[step] - two[step]) < 1e-4 for step in one)
    reports = [json.loads((tmp_path / f / "report.json").read_text()) for f in ("one", "two")]
    assert [r["training"]["world_size"] for r in reports] == [1, 2]
    bits = [r["evaluation"]["model"]["bits_per_byte"] for r in reports]
    assert abs(bits[0] - bits[1]) < 1e-3
