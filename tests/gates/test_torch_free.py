"""Files that need no torch are found by their imports, whichever way those are written."""

from pathlib import Path

import pytest
from project import ROOT
from torch_free import Imports, torch_free_files

FILES = {
    "llmlib/__init__.py": "",
    "llmlib/heavy.py": "import torch\n",
    "llmlib/lazy.py": "def f():\n    import torch\n",
    "llmlib/guarded.py": "try:\n    import torch\nexcept ImportError:\n    torch = None\n",
    "llmlib/light.py": "import json\nimport numpy as np\n",
    "llmlib/typed.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch\n",
    "llmlib/core/__init__.py": "if TYPE_CHECKING:\n    from .seed import seed\n"
    "    from .name import n\n",
    "llmlib/core/seed.py": "from ..heavy import x\n",
    "llmlib/core/name.py": "from . import twin\n",
    "llmlib/core/twin.py": "from llmlib.core import name\n",
    "llmlib/eager/__init__.py": "from .small import y\nfrom llmlib.eager.big import x\n",
    "llmlib/eager/big.py": "import torch\n",
    "llmlib/eager/small.py": "",
}


@pytest.fixture
def imports(tmp_path: Path) -> Imports:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return Imports(tmp_path)


@pytest.mark.parametrize("module", ["lazy", "light", "typed", "core", "core.name", "core.twin"])
def test_free(imports: Imports, module: str) -> None:
    assert imports.free_module(f"llmlib.{module}")


@pytest.mark.parametrize("module", ["heavy", "guarded", "core.seed", "eager.small", "nothing"])
def test_not_free(imports: Imports, module: str) -> None:
    assert not imports.free_module(f"llmlib.{module}")


def test_a_lazily_loaded_name_counts_as_its_module(imports: Imports, tmp_path: Path) -> None:
    test = tmp_path / "test_a.py"
    test.write_text("from llmlib.core import n\n", encoding="utf-8")
    assert imports.free_file(test)
    test.write_text("from llmlib.core import seed\n", encoding="utf-8")
    assert not imports.free_file(test)


def test_a_test_s_inner_imports_count(imports: Imports, tmp_path: Path) -> None:
    test = tmp_path / "test_a.py"
    test.write_text("def test_a():\n    import torch\n", encoding="utf-8")
    assert imports.free_file(test)
    assert not imports.free_file(test, inside=True)


def test_the_plain_numbers_are_among_them() -> None:
    names = {path.relative_to(ROOT).as_posix() for path in torch_free_files(ROOT)}
    assert {"llmlib/scaling/flops.py", "llmlib/core/files.py"} <= names
    assert "llmlib/training/trainer.py" not in names
