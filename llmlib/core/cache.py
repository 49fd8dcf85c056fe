"""Where downloaded and derived files are kept, outside the repository."""

import os
from pathlib import Path

import platformdirs


def cache_dir(*parts: str) -> Path:
    """Return a folder for files that can be made again, creating it if need be.

    The root is `$LLMLIB_CACHE` where that is set, else the user's cache folder; `parts` are nested
    folders below it.
    """
    root = os.environ.get("LLMLIB_CACHE") or platformdirs.user_cache_dir("llmlib", appauthor=False)
    path = Path(root, *parts)
    path.mkdir(parents=True, exist_ok=True)
    return path
