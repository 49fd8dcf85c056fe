"""One row, one result: whatever stands beside it in a batch, and however it is read."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor

from llmlib.architecture import Layout, MixtureOfExperts, ModelConfig, Transformer
from llmlib.architecture.encoder_decoder import EncoderDecoder
from llmlib.evaluation import score_tokens
from llmlib.utilization import GREEDY, Sampling, generate
from tests.architecture.designs import ATTENTION, DESIGNS, RECURRENT, VOCAB, decoder

ROWS = [
    [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9],
    [2, 7, 1],
    [*range(31)],
    [1, 4, 1, 4, 2, 1, 3, 5, 6, 2, 3, 7, 3, 0, 9, 5, 0, 4, 8, 8, 0],
]
each = pytest.mark.parametrize("design", DESIGNS)
attends = pytest.mark.parametrize("design", ATTENTION)


@pytest.fixture
def model(design: str) -> Transformer:
    return decoder(DESIGNS[design])


@torch.no_grad()
def alone(model: Transformer, row: list[int]) -> Tensor:
    return model(torch.tensor([row]))[0]


def equal(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, atol=2e-4, rtol=1e-3)


@each
def test_rows_of_one_length_do_not_see_each_other(model):
    rows = [row[:13] for row in ROWS if len(row) >= 13]
    with torch.no_grad():
        together = model(torch.tensor(rows))
    for found, row in zip(together, rows, strict=True):
        equal(found, alone(model, row))


def padded(rows: list[list[int]]) -> tuple[Tensor, Tensor]:
    width = max(map(len, rows))
    tokens = torch.tensor([[7] * (width - len(row)) + row for row in rows])
    return tokens, torch.tensor([width - len(row) for row in rows])


@attends
def test_a_padded_row_is_read_as_alone(model):
    tokens, padding = padded(ROWS)
    with torch.no_grad():
        together = model(tokens, layout=Layout(padding))
    for found, row in zip(together, ROWS, strict=True):
        equal(found[-len(row) :], alone(model, row))


@attends
def test_a_padded_row_with_a_cache_is_read_as_alone(model):
    tokens, padding = padded(ROWS)
    cache = model.new_cache(len(ROWS), tokens.shape[1] + 4, left_padding=padding)
    with torch.no_grad():
        model(tokens, cache=cache)
        steps = [model(torch.full((len(ROWS), 1), 5 + step), cache=cache) for step in range(2)]
    for number, row in enumerate(ROWS[:2]):
        cache = model.new_cache(1, len(row) + 4)
        with torch.no_grad():
            model(torch.tensor([row]), cache=cache)
            for step, found in enumerate(steps):
                equal(found[number], model(torch.tensor([[5 + step]]), cache=cache)[0])


@attends
def test_a_document_in_a_packed_row_is_read_as_alone(model):
    packed = torch.tensor([sum(ROWS[:2], []) + ROWS[3], ROWS[2] + ROWS[1] + ROWS[1]])
    numbers = [
        [n for n, row in enumerate(texts) for _ in row]
        for texts in ([*ROWS[:2], ROWS[3]], [ROWS[2], ROWS[1], ROWS[1]])
    ]
    with torch.no_grad():
        together = model(packed, layout=Layout(documents=torch.tensor(numbers)))
    equal(together[0], torch.cat([alone(model, row) for row in (*ROWS[:2], ROWS[3])]))
    equal(together[1], torch.cat([alone(model, ROWS[n]) for n in (2, 1, 1)]))


@each
def test_token_by_token_is_as_at_once(design, model):
    if "dynamic" in design:
        pytest.skip("at once the whole text is read with the base of its length: test_rope_scaling")
    row = torch.tensor([ROWS[0]])
    cache = model.new_cache(1, row.shape[1])
    with torch.no_grad():
        steps = torch.cat([model(token, cache=cache) for token in row.split(1, dim=1)], dim=1)
    equal(steps[0], alone(model, ROWS[0]))


@each
def test_scores_do_not_depend_on_the_batch(model):
    rows = ROWS[:3]
    for scores, row in zip(score_tokens(model, rows), rows, strict=True):
        np.testing.assert_allclose(scores, score_tokens(model, [row])[0], atol=2e-4, rtol=1e-3)
        # And both are the model's own answer to the row alone.
        logits = alone(model, row[:-1]).log_softmax(-1)
        expected = -logits.gather(1, torch.tensor(row[1:])[:, None])[:, 0]
        np.testing.assert_allclose(scores, expected, atol=2e-4, rtol=1e-3)


@each
@pytest.mark.parametrize("use_cache", [True, False])
def test_a_continuation_does_not_depend_on_the_batch(model, use_cache):
    rows, seeds = ROWS[:3], [5, 6, 7]
    sampling = Sampling(temperature=0.7, top_k=20, top_p=0.9) if use_cache else GREEDY
    options = {"max_new_tokens": 4, "sampling": sampling, "use_cache": use_cache}
    together = generate(model, rows, seed=seeds, **options)
    for row, seed, found in zip(rows[:2], seeds, together, strict=False):
        assert generate(model, [row], seed=[seed], **options) == [found]


@pytest.mark.parametrize("design", ["rope", "dynamic", "alibi", "t5", "relative"])
def test_what_an_encoder_reads_does_not_depend_on_the_batch(design):
    torch.manual_seed(3)
    config = ModelConfig(
        vocab_size=VOCAB, d_model=32, n_layers=2, n_heads=2, max_seq_len=48, init_std=0.3,
        **ATTENTION[design],
    )  # fmt: skip
    model = EncoderDecoder(config).eval()
    width = max(map(len, ROWS))
    tokens = torch.tensor([row + [7] * (width - len(row)) for row in ROWS])
    written = torch.tensor([[1, 2, 3]] * len(ROWS))
    with torch.no_grad():
        together = model(tokens, written, torch.tensor([len(row) for row in ROWS]))
        for found, row in zip(together, ROWS, strict=True):
            equal(found, model(torch.tensor([row]), written[:1])[0])


def test_experts_drop_tokens_in_training_alone():
    """A capacity is shared by a batch, so its drops depend on neighbours: never at evaluation."""
    model = decoder(ATTENTION["experts with capacity"])
    tokens = torch.tensor([ROWS[0], ROWS[3][:13]])
    with torch.no_grad():
        plain = copy.deepcopy(model)
        for module in plain.modules():
            if isinstance(module, MixtureOfExperts):
                module.config = model.config.replace(expert_capacity=0.0)
        assert torch.equal(model(tokens), plain(tokens))
        assert (model.train()(tokens) - plain.train()(tokens)).abs().amax() > 1e-2


@pytest.mark.parametrize("design", RECURRENT)
def test_a_state_refuses_padding_and_packed_rows(model):
    tokens, padding = padded(ROWS)
    for layout in (Layout(padding), Layout(documents=torch.zeros_like(tokens))):
        with pytest.raises(ValueError, match="carries a state"):
            model(tokens, layout=layout)
