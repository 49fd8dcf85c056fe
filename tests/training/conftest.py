"""The tiny run of program.py, and a disk that is full, as fixtures."""

import importlib.util
import resource
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import ModuleType

import pytest

from llmlib.training import Trainer

collect_ignore = ["killing.py"]  # a program: it finds its neighbour as a script does


@pytest.fixture(scope="session")
def program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("program", Path(__file__).parent / "program.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def new_trainer(program: ModuleType, tmp_path: Path) -> Callable[..., Trainer]:
    def build(folder: str = "run", **changes: object) -> Trainer:
        return program.build(tmp_path / folder, **changes)

    return build


@contextmanager
def _largest_file(n_bytes: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def largest_file() -> Callable[[int], AbstractContextManager[None]]:
    """A context in which every write beyond a size fails, as on a full disk."""
    return _largest_file
