"""The world of questions, conversations and stories that the dialogue runs read."""

import random

import pytest

from llmlib.experiments.worlds.instruction_world import (
    ANSWERED,
    ASKING,
    COLOURS,
    LINE,
    OPENERS,
    OPPOSITES,
    START,
    TASKS,
    as_document,
    ask,
    conversation,
    encode,
    instructions,
    story,
    words,
)


@pytest.mark.parametrize("task", TASKS)
def test_every_answer_is_right(task):
    rng = random.Random(task)
    said: dict[str, str] = {}
    for _ in range(200):
        question = ask(rng, task)
        given, answer = question.sentence.split(), question.answer
        assert question.task == task
        assert len(answer.split()) == 1
        assert said.setdefault(question.sentence, answer) == answer
        numbers = [int(word) for word in given if word.isdigit()]
        match task:
            case "colour":
                assert answer in COLOURS
            case "opposite":
                assert answer == OPPOSITES[given[-1]]
            case "next":
                assert [int(answer) - 1] == numbers
            case "larger":
                assert len(numbers) == 2
                assert int(answer) == max(numbers)
            case "count":
                assert int(answer) == len(given[given.index(":") + 1 :])
            case "first":
                assert answer == given[given.index("of") + 1]
            case "who":
                assert question.sentence.count(f"{answer} has the {given[-2]}") == 1


def opening_of(lines: list[str]) -> str:
    return lines[0].split()[0]


def test_conversations_open_and_go_on_as_often_as_stated():
    rng = random.Random(0)
    asking = answered = 0
    starts = {opening_of([ask(random.Random(n)).sentence]) for n in range(200)}
    for _ in range(4000):
        lines = conversation(rng)
        assert 3 <= len(lines) <= 5
        asks = lines[0].split()[0] in starts and lines[0] != "what a week ."
        asking += asks
        answered += asks and lines[1].split()[0] not in OPENERS
        assert all(line.split()[0] in OPENERS for line in lines[2:])
    assert asking / 4000 == pytest.approx(ASKING, abs=0.03)
    assert answered / asking == pytest.approx(ANSWERED, abs=0.03)


def test_no_answer_and_no_question_begins_like_talk():
    rng = random.Random(1)
    for _ in range(500):
        question = ask(rng)
        assert question.answer.split()[0] not in OPENERS
        assert question.sentence.split()[0] not in OPENERS


def test_named_turns_take_turns():
    lines = conversation(random.Random(5), named=True)
    assert [line.split()[0] for line in lines[:3]] == ["speaker-1", "speaker-2", "speaker-1"]
    plain = conversation(random.Random(5))
    assert [line.split(" ", 1)[1] for line in lines] == plain


def test_every_document_is_made_of_known_words():
    rng = random.Random(2)
    for kind in (instructions, conversation, story):
        for _ in range(300):
            tokens = as_document(kind(rng))
            assert tokens[0] == words()[START]
            assert tokens[-1] == words()[LINE]
    with pytest.raises(KeyError):
        encode("xylophone")
