"""Processes that start quickly."""

import multiprocessing
from types import SimpleNamespace

import pytest


@pytest.fixture
def forked_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `Workers` fork its processes from one that has imported the library.

    A user's run starts each anew, which takes some seconds of imports; tests/core/test_workers.py
    does so too.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["llmlib.data"])
    forking = SimpleNamespace(get_context=lambda method: context)
    monkeypatch.setattr("llmlib.core.workers.mp", forking)
