"""The pinned corpora are what they say, and a wrong or missing wheel ends in one clear sentence."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlib.data import Document
from llmlib.data.corpora import docstrings, fixed, wheels
from llmlib.data.corpora.document import corpus_bytes, corpus_sha256, load_documents, save_documents


@pytest.mark.slow
def test_fixed_corpus_is_the_recorded_one() -> None:
    documents = fixed._extract_docstrings()  # not what an earlier version left in the cache
    assert corpus_sha256(documents) == fixed.FIXED_SHA256
    assert len(documents) == 12_427
    assert corpus_bytes(documents) == 6_928_695
    unique = {document.text for document in documents}
    assert sum(len(text.encode()) for text in unique) == 6_839_159
    assert {document.source for document in documents} == {"sympy 1.14.0", "networkx 3.6.1"}
    assert fixed.fixed_corpus() == documents


def test_king_james_has_every_chapter() -> None:
    chapters = fixed._extract_king_james()
    assert fixed.king_james() == chapters
    assert len(chapters) == 1189
    assert len({chapter.meta["module"] for chapter in chapters}) == 66
    assert chapters[0].text.startswith("In the beginning God created the heaven and the earth.")
    assert chapters[-1].text.endswith("[be] with you all. Amen.")
    john = next(c for c in chapters if c.meta["name"] == "John 11")
    assert "Jesus wept." in john.text


def test_code_shares_its_modules_with_the_docstrings() -> None:
    code = fixed._extract_code()
    assert fixed.fixed_code() == code
    assert corpus_sha256(code) == fixed.CODE_SHA256
    modules = {document.meta["module"] for document in code}
    assert len(modules) == len(code) == 1128
    assert {d.meta["module"] for d in fixed.fixed_corpus()} <= modules
    assert not any("tests" in module.split(".") for module in modules)


def test_a_damaged_extract_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMLIB_CACHE", str(tmp_path))
    documents = [Document(text="alpha", source="s"), Document(text="beta", source="s")]
    calls = []

    def extract() -> list[Document]:
        calls.append(1)
        return documents

    sha = corpus_sha256(documents)
    assert fixed._cached("toy", sha, extract) == documents
    assert fixed._cached("toy", sha, extract) == documents
    assert len(calls) == 1
    (path,) = (tmp_path / "corpora").iterdir()
    path.write_text(path.read_text()[:-20])  # cut short
    assert fixed._cached("toy", sha, extract) == documents
    path.write_text(path.read_text().replace("alpha", "omega"))  # altered
    assert fixed._cached("toy", sha, extract) == documents
    assert len(calls) == 3


def _fake_pip(content: bytes | None, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        assert command[:3] == [sys.executable, "-m", "pip"]
        assert "--no-deps" in command
        if content is None:
            return subprocess.CompletedProcess(command, 1, "", "noise\nERROR: no index reachable\n")
        folder = Path(command[command.index("--dest") + 1])
        (folder / "toy_one-1.0-py3-none-any.whl").write_bytes(content)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(wheels.subprocess, "run", run)


def test_fetching_checks_the_hash_and_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMLIB_CACHE", str(tmp_path))
    good = b"the published file"
    sha = wheels.hashlib.sha256(good).hexdigest()
    toy = wheels.PinnedWheel(name="toy-one", version="1.0", sha256=sha, licence="BSD")
    _fake_pip(None, monkeypatch)
    with pytest.raises(ConnectionError, match=r"toy-one 1\.0 .*no index reachable.* by hand"):
        wheels.fetch_wheel(toy)
    _fake_pip(b"another file", monkeypatch)
    with pytest.raises(ValueError, match=f"expected {sha}"):
        wheels.fetch_wheel(toy)
    assert list((tmp_path / "wheels").iterdir()) == []
    _fake_pip(good, monkeypatch)
    path = wheels.fetch_wheel(toy)
    assert path.read_bytes() == good
    _fake_pip(None, monkeypatch)  # not asked again
    assert wheels.fetch_wheel(toy) == path


def test_docstrings_come_in_source_order_from_every_nesting() -> None:
    source = '''"""Module."""
if True:
    def f():
        """F.

        More \\p.
        """
        class Inner:
            """Inner."""
async def g():
    "G é \\ud800."
class Empty:
    "  "
def none():
    return """not a docstring"""
def late():
    x = 1
    """not a docstring either"""
'''
    found = docstrings.module_docstrings(source, "pkg.mod", "pkg 1")
    assert [(d.meta["name"], d.text) for d in found] == [
        ("", "Module."),
        ("f", "F.\n\nMore \\p."),
        ("f.Inner", "Inner."),
        ("g", "G é ?."),
    ]
    assert {d.meta["module"] for d in found} == {"pkg.mod"}


@given(st.text(alphabet="ab \n\t", max_size=60))
def test_cleaning_agrees_with_inspect(raw: str) -> None:
    def bare(text: str) -> str:  # releases differ in the spaces they leave on blank lines
        return "\n".join(line.rstrip() for line in text.split("\n")).strip("\n")

    assert bare(docstrings.clean_docstring(raw)) == bare(inspect.cleandoc(raw))


def test_saved_documents_survive_odd_characters(tmp_path: Path) -> None:
    odd = [
        Document(text="a\u2028b\x0cc\r\nd\x85e 深 🙂", source="x", meta={"k": [1, None]}),
        Document(text="", source="y"),
    ]
    path = tmp_path / "odd.jsonl"
    save_documents(path, odd)
    assert load_documents(path) == odd
    path.write_text(path.read_text(encoding="utf-8") + '{"text": "no source"}\n', encoding="utf-8")
    with pytest.raises(ValueError, match=r"odd\.jsonl, line 3: not a saved document"):
        load_documents(path)


def test_an_escape_is_no_line_end() -> None:
    # Python has joined a file's own line ends before; what is left was written as an escape.
    source = 'def f():\n    """Add ${\\rm x}$.\n\n      Exactly.\n    """\n'
    (document,) = docstrings.module_docstrings(source, "m", "m 1")
    assert document.text == "Add ${\rm x}$.\n\nExactly."
    assert docstrings.clean_docstring("a\rb\u2028c") == "a\rb\u2028c"


def test_docstrings_of_a_source_with_other_line_ends():
    source = 'def f():\n    """One.\n\n    Two.\n    """\n'
    texts = {
        document.text
        for end in ("\n", "\r\n", "\r")
        for document in docstrings.module_docstrings(source.replace("\n", end), "m", "m 1")
    }
    assert texts == {"One.\n\nTwo."}
