"""Files that are either whole or absent: written beside the target, then renamed."""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path that replaces `path` when the block succeeds.

    A reader sees the old file or the whole new one, never a part: the temporary file lies in the
    same folder, which is made if it is missing, is flushed to the disk and renamed. If the block
    raises, the temporary file is removed and the old one stays.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def atomic_write(path: str | os.PathLike[str], content: str | bytes) -> None:
    r"""Write a whole file or nothing; text is written as UTF-8.

    A lone surrogate, which UTF-8 cannot hold, becomes `\udXXX`: in JSON its escape.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(
            content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
        )


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Raises:
        ValueError: If there is no such file, it is cut short, or it holds something else.
    """
    file = Path(path)
    try:
        content = json.loads(file.read_text("utf-8"))
    except OSError as error:
        raise ValueError(f"{file.parent} holds no {file.name}: {error}") from error
    except ValueError as error:
        raise ValueError(f"{file} is cut short or no JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} is no JSON object")
    return content
