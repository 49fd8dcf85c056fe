"""Which exercises a student has solved: noted by `check`, shown by `python -m ...progress`."""

from __future__ import annotations

import json
import os
from datetime import date
from itertools import groupby
from pathlib import Path

import platformdirs

from llmlib.core.files import atomic_write
from llmlib.teaching.catalogue import entries


def progress_path() -> Path:
    """Return where solved exercises are noted: in `$LLMLIB_CACHE` or the user's data folder."""
    root = os.environ.get("LLMLIB_CACHE") or platformdirs.user_data_dir("llmlib", appauthor=False)
    return Path(root, "progress.json")


def solved() -> dict[str, str]:
    """Return the day on which each exercise was first solved on this computer, as `2026-11-22`.

    Raises:
        ValueError: If the file is not what `note` writes.
    """
    path = progress_path()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path} is not a progress file ({error}); delete it to start anew"
        ) from None
    if not isinstance(content, dict) or not all(isinstance(v, str) for v in content.values()):
        raise ValueError(f"{path} is not a progress file; delete it to start anew")
    return content


def note(name: str) -> str | None:
    """Note that an exercise is solved, keeping the day of the first success.

    Returns why it could not be noted: a full or read-only disk must not spoil the success.
    """
    try:
        done = solved()
        if name not in done:
            done[name] = date.today().isoformat()
            atomic_write(progress_path(), json.dumps(done, indent=1, sort_keys=True) + "\n")
    except (OSError, ValueError) as error:
        return f"(not noted as done: {error})"
    return None


def report() -> str:
    """Lay out what is done and what is not, by chapter."""
    done = solved()
    known = entries()
    if not known:
        return "This version of the book has no exercises."
    lines = []
    for chapter, group in groupby(known, key=lambda entry: entry.chapter):
        members = list(group)
        count = sum(entry.name in done for entry in members)
        lines.append(f"{chapter}  {count} of {len(members)}")
        for entry in members:
            mark, day = ("✓", done[entry.name]) if entry.name in done else ("·", "")
            lines.append(f"  {mark} {entry.name:<32} {day:<10}  {entry.title}".rstrip())
    total = sum(entry.name in done for entry in known)
    lines.append(f"{total} of {len(known)} exercises solved; noted in {progress_path()}")
    return "\n".join(lines)


def main() -> int:
    """Print the report; return 1 where the file cannot be read, else 0."""
    try:
        print(report())
    except (OSError, ValueError) as error:
        print(error)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
