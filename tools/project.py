"""Facts about the project that several tools read: its root, its address, its tree's state."""

import ast
import hashlib
import json
import tomllib
from dataclasses import dataclass
from pathlib import Path

from llmlib.teaching.answers.cells import python_of

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Address:
    """Where the public repository is, and which of its revisions Colab installs."""

    distribution: str
    repository: str
    revision: str


def address(root: Path = ROOT) -> Address:
    """Read the address from `[project.urls]`, the one place that holds it."""
    declared = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    project = declared["project"]
    revision = declared.get("tool", {}).get("executable-survey", {}).get("colab-revision", "")
    return Address(
        distribution=project["name"],
        repository=project.get("urls", {}).get("Repository", "").rstrip("/"),
        revision=revision or f"v{project['version']}",
    )


def tree_state(root: Path = ROOT) -> str:
    """Hash the Python sources, so that results of another state of the tree are recognised."""
    digest = hashlib.sha256()
    for folder in ("llmlib", "tests"):
        for path in sorted((root / folder).rglob("*.py")):
            digest.update(str(path.relative_to(root)).encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def notebooks(root: Path = ROOT) -> list[Path]:
    """Return the chapters' notebooks in reading order."""
    found = sorted((root / "chapters").rglob("*.ipynb"))
    return [path for path in found if ".ipynb_checkpoints" not in path.parts]


def notebook_code(path: Path) -> ast.Module:
    """Parse a notebook's code, leaving IPython's own commands out."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    return ast.parse("\n".join(map(python_of, code)))
