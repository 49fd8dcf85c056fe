"""The built book, made once for all of its tests."""

import subprocess
import sys
from pathlib import Path

import pytest
from project import ROOT

HTML = ROOT / "build" / "book" / "_build" / "html"


def stale() -> bool:
    """Whether the built pages are missing or older than what they are made from."""
    built = HTML / "index.html"
    if not built.exists():
        return True
    sources = [ROOT / "_config.yml", ROOT / "_toc.yml"]
    for folder, kinds in (("book", "*"), ("chapters", "*.[im]*"), ("llmlib", "*.py")):
        sources += (ROOT / folder).rglob(kinds)
    newest = max(path.stat().st_mtime for path in sources if "__pycache__" not in path.parts)
    return built.stat().st_mtime < newest


@pytest.fixture(scope="session")
def html() -> Path:
    """The folder of the built pages; builds them when there are none or something has changed."""
    if stale():
        done = subprocess.run(
            [sys.executable, str(ROOT / "tools" / "book" / "build.py")],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return HTML
