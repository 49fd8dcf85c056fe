"""Each rule accepts a good notebook and refuses one that breaks it, and only it."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import check_notebooks
import notebook_rules
import pytest
from notebook_rules import RULES, Notebook, problems
from project import Address
from setup_cell import setup_cell

HERE = Address("executable-llm-survey", "", "v0.1.0")
Content = dict[str, Any]


def markdown(name: str, source: str) -> Content:
    return {"cell_type": "markdown", "id": name, "metadata": {}, "source": source}


def code(name: str, source: str, count: int, *outputs: Content, **metadata: Any) -> Content:
    return {
        "cell_type": "code",
        "execution_count": count,
        "id": name,
        "metadata": metadata,
        "outputs": list(outputs),
        "source": source,
    }


def stream(text: str, name: str = "stdout") -> Content:
    return {"output_type": "stream", "name": name, "text": text}


FIGURE = {"output_type": "display_data", "data": {"image/png": "iVBORw0KGgo="}, "metadata": {}}
ALT = {"image": {"alt": "A line that rises."}}


def good() -> Content:
    """A notebook in the book's form."""
    title = "# Sums\n\nYou will build a sum. About 3 s on two cores. Survey section 4.2."
    return {
        "cells": [
            markdown("title", title),
            code("setup", setup_cell(HERE), 1),
            code("imports", "import math", 2),
            markdown("why", "The root of two, to three digits:"),
            code("root", "print(round(math.sqrt(2), 3))", 3, stream("1.414\n")),
            markdown("picture", "And its picture:"),
            code("figure", "_ = math.pi", 4, FIGURE, mystnb=ALT),
        ],
        "metadata": {"kernelspec": {"name": "python3"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def check(content: Content, size: int = 1000, address: Address = HERE) -> list[str]:
    return problems(Notebook(content, size, address))


def root_cell(content: Content) -> Content:
    return content["cells"][4]


def set_source(text: str) -> Callable[[Content], None]:
    return lambda content: root_cell(content).update(source=text)


def set_output(*outputs: Content) -> Callable[[Content], None]:
    return lambda content: root_cell(content).update(outputs=list(outputs))


def set_title(text: str) -> Callable[[Content], None]:
    return lambda content: content["cells"][0].update(source=text)


def tag(*tags: str) -> Callable[[Content], None]:
    return lambda content: root_cell(content)["metadata"].update(tags=list(tags))


def ignore_three(content: Content) -> None:
    for place in (2, 4, 6):
        content["cells"][place]["metadata"]["tags"] = ["nbval-ignore-output"]


LONG = "\n".join(f"x{n} = {n}" for n in range(16))
LONG_CLASS = "class A:\n" + "\n".join(f"    x{n} = {n}" for n in range(30))

BAD: dict[str, list[tuple[Callable[[Content], Any], str]]] = {
    "size_limit": [(set_output(stream("a" * 200_001)), "an output of 200")],
    "kernel": [(lambda c: c["metadata"]["kernelspec"].update(name="py311"), "must be python3")],
    "unique_ids": [
        (lambda c: root_cell(c).update(id="why"), "missing or repeated"),
        (lambda c: root_cell(c).pop("id"), "missing or repeated"),
    ],
    "no_empty_cells": [(lambda c: c["cells"].append(markdown("last", " \n")), "empty")],
    "no_attachments": [(lambda c: c["cells"][3].update(attachments={"a": {}}), "an attachment")],
    "executed_in_order": [
        (lambda c: root_cell(c).update(execution_count=7), "execution count 7, expected 3"),
        (lambda c: root_cell(c).update(execution_count=None), "execution count None"),
    ],
    "no_errors": [
        (
            set_output({"output_type": "error", "ename": "ValueError", "traceback": []}),
            "stored error ValueError",
        ),
        (set_output(stream("careful\n", "stderr")), "output on stderr"),
    ],
    "no_machine_details": [
        (set_output(stream("saved to /home/someone/file\n")), "'/home/s'"),
        (set_output(stream("<object at 0x7f3a5c0d1e2f>\n")), "0x7f3a5c0d1e2f"),
        (set_output(stream("C:\\Users\\someone\n")), "Users"),
        (set_output(stream("ipykernel_4711: warning\n")), "ipykernel_4711"),
    ],
    "no_email_addresses": [(set_output(stream("by someone@some-host.net\n")), "mask it")],
    "no_trailing_semicolon": [(set_source("math.pi;"), "ends in ';'")],
    "no_volatile_metadata": [
        (lambda c: root_cell(c)["metadata"].update(execution={}), "'execution'"),
        (lambda c: c["metadata"].update(widgets={}), "'widgets'"),
    ],
    "short_cells": [
        (set_source(LONG), "16 lines, at most 15"),
        (set_source(LONG_CLASS), "31 lines, at most 30"),
    ],
    "markdown_first": [
        (lambda c: c["cells"].append(code("more", "math.e", 5)), "no Markdown before it"),
    ],
    "opening": [
        (set_title("Sums. About 3 s. Survey section 4."), "with the title"),
        (set_title("# Sums\n\nSurvey section 4."), "how long"),
        (set_title("# Sums\n\nAbout 3 s."), "section of the survey"),
    ],
    "generated_setup": [
        (lambda c: c["cells"][1].update(source="import llmlib"), "not the set-up cell"),
    ],
    "no_path_tricks": [
        (set_source("import sys\nsys.path.append('..')"), "sys.path"),
        (set_source("open('/home/someone/file')"), "an absolute path"),
    ],
    "no_hidden_downloads": [
        (set_source("import urllib.request"), "fetches by itself"),
        (set_source("import os\nos.popen('curl -O file')"), "fetches by itself"),
    ],
    "few_ignored_outputs": [
        (ignore_three, "3 of 4 code cells"),
        (set_source("# NBVAL_IGNORE_OUTPUT\nmath.e"), "opts out by a comment"),
        (tag("nbval-skip"), "never run"),
    ],
    "figures_have_alt_text": [
        (lambda c: c["cells"][6].update(metadata={}), "without alt text"),
        (lambda c: c["cells"][3].update(source="![](figure.png)"), "without alt text"),
    ],
    "parses": [(set_source("!ls"), "not plain Python")],
}
CASES = [
    pytest.param(rule, change, message, id=f"{rule}-{number}")
    for rule, changes in BAD.items()
    for number, (change, message) in enumerate(changes)
]


def test_a_good_notebook_passes_every_rule() -> None:
    assert check(good()) == []


def test_every_rule_has_a_bad_notebook() -> None:
    assert set(BAD) == {rule.__name__ for rule in RULES}


@pytest.mark.parametrize(("rule", "change", "message"), CASES)
def test_a_bad_notebook_breaks_its_rule_alone(
    rule: str, change: Callable[[Content], Any], message: str
) -> None:
    content = good()
    change(content)
    sentences = check(content)
    assert len(sentences) == 1
    assert message in sentences[0]
    assert list(getattr(notebook_rules, rule)(Notebook(content, 1000, HERE))) == sentences


def test_a_large_notebook_is_refused() -> None:
    assert "600,001 bytes" in check(good(), size=600_001)[0]


@pytest.mark.parametrize(
    "change",
    [
        tag("nbval-ignore-output"),
        set_output(stream("mail to <someone@example.org>, or 3/4 of it at 12:30\n")),
        set_source(LONG_CLASS.rpartition("\n")[0]),
        set_source("ratio = 3 / 4"),
    ],
)
def test_what_is_allowed_stays_allowed(change: Callable[[Content], None]) -> None:
    content = good()
    change(content)
    assert check(content) == []


def test_an_expected_error_may_be_stored() -> None:
    content = good()
    tag("raises-exception")(content)
    set_output({"output_type": "error", "ename": "ValueError", "traceback": []})(content)
    assert check(content) == []


def test_lines_may_be_stored_as_a_list() -> None:
    content = good()
    for cell in content["cells"]:
        cell["source"] = cell["source"].splitlines(keepends=True)
    assert check(content) == []


def test_fix_writes_the_setup_cell_and_drops_what_is_volatile(tmp_path: Path) -> None:
    path = tmp_path / "sums.ipynb"
    content = good()
    content["cells"][1]["source"] = "import llmlib"
    content["metadata"]["widgets"] = {}
    root_cell(content)["metadata"]["execution"] = {"iopub.execute_input": "now"}
    path.write_text(json.dumps(content), encoding="utf-8")
    assert check_notebooks.main(["--fix", str(path)]) == 0
    first = path.read_bytes()
    assert check_notebooks.main(["--fix", str(path)]) == 0
    assert path.read_bytes() == first


def test_fix_inserts_a_missing_setup_cell(tmp_path: Path) -> None:
    path = tmp_path / "sums.ipynb"
    content = good()
    del content["cells"][1]
    path.write_text(json.dumps(content), encoding="utf-8")
    assert check_notebooks.main([str(path)]) == 1
    check_notebooks.fix(path, HERE)
    assert [cell["id"] for cell in json.loads(path.read_text())["cells"]][:3] == [
        "title",
        "setup",
        "imports",
    ]


def test_the_rules_do_not_change_what_they_read() -> None:
    content = good()
    before = copy.deepcopy(content)
    check(content)
    assert content == before
