"""A test's time is charged to the chapter that its path, its exercise or its imports name."""

from pathlib import Path

import pytest
from charges import CHAPTERS, HOUSE, floor_of, line_of, subject_chapters
from project import ROOT

SUBJECTS = {"softmax": "architecture", "softmax_rows": "training", "merge": "data"}
SUBJECTS |= {"norm_placement": "architecture"}


@pytest.mark.parametrize(
    ("node", "line"),
    [
        ("tests/scaling/test_flops.py::test_a", "scaling"),
        ("tests/data/cleaning/test_rules.py::test_a[3-5]", "data"),
        ("tests/experiments/evaluation/test_judges.py::test_a", "evaluation"),
        ("tests/parity/adaptation/test_peft.py::test_a", "adaptation"),
        ("tests/museum/utilization/test_a.py::test_a", "utilization"),
        ("llmlib/capstone/stages.py::llmlib.capstone.stages.Stages", "capstone"),
        ("llmlib/experiments/data/repeated.py::llmlib.experiments.data.repeated", "data"),
        ("llmlib/teaching/checks/training/loop.py::llmlib.x", "training"),
        ("tests/exercises/test_every_exercise.py::test_it[softmax]", "architecture"),
        ("tests/exercises/test_every_exercise.py::test_it[softmax_rows]", "training"),
        ("tests/exercises/test_every_exercise.py::test_it[merge-forgets a pair]", "data"),
        ("tests/exercises/test_every_exercise.py::test_it[merged]", HOUSE),
        ("tests/exercises/test_every_exercise.py::test_names", HOUSE),
        ("tests/experiments/test_records.py::test_a[norm_placement]", "architecture"),
        ("tests/experiments/test_records.py::test_a[norm_placement: it holds]", "architecture"),
        ("tests/core/test_files.py::test_a[softmax]", HOUSE),
        ("tests/core/test_files.py::test_a[tests/data/x]", HOUSE),
        ("tests/golden/test_golden.py::test_a", HOUSE),
        ("tests/notebooks/test_setup_cell.py::test_a", HOUSE),
        ("llmlib/teaching/widgets.py::llmlib.teaching.widgets", HOUSE),
        ("tests/gates/test_wheel.py::test_a", "gates and browser"),
        ("tests/book/test_browser.py::test_a", "gates and browser"),
    ],
)
def test_where_a_test_stands(node: str, line: str) -> None:
    assert line_of(node, SUBJECTS) == line


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("from llmlib.data import a\nfrom llmlib.core.b import c\n", "data"),
        ("from llmlib.data import a\nfrom llmlib.training import b\n", "training"),
        ("from llmlib.utilization import a\nimport llmlib.data.b\nimport llmlib.data.c\n", "data"),
        ("def test_a():\n    from llmlib.evaluation import a\n", "evaluation"),
        ("import datasketch\n", HOUSE),
    ],
)
def test_a_comparison_is_charged_to_what_it_imports(tmp_path: Path, source: str, line: str) -> None:
    path = tmp_path / "tests" / "parity" / "test_a.py"
    path.parent.mkdir(parents=True)
    path.write_text(source, encoding="utf-8")
    assert line_of("tests/parity/test_a.py::test_b", {}, tmp_path) == line


def test_every_comparison_of_the_book_has_a_chapter() -> None:
    files = [path.relative_to(ROOT).as_posix() for path in (ROOT / "tests/parity").rglob("test_*")]
    assert files
    lines = {file: line_of(f"{file}::test_a", {}) for file in files if file.endswith(".py")}
    assert [file for file, line in lines.items() if line not in CHAPTERS] == []
    assert lines["tests/parity/test_smollm2.py"] == "architecture"
    assert lines["tests/parity/test_generate_transformers.py"] == "utilization"


def test_every_exercise_and_experiment_has_a_chapter() -> None:
    found = subject_chapters()
    assert (found["check_digit"], found["norm_placement"]) == ("data", "architecture")
    assert set(found.values()) <= set(CHAPTERS)


def test_every_folder_of_notebooks_is_a_chapter_s() -> None:
    folders = [path.name for path in (ROOT / "chapters").iterdir() if path.is_dir()]
    assert {floor_of(folder) for folder in folders} == set(CHAPTERS)
    with pytest.raises(ValueError, match="no chapter's folder"):
        floor_of("10_appendix")
