"""Text that every reader of this book already has: the documentation and code of their Python.

Real text with real dirt: duplicates, licence headers, tables, addresses. It differs with the
versions installed, so results that are to be compared are measured on the fixed corpus instead.
Nothing is imported: modules are found by name and read as text.
"""

import ast
import hashlib
import importlib.metadata
import importlib.util
import logging
import platform
import sysconfig
import tokenize
from collections.abc import Iterator
from pathlib import Path

from llmlib.core.cache import cache_dir
from llmlib.data.corpora.docstrings import module_docstrings
from llmlib.data.corpora.document import Document, load_documents, save_documents

_PACKAGES = ("torch", "numpy", "matplotlib")
_SKIPPED = {"tests", "test", "testing", "site-packages", "dist-packages", "__pycache__", "_vendor"}
_EXTRACTOR = 1  # raise when the extraction changes, so that cached files are made again

_log = logging.getLogger(__name__)


def pydocs() -> list[Document]:
    """Return documentation of the standard library, torch, numpy and matplotlib.

    The topics of Python's `help()` and all docstrings. The first call reads some 4,000 modules
    (half a minute on one core); later calls read the cache until a version changes.

    `meta["module"]` and `meta["name"]` say whose each is.
    """
    versions = f"{_EXTRACTOR} {platform.python_version()} {_versions()}"
    key = hashlib.sha256(versions.encode()).hexdigest()[:16]
    path = cache_dir("corpora") / f"pydocs-{key}.jsonl"
    if path.exists():
        return load_documents(path)
    documents = _help_topics()
    for label, module, source in _sources():
        try:
            documents += module_docstrings(source, module, label)
        except SyntaxError as error:  # a template for generated code, or Python 2
            _log.debug("%s does not parse: %s", module, error)
    save_documents(path, documents)
    return documents


def pycode() -> list[Document]:
    """Return the modules of the standard library, torch, numpy and matplotlib, without tests."""
    return [
        Document(text=source, source=label, meta={"module": module, "name": ""})
        for label, module, source in _sources()
        if source.strip()
    ]


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in _PACKAGES}


def _roots() -> list[tuple[str, str, Path]]:
    """List label, prefix of module names and folder of each library."""
    standard = Path(sysconfig.get_paths()["stdlib"])
    roots = [(f"Python {platform.python_version()}", "", standard)]
    for name, version in _versions().items():
        spec = importlib.util.find_spec(name)
        assert spec is not None and spec.submodule_search_locations
        roots.append((f"{name} {version}", name, Path(spec.submodule_search_locations[0])))
    return roots


def _sources() -> Iterator[tuple[str, str, str]]:
    for label, prefix, folder in _roots():
        for path in sorted(folder.rglob("*.py")):
            relative = path.relative_to(folder).with_suffix("")
            if _SKIPPED.intersection(relative.parts):
                continue
            parts = [prefix, *relative.parts] if prefix else [*relative.parts]
            module = ".".join(parts).removesuffix(".__init__")
            try:
                with tokenize.open(path) as file:  # heeds a module's declared encoding
                    yield label, module, file.read()
            except (SyntaxError, UnicodeDecodeError) as error:
                _log.debug("%s cannot be read as Python source: %s", path, error)


def _help_topics() -> list[Document]:
    label, _, folder = _roots()[0]
    tree = ast.parse((folder / "pydoc_data" / "topics.py").read_text(encoding="utf-8"))
    tables = [node.value for node in tree.body if isinstance(node, ast.Assign)]
    return [
        Document(text=text.strip("\n"), source=label, meta={"module": "help", "name": topic})
        for table in tables
        for topic, text in sorted(ast.literal_eval(table).items())
    ]
