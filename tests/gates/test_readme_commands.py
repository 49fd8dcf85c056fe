"""The commands that the README and CONTRIBUTING show are run, long ones in their tiny form."""

import os
import re
import subprocess

import pytest
from project import ROOT
from readme_blocks import Block, blocks, make_targets

PAGES = ("README.md", "CONTRIBUTING.md")
TIMEOUT_S = 1200  # by the clock, for a command that waits for ever


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


COMMANDS = [
    pytest.param(block, id=f"{name}:{block.line}") for name in PAGES for block in blocks(page(name))
]


@pytest.mark.slow
@pytest.mark.parametrize("block", COMMANDS)
def test_the_commands_work_as_shown(block: Block) -> None:
    environment = os.environ | {"PATH": f"{ROOT / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.tiny],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 0, f"{block.tiny}\n{done.stdout[-3000:]}"


def test_both_pages_show_commands() -> None:
    assert all(blocks(page(name)) for name in PAGES)


@pytest.mark.parametrize("name", PAGES)
def test_what_the_pages_link_to_exists(name: str) -> None:
    links = re.findall(r"\]\(([^)#]+)", page(name))
    assert [link for link in links if "://" not in link and not (ROOT / link).exists()] == []


def test_readme_and_makefile_name_the_same_targets() -> None:
    offered = set(make_targets(page("Makefile")))
    table = set(re.findall(r"^\| `make ([a-z]+)", page("README.md"), re.MULTILINE))
    assert table == offered


def test_make_help_lists_every_target() -> None:
    shown = subprocess.run(
        ["make", "help"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    for name, what in make_targets(page("Makefile")).items():
        assert re.search(rf"^  {name} +{re.escape(what)}$", shown, re.MULTILINE), name


def test_a_block_carries_its_tiny_form() -> None:
    found = blocks("<!-- tiny: make -n book -->\n```bash\nmake book\n```\n\n```bash\nls\n```\n")
    assert [(block.shown, block.tiny) for block in found] == [
        ("make book\n", "make -n book"),
        ("ls\n", "ls\n"),
    ]


def test_only_commands_marked_bash_are_blocks() -> None:
    assert blocks("```python\nx = 1\n```\n\n```text\nmake book\n```\n") == []
