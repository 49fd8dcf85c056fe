"""Exact answers: how they are judged, and that one pass tells what greedy decoding would write."""

import pytest
import torch

from llmlib.architecture import ModelConfig, Transformer
from llmlib.core.task import Task
from llmlib.evaluation.exact import ExactAnswers, answers_greedily
from llmlib.utilization import GREEDY, generate


def test_it_is_a_task_with_worked_examples_before_the_question():
    task = ExactAnswers(["c?", "e?"], ["d", "f"], examples=[("a?", "b")])
    assert isinstance(task, Task) and len(task) == 2
    assert task.prompt(1) == [
        {"role": "user", "content": "a?"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "e?"},
    ]
    assert [task.score(1, answer) for answer in (" f\n", "F", "f.", "", "d")] == [1, 0, 0, 0, 0]
    with pytest.raises(ValueError, match="2 questions and 1 answers"):
        ExactAnswers(["a", "b"], ["c"])


def test_what_is_not_judged_is_no_task():
    assert not isinstance([], Task)


@pytest.mark.parametrize(("question", "answer"), [("", "1"), ("1", "")])
def test_what_has_no_tokens_is_refused(question, answer):
    config = ModelConfig(vocab_size=13, d_model=16, n_layers=1, n_heads=2, max_seq_len=32)
    task = ExactAnswers(["12", question], ["3", answer])

    def encode(messages):
        return [int(digit) for message in messages for digit in message["content"]]

    def ids(text):
        return [int(digit) for digit in text]

    with pytest.raises(ValueError, match="question 1 or its answer has no tokens"):
        answers_greedily(Transformer(config), task, encode, ids)
    with pytest.raises(ValueError, match="batch=-1"):
        answers_greedily(Transformer(config), task, encode, ids, batch=-1)


def test_one_pass_tells_what_greedy_decoding_would_write():
    torch.manual_seed(1)
    config = ModelConfig(vocab_size=13, d_model=16, n_layers=2, n_heads=2, max_seq_len=32)
    model = Transformer(config).eval()
    prompts = [[3, 1, 4], [1], [5, 9, 2, 6, 5], [8, 8]]
    spelt = [" ".join(map(str, prompt)) for prompt in prompts]
    written = generate(model, prompts, max_new_tokens=3, sampling=GREEDY)
    answers = [" ".join(map(str, row[:n])) for n, row in enumerate(written)]
    answers[0] = " ".join(map(str, written[0]))

    def encode(messages):
        return [int(word) for message in messages for word in message["content"].split()]

    def ids(answer):
        return [int(word) for word in answer.split()]

    for batch in (1, 3, 64):  # rows of unequal length stand beside one another
        task = ExactAnswers(spelt, answers)
        assert answers_greedily(model, task, encode, ids, batch=batch) == [True] * 4
    for place in range(4):
        wrong = [*answers]
        *before, last = ids(wrong[place])
        wrong[place] = " ".join(map(str, [*before, (last + 1) % 13]))
        found = answers_greedily(model, ExactAnswers(spelt, wrong), encode, ids)
        assert found == [i != place for i in range(4)]
