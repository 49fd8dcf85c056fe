"""Files that come with the book: its tables, small data sets and exercise solutions."""

from pathlib import Path, PurePosixPath

_PACKAGE = Path(__file__).resolve().parents[1]


def _clone_root() -> Path | None:
    """Return the folder of a clone, with `chapters` and `data`; None in an installed wheel."""
    root = _PACKAGE.parent
    # All three, because a `data` folder alone may lie in site-packages through some other package.
    if all((root / name).exists() for name in ("pyproject.toml", "chapters", "data")):
        return root
    return None


def _candidates(path: PurePosixPath) -> list[Path]:
    """List the places where a resource may be, the clone first."""
    found = []
    if root := _clone_root():
        if path.parts[0] == "solutions":
            # Guarded by `resource`: a solution's name has the chapter as its second part.
            found.append(root / "chapters" / path.parts[1] / "solutions" / Path(*path.parts[2:]))
        else:
            found.append(root / "data" / path)
    found.append(_PACKAGE / "_data" / path)
    return found


def resource(name: str) -> Path:
    """Return the path of a file or folder that comes with the book.

    The same name works in a clone of the repository and in an installed wheel, so a notebook needs
    no clone to run.

    Args:
        name: A relative path with forward slashes: below `data/`, as in `survey/models.csv`, or an
            exercise's solution, as in `solutions/04_architecture/softmax.py`.

    Raises:
        ValueError: If the name is absolute, empty, or climbs out of the data with `..`.
        FileNotFoundError: If no such file comes with this version.

    Example:
        >>> resource("survey/no_such_table.csv")
        Traceback (most recent call last):
            ...
        FileNotFoundError: no resource 'survey/no_such_table.csv' comes with this version of ...
    """
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\\" in name:
        raise ValueError(
            f"a resource is named by a relative path such as 'survey/models.csv', not {name!r}"
        )
    if path.parts[0] == "solutions" and len(path.parts) < 2:
        raise ValueError(f"name the chapter too, as in 'solutions/04_architecture', not {name!r}")
    candidates = _candidates(path)
    for candidate in candidates:
        if candidate.exists():
            return candidate
    raise FileNotFoundError(
        f"no resource {name!r} comes with this version of llmlib; "
        f"looked in {', '.join(str(candidate.parent) for candidate in candidates)}"
    )
