"""Programs in place of prose: how it is measured."""

import random

import pytest
import torch

from llmlib.architecture import ModelConfig, Transformer
from llmlib.experiments.data.code_share import (
    CHANCE,
    MIXES,
    PROBLEMS_SHARE,
    TEXTS,
    answered,
    held_out_loss,
    measure,
    problems,
    shares_of,
    train,
)
from llmlib.experiments.short_training import small_decoder
from llmlib.experiments.worlds.instruction_world import LINE, START, as_document, encode, words
from llmlib.experiments.worlds.word_problems import LARGEST


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
    run = measure({"mix": "50% without comments", "seed": 0}, steps=2, n=3)
    assert run["shares"] == {"problems": 0.2, "stories": 0.3, "bare programs": 0.5}
    assert 0 <= run["changes"] <= 1
    assert run["stories_loss"] > 3


def test_seeds_decide_everything():
    one, same, other = (train("25% programs", seed, steps=2, batch=2) for seed in (3, 3, 4))
    assert torch.equal(one.embedding.weight, same.embedding.weight)
    assert not torch.equal(one.embedding.weight, other.embedding.weight)
