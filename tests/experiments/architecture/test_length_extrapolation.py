"""Length extrapolation: how it is measured."""

import pytest
import torch
from torch.nn import functional as F

from llmlib.architecture import Transformer
from llmlib.experiments.architecture.length_extrapolation import (
    EXPERIMENT,
    TEST_LENGTH,
    TRAIN_LENGTH,
    config_of,
    losses_by_position,
    rise,
    train,
)
from llmlib.experiments.short_text import VOCAB_SIZE, short_text


@pytest.fixture
def model(with_large_weights) -> Transformer:
    return with_large_weights(config_of("rope"))


@torch.no_grad()
def test_losses_are_those_of_single_tokens_with_their_context(model):
    text = torch.randint(VOCAB_SIZE, (2 * TEST_LENGTH + 300,))
    whole = losses_by_position(model, text)
    short = losses_by_position(model, text, context=128)
    assert whole.shape == short.shape == (2, TEST_LENGTH)
    for row, position, first in [
        (0, 5, 0),
        (0, 127, 0),
        (1, 128, 64),
        (1, 191, 64),
        (1, 1023, 896),
    ]:
        begin = row * TEST_LENGTH
        target = text[begin + position + 1]
        for losses, start in ((whole, 0), (short, first)):
            read = text[begin + start : begin + position + 1]
            loss = F.cross_entropy(model(read[None])[0, -1], target)
            torch.testing.assert_close(losses[row, position], loss, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(whole[:, :128], short[:, :128])
    assert (whole[:, 128:] - short[:, 128:]).abs().mean() > 1e-3


@pytest.mark.parametrize("context", [7, 0, 6 * 128])
def test_contexts_that_do_not_tile_the_row_are_refused(model, context):
    with pytest.raises(ValueError, match="half must be whole"):
        losses_by_position(model, torch.zeros(TEST_LENGTH + 1, dtype=torch.long), context)


def test_a_text_shorter_than_a_row_is_refused(model):
    with pytest.raises(ValueError, match="less than a row"):
        losses_by_position(model, torch.zeros(TEST_LENGTH, dtype=torch.long))


def test_rise_is_the_mean_difference_of_the_named_positions():
    run = {"losses": [1.0] * 8 + [2.0, 4.0] + [9.0] * 6, "short_context_losses": [1.0] * 16}
    assert rise(run, 512, 640) == 2.0
    assert rise(run, 0, 512) == 0.0


def test_training_leaves_the_rows_beyond_its_length_as_they_were_drawn():
    text = torch.randint(VOCAB_SIZE, (500,))
    trained, drawn = (train("learned", 5, text, steps=steps) for steps in (3, 0))
    assert drawn.embedding.weight.std().item() == pytest.approx(1, abs=0.03)
    change = (trained.position_embedding.weight - drawn.position_embedding.weight).abs()
    assert change[:TRAIN_LENGTH].amax(dim=1).min() > 0
    assert change[TRAIN_LENGTH:].max() == 0


@pytest.mark.covers("arch.pos-extrapolation")
def test_a_table_for_the_training_length_refuses_longer_texts():
    model = Transformer(config_of("learned", max_seq_len=TRAIN_LENGTH))
    model(torch.zeros(1, TRAIN_LENGTH, dtype=torch.long))
    with pytest.raises(ValueError, match="129 tokens are more than max_seq_len=128"):
        model(torch.zeros(1, TRAIN_LENGTH + 1, dtype=torch.long))


def test_the_record_is_of_this_text():
    run = EXPERIMENT.runs()[0]  # all are equal in these
    assert run["text_sha256"] == short_text().sha256
    assert run["unigram_loss"] == pytest.approx(short_text().unigram_loss, abs=1e-3)
    assert len(run["losses"]) == len(run["short_context_losses"]) == TEST_LENGTH // 64
