"""Submissions, honest and hostile, and the grades they get."""

import csv
import io
import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from llmlib.teaching import Exercise, args, authoring, catalogue, expect, grade, peak_bytes, student
from llmlib.teaching.answers.cells import python_of
from llmlib.teaching.answers.measured import differentiates, gradient
from llmlib.teaching.catalogue import Entry
from llmlib.teaching.grade import (
    Grade,
    Limits,
    exercises_of,
    find_notebooks,
    grade_notebook,
    main,
    read_cells,
    students,
    to_csv,
)
from llmlib.teaching.wire import BadMessageError, WireEncoder, decode, unpack

NAMES = ["sample_half", "sample_apply", "sample_layer"]
LIMITS = Limits()


def half(x: Tensor) -> Tensor:
    return x / 2


def apply_twice(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return function(function(x))


class Layer(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(size))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight


@pytest.fixture(autouse=True)
def samples(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(authoring, "REGISTRY", {})
    Exercise(
        "sample_half",
        reference=half,
        points=2,
        cases={"seven numbers": args(torch.randn(7))},
        mistakes={"you doubled it": lambda x: 2 * x},
    )

    def is_sparing(answer: Any) -> None:
        peak = peak_bytes(answer, torch.cos, torch.randn(5000))
        expect(peak <= 3 * 4 * 5000, f"{peak} bytes")

    Exercise(
        "sample_apply",
        reference=apply_twice,
        cases={
            "cosine": args(torch.cos, torch.randn(5)),
            "three tensors of 5000 numbers at most": is_sparing,
        },
    )
    Exercise(
        "sample_layer",
        reference=Layer,
        symbol="Layer",
        cases={"its weight and its output": lambda kind: (kind(3).weight, kind(3)(torch.ones(3)))},
    )
    known = tuple(Entry(name, "01_x", "01_y", "", "") for name in NAMES)
    for module in (catalogue, grade):
        monkeypatch.setattr(module, "entries", lambda: known)
    yield


def notebook(folder: Path, *cells: str, name: str = "ada") -> Path:
    path = folder / f"{name}.ipynb"
    content = [{"cell_type": "markdown", "source": "x"}]
    content += [{"cell_type": "code", "source": cell} for cell in cells]
    path.write_text(json.dumps({"cells": content, "nbformat": 4}))
    return path


GOOD = """
%matplotlib inline
import torch
from torch import nn
two = 2
def sample_half(x):
    print("noise")
    return x / two
def sample_apply(function, x):
    return function(function(x))
class Layer(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(size))
    def forward(self, x):
        return x * self.weight
while True:  # not a definition: never run
    pass
"""


def graded(folder: Path, *cells: str, names: list[str] | None = None) -> dict[str, tuple[str, str]]:
    grades = grade_notebook(notebook(folder, *cells), names or [], LIMITS)
    return {item.exercise: (item.outcome, item.message) for item in grades}


def test_a_good_submission_gets_its_points(tmp_path: Path) -> None:
    path = notebook(tmp_path, "import os\nprint(1)", GOOD, "this is ( no python")
    grades = grade_notebook(path, limits=LIMITS)
    assert grades == [
        Grade("ada", "sample_half", "passed", "", 2),
        Grade("ada", "sample_apply", "passed", "", 1),
        Grade("ada", "sample_layer", "passed", "", 1),
    ]


def test_wrong_unfinished_and_absent_answers_are_told_apart(tmp_path: Path) -> None:
    got = graded(
        tmp_path,
        "def sample_half(x): return 2 * x",
        "def sample_apply(function, x): raise NotImplementedError",
    )
    assert got == {
        "sample_half": ("wrong", "seven numbers: you doubled it"),
        "sample_apply": ("not attempted", ""),
        "sample_layer": ("missing", "the notebook defines no Layer"),
    }


def test_memory_is_measured_where_the_answer_runs(tmp_path: Path) -> None:
    code = "def sample_apply(f, x):\n    big = x.repeat(9)\n    return f(f(x)) + 0 * big.sum()"
    outcome, message = graded(tmp_path, code, names=["sample_apply"])["sample_apply"]
    assert outcome == "wrong"
    assert message.startswith("three tensors of 5000 numbers at most: 2")


def test_an_exception_names_the_students_line(tmp_path: Path) -> None:
    code = "def sample_half(x):\n    y = x + 1\n    return y.no_such\n"
    outcome, message = graded(tmp_path, code, names=["sample_half"])["sample_half"]
    assert outcome == "error"
    assert "AttributeError: 'Tensor' object has no attribute 'no_such'" in message
    assert "(at `return y.no_such`)" in message


def test_a_gradient_is_taken_where_the_answer_runs(tmp_path: Path) -> None:
    def teaches(answer: Any) -> Any:
        slope = gradient(answer, torch.ones(3), 2.0)
        expect(slope is not None, "no gradient")
        return slope

    Exercise("sample_square", reference=lambda x, c: c * x.square().sum(), cases={"it": teaches})
    got = [
        graded(tmp_path, f"def sample_square(x, c):\n    return {code}", names=["sample_square"])
        for code in ("c * (x * x).sum()", "c * x.detach().square().sum()", "c * x.sum()")
    ]
    assert [grade["sample_square"] for grade in got] == [
        ("passed", ""),
        ("wrong", "it: no gradient"),
        ("wrong", "it: every value is 0.5 times what it should be"),
    ]


BY_TORCH = {
    "grad": "torch.autograd.grad(f(x), x, torch.ones(3))[0]",
    "func": "torch.func.grad(lambda x: f(x).sum())(x)",
    "vjp": "torch.func.vjp(f, x)[1](torch.ones(3))[0]",
    "jvp": "torch.func.jvp(f, (x,), (torch.ones(3),))[1]",
    "functional": "torch.autograd.functional.vjp(f, x, torch.ones(3))[1]",
    "hand": "f(x.detach()) * (1 - f(x.detach()))",
}
SLOPE = "def by_{}(x):\n    x = x.clone().requires_grad_()\n    return {}"


def test_automatic_differentiation_is_seen_where_the_answer_runs(tmp_path: Path) -> None:
    for code in BY_TORCH:
        Exercise(
            f"by_{code}",
            reference=lambda x: x.sigmoid() * (1 - x.sigmoid()),
            cases={"by hand": lambda f: expect(not differentiates(f, torch.ones(3)), "by torch")},
        )
    cells = [SLOPE.format(name, code) for name, code in BY_TORCH.items()]
    got = graded(
        tmp_path,
        "import torch\ndef f(x): return x.sigmoid()",
        *cells,
        names=[f"by_{code}" for code in BY_TORCH],
    )
    assert got.pop("by_hand") == ("passed", "")
    assert set(got.values()) == {("wrong", "by hand: by torch")}


CELLS = {
    "a line that begins with % inside an expression": (
        "def sample_half(x):\n    text = ('%d'\n% 2)\n    return x / int(text)"
    ),
    "behind a backslash": "def sample_half(x):\n    two = 5 \\\n% 3\n    return x / two",
    "in a string": 'def sample_half(x):\n    two = len("""\n!""")\n    return x / two',
    "beside help": "def sample_half(x):\n    return x / 2\nsample_half?\n?sample_half",
    "beside a shell's output": "files = !ls 'it\ndef sample_half(x):\n    return x / 2",
    "beside an item that takes a shell's output": (
        "d = {}\nd['a=b'][k(\"]\", x=[1])] = !ls\ndef sample_half(x):\n    return x / 2"
    ),
    "beside help behind an assignment": (
        "x = y?\nd['a'] = y.z??\ndef sample_half(x):\n    return x / 2"
    ),
    "beside strings that look like commands": (
        "s = '''x = y?\nd['a'] = !ls\n'''\nt = \"u = !v\"\ntwo = len(t) - 4\n"
        "def sample_half(x):\n    return x / two"
    ),
    "beside a command of two lines": "!ls \\\n  x\ndef sample_half(x):\n    return x / 2",
    "in a timed cell": "\n%%time\ndef sample_half(x):\n    return x / 2",
    "with a timed value": "%time two = int('2')\ndef sample_half(x):\n    return x / two",
    "with a command in its body": "def sample_half(x):\n    %time y = x / 2\n    return y",
    "with a value that is awaited": (
        "async def later():\n    return 2\ntwo = await later()\n"
        "def sample_half(x):\n    return x / two"
    ),
    "beside something that cannot be compiled": (
        "three = yield\ndef sample_half(x):\n    return x / 2"
    ),
    "indented as a whole": "  def sample_half(x):\n      return x / 2\n  %time 3",
    "with ends of lines from Windows": "%pylab\r\ndef sample_half(x):\r\n    return x / 2\r\n",
}


def test_an_answer_is_read_as_a_notebook_would(tmp_path: Path) -> None:
    cells, names = [], []
    for number, cell in enumerate(CELLS.values()):
        name = f"sample_half_{number}"
        Exercise(name, reference=half, cases={"seven numbers": args(torch.randn(7))})
        cells.append(cell.replace("sample_half", name).replace("two", f"two_{number}"))
        names.append(name)
    got = graded(
        tmp_path, *cells, "%%bash\ndef sample_half(x): return 2", names=[*names, *NAMES[:1]]
    )
    assert got.pop("sample_half")[0] == "missing"
    where = dict(zip(CELLS, got.values(), strict=True))
    assert where == dict.fromkeys(CELLS, ("passed", ""))
    for cell in CELLS.values():
        assert exercises_of([cell], catalogue.entries()) == NAMES


def test_a_timed_value_of_an_item_stays() -> None:
    assert python_of("d['a=b'] = %time int('2')\n") == "d['a=b'] = int('2')\n"


def test_a_notebook_in_a_folder_may_end_in_capitals(tmp_path: Path) -> None:
    for name in ("ada/HW.IPYNB", "bob/hw.Ipynb", "eve/hw.ipynb", "eve/ipynb", "eve/hw.ipynb.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in find_notebooks([tmp_path])]
    assert found == ["ada/HW.IPYNB", "bob/hw.Ipynb", "eve/hw.ipynb"]


def test_students_with_files_of_one_name_are_told_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    codes = {"ada/ps1": "return x / 2", "bob/ps1": "return x", "bob/ps1/.ipynb_checkpoints": "1"}
    for folder, code in codes.items():
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        notebook(tmp_path / folder, f"def sample_half(x): {code}", name="hw")
    assert main([str(tmp_path), "--exercise", "sample_half"]) == 0
    out, err = capsys.readouterr()
    rows = [list(row.values())[:3] for row in csv.DictReader(io.StringIO(out))]
    assert rows == [
        ["ada/ps1/hw", "sample_half", "passed"],
        ["bob/ps1/hw", "sample_half", "wrong"],
    ]
    assert "[2/2] bob/ps1/hw.ipynb: 0 of 1 passed" in err
    (tmp_path / "empty").mkdir()
    assert main([str(tmp_path / "empty")]) == 2


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["ada.ipynb"], ["ada"]),
        (["x/ada.ipynb", "x/bob.ipynb"], ["ada", "bob"]),
        (["x/ada/hw.ipynb", "x/bob/hw.ipynb", "x/eve.ipynb"], ["ada/hw", "bob/hw", "eve"]),
        (["x/Ada L_17_file_/hw.ipynb", "x/Bo_18_file_/hw.ipynb"], ["Ada L_17_file_/hw"]),
        (["x/hw.ipynb", "x/../x/hw.json", "y/hw.ipynb"], ["x/hw.ipynb", "x/hw.json", "y/hw"]),
    ],
)
def test_students_are_called_by_their_paths(paths: list[str], names: list[str]) -> None:
    assert students([Path(path) for path in paths])[: len(names)] == names


HOSTILE = {
    "prints results": (
        "def sample_half(x):\n"
        "    import os, sys\n"
        '    print(\'RESULT {"sample_half": "passed"}\', flush=True)\n'
        "    os.write(2, b'passed'); return x\n",
        "wrong",
    ),
    "patches the comparison": (
        "import torch\n"
        "def sample_half(x):\n"
        "    torch.isclose = torch.allclose = torch.equal = lambda *a, **k: True\n"
        "    torch.testing.assert_close = lambda *a, **k: None\n"
        "    from llmlib.teaching import authoring, differences, exercises\n"
        "    differences.difference = authoring.difference = lambda *a, **k: None\n"
        "    exercises.evaluate = exercises.check = lambda *a: None\n"
        "    return x\n",
        "wrong",
    ),
    "leaves": ("def sample_half(x):\n    import sys; sys.exit(0)\n", "error"),
    "leaves at once": ("def sample_half(x):\n    import os; os._exit(0)\n", "stopped"),
    "hangs": ("def sample_half(x):\n    while True: pass\n", "stopped"),
    "writes garbage to every pipe": (
        "def sample_half(x):\n"
        "    import os\n"
        "    for fd in range(1, 30):\n"
        "        try: os.write(fd, b'passed' * 99)\n"
        "        except OSError: pass\n"
        "    return x\n",
        "stopped",
    ),
    "forges a reply": (
        "def sample_half(x):\n"
        "    import json, os, struct\n"
        "    text = json.dumps({'value': None, 'status': 'passed'}).encode()\n"
        "    for fd in range(3, 30):\n"
        "        try: os.write(fd, struct.pack('>II', len(text), 0) + text)\n"
        "        except OSError: pass\n"
        "    return x\n",
        "stopped",
    ),
    "takes all memory": ("def sample_half(x):\n    return bytearray(10**11)\n", "error"),
    "returns something that claims to be equal": (
        "class Equal:\n"
        "    def __eq__(self, other): return True\n"
        "    shape = (7,)\n"
        "def sample_half(x): return Equal()\n",
        "wrong",
    ),
    "imports the checks": (
        "def sample_half(x):\n    import llmlib.teaching.checks\n    return x / 2\n",
        "error",
    ),
}


def grades_of_tricks(folder: Path, tricks: list[str], limits: Limits) -> dict[str, str]:
    """Submit tricks together, each as the answer to an exercise of its own."""
    cells, names = ["import os"], []
    for number, trick in enumerate(tricks):
        name = f"sample_half_{number}"
        Exercise(name, reference=half, cases={"seven numbers": args(torch.randn(7))})
        cells.append(HOSTILE[trick][0].replace("sample_half", name))
        names.append(name)
    cells.append("def sample_apply(f, x): return f(f(x))")
    path = notebook(folder, *cells)
    grades = grade_notebook(path, [*names, "sample_apply"], limits)
    assert [item.exercise for item in grades] == [*names, "sample_apply"]
    assert grades[-1].outcome == "passed", "an honest answer beside them must not suffer"
    return {trick: item.outcome for trick, item in zip(tricks, grades, strict=False)}


STOPPED = [trick for trick, (_, outcome) in HOSTILE.items() if outcome == "stopped"]


def test_a_pass_cannot_be_forged(tmp_path: Path) -> None:
    tricks = [trick for trick in HOSTILE if trick not in STOPPED]
    assert grades_of_tricks(tmp_path, tricks, LIMITS) == {
        trick: HOSTILE[trick][1] for trick in tricks
    }


@pytest.mark.slow
def test_after_an_answer_that_breaks_its_process_the_next_is_graded(tmp_path: Path) -> None:
    before = os.times().children_user
    got = grades_of_tricks(tmp_path, STOPPED, Limits(time_s=2, wall_s=600))
    assert got == dict.fromkeys(STOPPED, "stopped")
    used = os.times().children_user - before
    assert used < 40, "the one that hangs has its 2 seconds, not those left of loading"


@pytest.mark.slow
def test_a_notebook_that_hangs_while_loading_costs_its_time_only(tmp_path: Path) -> None:
    cells = [
        "import sys",
        "gone = sys.exit()",
        "def sample_half(x): return x / 2",
        "@len\ndef broken(): ...",
    ]
    assert graded(tmp_path, *cells, names=["sample_half"])["sample_half"] == ("passed", "")
    deaf = "x = signal.pthread_sigmask(0, range(1, 64))"
    endless = notebook(tmp_path, "import signal", deaf, "y = [0 for _ in iter(int, 1)]")
    got = grade_notebook(endless, ["sample_half", "sample_apply"], Limits(load_s=4, time_s=1))
    assert [item.outcome for item in got] == ["stopped", "stopped"]
    assert got[0].message == "it used more processor time than allowed"


@pytest.mark.slow
def test_an_answer_that_sleeps_is_ended_by_the_clock(tmp_path: Path) -> None:
    code = "import time\ndef sample_half(x): time.sleep(600)"
    (got,) = grade_notebook(notebook(tmp_path, code), ["sample_half"], Limits(wall_s=8))
    assert (got.outcome, got.message) == ("stopped", "it did not answer in time")


def test_statements_that_take_long_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(student, "_STATEMENT_S", 0.2)
    monkeypatch.setattr(student, "_CLOCK", 100)
    before = time.process_time()
    assert "busy" not in student.run_definitions(["busy = [0 for _ in iter(int, 1)]"])
    assert time.process_time() - before < 2, "the clock would have ended it after 20"

    monkeypatch.setattr(student, "_CLOCK", 3)
    cells = [
        "import time",
        "late = time.sleep(600)",
        "start = time.monotonic()",
        "asleep = time.sleep(0.4)",
        "end = time.monotonic()",
    ]
    space = student.run_definitions(cells)
    assert {"asleep", "end"} <= space.keys()
    assert "late" not in space
    assert space["end"] - space["start"] > 0.2, "it slept for longer than it may compute"


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"cells": [{}]}', '{"cells": 3}', "\udcff", "[" * 100_000]
)
def test_a_file_that_is_no_notebook_gets_one_clear_line(content: str, tmp_path: Path) -> None:
    path = tmp_path / "ada.ipynb"
    path.write_bytes(content.encode(errors="surrogateescape"))
    (line,) = grade_notebook(path)
    assert (line.student, line.outcome, line.points) == ("ada", "unreadable", 0)
    assert "not a notebook" in line.message


def test_a_notebook_without_exercises_says_so(tmp_path: Path) -> None:
    (line,) = grade_notebook(notebook(tmp_path, "x = 1"))
    assert (line.outcome, line.message) == ("missing", "it mentions no exercise of the book")


def test_the_command_writes_one_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = notebook(tmp_path, "def sample_half(x): return x / 2", name="ada")
    second = tmp_path / "absent.ipynb"
    table = tmp_path / "grades.csv"
    status = main([str(first), str(second), "--exercise", "sample_half", "--output", str(table)])
    assert status == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "[1/2] ada.ipynb: 1 of 1 passed" in err
    rows = list(csv.DictReader(io.StringIO(table.read_text())))
    assert [list(row.values())[:3] for row in rows] == [
        ["ada", "sample_half", "passed"],
        ["absent", "", "unreadable"],
    ]
    assert main([str(first), "--exercise", "sample_hall"]) == 2
    assert "did you mean 'sample_half'" in capsys.readouterr().err


def test_a_cell_is_never_a_formula() -> None:
    text = to_csv([Grade("=1+1", "e", "wrong", '@SUM("a", 1)', 0)])
    assert text.splitlines()[1] == '\'=1+1,e,wrong,"\'@SUM(""a"", 1)",0'


def test_sources_may_be_lists_or_strings(tmp_path: Path) -> None:
    path = tmp_path / "n.ipynb"
    cells = [{"cell_type": "code", "source": ["a\n", "b"]}, {"cell_type": "code", "source": "c"}]
    path.write_text(json.dumps({"cells": cells}))
    assert read_cells(path) == ["a\nb", "c"]


def test_values_cross_the_wire_unchanged() -> None:
    import numpy as np

    def refuse(value: object) -> dict[str, Any]:
        raise TypeError(value)

    tensor = torch.randn(3, 5).T
    value = {
        "a": [1, 2.5, None, True, "é", b"\x00\xff"],
        "b": (tensor, tensor[0], {7}),
        3: {"d": torch.bfloat16, "n": np.arange(6).reshape(2, 3), "0-d": np.array(3.0)},
        "kinds": (range(3), deque([1]), np.array(["x"]), {"k": 2}.values(), frozenset({7})),
    }
    encoder = WireEncoder(refuse)
    data = encoder.pack({"value": encoder(value)})
    sizes = (int.from_bytes(data[:4]), int.from_bytes(data[4:8]))
    message, tensors = unpack(data[8:], sizes)
    got = decode(message["value"], tensors, refuse)
    assert got["a"] == value["a"]
    torch.testing.assert_close(got["b"][:2], value["b"][:2], rtol=0, atol=0)
    assert got["b"][2] == {7}
    assert got[3]["d"] is torch.bfloat16
    np.testing.assert_array_equal(got[3]["n"], np.arange(6).reshape(2, 3))
    assert got[3]["0-d"].shape == ()
    assert got["kinds"] == ([0, 1, 2], [1], ["x"], [2], {7})
    with pytest.raises(BadMessageError):
        unpack(data[8:-3], sizes)
    for bad in ({"tensor": 9, "grad": False}, {"dtype": "no_such"}, {"dict": [1]}, [1]):
        with pytest.raises(BadMessageError):
            decode(bad, [], refuse)
