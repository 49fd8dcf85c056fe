"""The repository stays small enough to clone on a slow line."""

import subprocess

import pytest
from project import ROOT

MAX_TOTAL_BYTES = 60_000_000
MAX_FILE_BYTES = 2_000_000


@pytest.fixture(scope="module")
def tracked() -> dict[str, int]:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, stdout=subprocess.PIPE)
    names = [name for name in done.stdout.decode().split("\0") if name]
    assert names
    return {name: (ROOT / name).lstat().st_size for name in names if (ROOT / name).exists()}


def test_total(tracked: dict[str, int]) -> None:
    assert sum(tracked.values()) <= MAX_TOTAL_BYTES


def test_each_file(tracked: dict[str, int]) -> None:
    assert {name: size for name, size in tracked.items() if size > MAX_FILE_BYTES} == {}


def test_nothing_generated_is_tracked(tracked: dict[str, int]) -> None:
    generated = ("build/", "dist/", "runs/", ".venv/")
    suffixes = (".pyc", ".whl", ".safetensors", ".pt")
    assert [n for n in tracked if n.startswith(generated) or n.endswith(suffixes)] == []
