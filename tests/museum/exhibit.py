"""What an exhibit of the museum of bugs is: a fault in a few lines, and the check that finds it."""

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from textwrap import dedent
from typing import Any

THREAD = re.compile(r"[\w.-]+/[\w.-]+#\d+")


@dataclass(frozen=True, kw_only=True)
class Exhibit:
    """A fault that looks right.

    The book's page shows the sources of `faulty` and `check`, so both say what they do.
    """

    name: str
    """A title in words, unique in the museum."""
    threads: tuple[str, ...] = ()
    """Where the fault was reported or mended, `owner/repository#number`; empty: planted by us."""
    fault: str
    """What is wrong, in a sentence or two."""
    looks: str
    """What it gives, and why nobody notices."""
    faulty: Callable[..., Any]
    sound: Callable[..., Any]
    """The library's own way, called as `faulty` is."""
    plausible: Callable[[Callable[..., Any]], None]
    """Asserts of an implementation what one looks at first; the fault passes."""
    check: Callable[[Callable[..., Any]], None]
    """Asserts of an implementation what the fault gets wrong."""

    def __post_init__(self) -> None:
        for thread in self.threads:
            if not THREAD.fullmatch(thread):
                raise ValueError(f"{self.name}: {thread!r} is no owner/repository#number")

    @property
    def links(self) -> list[tuple[str, str]]:
        """Label and address of each thread; GitHub leads from an issue's address to a request's."""
        pairs = (thread.split("#") for thread in self.threads)
        return [
            (f"{repository} #{number}", f"https://github.com/{repository}/issues/{number}")
            for repository, number in pairs
        ]

    def source(self, part: str) -> str:
        """The source of `faulty` or `check`, as it stands in its module."""
        return dedent(inspect.getsource(getattr(self, part))).rstrip()
