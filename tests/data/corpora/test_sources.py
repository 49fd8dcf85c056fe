"""Text from the environment, from files and from data sets; bad input names file and line."""

import builtins
import json
from pathlib import Path

import pytest

from llmlib.data import hub_texts, pydocs
from llmlib.data.corpora import environment
from llmlib.data.corpora.environment import pycode
from llmlib.data.corpora.files import read_texts


@pytest.fixture
def small_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "lib"
    files = {
        "pydoc_data/topics.py": b"topics = {'while': 'The while statement.\\n', 'if': 'The if.'}\n",
        "a/__init__.py": b'"""Package a."""\n',
        "a/latin.py": '# -*- coding: latin-1 -*-\n"""Caf\xe9."""\n'.encode("latin-1"),
        "a/template.py": b'"""Jinja."""\n{% if x %}\n',
        "a/broken.py": b'"""Not UTF-8: \xff."""\n',
        "a/tests/test_a.py": b'"""A test."""\n',
        "a/empty.py": b"",
    }
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    monkeypatch.setattr(environment, "_roots", lambda: [("Toy 1.0", "", root)])
    monkeypatch.setenv("LLMLIB_CACHE", str(tmp_path / "cache"))
    return root


@pytest.mark.covers("data.sources")
def test_documentation_of_the_environment(small_library: Path) -> None:
    documents = pydocs()
    found = [(d.meta["module"], d.meta["name"], d.text) for d in documents]
    assert found == [
        ("help", "if", "The if."),
        ("help", "while", "The while statement."),
        ("a", "", "Package a."),
        ("a.latin", "", "Café."),
    ]
    (small_library / "a" / "latin.py").unlink()
    assert pydocs() == documents  # from the cache


def test_code_of_the_environment(small_library: Path) -> None:
    modules = [d.meta["module"] for d in pycode()]
    assert modules == ["a", "a.latin", "a.template", "pydoc_data.topics"]


def test_the_real_environment_is_found_without_importing() -> None:
    labels = [(label.split()[0], folder.is_dir()) for label, _, folder in environment._roots()]
    assert labels == [("Python", True), ("torch", True), ("numpy", True), ("matplotlib", True)]
    topics = environment._help_topics()
    assert any("with" in topic.text for topic in topics if topic.meta["name"] == "while")


@pytest.mark.slow
def test_the_real_environment_holds_megabytes() -> None:
    documents = pydocs()
    assert sum(d.n_bytes for d in documents) > 5_000_000
    assert len({d.source for d in documents}) == 4


def test_text_and_json_lines(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "one.txt").write_bytes(b"\xef\xbb\xbfFirst.\r\nSecond.\r\n")
    rows = [{"text": "Eins", "lang": "de"}, {"text": " "}, {"text": "Zwei\u2028"}]
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (tmp_path / "a.jsonl").write_text(lines + "\n\n", encoding="utf-8")
    (tmp_path / "ignored.pdf").write_bytes(b"\xff")
    documents = read_texts(tmp_path)
    assert [d.text for d in documents] == ["Eins", "Zwei\u2028", "First.\nSecond."]
    assert documents[0].meta == {"lang": "de", "module": "a.jsonl:1"}
    assert documents[2].meta == {"module": "b/one.txt"}
    (tmp_path / "c.jsonl").write_text('{"content": "Drei"}')
    assert read_texts(tmp_path / "c.jsonl", field="content")[0].text == "Drei"


def test_a_long_file_is_cut_at_blank_lines(tmp_path: Path) -> None:
    blocks = [f"Paragraph {number}\nof two lines." for number in range(101)]
    path = tmp_path / "book.txt"
    path.write_text("\n\n".join(blocks))
    parts = read_texts(path, part_bytes=307)
    assert "\n\n".join(part.text for part in parts) == path.read_text()
    assert len({part.meta["module"] for part in parts}) == len(parts) > 5
    assert len(read_texts(path)) == 1


def test_bad_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no file or folder .*nowhere"):
        read_texts(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="holds no text"):
        read_texts(tmp_path)
    (tmp_path / "blank.txt").write_text(" \n\n")
    with pytest.raises(ValueError, match="holds no text"):
        read_texts(tmp_path)
    cases: dict[str, tuple[bytes, str]] = {
        "latin.txt": (b"fine\nfine\ncaf\xe9\n", r"latin\.txt, line 3: not UTF-8 \(byte 0xe9\)"),
        "cut.jsonl": (b'{"text": "a"}\n{"text": "b\n', r"cut\.jsonl, line 2: not JSON"),
        "none.jsonl": (
            b'{"body": "a"}\n',
            r"line 1: no text in .* \(fields \['body'\]\)",
        ),
        "list.jsonl": (b'["a"]\n', r"line 1: no text in field 'text' \(a list\)"),
        "number.jsonl": (b'{"text": 3}\n', "line 1: no text in field 'text'"),
        "half.jsonl": (b'{"text": "\\ud800"}\n', "line 1: the text holds a lone surrogate"),
        "paper.pdf": (b"%PDF", "is neither .txt nor .jsonl"),
    }
    for name, (content, message) in cases.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            read_texts(path)


@pytest.mark.covers("data.sources")
@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_a_local_folder_stands_for_a_hub_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, streaming: bool
) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    table = datasets.Dataset.from_dict({"content": ["Eins", " ", "Drei"], "n": [2, 3, 5]})
    folder = tmp_path / "set"
    folder.mkdir()
    datasets.disable_progress_bars()
    if kind == "parquet":
        table.to_parquet(folder / "train.parquet")
    else:
        table.to_json(folder / "train.jsonl")
    documents = list(hub_texts(str(folder), field="content", streaming=streaming))
    assert [d.text for d in documents] == ["Eins", "Drei"]
    assert documents[1].meta["module"].endswith(":2")
    with pytest.raises(ValueError, match=r"column 'text' holds no text.*\['content', 'n'\]"):
        list(hub_texts(str(folder), streaming=streaming))


def test_without_the_hub_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "datasets":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match="`hub` extra"):
        next(hub_texts("any/thing"))
