"""Setting up fails in one clear sentence, and remakes an environment that cannot be kept."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import setup_env
from setup_env import SetupError


def fake_python(path: Path, version: str) -> Path:
    """A command that answers like an interpreter of another version."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{version}'\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def fake_venv(folder: Path, *, version: str, made_at: Path) -> Path:
    fake_python(folder / "bin" / "python", version)
    (folder / "bin" / "pip").write_text(f"#!{made_at}/bin/python\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize("version", ["2 7", "3 10", "3 14"])
def test_a_named_wrong_python_is_refused(tmp_path: Path, version: str) -> None:
    python = fake_python(tmp_path / "python", version)
    with pytest.raises(SetupError, match=r"is Python .*needs Python 3\.11, 3\.12 or 3\.13"):
        setup_env.choose_python(str(python))


def test_a_named_python_that_does_not_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="does not run"):
        setup_env.choose_python(str(tmp_path / "nothing"))


def test_another_supported_python_is_found_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = fake_python(tmp_path / "old", "3 9")
    fake_python(tmp_path / "python3.12", "3 12")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert setup_env.choose_python(current=str(old)) == ("python3.12", (3, 12))


def test_no_supported_python_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = fake_python(tmp_path / "old", "3 9")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SetupError, match=r"python3 is Python 3\.9.*make PYTHON="):
        setup_env.choose_python(current=str(old))


def test_too_little_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=3_100_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(SetupError, match=r"only 3\.1 GB are free.*4\.0 GB"):
        setup_env.check_disk("all", tmp_path)
    setup_env.check_disk("core", tmp_path)
    setup_env.check_disk("all", tmp_path, already_gb=1.5)


def test_no_index_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SetupError, match="no package index answers.*PIP_INDEX_URL"):
        setup_env.check_index(sys.executable)


def test_a_good_environment_is_kept(tmp_path: Path) -> None:
    venv = fake_venv(tmp_path / ".venv", version="3 11", made_at=tmp_path / ".venv")
    assert setup_env.why_remake(venv, (3, 11)) is None
    assert setup_env.why_remake(tmp_path / "absent", (3, 11)) is None


def test_an_environment_of_another_python_is_remade(tmp_path: Path) -> None:
    venv = fake_venv(tmp_path / ".venv", version="3 12", made_at=tmp_path / ".venv")
    assert "made with Python 3.12" in str(setup_env.why_remake(venv, (3, 11)))


def test_without_a_named_python_a_supported_environment_is_kept(tmp_path: Path) -> None:
    venv = fake_venv(tmp_path / ".venv", version="3 12", made_at=tmp_path / ".venv")
    assert setup_env.version_to_keep(venv, (3, 11)) == (3, 12)
    old = fake_venv(tmp_path / "old", version="3 9", made_at=tmp_path / "old")
    assert setup_env.version_to_keep(old, (3, 11)) == (3, 11)
    assert setup_env.version_to_keep(tmp_path / "absent", (3, 11)) == (3, 11)


def test_an_environment_that_moved_is_remade(tmp_path: Path) -> None:
    venv = fake_venv(tmp_path / ".venv", version="3 11", made_at=tmp_path / "before" / ".venv")
    assert "moved" in str(setup_env.why_remake(venv, (3, 11)))


def test_an_environment_whose_python_is_gone_is_remade(tmp_path: Path) -> None:
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").symlink_to(tmp_path / "gone")
    assert "no longer runs" in str(setup_env.why_remake(tmp_path / ".venv", (3, 11)))


def test_the_stamp_follows_what_decides_the_environment(tmp_path: Path) -> None:
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(setup_env.ROOT / name, tmp_path / name)
    before = setup_env.fingerprint("core", (3, 11), tmp_path)
    assert before == setup_env.fingerprint("core", (3, 11), tmp_path)
    assert before != setup_env.fingerprint("all", (3, 11), tmp_path)
    assert before != setup_env.fingerprint("core", (3, 12), tmp_path)
    with (tmp_path / "pyproject.toml").open("a", encoding="utf-8") as file:
        file.write("\n[tool.other]\nx = 1\n")  # not an installation's concern
    assert before == setup_env.fingerprint("core", (3, 11), tmp_path)
    with (tmp_path / "constraints.txt").open("a", encoding="utf-8") as file:
        file.write("zzz==1\n")
    assert before != setup_env.fingerprint("core", (3, 11), tmp_path)


def test_a_failure_is_a_sentence_and_not_a_traceback(tmp_path: Path) -> None:
    python = fake_python(tmp_path / "python", "3 9")
    done = subprocess.run(
        [sys.executable, setup_env.__file__, "all"],
        env=os.environ | {"LLMLIB_PYTHON": str(python)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "Cannot go on: PYTHON=" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_script_parses_on_an_old_interpreter() -> None:
    import ast

    source = Path(setup_env.__file__).read_text(encoding="utf-8")
    ast.parse(source, feature_version=(3, 7))
