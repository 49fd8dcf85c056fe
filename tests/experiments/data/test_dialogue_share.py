"""A growing share of dialogue: how it is measured."""

import random

import pytest
import torch

from llmlib.experiments.data.dialogue_share import (
    CHANCE,
    EXPERIMENT,
    KINDS,
    MIXES,
    chances,
    examine,
    expected_talk,
    measure,
    questions,
    read,
    shares_of,
    train,
)
from llmlib.experiments.short_training import small_decoder
from llmlib.experiments.worlds.instruction_world import (
    COLOURS,
    LARGEST,
    LINE,
    OPENERS,
    OPPOSITES,
    START,
    TASKS,
    ask,
    conversation,
    encode,
    instructions,
    words,
)
from llmlib.experiments.worlds.mixed_documents import LENGTH, fresh_rows


@pytest.mark.parametrize("mix", MIXES)
def test_shares_sum_to_one_and_leave_as_many_instructions_as_their_control(mix):
    shares = shares_of(mix)
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["instructions"] == (1 - MIXES[mix][1]) / 2
    if "75%" in mix:
        assert shares["instructions"] == shares_of("75% more stories")["instructions"]


def test_talk_follows_as_often_as_counted():
    mix = "75% dialogue"
    rows = fresh_rows(KINDS, shares_of(mix), length=LENGTH, batch=1500, seed=3)(0)
    mark, end = words()[START], words()[LINE]
    openers = {words()[opener] for opener in OPENERS}
    small_talk = {conversation(random.Random(n))[0] for n in range(400)}
    asked = {ask(random.Random(n)).sentence for n in range(3000)}
    first_of_question = {encode(text)[0] for text in asked}
    also_small_talk = {tuple(encode(text)) for text in small_talk - asked}
    talk = total = 0
    for row in rows.tolist():
        line = row[1 : row.index(end)] if end in row else []
        if row[0] != mark or not line or tuple(line) in also_small_talk:
            continue
        if line[0] not in first_of_question or len(line) > 20:  # a story
            continue
        total += 1
        talk += row[len(line) + 2] in openers
    assert talk / total == pytest.approx(expected_talk(mix), abs=0.05)


def test_questions_are_spread_over_the_tasks_and_come_after_solved_ones():
    bare, long = questions(14), questions(14, examples=2)
    assert len(set(bare.questions)) > 10
    signs = ("colour", "opposite", "comes after", "larger", "count", "first", "who has")
    assert all(s in q for s, q in zip([*signs, *signs], bare.questions, strict=True))
    assert bare.answers == long.answers
    assert [text.split("\n")[-1] for text in long.questions] == list(bare.questions)
    end = words()[LINE]
    for task, lines in ((bare, 1), (long, 5)):
        prompts = [read(task.prompt(i)) for i in range(14)]
        assert all(prompt.count(end) == lines and prompt[-1] == end for prompt in prompts)


def test_a_guess_of_the_right_kind_is_right_as_often_as_stated():
    rng = random.Random(0)
    right = 0
    for number in range(14_000):
        question = ask(rng, TASKS[number % 7])
        given = question.sentence.split()
        match question.task:
            case "colour":
                choice = COLOURS
            case "opposite":
                choice = [*OPPOSITES.values()]
            case "next":
                choice = range(1, LARGEST + 1)
            case "larger":
                choice = (given[4], given[6])
            case "count":
                choice = (2, 3, 4)
            case "first":
                choice = given[given.index("of") + 1 :]
            case _:
                choice = (given[0], given[5], given[10])
        right += str(rng.choice(choice)) == question.answer
    assert right / 14_000 == pytest.approx(CHANCE, abs=0.012)


def test_chances_are_those_of_the_answer_and_of_the_words_that_open_talk():
    model = small_decoder(len(words()), 0, length=16, d_model=32, n_layers=1).eval()
    prompt, answer = encode(f"{START} say the opposite of hot {LINE}"), encode(f"cold {LINE}")
    with torch.no_grad():
        first = model(torch.tensor([prompt]))[0, -1].softmax(-1)
        second = model(torch.tensor([[*prompt, answer[0]]]))[0, -1].softmax(-1)
    right, talk = chances(model, [prompt, prompt], [answer, answer])
    torch.testing.assert_close(right, (first[answer[0]] * second[answer[1]]).expand(2))
    expected = first[[words()[opener] for opener in OPENERS]].sum()
    torch.testing.assert_close(talk, expected.expand(2))


def test_a_model_that_talks_is_measured_as_talking():
    model = small_decoder(len(words()), 0, length=128, d_model=32, n_layers=1)
    with torch.no_grad():
        model.embedding.weight.zero_()  # tied: all logits are equal
    found = examine(model.eval(), n=7)
    assert found["talk"] == pytest.approx(len(OPENERS) / len(words()), abs=1e-3)
    assert found["drawn"] == pytest.approx(1 / len(words()) ** 2, abs=1e-3)
    assert set(found["greedy_by_task"]) == set(TASKS)


def test_seeds_decide_everything():
    one, same, other = (train("25% dialogue", seed, steps=2, batch=2) for seed in (3, 3, 4))
    assert torch.equal(one.embedding.weight, same.embedding.weight)
    assert not torch.equal(one.embedding.weight, other.embedding.weight)


def test_a_run_records_what_it_needs():
    run = measure({"mix": "75% dialogue", "seed": 0}, steps=2, n=7)
    assert run["shares"] == {"instructions": 0.125, "stories": 0.125, "dialogue": 0.75}
    assert run["expected_talk"] == pytest.approx(expected_talk("75% dialogue"), abs=1e-4)
    assert 0 <= run["bare"]["greedy"] <= 1
    assert 0 <= run["after_examples"]["talk"] <= 1


def test_pages_of_instructions_hold_question_and_answer_in_turn():
    lines = instructions(random.Random(0))
    assert len(lines) % 2 == 0


def test_the_record_expects_talk_as_this_world_does():
    for run in EXPERIMENT.runs():
        assert run["expected_talk"] == pytest.approx(expected_talk(run["mix"]), abs=1e-3)
