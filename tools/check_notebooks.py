"""Fail when a committed notebook breaks a rule: `python tools/check_notebooks.py [--fix] [FILES]`.

`--fix` first writes the set-up cell into each notebook and drops volatile metadata.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from notebook_rules import VOLATILE, Notebook, problems, source, text
from project import ROOT, Address, address, notebooks
from setup_cell import setup_cell

SETUP_ID = "setup"


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def write(path: Path, content: dict[str, Any]) -> None:
    """Store a notebook the way nbformat does, so that tools agree on every byte."""
    stored = json.dumps(content, ensure_ascii=False, indent=1, sort_keys=True) + "\n"
    if stored != path.read_text(encoding="utf-8"):
        path.write_text(stored, encoding="utf-8")


def as_lines(whole: str) -> list[str]:
    return whole.splitlines(keepends=True)


def put_setup_cell(content: dict[str, Any], where: Address) -> None:
    """Write the generated set-up cell into second place, keeping an earlier one's place."""
    cells = content["cells"]
    cell = next((cell for cell in cells[:3] if cell.get("id") == SETUP_ID), None)
    if cell is None:
        cell = {"cell_type": "code", "execution_count": None, "id": SETUP_ID, "outputs": []}
        cells.insert(1, cell)
    cell["metadata"] = {"tags": ["hide-cell"]}
    if source(cell) != setup_cell(where):
        cell["source"] = as_lines(setup_cell(where))


def normalise(content: dict[str, Any]) -> None:
    """Drop what differs from run to run and from editor to editor."""
    for name in ("widgets", "colab", "accelerator"):
        content["metadata"].pop(name, None)
    content["metadata"]["kernelspec"] = {
        "display_name": "Python 3",
        "language": "python",
        "name": "python3",
    }
    # The interpreter's version would change with every reader who runs `make notebooks`.
    content["metadata"]["language_info"] = {"name": "python"}
    for cell in content["cells"]:
        for name in VOLATILE:
            cell["metadata"].pop(name, None)
        if "outputs" in cell:
            cell["outputs"] = joined(cell["outputs"])


def joined(outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Join neighbouring pieces of one stream: a busy machine sends a print in several."""
    whole: list[dict[str, Any]] = []
    for output in outputs:
        last = whole[-1] if whole else {}
        if output["output_type"] == "stream" and last.get("name") == output["name"]:
            whole[-1] = last | {"text": as_lines(text(last["text"]) + text(output["text"]))}
        else:
            whole.append(output)
    return whole


def fix(path: Path, where: Address) -> None:
    content = read(path)
    put_setup_cell(content, where)
    normalise(content)
    write(path, content)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fix", action="store_true", help="write the set-up cell first")
    parser.add_argument("files", nargs="*", type=Path, help="notebooks (all of chapters/)")
    options = parser.parse_args(arguments)
    where, bad = address(), 0
    files = options.files or notebooks()
    for path in files:
        if options.fix:
            fix(path, where)
        raw = path.read_bytes()
        shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
        for sentence in problems(Notebook(json.loads(raw), len(raw), where)):
            print(f"{shown}: {sentence}")
            bad += 1
    print(f"{len(files)} notebooks, {bad} problems")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
