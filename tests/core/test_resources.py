from pathlib import Path

import pytest

from llmlib.core import atomic_path, atomic_write, cache_dir, resource
from llmlib.core import resources as module


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("data/survey", "chapters/02_x/solutions", "llmlib"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "data/survey/models.csv").write_text("clone")
    (tmp_path / "chapters/02_x/solutions/softmax.py").write_text("clone")
    monkeypatch.setattr(module, "_PACKAGE", tmp_path / "llmlib")
    return tmp_path


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    package = tmp_path / "llmlib"
    for name in ("survey/models.csv", "solutions/02_x/softmax.py"):
        (package / "_data" / name).parent.mkdir(parents=True)
        (package / "_data" / name).write_text("wheel")
    (tmp_path / "data").mkdir()  # another package's: not ours without a pyproject.toml beside it
    monkeypatch.setattr(module, "_PACKAGE", package)
    return tmp_path


@pytest.mark.parametrize("where", ["clone", "wheel"])
@pytest.mark.parametrize("name", ["survey/models.csv", "solutions/02_x/softmax.py"])
def test_one_name_works_in_a_clone_and_in_a_wheel(
    where: str, name: str, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue(where)
    assert resource(name).read_text() == where


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../pyproject.toml", "a\\b", "solutions"])
def test_a_name_that_leaves_the_data_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="as in|such as"):
        resource(name)


def test_a_missing_resource_says_where_it_was_sought(clone: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"survey/absent\.csv.*looked in .*data/survey"):
        resource("survey/absent.csv")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "report.json"
    atomic_write(target, "old")
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert [path.name for path in target.parent.iterdir()] == ["report.json"]


def test_the_cache_follows_its_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMLIB_CACHE", str(tmp_path / "cache"))
    assert cache_dir("a", "b") == tmp_path / "cache" / "a" / "b"
    assert (tmp_path / "cache" / "a" / "b").is_dir()
