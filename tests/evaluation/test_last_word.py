"""Last words: whole words count, batches do not matter, bad passages are named."""

from collections.abc import Sequence

import pytest
import torch

from llmlib.architecture import ModelConfig, Transformer
from llmlib.evaluation import last_word_correct, split_last_word
from llmlib.utilization import GREEDY, generate

# Twelve symbols, so that a random model writes spaces and letters.
ALPHABET = " abcdefghij\n"
START = 11


class Letters:
    """Every symbol of the alphabet is a token."""

    def encode(self, text: str) -> list[int]:
        return [ALPHABET.index(letter) for letter in text]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(ALPHABET[token] for token in ids)

    def token_bytes(self, token: int, /) -> bytes:
        return ALPHABET[token].encode()


@pytest.fixture
def model() -> Transformer:
    torch.manual_seed(19)
    return Transformer(
        ModelConfig(vocab_size=12, d_model=16, n_layers=2, n_heads=2, max_seq_len=37, init_std=0.5)
    )


@pytest.mark.covers("eval.lm")
def test_a_word_is_right_when_all_of_it_is_what_the_model_would_write(model: Transformer) -> None:
    tokenizer = Letters()
    passages, expected = [], []
    for seed in range(97):
        letters = torch.randint(1, 11, (7,), generator=torch.Generator().manual_seed(seed))
        context = tokenizer.decode(letters.tolist())
        prompt = [START, *tokenizer.encode(context)]
        greedy = tokenizer.decode(generate(model, [prompt], max_new_tokens=3, sampling=GREEDY)[0])
        if greedy[0] != " " or " " in greedy[1:] or "\n" in greedy:
            continue
        wrong_end = "a" if greedy[2] != "a" else "b"
        passages += [context + greedy, context + greedy[:2], context + greedy[:2] + wrong_end]
        expected += [True, True, False]
    assert len(expected) >= 9
    got = last_word_correct(model, tokenizer, passages, start_token=START, batch_size=5)
    assert got.tolist() == expected


def test_passages_are_cut_before_the_last_word() -> None:
    assert split_last_word("a  b c") == ("a  b", " c")
    for passage in ("word", "ends in space ", ""):
        with pytest.raises(ValueError, match="must end in a space and a word"):
            split_last_word(passage)


def test_bad_batch_size_is_named(model: Transformer) -> None:
    with pytest.raises(ValueError, match="batch_size"):
        last_word_correct(model, Letters(), ["a b"], batch_size=0)
