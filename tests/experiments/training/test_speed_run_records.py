"""The speed run's two experiments: what is planned, what the statistics say, and the log's page."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from llmlib.capstone.presets import LAPTOP
from llmlib.experiments.experiment import Runs
from llmlib.experiments.training.speed_run.__main__ import main
from llmlib.experiments.training.speed_run.recipe import Recipe, recipe_of
from llmlib.experiments.training.speed_run.text import speed_text
from llmlib.experiments.training.speed_run_clock import pace
from llmlib.experiments.training.speed_run_confirmation import (
    BASELINE_STEPS,
    RACERS,
    STACK,
    STACK_STEPS,
    below_target,
    one_sided,
    p_values,
    race_page,
    shares,
    target,
)
from llmlib.experiments.training.speed_run_confirmation import EXPERIMENT as CONFIRMATION
from llmlib.experiments.training.speed_run_screening import (
    BASELINE,
    ENTRIES,
    GIVEN_UP,
    SEEDS,
    changes_of,
    gains,
    log_page,
    verdict,
)
from llmlib.experiments.training.speed_run_screening import EXPERIMENT as SCREENING

PAGE = Path(__file__).parents[3] / "book" / "speed_run.md"


def test_every_entry_changes_one_that_stands_before_it() -> None:
    seen: set[str] = set()
    for entry in ENTRIES:
        assert not entry.onto or entry.onto in seen, entry.name
        assert bool(entry.onto) == bool(entry.changes), entry.name
        seen.add(entry.name)
        assert recipe_of(changes_of(entry.name)) != Recipe() or entry.name == BASELINE
        assert entry.seeds == SEEDS[: len(entry.seeds)]
    assert len(seen) == len(ENTRIES)


def test_the_stack_s_recipe_was_screened() -> None:
    assert RACERS["stack"]["changes"] == changes_of(STACK)
    assert RACERS["defaults"]["changes"] == {}
    assert not set(SEEDS) & {run["seed"] for run in CONFIRMATION.plan()}


@pytest.mark.parametrize(
    ("mark", "written"),
    [("log", lambda: log_page(SCREENING.runs())), ("race", lambda: race_page(CONFIRMATION.runs()))],
)
def test_the_page_shows_the_records(mark: str, written: Callable[[], str]) -> None:
    shown = PAGE.read_text(encoding="utf-8")
    shown = shown.split(f"<!-- {mark} -->\n")[1].split(f"<!-- end of {mark} -->")[0]
    assert shown.strip() == written().strip()


def test_a_pace_is_the_median_of_the_readings() -> None:
    runs = Runs([
        {"entry": "x", "seed": seed, "pace": value} for seed, value in enumerate((1.4, 1.1, 1.2))
    ])  # fmt: skip
    assert pace(runs, "x") == 1.2


def test_gains_are_paired_by_seed() -> None:
    first, second = (
        [{"entry": ENTRIES[i].name, "seed": s, "watched_loss": loss} for s, loss in losses.items()]
        for i, losses in ((0, {100: 5.0, 101: 6.0, 102: 7.0}), (1, {102: 6.5, 100: 4.7, 101: 5.6}))
    )
    runs = Runs([*first, *second])
    assert gains(runs, ENTRIES[1].name) == pytest.approx([0.3, 0.4, 0.5])
    assert verdict(runs, ENTRIES[1]).endswith("helps")
    alone = Runs([first[0], {**second[1], "watched_loss": 5.0 + GIVEN_UP + 0.01}])
    assert verdict(alone, ENTRIES[1]).endswith("one seed: given up")
    mixed = zip(second, (7.1, 5.0, 5.9), strict=True)
    level = Runs([*first, *({**run, "watched_loss": loss} for run, loss in mixed)])
    assert verdict(level, ENTRIES[1]).endswith("no difference shown")


def race(losses: list[float], seconds: list[float]) -> Runs:
    goal = [{"racer": "target", "seed": s, "held_out_loss": x} for s, x in enumerate((5.0, 5.2))]
    defaults = [
        {"racer": "defaults", "seed": seed, "training_cpu_seconds": 200.0 + seed,
         "training_seconds": 400.0}
        for seed in range(len(losses))
    ]  # fmt: skip
    stack = [
        {"racer": "stack", "seed": seed, "held_out_loss": loss, "training_cpu_seconds": time,
         "training_seconds": 2 * time}
        for seed, (loss, time) in enumerate(zip(losses, seconds, strict=True))
    ]  # fmt: skip
    clock = [{"racer": "clock", "seed": seed, "pace": pace} for seed, pace in enumerate((1.0, 1.2))]
    return Runs([*goal, *defaults, *stack, *clock])


def test_the_p_values_are_student_s() -> None:
    runs = race([5.05, 5.0, 5.02], [50.0, 61.0, 40.0])
    assert target(runs) == pytest.approx(5.1)
    assert below_target(runs) == pytest.approx([0.05, 0.1, 0.08])
    by_hand: Any = stats.ttest_1samp([5.05, 5.0, 5.02], 5.1, alternative="less")
    assert p_values(runs)["loss"] == pytest.approx(by_hand.pvalue)
    assert shares(runs)["processor"] == pytest.approx([50 / 200, 61 / 201, 40 / 202])
    assert shares(runs)["wall"] == pytest.approx([0.25, 0.305, 0.2])
    share = STACK_STEPS / BASELINE_STEPS
    assert shares(runs)["steps"] == pytest.approx([share, 1.2 * share])
    logs = np.log([50 / 200, 61 / 201, 40 / 202])
    by_hand = stats.ttest_1samp(logs, math.log(1 / 3), alternative="less")
    assert p_values(runs)["processor"] == pytest.approx(by_hand.pvalue)


def test_a_stack_on_the_wrong_side_has_a_large_p() -> None:
    assert one_sided([-0.1, -0.2, -0.15]) > 0.95
    assert one_sided([0.1, 0.2, 0.15]) < 0.05


def test_an_entry_s_name_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert capsys.readouterr().out.splitlines() == [entry.name for entry in ENTRIES]
    with pytest.raises(SystemExit):
        main(["the batch grow"])
    assert "the batch grows" in capsys.readouterr().err


@pytest.mark.slow
def test_the_text_is_the_capstone_s_and_its_parts_share_nothing() -> None:
    text = speed_text()
    assert text.sha256 == SCREENING.runs()[0]["text_sha256"]
    assert text.part.n_tokens + text.watched.n_tokens == text.whole.n_tokens
    assert 0.03 < text.watched.n_tokens / text.whole.n_tokens < 0.08
    assert LAPTOP.model.vocab_size == 4096
