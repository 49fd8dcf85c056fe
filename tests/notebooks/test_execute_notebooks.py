"""Running notebooks again stores their outputs, and a second time changes nothing."""

import json
from pathlib import Path

import pytest
from check_notebooks import joined
from execute_notebooks import main

SOURCES = [
    "import importlib.util",
    "print(importlib.util.find_spec('json') is not None)",
    "import matplotlib.pyplot as plt\n\n_ = plt.plot([0, 1], [0, 1])",
]


def write(path: Path, sources: list[str]) -> None:
    title = "# Three cells\n\nAbout 3 s. Survey section 1."
    cells = [{"cell_type": "markdown", "id": "title", "metadata": {}, "source": title}]
    cells += [
        {
            "cell_type": "code",
            "execution_count": None,
            "id": f"cell-{number}",
            "metadata": {"execution": {"stale": "time"}},
            "outputs": [],
            "source": source,
        }
        for number, source in enumerate(sources)
    ]
    content = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.slow
def test_twice_gives_no_difference(tmp_path: Path) -> None:
    path = tmp_path / "three.ipynb"
    write(path, SOURCES)
    assert main([str(path)]) == 0
    first = path.read_bytes()
    content = json.loads(first)
    assert [cell["id"] for cell in content["cells"]][1] == "setup"
    assert content["cells"][3]["outputs"][0]["text"] == ["True\n"]
    assert "image/png" in content["cells"][4]["outputs"][0]["data"]
    assert [c["execution_count"] for c in content["cells"][1:]] == [1, 2, 3, 4]
    assert all("execution" not in cell["metadata"] for cell in content["cells"])
    assert main([str(path)]) == 0
    assert path.read_bytes() == first


@pytest.mark.slow
def test_a_failing_notebook_is_a_failure(tmp_path: Path) -> None:
    path = tmp_path / "fails.ipynb"
    write(path, ["raise ValueError('no')"])
    assert main([str(path)]) == 1


def test_what_a_cell_prints_is_stored_in_one_piece() -> None:
    def stream(name: str, text: str | list[str]) -> dict[str, object]:
        return {"output_type": "stream", "name": name, "text": text}

    shown = {"output_type": "display_data", "data": {}, "metadata": {}}
    pieces = [
        stream("stdout", "a"),
        stream("stdout", ["b\n", "c"]),
        stream("stderr", "d"),
        stream("stdout", "e"),
        shown,
        stream("stdout", ""),
        stream("stdout", "f\n"),
    ]
    assert joined(pieces) == [
        stream("stdout", ["ab\n", "c"]),
        stream("stderr", "d"),
        stream("stdout", "e"),
        shown,
        stream("stdout", ["f\n"]),
    ]
