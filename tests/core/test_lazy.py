"""A package's face: each name is there, loads only its own module, and stands for one thing."""

import sys
from importlib import import_module
from pathlib import Path
from subprocess import run

import pytest

import llmlib

FACES = sorted(
    f"llmlib.{path.parent.name}"
    for path in Path(llmlib.__file__).parent.glob("*/__init__.py")
    if "lazy_face(" in path.read_text("utf-8")
)


def test_the_floors_have_faces() -> None:
    assert {"llmlib.core", "llmlib.data", "llmlib.training"} <= set(FACES)


@pytest.mark.parametrize("package", FACES)
def test_a_face_offers_what_its_block_names(package: str) -> None:
    face = import_module(package)
    names = face.__all__
    assert names
    assert names == sorted(names)
    assert set(names) <= set(dir(face))
    for name in names:
        found = getattr(face, name)
        assert getattr(found, "__name__", name) == name
        assert vars(face)[name] is found, "the second look-up reads it from the package itself"


@pytest.mark.parametrize("package", FACES)
def test_an_unknown_name_is_refused(package: str) -> None:
    with pytest.raises(AttributeError, match=rf"'{package}' has no attribute 'nothing'"):
        _ = import_module(package).nothing


@pytest.mark.parametrize(
    "statement",
    [
        *(f"import {package}" for package in FACES),
        "from llmlib.data import Document, pydocs, read_files",
        "from llmlib.core import use_style, t_interval, load_table, run_python, resource",
        "from llmlib.scaling import ChinchillaLaw",
    ],
)
def test_what_needs_no_torch_does_not_load_it(statement: str) -> None:
    program = f"import sys\n{statement}\nassert 'torch' not in sys.modules"
    done = run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a made-up package `shop` that can be imported."""
    folder = tmp_path / "shop"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.partition(".")[0] == "shop"]:
        monkeypatch.delitem(sys.modules, name)
    (folder / "heavy.py").write_text("raise ImportError('asked for')\n", encoding="utf-8")
    (folder / "light.py").write_text("bread, salt = 1, 2\n", encoding="utf-8")
    return folder


def write_face(folder: Path, *imports: str) -> None:
    block = "".join(f"    from {line}\n" for line in imports)
    head = "from typing import TYPE_CHECKING\nfrom llmlib.core.lazy import lazy_face\n"
    end = "__getattr__, __dir__, __all__ = lazy_face(__name__)\n"
    (folder / "__init__.py").write_text(f"{head}if TYPE_CHECKING:\n{block}{end}", "utf-8")


def test_a_name_waits_for_its_own_module_alone(package: Path) -> None:
    write_face(package, "shop.heavy import iron", "shop.light import bread, salt as white")
    shop = import_module("shop")
    assert shop.__all__ == ["bread", "iron", "white"]
    assert "shop.light" not in sys.modules
    assert (shop.bread, shop.white) == (1, 2)
    assert not hasattr(shop, "salt")
    assert {"iron", "bread", "lazy_face"} <= set(dir(shop))
    with pytest.raises(ImportError, match="asked for"):
        _ = shop.iron


@pytest.mark.parametrize("file", ["bread.py", "bread/__init__.py"])
def test_a_name_that_is_also_a_module_is_refused(package: Path, file: str) -> None:
    path = package / file
    path.parent.mkdir(exist_ok=True)
    path.write_text("", encoding="utf-8")
    write_face(package, "shop.light import bread")
    with pytest.raises(ValueError, match=r"shop offers bread, but shop.bread is a module: rename"):
        import_module("shop")
