"""The comparison of families and objectives: its questions and its budget."""

import pytest
import torch

from llmlib.architecture import Transformer
from llmlib.architecture.context import Layout
from llmlib.experiments.architecture import objective_questions as questions
from llmlib.experiments.architecture import objectives_compared as experiment
from llmlib.experiments.architecture.objective_designs import DESIGNS, LM, SPECIAL, build
from llmlib.experiments.architecture.objective_questions import CHANCE, ENDING, GAP
from llmlib.experiments.short_text import VOCAB_SIZE


def rows(count: int, length: int = 64) -> torch.Tensor:
    return torch.randint(VOCAB_SIZE, (count, length))


@pytest.mark.parametrize("design", DESIGNS)
def test_a_question_hides_its_answer(design):
    family, objective = DESIGNS[design]
    text = rows(3)
    for asked in (ENDING, GAP):
        batch, counts = questions.question(text, asked, family, objective)
        answers = [row[chosen] for row, chosen in zip(batch["targets"], counts, strict=True)]
        to_the_end = objective in ("lm", "prefix-lm")
        begins = int(asked.nonzero()[0])
        expected = text[:, begins:] if to_the_end else text[:, asked]
        assert torch.equal(torch.stack(answers), expected)
        if "encoder_inputs" in batch:
            given = batch["encoder_inputs"]
        else:  # in one sequence the prefix holds what is given
            given = batch["inputs"][:, : int(batch["prefix_lengths"][0])]
        left = text[:, :begins] if to_the_end else text[:, ~asked]
        assert torch.equal(given[given < VOCAB_SIZE].view(3, -1), left)


def test_a_design_is_asked_in_its_own_mode():
    text = rows(2)
    for asked, mode in ((ENDING, "S"), (GAP, "R")):
        batch, _ = questions.question(text, asked, "encoder-decoder", "denoisers")
        assert "encoder_inputs" in batch
        assert batch["encoder_inputs"][:, 0].tolist() == [SPECIAL.mode(mode)] * 2


@pytest.mark.slow
@pytest.mark.parametrize("design", DESIGNS)
def test_every_design_spends_the_budget(design):
    torch.manual_seed(0)
    budget = experiment.budget(3)
    run = experiment.train(build(DESIGNS[design][0]), design, 0, flops=budget, points=1)
    assert budget <= run.flops < 1.5 * budget
    assert run.tokens == run.steps * 16 * 64
    assert [point[0] for point in run.curve] == [0, run.steps]


class Blind(Transformer):
    """Knows how frequent each token is, and looks at nothing."""

    def hidden(self, tokens, **_):
        return torch.ones(*tokens.shape, self.config.d_model)


def test_a_model_that_does_not_look_scores_chance():
    torch.manual_seed(5)
    model = Blind(build("causal").config)
    assert questions.choice_accuracy(model, LM, rows(64), ENDING) == CHANCE
    with torch.no_grad():
        model.embedding.weight.zero_()
    assert questions.choice_accuracy(model, LM, rows(64), ENDING) == 0, "a tie is no choice"


def test_candidates_differ_in_the_part_that_is_asked_for_alone(monkeypatch):
    text, seen = rows(8), []

    def remember(_model, _design, candidates, _asked):
        seen.append(candidates)
        return torch.zeros(len(candidates))

    monkeypatch.setattr(questions, "answer_losses", remember)
    questions.choice_accuracy(build("causal"), LM, text, GAP)
    assert torch.equal(seen[0], text)
    for turn in (1, 2, 3):
        assert torch.equal(seen[turn][:, ~GAP], text[:, ~GAP])
        assert torch.equal(seen[turn][:, GAP], text.roll(2 * turn, dims=0)[:, GAP])


def test_the_seed_decides_what_is_read():
    def trained(seed: int) -> torch.Tensor:
        torch.manual_seed(0)
        run = experiment.train(build("causal"), LM, seed, flops=experiment.budget(1), points=1)
        return run.model.output_weight

    assert torch.equal(trained(1), trained(1))
    assert not torch.equal(trained(1), trained(2))


@torch.no_grad()
def test_a_converted_decoder_reads_the_rest_as_before():
    torch.manual_seed(7)
    model = build("causal").eval()
    converted = experiment.convert(model).eval()
    tokens = rows(2, 23)
    same = converted(tokens, layout=Layout(prefix_lengths=torch.tensor([1, 1])))
    torch.testing.assert_close(same, model(tokens))
    other = converted(tokens, layout=Layout(prefix_lengths=torch.tensor([11, 11])))
    assert (other[:, :10] - same[:, :10]).abs().max() > 1e-4


def test_steps_to_reach_a_loss():
    curve = [[0, 5.0], [10, 4.0], [20, 4.2], [30, 3.0]]
    assert experiment.steps_to_reach(curve, 4.1) == 10
    assert experiment.steps_to_reach(curve, 2.0) == float("inf")
