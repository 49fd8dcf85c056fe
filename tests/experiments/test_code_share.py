"""Programs in place of prose: how it is measured, and what the committed runs say."""

import random

import pytest
import torch

from llmlib.architecture import ModelConfig, Transformer
from llmlib.experiments.code_share import (
    CHANCE,
    MIXES,
    PROBLEMS_SHARE,
    SEEDS,
    TEXTS,
    answered,
    difference,
    held_out_loss,
    perform,
    plan,
    problems,
    shares_of,
    train,
)
from llmlib.experiments.instruction_world import LINE, START, as_document, encode, words
from llmlib.experiments.short_runs import read_runs, small_decoder
from llmlib.experiments.word_problems import LARGEST


@pytest.mark.parametrize("mix", MIXES)
def test_problems_have_the_same_share_in_every_mixture(mix):
    shares = shares_of(mix)
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["problems"] == PROBLEMS_SHARE
    assert shares["stories"] >= 0.3


def test_every_text_is_made_of_known_words():
    rng = random.Random(0)
    for text in TEXTS.values():
        for _ in range(300):
            assert as_document(text(rng))[-1] == words()[LINE]


def test_only_one_kind_of_program_says_what_comes_out():
    rng = random.Random(1)
    assert any("#" in line for line in TEXTS["programs"](rng))
    assert not any("#" in line for _ in range(50) for line in TEXTS["bare programs"](rng))


class Knows(Transformer):
    """Gives what stands in a text the highest logits, wherever the text is read."""

    def __init__(self, tokens: list[int]) -> None:
        size = len(words())
        super().__init__(
            ModelConfig(vocab_size=size, d_model=32, n_layers=1, n_heads=1, max_seq_len=256)
        )
        self.tokens = tokens

    def forward(self, ids: torch.Tensor) -> torch.Tensor:  # pyright: ignore
        logits = torch.zeros(*ids.shape, len(words()))
        for place in range(ids.shape[1]):
            logits[:, place, self.tokens[place + 1]] = 1
        return logits


def test_each_result_is_asked_for_after_the_right_ones_before_it():
    for one in problems("changes", 5):
        tokens = encode(f"{START} {one.text}") + [0] * 9
        assert answered(Knows(tokens), [one]) == [[True] * len(one.results)]
        tokens[len(encode(f"{START} {one.parts[0]}"))] += 1  # the first result
        assert answered(Knows(tokens), [one]) == [[False] + [True] * (len(one.results) - 1)]
    (one,) = problems("larger", 1)
    knows = Knows(encode(f"{START} {one.text}") + [0] * 9)
    assert answered(knows, [one, one]) == [[True], [True]]


def test_a_guess_is_right_as_often_as_stated():
    rng = random.Random(2)
    asked = problems("larger", 3000)
    numbers = [[word for word in one.parts[0].split() if word.isdigit()] for one in asked]
    right = sum(rng.choice(n) == one.results[0] for n, one in zip(numbers, asked, strict=True))
    assert right / 3000 == pytest.approx(CHANCE["larger"], abs=0.03)
    results = [result for one in problems("changes", 2000) for result in one.results]
    assert set(results) == {str(n) for n in range(LARGEST + 1)}
    assert max(map(results.count, set(results))) / len(results) < 2 * CHANCE["changes"]


def test_held_out_loss_is_that_of_a_guess_before_training():
    model = small_decoder(len(words()), 0, length=128, d_model=32, n_layers=1)
    with torch.no_grad():
        model.embedding.weight.zero_()  # tied: all logits are equal
    expected = torch.tensor(float(len(words()))).log().item()
    assert held_out_loss(model, "programs") == pytest.approx(expected, abs=1e-4)


def test_a_run_records_what_it_needs():
    run = perform({"mix": "50% without comments", "seed": 0}, steps=2, n=3)
    assert run["shares"] == {"problems": 0.2, "stories": 0.3, "bare programs": 0.5}
    assert 0 <= run["changes"] <= 1
    assert run["stories_loss"] > 3


def test_seeds_decide_everything():
    one, same, other = (train("25% programs", seed, steps=2, batch=2) for seed in (3, 3, 4))
    assert torch.equal(one.embedding.weight, same.embedding.weight)
    assert not torch.equal(one.embedding.weight, other.embedding.weight)


def test_differences_are_paired_by_seed():
    runs = [
        {"mix": mix, "seed": seed, "changes": seed + shift}
        for seed in (2, 0, 1)
        for mix, shift in (("no code", 0.0), ("50% programs", 0.25))
    ]
    assert difference(runs, "50% programs", "changes") == pytest.approx((0.25, 0.25, 0.25))


def test_the_plan_has_every_mixture_with_every_seed():
    runs = list(plan())
    assert len(runs) == len(MIXES) * len(SEEDS) == len({str(run) for run in runs})


NAME = "code_share"


def test_the_record_holds_every_run_once_with_the_same_settings():
    runs = read_runs(NAME)
    found = [{"mix": run["mix"], "seed": run["seed"]} for run in runs]
    assert sorted(found, key=str) == sorted(plan(), key=str)
    assert len({(run["steps"], run["tokens"], run["questions"]) for run in runs}) == 1
    assert all(run["chance"] == CHANCE for run in runs)


@pytest.mark.covers("data.code-effect")
@pytest.mark.parametrize("kind", ["changes", "larger"])
@pytest.mark.parametrize("mix", ["25% programs", "50% programs"])
def test_no_effect_of_programs_on_problems_in_words_is_shown(kind, mix):
    _, low, high = difference(read_runs(NAME), mix, kind)
    assert low < 0 < high
    assert high - low > 0.3  # so a large effect could hide here


@pytest.mark.covers("data.code-effect")
def test_programs_that_never_say_a_result_do_harm():
    runs, bare = read_runs(NAME), "50% without comments"
    for kind in ("changes", "larger"):
        assert difference(runs, bare, kind)[2] < 0
    assert difference(runs, "50% programs", "changes", other=bare)[1] > 0
    later = [run for run in runs if run["seed"] > 2]  # added after a look at the others
    mean, low, high = difference(later, bare, "changes")
    assert high < 0
    assert [round(value, 2) for value in (mean, low, high)] == [-0.16, -0.31, -0.01]


@pytest.mark.covers("data.code-effect")
def test_seeds_differ_more_than_mixtures():
    changes = {(run["mix"], run["seed"]): run["changes"] for run in read_runs(NAME)}
    means = [sum(changes[mix, seed] for seed in SEEDS) / len(SEEDS) for mix in MIXES]
    spreads = [
        max(changes[mix, seed] for seed in SEEDS) - min(changes[mix, seed] for seed in SEEDS)
        for mix in MIXES
    ]
    assert max(spreads) > max(means) - min(means)
    assert changes["25% programs", 1] > changes["no code", 1] + 0.5
    assert changes["25% programs", 2] < changes["no code", 2] - 0.5


@pytest.mark.covers("data.code-effect")
@pytest.mark.parametrize("mix", ["25% programs", "50% programs", "50% without comments"])
def test_stories_lose_nothing_that_shows(mix):
    _, low, high = difference(read_runs(NAME), mix, "stories_loss")
    assert -0.06 < low < 0 < high < 0.06


def test_programs_are_learnt_where_they_are_read():
    runs = read_runs(NAME)
    assert difference(runs, "25% programs", "programs_loss")[2] < -8
