"""The comparison of families and objectives: its questions, its budget, and what the runs say."""

import pytest
import torch

from llmlib.architecture import Transformer
from llmlib.core.statistics import t_interval
from llmlib.experiments.architecture import objective_questions as questions
from llmlib.experiments.architecture import objectives_compared as experiment
from llmlib.experiments.architecture.objective_designs import DESIGNS, LM, PREFIX_LM, SPECIAL, build
from llmlib.experiments.architecture.objective_questions import CHANCE, ENDING, GAP
from llmlib.experiments.records import read_runs
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


def test_equal_seeds_read_equal_rows():
    tokens = torch.arange(5000)
    drawn = [
        next(experiment.draw_rows(tokens, torch.Generator().manual_seed(seed)))
        for seed in (1, 1, 2)
    ]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert drawn[0].shape == (16, 65)


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
    same = converted(tokens, prefix_lengths=torch.tensor([1, 1]))
    torch.testing.assert_close(same, model(tokens))
    other = converted(tokens, prefix_lengths=torch.tensor([11, 11]))
    assert (other[:, :10] - same[:, :10]).abs().max() > 1e-4


def test_steps_to_reach_a_loss():
    curve = [[0, 5.0], [10, 4.0], [20, 4.2], [30, 3.0]]
    assert experiment.steps_to_reach(curve, 4.1) == 10
    assert experiment.steps_to_reach(curve, 2.0) == float("inf")


# What the committed runs say


@pytest.fixture(scope="module")
def runs() -> list[dict]:
    return read_runs(experiment.NAME)


def test_the_record_is_complete_and_equal_in_compute(runs):
    assert [{k: run[k] for k in ("design", "seed")} for run in runs] == experiment.plan()
    assert len({run["text_sha256"] for run in runs}) == 1
    for run in runs:
        assert experiment.budget() <= run["flops"] < 1.02 * experiment.budget()
        assert len(run["curve"]) == experiment.POINTS + 1


@pytest.mark.covers("arch.task-comparison")
def test_the_causal_language_model_wins_zero_shot_at_equal_compute(runs):
    loss = {row.design: row for row in experiment.compare(runs, "endings_loss")}
    gaps = {row.design: row for row in experiment.compare(runs, "gaps_accuracy")}
    endings = {row.design: row for row in experiment.compare(runs, "endings_accuracy")}
    others = set(DESIGNS) - {LM}
    assert {loss[design].verdict for design in others} == {"higher"}
    assert {gaps[design].verdict for design in others - {PREFIX_LM}} == {"lower"}
    assert endings[PREFIX_LM].verdict == "none", "the spread over seeds covers the difference"
    for design in (LM, PREFIX_LM):
        assert t_interval(endings[design].values)[1] > CHANCE
        assert t_interval(gaps[design].values)[1] > CHANCE
    # A baseline without context pays more than every design but one, which has learnt to stop.
    unigram = runs[0]["unigram_loss"]
    assert max(loss[LM].values) < max(loss[PREFIX_LM].values) < unigram
    assert min(loss["encoder-decoder, spans"].values) > unigram
    pairs = zip(
        loss["causal decoder, denoisers"].values, loss["causal decoder, spans"].values, strict=True
    )
    assert all(mixed < spans - 0.5 for mixed, spans in pairs)


@pytest.mark.covers("arch.task-lm")
def test_prefix_lm_is_behind_lm_for_each_token_seen(runs):
    row = next(r for r in experiment.compare(runs, "endings_loss") if r.design == PREFIX_LM)
    assert 0 < row.difference[1] < row.difference[0] < 0.5
    ours = [run for run in runs if run["design"] in (LM, PREFIX_LM)]
    assert len({run["tokens"] for run in ours}) == 1
    shares = [run["targets"] / run["tokens"] for run in ours if run["design"] == PREFIX_LM]
    assert all(0.45 < share < 0.55 for share in shares)


@pytest.mark.covers("arch.prefix-decoder")
def test_converting_reaches_the_loss_in_fewer_steps_than_from_scratch(runs):
    scratch = {run["seed"]: run for run in runs if run["design"] == PREFIX_LM}
    gains = []
    for run in (run for run in runs if run["design"] == LM):
        other, curve = scratch[run["seed"]], run["converted_curve"]
        needed = experiment.steps_to_reach(curve, other["curve"][-1][1])
        assert needed < other["steps"] / 4
        assert abs(curve[0][1] - run["curve"][-1][1]) < 0.05, "the new mask costs next to nothing"
        gains.append(curve[-1][1] - curve[0][1])
    # The negative result: 80 steps as a prefix decoder bring nothing that three seeds can show.
    _, low, high = t_interval(gains)
    assert low < 0 < high
