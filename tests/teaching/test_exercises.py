import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from llmlib.teaching import Exercise, args, authoring, catalogue, exercises, expect, progress
from llmlib.teaching.authoring import normal, uniform
from llmlib.teaching.catalogue import Entry, find_exercise


def scaled_scores(q: Tensor, k: Tensor) -> Tensor:
    return q @ k.T / q.shape[-1] ** 0.5


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLMLIB_CACHE", str(tmp_path))
    monkeypatch.setattr(exercises, "_shown", {})
    return tmp_path


@pytest.fixture(autouse=True)
def sample(monkeypatch: pytest.MonkeyPatch) -> Iterator[Exercise]:
    monkeypatch.setattr(authoring, "REGISTRY", dict(authoring.REGISTRY))

    def has_one_score_a_pair(answer: Callable[..., Any]) -> None:
        got = answer(normal(2, 4), normal(3, 4))
        expect(got.shape == (2, 3), f"one score a pair: (2, 3), not {tuple(got.shape)}")

    exercise = Exercise(
        "sample_scores",
        reference=scaled_scores,
        hints=("What is the variance of q·k?", "Divide by the root of the head size."),
        cases={
            "the shape": has_one_score_a_pair,
            "heads of 4 numbers": args(normal(3, 4), normal(5, 4)),
            "heads of 67 numbers": args(normal(3, 67), k=normal(5, 67)),
        },
        mistakes={
            "you left the scores unscaled: divide by the root of the head size": (
                lambda q, k: q @ k.T
            ),
            "you divided by 2, the root for head size 4 only": lambda q, k: q @ k.T / 2,
        },
    )
    entry = Entry("sample_scores", "04_architecture", "01_attention", "", "m")
    monkeypatch.setattr(catalogue, "entries", lambda: (entry,))
    yield exercise


def said(name: str, answer: Any, capsys: pytest.CaptureFixture[str]) -> str:
    exercises.check(name, answer)
    return capsys.readouterr().out


def test_the_reference_passes_and_is_noted(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said("sample_scores", scaled_scores, capsys) == "✓ sample_scores: all 3 checks passed\n"
    assert list(json.loads((home / "progress.json").read_text())) == ["sample_scores"]


def test_each_declared_mistake_is_recognised(sample: Exercise) -> None:
    for message, implementation in sample.mistakes.items():
        outcome = sample.evaluate(implementation)
        assert outcome.status == "wrong"
        assert message in outcome.message


def stub(q: Tensor, k: Tensor) -> Tensor:
    raise NotImplementedError


def stub_with_words(q: Tensor, k: Tensor) -> Tensor:
    raise NotImplementedError("your code here")


@pytest.mark.parametrize("answer", [stub, stub_with_words, None, ...])
def test_a_stub_is_not_attempted(answer: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert said("sample_scores", answer, capsys) == "… sample_scores: not attempted yet\n"


def wants_half_conv(q: Tensor, k: Tensor) -> Tensor:
    raise NotImplementedError("\"addmm_impl_cpu_\" not implemented for 'Bool'")


def in_place(q: Tensor, k: Tensor) -> Tensor:
    q /= q.shape[-1] ** 0.5
    return q @ k.T


def mistyped(q: Tensor, k: Tensor) -> Tensor:
    return q @ k


def leaves(q: Tensor, k: Tensor) -> Tensor:
    sys.exit(0)


def forgets_to_return(q: Tensor, k: Tensor) -> None:
    scaled_scores(q, k)


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError


def raises_unprintable(q: Tensor, k: Tensor) -> Tensor:
    raise UnprintableError


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (wants_half_conv, 'your code raised NotImplementedError: "addmm_impl_cpu_" not impl'),
        (in_place, "heads of 4 numbers: your function changes its argument 1 in place"),
        (mistyped, "raised RuntimeError: mat1 and mat2 shapes cannot be multiplied"),
        (mistyped, "(at `return q @ k`)"),
        (leaves, "your code raised SystemExit: 0"),
        (forgets_to_return, "your code raised AttributeError: 'NoneType' object"),
        (lambda q, k: scaled_scores(q, k).T, "the shape: one score a pair: (2, 3), not (3, 2)"),
        (lambda q, k: scaled_scores(q, k) / 2, "every value is 0.5 times what it should be"),
        (raises_unprintable, "your code raised UnprintableError"),
        (7, "your code raised TypeError: 'int' object is not callable"),
        (lambda: None, "your code raised TypeError"),
    ],
)
def test_a_wrong_answer_gets_its_diagnosis(
    answer: Any, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = said("sample_scores", answer, capsys)
    assert text.startswith("✗ sample_scores: ")
    assert message in text
    assert text.endswith('exercises.hint("sample_scores") gives a hint\n')


def test_how_far_an_answer_got_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    text = said("sample_scores", lambda q, k: q @ k.T / 2, capsys)
    assert "heads of 67 numbers: you divided by 2" in text
    assert "2 of 3 checks passed before that" in text


def test_checks_do_not_disturb_the_random_state(sample: Exercise) -> None:
    torch.manual_seed(11)
    want = torch.rand(3)
    torch.manual_seed(11)
    sample.evaluate(scaled_scores)
    assert torch.equal(torch.rand(3), want)


def test_a_class_is_compared_through_a_probe() -> None:
    class Doubler(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * x

    class Tripler(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 3 * x

    exercise = Exercise(
        "sample_class",
        reference=Doubler,
        cases={"a random input": lambda kind: kind()(torch.randn(5))},
        mistakes={"three times, not twice": Tripler},
    )

    assert exercise.evaluate(Doubler).status == "passed"
    assert exercise.evaluate(Tripler).message == "a random input: three times, not twice"


def halves(x: Tensor) -> tuple[Tensor, float]:
    return x / 2, 0.5


def thirds(x: Tensor) -> tuple[Tensor, float]:
    return x / 3, 0.5


@pytest.fixture
def halving() -> Exercise:
    return Exercise(
        "sample_halves",
        reference=halves,
        cases={"five numbers": args(normal(5))},
        mistakes={
            "you divided by 3": thirds,
            "return a pair, not a list": lambda x: list(halves(x)),
        },
        kind=True,
    )


@pytest.mark.parametrize(
    "answer",
    [
        thirds,
        lambda x: list(thirds(x)),
        lambda x: thirds(x.double()),
        lambda x: thirds(x.numpy()),
        lambda x: (thirds(x)[0].tolist(), torch.tensor(0.5)),
    ],
)
def test_a_mistake_is_recognised_by_its_values(halving: Exercise, answer: Any) -> None:
    assert halving.evaluate(answer).message == "five numbers: you divided by 3"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda x: list(halves(x)), "return a pair, not a list"),
        (lambda x: halves(x.double()), "at index 0, the dtype should be torch.float32, yours is"),
        (lambda x: (x / 4, 0.5), "at index 0, every value is 0.5 times what it should be"),
    ],
)
def test_a_mistake_in_kind_alone_is_recognised_by_its_kind(
    halving: Exercise, answer: Any, message: str
) -> None:
    assert halving.evaluate(answer).message.startswith(f"five numbers: {message}")


@pytest.mark.parametrize(
    "answer",
    [
        lambda x: list(halves(x)),
        lambda x: halves(x.double()),
        lambda x: (value for value in halves(x)),
        lambda x: (halves(x)[0].numpy(), torch.tensor(0.5)),
    ],
)
def test_a_right_answer_of_another_kind_passes_unless_the_kind_is_taught(
    halving: Exercise, answer: Any
) -> None:
    assert halving.evaluate(answer).status == "wrong"
    halving.kind = False
    assert halving.evaluate(answer).status == "passed"


def test_a_mistake_that_fails_where_the_answer_was_right_is_not_blamed() -> None:
    exercise = Exercise(
        "sample_double",
        reference=lambda x: 2 * x,
        cases={"three": args(3), "two": args(2), "five": args(5)},
        mistakes={"you squared it": lambda x: x * x, "you added ten": lambda x: x + 10},
    )
    assert exercise.evaluate(lambda x: x * x).message == "three: you squared it"
    assert exercise.evaluate(lambda x: 2 * x if x < 5 else 25).message.startswith("five: 10 is ri")
    exercise.mistakes["you doubled small numbers only"] = lambda x: 2 * x if x < 5 else 25
    assert exercise.evaluate(lambda x: min(2 * x, 6) if x < 5 else 25).message == (
        "five: you doubled small numbers only"
    )


def test_a_mistake_that_a_case_does_not_tell_from_the_reference_is_not_blamed() -> None:
    exercise = Exercise(
        "sample_one",
        reference=lambda: 1.0,
        cases={"a call": args()},
        mistakes={"you rounded": lambda: 1.08},
        rtol=0,
        atol=0.1,
    )
    assert exercise.evaluate(lambda: 1.15).message == "a call: 1 is right, yours is 1.15"


def test_a_mistake_that_fails_where_the_answer_does_not_is_another_one(halving: Exercise) -> None:
    def wants_two_axes(x: Tensor) -> Tensor:
        return x @ torch.ones(7)

    def has_expectations(answer: Any) -> Any:
        value = answer(normal(5))
        expect(isinstance(value, tuple), "return a pair")
        return value

    halving.mistakes = {"you multiplied by ones": wants_two_axes, **halving.mistakes}
    halving.cases["a pair"] = halving.cases.pop("five numbers")
    assert halving.evaluate(thirds).message == "a pair: you divided by 3"
    halving.cases["a pair"] = has_expectations
    halving.mistakes = {"you returned a number": lambda x: 2.0, "you divided by 3": thirds}
    assert halving.evaluate(thirds).message == "a pair: you divided by 3"
    assert halving.evaluate(lambda x: 2.0).message == "a pair: return a pair"


@pytest.mark.parametrize(
    ("given", "change"),
    [
        ([3, 1], lambda x: x.sort()),
        ([3, 1], lambda x: x.append(2)),
        (([3], [1]), lambda x: x[1].append(2)),
        ({"a": 1}, lambda x: x.update(a=2)),
        ({"a": 1}, lambda x: x.pop("a")),
        ({"a": [normal(3)]}, lambda x: x["a"][0].zero_()),
        ({1, 2}, lambda x: x.add(3)),
        (np.ones(3), lambda x: x.fill(2)),
        (normal(3), lambda x: x.zero_()),
    ],
)
@pytest.mark.parametrize("by_name", [False, True])
def test_an_argument_changed_in_place_is_reported(given: Any, change: Any, by_name: bool) -> None:
    case = args(x=given) if by_name else args(given)
    exercise = Exercise("sample_none", reference=lambda x: None, cases={"a call": case})
    place = "argument `x`" if by_name else "argument 1"
    message = f"a call: your function changes its {place} in place: copy first"

    def changes(x: Any) -> None:
        change(x)

    assert exercise.evaluate(lambda x: None).status == "passed"
    assert exercise.evaluate(changes).message == message
    assert exercise.evaluate(lambda x: None).status == "passed"  # the case kept its own copy


def pops_last(x: list[int]) -> int:
    return x.pop()


def last_or_stub(x: list[int]) -> int:
    if len(x) < 3:
        raise NotImplementedError
    return x[-1]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda x: x[0], "two lists, call 2 of 2: 7 is right, yours is 3"),
        (lambda x: x[-1] if len(x) < 3 else x[3], "two lists, call 2 of 2: your code raised Index"),
        (lambda x: 5 if len(x) < 3 else 9, "two lists, call 1 of 2: 3 is right, yours is 5"),
        (lambda x: None, "two lists, call 1 of 2: an int is expected, you returned None: does it"),
        (pops_last, "two lists, call 1 of 2: your function changes its argument 1 in place"),
        (lambda x: sum(x), "two lists, call 2 of 2: you added them up"),
    ],
)
def test_of_several_calls_the_first_that_fails_is_told(answer: Any, message: str) -> None:
    given = [3]
    exercise = Exercise(
        "sample_last",
        reference=lambda x: x[-1],
        cases={"two lists": [args(given), args([3, 1, 7])]},
        mistakes={"you added them up": sum},
    )
    assert exercise.evaluate(answer).message.startswith(message)
    assert given == [3]  # the answer got a copy
    assert exercise.evaluate(lambda x: x[-1]).status == "passed"
    assert exercise.evaluate(last_or_stub).status == "not attempted"


def test_arguments_without_an_equality_of_their_own_are_no_trouble() -> None:
    cases = {"an object and not a number": args(object(), [float("nan")], torch.tensor(0.0), len)}
    exercise = Exercise("sample_none", reference=lambda *x: None, cases=cases)
    assert exercise.evaluate(lambda *x: None).status == "passed"


def test_drawn_inputs_are_the_same_each_time() -> None:
    generator = torch.Generator().manual_seed(7)
    assert torch.equal(normal(2, 3, seed=7), torch.randn(2, 3, generator=generator))
    assert torch.equal(normal(2, 3), normal(2, 3, seed=0))
    drawn = torch.rand(5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    assert torch.equal(uniform(5, seed=2, dtype=torch.float64), drawn)


def test_an_unknown_name_gets_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    text = said("sample_score", scaled_scores, capsys)
    assert text == "✗ no exercise is called 'sample_score'; did you mean 'sample_scores'?\n"
    exercises.hint("sample_score")
    assert "did you mean" in capsys.readouterr().out
    with pytest.raises(KeyError, match="did you mean"):
        exercises.solution("sample_score")


def test_hints_come_one_by_one(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(3):
        exercises.hint("sample_scores")
    lines = capsys.readouterr().out.splitlines()
    assert [line[:11] for line in lines] == ["Hint 1 of 2", "Hint 2 of 2", "Hint 2 of 2"]


def test_a_solution_is_looked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fake(name: str) -> Path:
        assert name == "solutions/04_architecture/sample_scores.py"
        (tmp_path / "s.py").write_text("def sample_scores(): ...\n")
        return tmp_path / "s.py"

    monkeypatch.setattr(exercises, "resource", fake)
    assert exercises.solution("sample_scores") == "def sample_scores(): ...\n"


@pytest.mark.parametrize("content", ["{", "[]", '{"a": 1}', "\udcff"])
def test_a_broken_progress_file_never_spoils_a_pass(
    content: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "progress.json").write_bytes(content.encode(errors="surrogateescape"))
    first, second = said("sample_scores", scaled_scores, capsys).splitlines()
    assert first == "✓ sample_scores: all 3 checks passed"
    assert second.startswith("(not noted as done: ")
    assert second.endswith("delete it to start anew)")


def test_an_unwritable_folder_is_reported_in_one_line(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "file").touch()
    monkeypatch.setenv("LLMLIB_CACHE", str(home / "file" / "below"))
    lines = said("sample_scores", scaled_scores, capsys).splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("(not noted as done: ")


def test_progress_is_shown_by_chapter(monkeypatch: pytest.MonkeyPatch) -> None:
    known = tuple(
        Entry(name, chapter, "01_x", f"about {name}", "m")
        for chapter, name in (("03_data", "a"), ("03_data", "b"), ("04_architecture", "c"))
    )
    monkeypatch.setattr(progress, "entries", lambda: known)
    assert progress.note("b") is None
    day = progress.solved()["b"]
    lines = progress.report().splitlines()
    assert [line.split() for line in lines[:3]] == [
        ["03_data", "1", "of", "2"],
        ["·", "a", "about", "a"],
        ["✓", "b", day, "about", "b"],
    ]
    assert lines[3] == "04_architecture  0 of 1"
    assert lines[-1].startswith("1 of 3 exercises solved")


def test_the_progress_command_runs_without_torch(home: Path) -> None:
    code = (
        "import sys; from llmlib.teaching.progress import main; status = main();"
        "assert 'torch' not in sys.modules; sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "exercises" in done.stdout
    (home / "progress.json").write_text("{")
    again = [sys.executable, "-m", "llmlib.teaching.progress"]
    done = subprocess.run(again, capture_output=True, text=True)
    if done.returncode:  # without exercises in the book there is nothing to read the file for
        assert "delete it to start anew" in done.stdout


def test_names_are_checked(sample: Exercise) -> None:
    with pytest.raises(ValueError, match="identifier"):
        Exercise("two words", reference=scaled_scores)
    assert find_exercise("sample_scores") is sample


CHECK = 'NOTEBOOK = "01_x/02_y"\nx = Exercise("{name}", title="t")\n'


def test_the_catalogue_reads_sources(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(CHECK.format(name="one"))
    module = "llmlib.teaching.checks.a"
    assert catalogue.read_checks(tmp_path) == (Entry("one", "01_x", "02_y", "t", module),)
    (tmp_path / "b.py").write_text(CHECK.format(name="one"))
    with pytest.raises(ValueError, match="rename one"):
        catalogue.read_checks(tmp_path)
    (tmp_path / "b.py").write_text('x = Exercise("two")')
    with pytest.raises(ValueError, match="b: NOTEBOOK must be there"):
        catalogue.read_checks(tmp_path)
    (tmp_path / "b.py").write_text('NOTEBOOK = "c/d"\nx = Exercise(name)')
    with pytest.raises(ValueError, match="line 2: Exercise's name must be there"):
        catalogue.read_checks(tmp_path)
