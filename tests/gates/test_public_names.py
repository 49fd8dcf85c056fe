"""A public name means one thing in the whole library, and a folder shows what it holds at a glance.

Experiments and checks of exercises are not imported by readers, so their names may repeat.
"""

import ast
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from project import ROOT

MAX_MODULES = 12
PRIVATE = (
    "llmlib/experiments/architecture/",
    "llmlib/experiments/capstone/",
    "llmlib/experiments/data/",
    "llmlib/experiments/training/",
    "llmlib/experiments/worlds/",
    "llmlib/teaching/checks/",
)


def modules(root: Path) -> list[Path]:
    """Return the modules below `llmlib` that others may import, faces and scripts left out."""
    return [path for path in sorted((root / "llmlib").rglob("*.py")) if path.name[0] != "_"]


def public_names(path: Path) -> Iterator[str]:
    """Yield what a module defines at its top without an underscore."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                names = {node.name}
            case ast.Assign(targets=targets):
                names = {n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)}
            case ast.AnnAssign(target=ast.Name(id=name)):
                names = {name}
            case _:
                continue
        yield from (name for name in names if name[0] != "_" and name != "main")


def ambiguous_names(root: Path) -> dict[str, list[str]]:
    """Return the names that are public in several modules, with these modules."""
    homes: dict[str, list[str]] = defaultdict(list)
    for path in modules(root):
        where = path.relative_to(root).as_posix()
        if not where.startswith(PRIVATE):
            for name in set(public_names(path)):  # an overload repeats its name
                homes[name].append(where)
    return {name: found for name, found in sorted(homes.items()) if len(found) > 1}


def crowded_folders(root: Path) -> dict[str, int]:
    """Return the folders with too many modules, `__init__` not counted, and how many there are."""
    counts: dict[str, int] = defaultdict(int)
    for path in (root / "llmlib").rglob("*.py"):
        if path.name != "__init__.py":
            counts[path.parent.relative_to(root).as_posix()] += 1
    return {folder: count for folder, count in sorted(counts.items()) if count > MAX_MODULES}


def loose_modules(root: Path) -> list[str]:
    """Return the modules of the data floor that stand in none of its folders."""
    folder = root / "llmlib" / "data"
    return sorted(path.name for path in folder.glob("*.py") if path.name != "__init__.py")


def test_a_name_is_public_in_one_module() -> None:
    assert ambiguous_names(ROOT) == {}


def test_no_folder_is_crowded() -> None:
    assert crowded_folders(ROOT) == {}


def test_every_module_of_the_data_floor_has_a_folder() -> None:
    assert loose_modules(ROOT) == []


Write = Callable[[str, str], None]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, text: str) -> None:
        path = tmp_path / "llmlib" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    return write


@pytest.mark.parametrize(
    "text",
    [
        "def same(): ...",
        "async def same(): ...",
        "class same: ...",
        "same: int = 3",
        "same = 3",
        "other, (same, more) = 1, (2, 3)",
    ],
)
def test_a_name_in_two_modules_is_found(tmp_path: Path, write: Write, text: str) -> None:
    write("core/first.py", "@overload\ndef same(): ...\ndef same(): ...\n")
    assert ambiguous_names(tmp_path) == {}
    write("data/texts/second.py", text)
    expected = {"same": ["llmlib/core/first.py", "llmlib/data/texts/second.py"]}
    assert ambiguous_names(tmp_path) == expected


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("core/second.py", "from llmlib.core.first import same"),
        ("core/second.py", "def _same(same): same = 3"),
        ("core/_second.py", "def same(): ..."),
        ("experiments/worlds/second.py", "def same(): ..."),
        ("teaching/checks/data/second.py", "def same(): ..."),
    ],
)
def test_what_readers_do_not_import_may_repeat(
    tmp_path: Path, write: Write, name: str, text: str
) -> None:
    write("core/first.py", "def same(): ...\ndef main(): ...\n")
    write("core/third.py", "def main(): ...\n")
    write(name, text)
    assert ambiguous_names(tmp_path) == {}


def test_a_crowded_folder_is_found(tmp_path: Path, write: Write) -> None:
    for name in ("__init__", "_hidden", *(f"m{i}" for i in range(MAX_MODULES - 1))):
        write(f"core/{name}.py", "")
    assert crowded_folders(tmp_path) == {}
    write("core/one_more.py", "")
    assert crowded_folders(tmp_path) == {"llmlib/core": MAX_MODULES + 1}


def test_a_loose_module_is_found(tmp_path: Path, write: Write) -> None:
    write("data/__init__.py", "")
    write("data/texts/words.py", "")
    assert loose_modules(tmp_path) == []
    write("data/loose.py", "")
    assert loose_modules(tmp_path) == ["loose.py"]
