"""The command blocks of README.md and CONTRIBUTING.md, and the tiny form in which a test runs them.

A block is a fence marked `bash`. Where it would take long, the line before it holds its tiny form
in a comment that readers do not see:

    <!-- tiny: make capstone PRESET=tiny -->
    ```bash
    make capstone
    ```
"""

import re
from dataclasses import dataclass

TINY = re.compile(r"^<!-- *tiny: *(.+?) *-->$", re.DOTALL)
BLOCK = re.compile(r"((?:<!--(?:(?!-->).)*-->\n+)?)^```bash\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A block of commands as the reader sees it, and as the test runs it."""

    shown: str
    tiny: str
    line: int


def blocks(markdown: str) -> list[Block]:
    """Return a page's command blocks in order."""
    found = []
    for match in BLOCK.finditer(markdown):
        comment, shown = match.groups()
        tiny = TINY.match(comment.strip())
        line = markdown[: match.start(2)].count("\n")
        found.append(Block(shown, tiny.group(1) if tiny else shown, line))
    return found


def make_targets(makefile: str) -> dict[str, str]:
    """Return the targets that `make help` lists, with what it says of them."""
    return dict(re.findall(r"^([a-z]+):.*##\s+(.+)$", makefile, re.MULTILINE))
