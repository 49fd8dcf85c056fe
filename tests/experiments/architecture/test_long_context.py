"""Long texts: how loss and needles are measured."""

import pytest
import torch
from torch.nn import functional as F

from llmlib.architecture import Transformer
from llmlib.architecture.caches.rolling_cache import RollingCache
from llmlib.experiments.architecture import long_context
from llmlib.experiments.architecture.long_context import (
    CONTEXT,
    DEPTHS,
    METHODS,
    TRAINED,
    WORDS,
    accuracies,
    base_config,
    change,
    haystack,
    losses_at,
    read_through,
    stretched,
)
from llmlib.experiments.experiment import Runs
from llmlib.experiments.short_text import VOCAB_SIZE


@pytest.fixture
def model(with_large_weights) -> Transformer:
    torch.manual_seed(7)
    return with_large_weights(base_config())


@torch.no_grad()
def test_every_length_predicts_the_same_last_tokens(model, monkeypatch):
    monkeypatch.setattr(long_context, "READ_ROWS", 5)
    reader = stretched(model, "none").eval()
    text = torch.randint(VOCAB_SIZE, (1601,))
    found = losses_at(reader, text)
    assert list(found) == ["1", "2", "4", "8"]
    ends = torch.linspace(1024, 1599, 5).long().tolist()
    for factor in (1, 4):
        losses = []
        for end in ends:
            logits = reader(text[None, end - TRAINED * factor : end])[0, -64:]
            losses.append(F.cross_entropy(logits, text[end - 63 : end + 1]).item())
        assert found[str(factor)] == pytest.approx(sum(losses) / 5, abs=2e-4)
    assert abs(found["8"] - found["1"]) > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("method", METHODS)
def test_some_methods_leave_texts_of_the_trained_length_alone(model, method):
    text = torch.randint(VOCAB_SIZE, (2, TRAINED))
    changed = (stretched(model, method).eval()(text) - model(text)).abs().amax()
    if method in ("none", "dynamic", "window"):
        assert changed < 1e-4
    else:
        assert changed > 1e-2


@torch.no_grad()
def test_the_window_sees_no_more_than_in_training(model):
    reader = stretched(model, "window").eval()
    text = torch.randint(VOCAB_SIZE, (1, 701))
    other = text.clone()
    other[:, : 700 - 3 * (TRAINED - 1)] = 3  # beyond what three layers reach
    torch.testing.assert_close(reader(text)[0, -1], reader(other)[0, -1], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_reading_in_pieces_ends_where_reading_at_once_does(model):
    tokens = torch.randint(VOCAB_SIZE, (101,)).tolist()
    expected = model(torch.tensor([tokens]))[0, -1]
    for piece in (13, 101):
        cache = RollingCache(model.config, 1, window=103, n_sinks=2)
        found = read_through(model, cache, tokens, piece)
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_changes_are_paired_by_seed():
    def run(method: str, seed: int, before: float, after: float) -> dict:
        losses = {"before": {"1": 1.0, "8": before}, "after": {"1": 1.0, "8": after}}
        return {"part": "stretch", "method": method, "seed": seed, **losses}

    record = [
        run("none", 0, 3.0, 2.0), run("none", 1, 5.0, 2.0), run("yarn", 1, 4.0, 1.5),
        run("yarn", 0, 2.0, 1.5), {"part": "needle", "reader": "full attention", "seed": 0},
    ]  # fmt: skip
    runs = Runs(record)
    mean, low, high = change(runs, "yarn", 8, when="before", baseline=("none", 8, "before"))
    assert (mean, low, high) == (-1.0, -1.0, -1.0)
    mean, low, high = change(runs, "none", 8, when="before", baseline=("none", 1, "before"))
    assert mean == 3.0
    assert low < 0 < high
    assert change(runs, "none", 8, when="after", baseline=("yarn", 8, "before"))[0] == -1.0


def test_accuracies_are_shares_of_what_was_asked():
    def run(reader: str, first: int) -> dict:
        right = {str(depth): 3 for depth in DEPTHS} | {str(DEPTHS[0]): first}
        return {"part": "needle", "reader": reader, "seed": 0, "right": right, "tries": 3}

    runs = Runs([run("token selection", 0), run("token selection", 3), run("full attention", 1)])
    shares = accuracies(runs, "token selection")
    assert shares[DEPTHS[0]] == 0.5
    assert set(list(shares.values())[1:]) == {1.0}


@pytest.mark.slow
def test_the_word_stands_where_it_is_said_to_stand(monkeypatch):
    tokenizer = long_context.load_tokenizer("smollm2-135m-instruct")
    hay = tokenizer.encode("Lists hold items.\nTuples hold them too, but they do not change. ") * 90
    monkeypatch.setattr(long_context, "_filler", lambda: hay)
    monkeypatch.setattr(long_context, "load_tokenizer", lambda name: tokenizer)
    places = []
    for depth in DEPTHS:
        text, question, chosen, candidates = haystack(depth, 17)
        again = haystack(depth, 17)
        assert (text, question, chosen, candidates) == again
        assert len(text) == CONTEXT
        assert len(set(candidates)) == len(WORDS)
        sentence = f"Remember: the secret word is {WORDS[chosen]}."
        before, after = tokenizer.decode(text).split(sentence)
        places.append(len(before) / (len(before) + len(after)))
        assert "secret" not in before + after
        assert tokenizer.encode(f" {WORDS[chosen]}") == [candidates[chosen]]
    assert places == sorted(places)
    assert places[0] < 0.15
    assert places[-1] > 0.85
