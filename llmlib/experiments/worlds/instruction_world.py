"""A small world of questions that can be checked, conversations that open alike, and stories.

A page of instructions asks and answers. A conversation may open with the very same sentence, and
then people talk: the two kinds of document differ from the second line on. Everything is words
apart by spaces, so that a token is a word.
"""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from llmlib.core.task import Message
from llmlib.data.corpora.stories.story_domains import story_domains
from llmlib.experiments.worlds.word_problems import problem, program

NAMES = ("ann", "bob", "cleo", "dan", "eve", "finn")
THINGS = (
    "boat", "chair", "door", "egg", "glove", "hat", "jar", "key", "lamp", "map", "pen", "shoe",
)  # fmt: skip
COLOURS = ("red", "green", "blue", "white", "black", "brown")
OPPOSITES = {
    "hot": "cold", "big": "small", "old": "young", "wet": "dry", "fast": "slow", "full": "empty",
    "loud": "quiet", "thick": "thin", "hard": "soft", "high": "low", "rich": "poor", "day": "night",
}  # fmt: skip
LARGEST = 20
TASKS = ("colour", "opposite", "next", "larger", "count", "first", "who")
START, LINE = "<doc>", "\n"

_OPENERS = {
    "haha": ("why do you ask ?", "you are funny today .", "not again ."),
    "hm": ("let me think .", "i am not so sure .", "who wants to know ?"),
    "well": ("that depends .", "it is late , you know .", "i had the same thought ."),
    "oh": ("hello , how are you ?", "i did not see you there .", "that one is hard ."),
    "sorry": ("i was not listening .", "i am busy now .", "say that again ?"),
    "good": ("to see you too .", "question , no idea .", "morning , did you sleep ?"),
    "really": ("? that is what you ask me ?", "? i never heard that .", ", now ?"),
    "ok": ("but first some coffee .", ", later maybe .", "i will ask around ."),
}
OPENERS = tuple(_OPENERS)
"""Words that begin a turn of talk; no answer and no question begins with one of them."""
_SMALL_TALK = (
    "did you see the rain this morning ?", "i am so tired today .", "are you there ?",
    "my bus was late again .", "what a week .", "the coffee here is bad .",
)  # fmt: skip
ANSWERED = 0.2
"""Share of the questions that open a conversation and get a plain answer there."""
ASKING = 0.5
"""Share of the conversations that open with a question or an instruction."""
SPEAKERS = ("speaker-1", "speaker-2")


@dataclass(frozen=True)
class Question:
    """A question or an instruction of one of `TASKS`, and what is right."""

    task: str
    sentence: str
    answer: str


def ask(rng: random.Random, task: str | None = None) -> Question:
    """Draw a question of one of `TASKS`, or of any, each as likely.

    Example:
        >>> question = ask(random.Random(1), "next")
        >>> question.sentence, question.answer
        ('which number comes after 5 ?', '6')
    """
    task = task or rng.choice(TASKS)
    if task == "colour":
        place = rng.randrange(len(THINGS))
        answer = COLOURS[place * 5 % len(COLOURS)]  # a thing has the same colour everywhere
        return Question(task, f"what colour is the {THINGS[place]} ?", answer)
    if task == "opposite":
        word, answer = rng.choice([*OPPOSITES.items()])
        return Question(task, f"say the opposite of {word}", answer)
    if task == "next":
        number = rng.randrange(1, LARGEST)
        return Question(task, f"which number comes after {number} ?", str(number + 1))
    if task == "larger":
        a, b = rng.sample(range(1, LARGEST + 1), 2)
        return Question(task, f"which is larger , {a} or {b} ?", str(max(a, b)))
    if task == "who":
        names, things = rng.sample(NAMES, 3), rng.sample(THINGS, 3)
        wanted = rng.randrange(3)
        has = " . ".join(f"{n} has the {t}" for n, t in zip(names, things, strict=True))
        return Question(task, f"{has} . who has the {things[wanted]} ?", names[wanted])
    words = rng.sample(THINGS, rng.randint(2, 4))
    if task == "count":
        return Question(task, f"count the words : {' '.join(words)}", str(len(words)))
    return Question(task, f"say the first word of {' '.join(words)}", words[0])


def instructions(rng: random.Random) -> list[str]:
    """Write a page of one to four questions, each with its answer in the next line."""
    asked = [ask(rng) for _ in range(rng.randint(1, 4))]
    return [line for question in asked for line in (question.sentence, question.answer)]


def conversation(rng: random.Random, *, named: bool = False) -> list[str]:
    """Write down a conversation of three to five turns.

    Half of them open with a question or an instruction of the kind that pages of instructions hold.
    One in five of those gets its answer; the others get talk. In a named one each turn begins with
    its speaker.
    """
    question = ask(rng) if rng.random() < ASKING else None
    lines = [question.sentence if question else rng.choice(_SMALL_TALK)]
    if question and rng.random() < ANSWERED:
        lines.append(question.answer)
    for _ in range(rng.randint(2, 4) - (len(lines) - 1)):
        opener = rng.choice(OPENERS)
        lines.append(f"{opener} {rng.choice(_OPENERS[opener])}")
    return [f"{SPEAKERS[n % 2]} {line}" for n, line in enumerate(lines)] if named else lines


def story(rng: random.Random) -> list[str]:
    """Tell a story of the harbour or the forest, in one line."""
    return [rng.choice(_stories())]


@cache
def _stories() -> list[str]:
    worlds = story_domains()
    told = [s.text for name in ("harbour", "forest") for s in worlds[name].stories(4000, seed=0)]
    return [" ".join(re.findall(r"\w+|[^\w\s]", text.lower())) for text in told]


@cache
def words() -> dict[str, int]:
    """Number the line's end, the mark before a document, and every word of the world.

    Those of problems and programs are included.
    """
    rng = random.Random(0)
    texts = [*_stories(), *_SMALL_TALK, *THINGS, *NAMES, *SPEAKERS]
    texts += [f"{opener} {' '.join(rest)}" for opener, rest in _OPENERS.items()]
    texts += [*COLOURS, *OPPOSITES.values(), *map(str, range(1, LARGEST + 1))]
    texts += [ask(rng, task).sentence for task in TASKS for _ in range(150)]
    texts += [f"{problem(rng).text} {' '.join(program(rng))}" for _ in range(500)]
    found = sorted({word for text in texts for word in text.split()})
    return {word: number for number, word in enumerate([START, LINE, *found])}


def encode(text: str) -> list[int]:
    """Turn words of the world and the two marks, apart by spaces, into token ids."""
    return [words()[word] for word in text.split(" ")]


def begun(prompt: Sequence[Message]) -> list[int]:
    """Turn a task's prompt into the beginning of a document: what the model is to continue."""
    return encode(" ".join([START, *(message["content"] for message in prompt)]))


def as_document(lines: Sequence[str]) -> list[int]:
    """Turn the lines of a document into token ids, a mark before them and one after each line."""
    return encode(" ".join([START, *(f"{line} {LINE}" for line in lines)]))
